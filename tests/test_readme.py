"""The README is one page, and everything in it that can be run is run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration import builtin

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES, MOST_BYTES = 150, 9000
PYTHON_EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
LINES = [line for block in re.findall(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE) for line in block.splitlines()]
MAIN = [line for line in LINES if line.startswith("python3 -m venv ")]
MAKE = [line for line in LINES if line.startswith("make ")]
SMALL = [line for line in LINES if line.startswith("python -m ")]


def _run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    print(f"--- {command[-1]}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
    return done


def _bash(line: str, folder: Path) -> subprocess.CompletedProcess:
    return _run(["bash", "-euo", "pipefail", "-c", line], folder)


def _photos(folder: Path, count: int, size_px: int) -> None:
    (folder / "photos").mkdir()
    for index in range(count):
        Image.fromarray(builtin.generate(index, size_px, seed=3)).save(folder / "photos" / f"{index}.png")


def test_is_one_page():
    assert len(README.splitlines()) <= MOST_LINES
    assert len(README.encode()) <= MOST_BYTES


def test_every_line_is_of_a_kind_that_is_run():
    assert sorted(LINES) == sorted(MAIN + MAKE + SMALL)
    assert (len(MAIN), MAKE) == (1, ["make test"])
    assert len(SMALL) >= 5
    assert len(PYTHON_EXAMPLES) == 2


@pytest.fixture(scope="module")
def whole_way(tmp_path_factory) -> tuple[Path, dict[str, subprocess.CompletedProcess]]:
    """A folder with photos, and what the small commands gave there, one after the other."""
    folder = tmp_path_factory.mktemp("readme")
    _photos(folder, 16, 32)
    return folder, {line: _bash(line, folder) for line in SMALL}


def test_the_small_commands_run(whole_way):
    folder, done = whole_way
    assert {line: one.returncode for line, one in done.items()} == dict.fromkeys(SMALL, 0)
    for name in ("artifacts/nano32-int8.tflite", "artifacts/nano32-int8.json", "package.zip", "artifacts/report.html"):
        assert (folder / name).is_file(), name


def test_the_same_in_python(whole_way):
    """On the files that the commands made: they are current, so that nothing is converted again."""
    folder, _ = whole_way
    before = (folder / "artifacts" / "nano32-int8.tflite").stat().st_mtime_ns
    bundled = (folder / "package.zip").read_bytes()
    (folder / "package.zip").unlink()
    done = _run([sys.executable, "-c", PYTHON_EXAMPLES[0]], folder)
    assert done.returncode == 0
    assert done.stdout.count("nano32-int8") >= 2  # what validate and benchmark say of it
    assert (folder / "artifacts" / "nano32-int8.tflite").stat().st_mtime_ns == before
    assert (folder / "package.zip").read_bytes() == bundled


def test_make_knows_its_target(tmp_path):
    for line in MAKE:
        assert _bash(f"{line} --dry-run --directory {shlex.quote(str(ROOT))}", tmp_path).returncode == 0, line


@pytest.mark.slow
def test_the_main_command_runs(tmp_path):
    """Its last step, with the interpreter at hand; `make package` makes environments and installs into them."""
    environment, install, ship = MAIN[0].split(" && ")
    assert (environment, install) == ("python3 -m venv .venv", ".venv/bin/pip install -q '.[edge,report]'")
    assert ship == ".venv/bin/python -m edge.ship --variant nano32"
    assert _bash(ship.removeprefix(".venv/bin/"), tmp_path).returncode == 0
    assert (tmp_path / "artifacts" / "nano32-int8.tflite").is_file()
    assert (tmp_path / "artifacts" / "report.html").is_file()


@pytest.mark.slow
def test_your_own_classes(tmp_path):
    """As written, published weights and all: a hub on loopback serves a checkpoint of the right shape under the right name."""
    from safetensors.numpy import save

    import tfvit
    from tests.tfvit.test_hub import _Hub
    from tests.tfvit.test_weights import official_tensors
    from tfvit.weights import randomize

    model = tfvit.ViTTransformerTiny224(weights=None)
    randomize(model, 0)
    hub = _Hub(save(official_tensors(model)))
    _photos(tmp_path, 16, 224)
    np.savez(tmp_path / "data.npz", images=np.zeros((3, 224, 224, 3), "uint8"), labels=np.arange(3))
    code = "import numpy as np\nimages, labels = np.load('data.npz').values()\n" + PYTHON_EXAMPLES[1]
    code += "\nprint(artifact.manifest['classes'], artifact.manifest['recipe'])"
    try:
        done = _run([sys.executable, "-c", code], tmp_path, HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path / "hub"), HF_HUB_OFFLINE="0")
    finally:
        hub.close()
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "3 int8"
    assert hub.bodies()
