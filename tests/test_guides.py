"""The guides' code runs, page by page, in the order it stands there and in a folder of the page's own. `make guides` runs this.

Each page has an environment made from its own install line, with the extras of docs/index.md below it: what a guide needs and does not
say is not there. Pages with the same extras share one, in build/guides.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "guides").glob("*.md"))
_ENVIRONMENTS = ROOT / "build" / "guides"
_EXTRAS = re.compile(r"pip install '\.\[([a-z,]+)\]'")
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


def _extras(page: Path) -> list[str]:
    """Those of the page's install lines and of the site's first page, which everybody has followed."""
    pages = (ROOT / "docs" / "index.md", page)
    return sorted({extra for one in pages for found in _EXTRAS.findall(one.read_text(encoding="utf-8")) for extra in found.split(",")})


def _environment(page: Path) -> Path:
    """The folder of programs of the page's environment, made where it is not there yet."""
    extras = _extras(page)
    folder = _ENVIRONMENTS / "-".join(extras)
    if not (folder / "made").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", f"{ROOT}[{','.join(extras)}]"], check=True)
        (folder / "made").touch()
    return folder / "bin"


@pytest.mark.guides
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_runs(page, tmp_path):
    programs = _environment(page)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    environment.pop("PYTHONPATH", None)
    steps = _steps(page)
    assert steps
    for language, code, printed in steps:
        command = [str(programs / "python"), "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        print(f"--- {language}\n{code}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
        assert done.returncode == 0, code
        assert [line for line in printed if line not in done.stdout.splitlines()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_can_run(page):
    """Known without running it: there is some, Python parses, and nothing is installed from a page's own folder."""
    steps = _steps(page)
    assert [language for language, _, _ in steps if language in ("bash", "python")]
    assert [code for _, code, _ in steps if "pip install" in code] == []
    for language, code, _ in steps:
        if language == "python":
            compile(code, page.stem, "exec")


def test_extras_are_those_of_the_install_lines():
    assert _extras(ROOT / "docs" / "guides" / "first-file.md") == ["edge", "report"]
    assert _extras(ROOT / "docs" / "guides" / "npu.md") == ["edge", "npu", "report"]
    assert _extras(ROOT / "docs" / "guides" / "any-phone.md") == ["edge", "report", "web"]


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
