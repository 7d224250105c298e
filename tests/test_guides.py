"""The guides' code runs, page by page, in the order it stands there and in a folder of the page's own. `make guides` runs this."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "guides").glob("*.md"))
_BLOCK = re.compile(r"^```(bash|python|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def _steps(page: Path) -> list[tuple[str, str, list[str]]]:
    """(language, code, lines it has to print) of each step: Python that follows on Python is one program, `text` is what was printed."""
    steps: list[tuple[str, str, list[str]]] = []
    for language, code in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "text":
            steps[-1][2].extend(code.splitlines())
        elif language == "python" and steps and steps[-1][0] == "python":
            steps[-1] = (language, steps[-1][1] + code, [])
        else:
            steps.append((language, code, []))
    return steps


@pytest.mark.guides
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_runs(page, tmp_path):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    steps = _steps(page)
    assert steps
    for language, code, printed in steps:
        command = [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        print(f"--- {language}\n{code}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
        assert done.returncode == 0, code
        assert [line for line in printed if line not in done.stdout.splitlines()] == []


def test_every_guide_and_command_is_on_the_site():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [page.stem for page in PAGES if f"guides/{page.stem}\n" not in index] == []
    commands = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    scripts = re.search(r"\[project.scripts\]\n(.*?)\n\n", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.DOTALL)
    names = re.findall(r"^([\w-]+) =", scripts[1], re.MULTILINE)
    assert len(names) >= 10
    assert [name for name in names if f":prog: python -m {name.replace('-', '.')}\n" not in commands] == []


def test_blocks_are_read_as_they_are_written(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\na = 1\n```\nand\n```python\nprint(a)\n```\n```text\n1\n```\n```bash\nfalse\n```\n```console\n$ rm -rf /\n```\n"
    )
    assert _steps(page) == [("python", "a = 1\nprint(a)\n", ["1"]), ("bash", "false\n", [])]
