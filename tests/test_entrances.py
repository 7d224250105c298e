"""The other ways in: the notebook runs, the Action does what it says, the image copies what is there."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.edge import report_documents as made

ROOT = Path(__file__).parents[1]
ACTION = ROOT / ".github" / "actions" / "compare" / "action.yml"


def _notebook() -> list[str]:
    cells = json.loads((ROOT / "examples" / "first_file.ipynb").read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """Cell by cell, each one's last expression shown, as a notebook does it."""
    code = """
import ast, json, sys
names = {}
for cell in json.load(open(sys.argv[1])):
    tree = ast.parse(cell)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is not None:
        print("Out:", repr(eval(compile(ast.Expression(last.value), "cell", "eval"), names)), flush=True)
"""
    cells = _notebook()
    (tmp_path / "cells.json").write_text(json.dumps(cells))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TFVIT_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code, "cells.json"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    print(done.stdout, done.stderr[-2000:])
    assert done.returncode == 0
    assert done.stdout.count("Out: ") == len(cells)
    assert "<Artifact nano32-float16: " in done.stdout
    assert (tmp_path / "artifacts" / "nano32-float16.tflite").is_file()


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads((ROOT / "examples" / "first_file.ipynb").read_text(encoding="utf-8"))["cells"]
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.fixture
def folders(tmp_path):
    """Two releases; the second one's file is larger where `worse`."""

    def write(worse: bool) -> Path:
        for side in ("before", "after"):
            document = made.manifest("int8")
            if side == "after" and worse:
                document = made.changed(document, "file.size_bytes", document["file"]["size_bytes"] * 2)
            made.save_artifact(tmp_path / side, document)
        return tmp_path

    return write


@pytest.mark.parametrize("worse", [False, True])
def test_the_action_compares(folders, worse):
    """Its own script, with what GitHub would set."""
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    (compare,) = [step for step in action["runs"]["steps"] if step.get("name") == "Compare"]
    given = {"inputs.before": "before", "inputs.after": "after", "inputs.arguments": action["inputs"]["arguments"]["default"]}
    set_by_it = {name: given[re.fullmatch(r"\$\{\{ (.+) \}\}", value)[1]] for name, value in compare["env"].items()}
    folder = folders(worse)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, **set_by_it, "GITHUB_STEP_SUMMARY": "summary.md", "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-eo", "pipefail", "-c", compare["run"]], cwd=folder, env=environment, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    assert done.returncode == int(worse)
    assert ("got worse" in (folder / "summary.md").read_text()) == worse or "nothing got worse" in (folder / "summary.md").read_text()


def test_the_action_installs_this_project():
    steps = yaml.safe_load(ACTION.read_text(encoding="utf-8"))["runs"]["steps"]
    (install,) = [step["run"] for step in steps if step.get("name") == "Install"]
    assert (ACTION.parent / "../../..").resolve() == ROOT
    assert install == 'pip install --quiet "$ACTION/../../..[edge,report]"'


def test_the_image_copies_what_is_there():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert {*packages, "pyproject.toml", project["project"]["readme"], "LICENSE"} <= set(copied)
    assert "RUN pip install --no-cache-dir '.[edge,report]'" in lines
