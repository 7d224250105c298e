"""Keras weights files (`.weights.h5`, and those inside a `.keras`): arrays by their place, and our own models' under timm's names.

Keras names a place after the layer, or after its class with a number, as its version has it. Both are read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfvit.checkpoints import layouts
from tfvit.errors import WeightsError, first_line

_PLACE = re.compile(r"^(?:layers/)?(?P<layer>[^/]+)/(?P<rest>.+)$")
_BLOCK, _MERGING = re.compile(r"^(?:block|stage\d+_block)"), re.compile(r"^(?:patch_merging|stage\d+_merging)")
# Inside a block: place -> timm's name and layout
_IN_BLOCK = {
    "attention/projection/vars/0": ("attn.proj.weight", layouts.TRANSPOSED),
    "attention/projection/vars/1": ("attn.proj.bias", layouts.SAME),
    "attention/cpb_fc1/vars/0": ("attn.cpb_mlp.0.weight", layouts.TRANSPOSED),
    "attention/cpb_fc1/vars/1": ("attn.cpb_mlp.0.bias", layouts.SAME),
    "attention/cpb_fc2/vars/0": ("attn.cpb_mlp.2.weight", layouts.TRANSPOSED),
    **layouts.IN_A_KERAS_BLOCK,
}
_ALONE = {
    ("patch_embedding", "projection/vars/0"): ("patch_embed.proj.weight", layouts.CONVOLUTION),
    ("patch_embedding", "projection/vars/1"): ("patch_embed.proj.bias", layouts.SAME),
    ("patch_embedding", "norm/vars/0"): ("patch_embed.norm.weight", layouts.SAME),
    ("patch_embedding", "norm/vars/1"): ("patch_embed.norm.bias", layouts.SAME),
    **{(layer, "vars/0"): ("norm.weight", layouts.SAME) for layer in ("norm", "layer_norm")},
    **{(layer, "vars/1"): ("norm.bias", layouts.SAME) for layer in ("norm", "layer_norm")},
    **{(layer, "vars/0"): ("head.fc.weight", layouts.TRANSPOSED) for layer in ("head", "dense")},
    **{(layer, "vars/1"): ("head.fc.bias", layouts.SAME) for layer in ("head", "dense")},
}


def read_h5(content: Path | bytes, source: str) -> dict[str, np.ndarray]:
    """The arrays of a Keras weights file, by place: "layers/norm/vars/0".

    Raises:
        WeightsError: no HDF5 file, or one that declares more than it holds.
    """
    import h5py

    arrays: dict[str, np.ndarray] = {}

    def take(place: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset) and not place.startswith("optimizer"):
            # Keras stores arrays as they are; one that is declared and not stored may be of any size
            stored = entry.id.get_storage_size() == entry.size * entry.dtype.itemsize and not entry.external
            if not stored or entry.dtype.kind not in "fiub":
                raise ValueError(f"{place} of {entry.size} elements in {entry.id.get_storage_size()} bytes")
            arrays[place] = entry[()]

    try:
        with h5py.File(io.BytesIO(content) if isinstance(content, bytes) else content, "r") as file:
            file.visititems(take)
    except Exception as error:  # h5py raises many kinds for damaged files
        raise WeightsError(
            "unreadable weights file",
            expected="a .weights.h5 that Keras wrote",
            received=f"{source}: {first_line(error)[:200]}",
            action="copy or save the file again",
        ) from error
    return arrays


def timm_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a model of ours under timm's names; what has no place in one keeps its name."""
    by_layer: dict[str, dict[str, np.ndarray]] = {}
    for place, array in arrays.items():
        match = _PLACE.match(place)
        by_layer.setdefault(match["layer"] if match else "", {})[match["rest"] if match else place] = array
    blocks = in_order(layer for layer in by_layer if _BLOCK.match(layer))
    mergings = in_order(layer for layer in by_layer if _MERGING.match(layer))
    widths = [by_layer[layer]["norm1/vars/0"].shape[0] if "norm1/vars/0" in by_layer[layer] else 0 for layer in blocks]
    stages, named = list(dict.fromkeys(widths)), {}
    for layer, width in zip(blocks, widths, strict=True):
        stage = stages.index(width)
        number = sum(name.startswith(f"layers.{stage}.blocks.") and name.endswith(".norm1.weight") for name in named)
        named |= {f"layers.{stage}.blocks.{number}.{name}": tensor for name, tensor in _block(by_layer.pop(layer)).items()}
    for stage, layer in enumerate(mergings, start=1):
        part, prefix = by_layer.pop(layer), f"layers.{stage}.downsample"
        kernel = part.get("reduction/vars/0")
        pre_norm = kernel is not None and part["norm/vars/0"].shape[0] == kernel.shape[0]
        for index, kind in enumerate(("weight", "bias")):
            layout = layouts.MERGED_VECTOR if pre_norm else layouts.SAME
            named[f"{prefix}.norm.{kind}"] = layout.to_official(part[f"norm/vars/{index}"])
        if kernel is not None:
            named[f"{prefix}.reduction.weight"] = layouts.MERGED_KERNEL.to_official(kernel)
    for layer, part in by_layer.items():
        for rest, array in part.items():
            name, layout = _ALONE.get((layer, rest), (f"{layer}/{rest}", layouts.SAME))
            named[name] = layout.to_official(array)
    return named


def _block(part: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    named = {name: layout.to_official(part[place]) for place, (name, layout) in _IN_BLOCK.items() if place in part}
    named["attn.qkv.weight"] = np.concatenate([part[f"attention/{one}/vars/0"].T for one in ("query", "key", "value")], axis=0)
    cosine = "attention/cpb_fc1/vars/0" in part
    biases = {one: part[f"attention/{one}/vars/1"] for one in ("query", "key", "value") if f"attention/{one}/vars/1" in part}
    if cosine:
        named["attn.logit_scale"] = layouts.LOGIT_SCALE.to_official(part["attention/vars/0"])
        named |= {f"attn.{one[0]}_bias": biases[one] for one in ("query", "value") if one in biases}
    else:
        named["attn.relative_position_bias_table"] = part["attention/vars/0"]
        if biases:
            named["attn.qkv.bias"] = np.concatenate(list(biases.values()), axis=0)
    return named


def in_order(names: Any) -> list[str]:
    """block, block_1, … block_10; stage1_block1, … stage1_block10."""
    return sorted(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def of_keras_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the configuration inside a `.keras` of ours tells: size, windows and padding."""
    layers = [layer for layer in (config.get("config") or {}).get("layers", []) if isinstance(layer, Mapping)]
    blocks = [layer["config"] for layer in layers if layer.get("class_name") == "Block"]
    shapes = [layer["config"].get("batch_shape") for layer in layers if layer.get("class_name") == "InputLayer"]
    if not blocks or len(shapes) != 1 or not shapes[0][1]:
        return {}
    stages = list(dict.fromkeys(block["num_heads"] for block in blocks))
    pretrained = tuple(next(block["pretrained_window_size"] for block in blocks if block["num_heads"] == heads) for heads in stages)
    found = {"image_size": shapes[0][1], "window_size": blocks[0]["window_size"], "padding": blocks[0].get("padding", "masked")}
    return found | ({"pretrained_window_sizes": pretrained} if blocks[0]["version"] == 2 else {})
