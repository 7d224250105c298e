"""A command line answers at once: help and wrong usage load no framework."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Modules, Python's own among them: 257 of a command with numpy and Pillow, 68 of the bare package; TensorFlow alone brings 4,000
MOST_MODULES, MOST_MODULES_OF_EDGE = 350, 100
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


@pytest.mark.parametrize("command", ["-m edge.convert --help", "-m edge.report --help", "-c import_edge"])
def test_what_is_imported_stays_little(command):
    """By Python's own account: a command line answers in under 0.3 s and `import edge` in under 0.1 s where no more than this is loaded.

    Modules are counted, not seconds, which depend on what else the machine does.
    """
    arguments = [part.replace("_", " ") for part in command.split()]
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, cwd=ROOT, check=True)
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if line.startswith("import time:")][1:]
    names, microseconds = [row[2].strip() for row in rows], sum(int(row[0]) for row in rows)
    print(f"{command}: {len(names)} modules, {microseconds / 1e6:.2f} s")
    heavy = HEAVY[:4] + HEAVY[6:] if "edge.convert" in command else HEAVY[:4] + ("matplotlib", "jinja2", "jsonschema", "ai_edge_litert")
    assert not {name.split(".")[0] for name in names} & {*heavy, *(HEAVY if "import" in command else ())}
    assert len(names) <= (MOST_MODULES_OF_EDGE if "import" in command else MOST_MODULES)


def test_an_interrupt_that_native_code_swallowed_ends_the_stage():
    from tfvit.progress import Progress

    seen = []
    progress = Progress(interrupted=lambda: bool(seen))
    with progress.stage("before"):
        pass
    with pytest.raises(KeyboardInterrupt), progress.stage("native"):
        seen.append("swallowed")
