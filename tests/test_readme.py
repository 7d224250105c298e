"""The README's Python examples run, and its commands name flags, recipes and files that exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors.numpy import save

from edge.convert import parser
from edge.quantization.recipes import RECIPES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_python_examples_run(tmp_path):
    """As written, published weights and all: a hub on loopback serves a checkpoint of the right shape under the right name."""
    import tfvit
    from tests.tfvit.test_hub import _Hub
    from tests.tfvit.test_weights import official_tensors
    from tfvit.weights import randomize

    model = tfvit.ViTTransformerTiny224(weights=None)
    randomize(model, 0)
    hub = _Hub(save(official_tensors(model)))
    Image.new("RGB", (300, 260), "orange").save(tmp_path / "photo.jpg")
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 3
    try:
        for code in examples:
            environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
            prepared = "import numpy as np\nimages = np.zeros((2, 224, 224, 3), 'uint8')\nlabels = np.arange(2)\n" + code
            done = subprocess.run(
                [sys.executable, "-c", prepared], cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
            )
            print(code, done.stdout[-300:])
            assert done.returncode == 0, done.stderr[-2000:]
    finally:
        hub.close()
    assert hub.bodies()


def test_tables_are_those_of_the_results():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from readme_tables import PAGES, filled_in

    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert filled_in(text) == text, page


def test_commands_parse():
    commands = [
        line.split("-m edge.convert", 1)[1]
        for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
        for line in block.splitlines()
        if "-m edge.convert" in line
    ]
    assert len(commands) >= 4
    for command in commands:
        arguments = parser().parse_args(shlex.split(command))
        assert arguments.quant == "all" or set(arguments.quant.split(",")) <= set(RECIPES)


def test_commands_on_files_parse():
    from edge import benchmark, inspect

    found = re.findall(r"^python -m edge\.(benchmark|inspect) (.*)$", README, re.MULTILINE)
    assert {name for name, _ in found} == {"benchmark", "inspect"}
    for name, command in found:
        arguments = {"benchmark": benchmark, "inspect": inspect}[name].parser().parse_args(shlex.split(command.partition(" >")[0]))
        files = arguments.files if name == "benchmark" else [arguments.file]
        assert all(file.stem.rpartition("-")[2] in RECIPES for file in files)


def test_commands_on_folders_parse():
    from edge.report.__main__ import parser as report_parser

    found = re.findall(r"^python -m edge\.report (.*)$", README, re.MULTILINE)
    assert len(found) >= 3
    for command in found:
        arguments = report_parser().parse_args(shlex.split(command))
        assert (arguments.directory is None) == bool(arguments.compare)


def test_commands_on_phones_parse():
    from edge.device import parser as device_parser

    pages = README + (ROOT / "docs" / "device.md").read_text(encoding="utf-8")
    found = re.findall(r"^python -m edge\.device ?(.*)$", pages, re.MULTILINE)
    assert len(found) >= 4
    for command in found:
        device_parser().parse_args(shlex.split(command))


def test_commands_on_one_file_again_parse():
    from edge.verify import parser as verify_parser

    found = re.findall(r"^python -m edge\.verify (.*)$", README, re.MULTILINE)
    assert found
    for command in found:
        verify_parser().parse_args(shlex.split(command))


def test_links_lead_somewhere():
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if not target.startswith("http")]
    assert targets
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_makefile_has_the_targets_named():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([\w-]+)`|^make ([\w-]+)", README, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target
