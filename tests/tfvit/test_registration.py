"""Our layers are known to Keras wherever both are imported."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_ASK = "assert keras.saving.get_registered_object('tfvit>PatchEmbedding') is not None\n"
_ASK += "assert keras.saving.get_registered_object('tfvit>preprocess_input') is not None\nprint('known')"


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("order", ["import tfvit, keras", "import keras, tfvit", "import keras, edge.convert"])
def test_in_whatever_order(order):
    assert _run(f"{order}\n{_ASK}").strip() == "known"


def test_importing_tfvit_imports_no_keras():
    code = "import sys, tfvit\nassert 'keras' not in sys.modules\n"
    code += "assert sum(type(finder).__name__ == '_KerasFinder' for finder in sys.meta_path) == 1"
    _run(code)


def test_without_keras_nothing_is_wrong():
    """Boards run edge.benchmark without it: looking for it says that it is not there, as ever."""
    code = "import sys\nsys.path = [path for path in sys.path if 'site-packages' not in path]\nimport importlib.util\n"
    code += "import tfvit.errors\nassert importlib.util.find_spec('keras') is None\n"
    code += "try:\n    import keras\nexcept ImportError as error:\n    print(error.name)"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stderr)
    assert done.stdout.strip() == "keras"
