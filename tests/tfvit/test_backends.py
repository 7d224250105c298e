"""TensorFlow, JAX and PyTorch give the same outputs. Keras has one backend a process, so each of the others runs in its own."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

# float32 sums in another order through four blocks, in units of the largest logit
RELATIVE_TOLERANCE = 1e-5

SCRIPT = """
import keras, numpy as np
from tfvit.model import ViTTransformer
from tfvit.plain import VisionTransformer
from tfvit.weights import randomize

outputs = {"backend": keras.backend.backend()}
for version in (1, 2):
    model = ViTTransformer(
        version=version, embed_dim=16, depths=(2, 1), num_heads=(1, 2), window_size=4, input_shape=(72, 64, 3), classes=5,
        classifier_activation=None,
    )
    randomize(model, 0)
    pixels = np.random.default_rng(0).normal(size=(2, 72, 64, 3)).astype("float32")
    outputs[f"v{version}"] = keras.ops.convert_to_numpy(model(pixels))
model = VisionTransformer(
    embed_dim=16, depth=2, num_heads=2, patch_size=8, registers=2, class_position=False, layer_scale=1.0, pooling="token_avg",
    input_shape=(72, 64, 3), classes=5, classifier_activation=None,
)
randomize(model, 0)
outputs["plain"] = keras.ops.convert_to_numpy(model(pixels))
"""


def _outputs(backend, folder):
    path = folder / f"{backend}.npz"
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", f"{SCRIPT}np.savez({str(path)!r}, **outputs)"], check=True, env=environment)
    outputs = np.load(path)
    assert outputs["backend"] == backend
    return outputs


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_equal_tensorflow(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    here = {}
    exec(SCRIPT, here)
    expected, outputs = here["outputs"], _outputs(backend, tmp_path)
    assert expected["backend"] == "tensorflow"
    for name in ("v1", "v2", "plain"):
        difference = np.abs(outputs[name] - expected[name]).max() / np.abs(expected[name]).max()
        print(f"{backend} {name}: max abs difference {difference:.1e} of scale")
        assert difference <= RELATIVE_TOLERANCE
