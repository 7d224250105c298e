"""What results depend on besides their inputs: our code, the tools, the processor, and their settings."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from edge.runtime import machine
from tfvit import __version__

TOOLS = ("tfvit", "tensorflow", "keras", "ai-edge-litert", "ai-edge-quantizer", "numpy", "pillow")
_ROOT = Path(__file__).parents[2]
# The commands, and the rooms that only measure, draw or pack what is there, are not among them
MAKE_FILES = (
    "tfvit", "calibration", "edge/artifacts", "edge/conversion", "edge/drift", "edge/export", "edge/quantization", "edge/runtime",
    "edge/tflite",
)  # fmt: skip
# Environment variables that change the arithmetic of TensorFlow and numpy
_SETTINGS = (
    "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "XLA_FLAGS",
)  # fmt: skip
# Fields of keras.json, with Keras's defaults
_KERAS = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}


def tool_versions() -> dict[str, str]:
    """Name -> version; ours is that of this code, however it is installed."""
    return {tool: __version__ if tool == "tfvit" else metadata.version(tool) for tool in TOOLS}


def code_sha256(*more: str) -> str:
    """Our own source code as far as it makes files: between two releases, a line changed there makes every artifact outdated.

    Args:
        more: further rooms of `edge` that something depends on.
    """
    return source_sha256(_ROOT, (*MAKE_FILES, *(f"edge/{room}" for room in more)))


@functools.cache
def source_sha256(root: Path, folders: tuple[str, ...]) -> str:
    """Of the Python files in folders below `root`, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in (root / folder).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def computed_by() -> dict[str, Any]:
    """Everything named above, for a key: equal inputs give equal bytes where this is equal."""
    return {
        "code": code_sha256(),
        "tools": tool_versions(),
        "python": platform.python_version(),
        "processor": [machine.cpu_name(), machine.usable_cores()],
        "settings": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
        "keras": _keras_configuration(),
    }


def _keras_configuration() -> dict[str, Any]:
    """The fields of the user's keras.json that change a model. Keras writes the file with its defaults if there is none."""
    path = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        return {name: given.get(name, value) for name, value in _KERAS.items()}
    except (OSError, ValueError, AttributeError):
        return dict(_KERAS)
