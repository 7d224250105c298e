"""The README's Python examples run, and its commands name flags, recipes and files that exist."""

import re
import shlex
from pathlib import Path

import pytest

from edge.convert import parser
from edge.recipes import RECIPES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_examples_run(code):
    scope = {}
    exec(code, scope)
    assert scope["model"].count_params() > 27_000_000


def test_commands_parse():
    commands = [
        line.split("edge.convert", 1)[1]
        for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
        for line in block.splitlines()
        if "edge.convert" in line
    ]
    assert len(commands) >= 4
    for command in commands:
        arguments = parser().parse_args(shlex.split(command))
        assert arguments.quant == "all" or set(arguments.quant.split(",")) <= set(RECIPES)


def test_links_lead_somewhere():
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if not target.startswith("http")]
    assert targets
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_makefile_has_the_targets_named():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)`|^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target
