"""Our layers are known to Keras wherever both are imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from tfvit import registration

ROOT = Path(__file__).parents[2]
_ASK = "assert keras.saving.get_registered_object('tfvit>PatchEmbedding') is not None\n"
_ASK += "assert keras.saving.get_registered_object('tfvit>preprocess_input') is not None\nprint('known')"


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("order", ["import tfvit, keras", "import keras, tfvit"])
@pytest.mark.slow
def test_in_whatever_order(order):
    assert _run(f"{order}\n{_ASK}").strip() == "known"


@pytest.mark.parametrize("module", ["windows", "attention", "blocks", "plain_layers", "model", "imagenet", "checkpoints.official"])
@pytest.mark.slow
def test_any_module_may_come_first(module):
    """Keras is then imported in the middle of it."""
    assert _run(f"import tfvit.{module}\nprint('imported')").strip() == "imported"


@pytest.mark.slow
def test_a_constructor_first():
    assert _run(f"from tfvit import ViTTransformerNano32\nimport keras\n{_ASK}").strip() == "known"


def test_importing_tfvit_imports_no_keras():
    code = "import sys, tfvit\nassert 'keras' not in sys.modules\n"
    code += "assert sum(type(finder).__name__ == '_KerasFinder' for finder in sys.meta_path) == 1"
    _run(code)


def test_where_keras_is_not_installed(monkeypatch):
    """Boards run edge.benchmark without it: it is not found, as ever, and looked for once."""
    finder = registration._KerasFinder()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    assert finder.find_spec("numpy", []) is None
    assert finder in sys.meta_path
    assert finder.find_spec("keras", []) is None
    assert finder not in sys.meta_path
