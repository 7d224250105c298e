"""A command line answers at once: help and wrong usage load no framework."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Target 0.3 s on an idle machine; TensorFlow alone takes five times this limit, so that a busy machine does not matter
MOST_SECONDS = 1.0
HEAVY = ("tensorflow", "keras", "jax", "torch", "numpy", "PIL", "ai_edge_litert", "ai_edge_quantizer", "flatbuffers", "safetensors")

_LOADED = """
import sys
{statement}
print(" ".join(sorted(name for name in {heavy} if name in sys.modules)), file=sys.__stderr__)
"""
_HELP = "from edge.convert import main\nassert main(['--help']) == 0"
_NO_IMAGES = (
    "from edge.convert import main\n"
    "assert main(['--variant', 'nano32', '--weights', 'random:0', '--quant', 'int8', '--calibration', '/no/such/images']) == 3"
)
_WRONG = "from edge.convert import main\nassert main(['--variant', 'smal224', '--quant', 'int8']) == 2"
# where numpy is welcome but no framework
_FRAMEWORKS = HEAVY[:4]


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import edge", HEAVY),
        ("import edge.runtime.process", HEAVY),
        (_HELP, HEAVY[:4] + HEAVY[6:]),
        (_WRONG, _FRAMEWORKS),
        (_NO_IMAGES, _FRAMEWORKS),
    ],
    ids=["import edge", "import edge.runtime.process", "--help", "misspelt variant", "no calibration images"],
)
def test_nothing_heavy_is_loaded(statement, heavy):
    code = _LOADED.format(statement=statement, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    print(done.stderr)
    assert done.stderr.splitlines()[-1] == ""


@pytest.mark.slow
def test_what_is_current_is_found_without_a_framework(tmp_path):
    arguments = ["--variant", "nano32", "--quant", "float32", "--out", str(tmp_path), "--json", "--quiet"]
    subprocess.run([sys.executable, "-m", "edge.convert", *arguments], cwd=ROOT, check=True, capture_output=True)
    code = _LOADED.format(statement=f"from edge.convert import main\nassert main({arguments!r}) == 0", heavy=_FRAMEWORKS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    print(done.stdout, done.stderr)
    assert '"status": "current"' in done.stdout
    assert done.stderr.splitlines()[-1] == ""


def test_the_check_above_can_fail():
    code = _LOADED.format(statement="import numpy", heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.strip() == "numpy"


def test_help_answers_at_once():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "edge.convert", "--help"], capture_output=True, text=True, cwd=ROOT, check=True)
        seconds.append(time.perf_counter() - start)
    print(f"--help: {min(seconds):.2f} s (all: {', '.join(f'{value:.2f}' for value in seconds)})")
    assert "exit codes:" in done.stdout
    assert done.stderr == ""
    assert min(seconds) < MOST_SECONDS


def test_an_interrupt_that_native_code_swallowed_ends_the_stage():
    from tfvit.progress import Progress

    seen = []
    progress = Progress(interrupted=lambda: bool(seen))
    with progress.stage("before"):
        pass
    with pytest.raises(KeyboardInterrupt), progress.stage("native"):
        seen.append("swallowed")
