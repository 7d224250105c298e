"""Whether a parser reads code: proof of its syntax, not of its types."""

import importlib
from typing import Any

import pytest


def errors(language: str, code: str) -> list[str]:
    """The lines that tree-sitter's grammar of a language does not read.

    Args:
        language: "dart", "swift" or "typescript".
    """
    tree_sitter = pytest.importorskip("tree_sitter", reason="pip install '.[test]'")
    grammar = importlib.import_module(f"tree_sitter_{language}")
    pointer = grammar.language_typescript() if language == "typescript" else grammar.language()
    tree = tree_sitter.Parser(tree_sitter.Language(pointer)).parse(code.encode())
    lines, found = code.splitlines(), []

    def visit(node: Any) -> None:
        if node.is_error or node.is_missing:
            found.append(lines[min(node.start_point[0], len(lines) - 1)])
        for child in node.children:
            visit(child)

    visit(tree.root_node)
    return found
