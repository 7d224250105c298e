"""The Swift class: its syntax, and what it says. No compiler of Swift can be had here: nothing else of it is checked."""

import pytest

from edge.apps import ios
from tests.edge.apps.entries import CASES, entry
from tests.edge.apps.syntax import errors

# TensorFlowLiteSwift has no tensors of int8, and edge.bundle refuses such files
OF_SWIFT = {name: changes for name, changes in CASES.items() if "int8 in and out" not in name}


@pytest.mark.parametrize("changes", OF_SWIFT.values(), ids=OF_SWIFT)
def test_its_syntax(changes):
    assert errors("swift", ios.swift(entry(**changes))) == []


def test_the_parser_finds_errors():
    assert errors("swift", ios.swift(entry()).replace("let scale =", "let scale = =")) != []


def test_what_it_says():
    code = {name: ios.swift(entry(**changes)) for name, changes in OF_SWIFT.items()}
    assert 'bundle.path(forResource: "nano32-int8", ofType: "tflite", inDirectory: "edge")' in code["values"]
    assert 'bundle.path(forResource: "nano32-int8.labels", ofType: "txt", inDirectory: "edge")' in code["values"]
    assert ("final class Regressor" in code["values"], "func predict(" in code["values"]) == (True, True)
    assert "labels" not in code["features, no names"]
    assert [name for name, text in code.items() if " exp(" in text] == [name for name in OF_SWIFT if "logits" in name]
    assert [name for name, text in code.items() if "$" in text] == []
    assert [name for name, text in code.items() if "Unchecked: never compiled" not in text.splitlines()[0]] == []
