"""The port against the original: every stage output and the logits of the reference tensors (timm's PyTorch code, see their README)."""

from pathlib import Path

import keras
import numpy as np
import pytest

from tfvit.model import ViTTransformer
from tfvit.weights import load_weights

REFERENCE = Path(__file__).parents[2].parent / "shared" / "data" / "reference"
# Largest absolute difference allowed, in units of the tensor's largest absolute value: float32 rounding through eight blocks stays two
# orders of magnitude below it, and any difference in arithmetic or layout (a bias transposed, a window misplaced) lies far above it.
RELATIVE_TOLERANCE = 1e-4

CASES = {
    "v1_window7_224": ("v1_window7_224", {"version": 1, "window_size": 7}),
    "v1_window7_224x448": ("v1_window7_224", {"version": 1, "window_size": 7}),
    "v2_window16_256": ("v2_window16_256", {"version": 2, "window_size": 16}),
    "v2_window12to16_256": ("v2_window12to16_256", {"version": 2, "window_size": 16, "pretrained_window_sizes": (12, 12, 12, 6)}),
}
LAYERS = {
    "patch_embed": "patch_embedding",
    "stage0": "stage1_block2",
    "stage1": "stage2_block2",
    "stage2": "stage3_block2",
    "stage3": "stage4_block2",
    "norm": "norm",
    "logits": "head",
}


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference tensors of the original model are not on this machine")
@pytest.mark.parametrize("case", CASES)
def test_every_stage_equals_the_original(case):
    checkpoint, arguments = CASES[case]
    tensors = np.load(REFERENCE / f"{case}.npz")
    pixels = tensors["input"]
    model = ViTTransformer(
        embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), classes=10, input_shape=pixels.shape[1:],
        classifier_activation=None, **arguments,
    )  # fmt: skip
    load_weights(model, REFERENCE / f"{checkpoint}.safetensors")
    names = [name for name in tensors.files if name != "input"]
    outputs = keras.Model(model.input, [model.get_layer(LAYERS[name]).output for name in names])(pixels)
    differences = {}
    for name, output in zip(names, outputs, strict=True):
        expected = tensors[name]
        assert output.shape == expected.shape
        differences[name] = np.abs(keras.ops.convert_to_numpy(output) - expected).max() / np.abs(expected).max()
        print(f"{case} {name}: max abs difference {differences[name]:.1e} of scale")
    assert len(differences) == len(names) >= 2
    assert all(difference <= RELATIVE_TOLERANCE for difference in differences.values()), differences
