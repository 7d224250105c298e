"""`python -m tfvit.compare CHECKPOINT REFERENCE.npz`: the port against recorded outputs of the original, layer by layer.

REFERENCE.npz holds `input` [B, H, W, 3] (normalised pixels) and any of `patch_embed`, `stage0` … `stage3`, `norm`, `logits`, recorded
from the original PyTorch code with the weights in CHECKPOINT; of a plain model `patch_embed`, `block1` …, `norm`, `logits`, or the names of
the flax code (`Transformer.encoderblock_0` …). A difference is given in units of the layer's largest absolute value.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, InputError, UsageError, reading
from tfvit.terminal import Parser, Terminal, run

# float32 rounding through the deepest variants stays well below; a difference in arithmetic or layout lies far above.
RELATIVE_TOLERANCE = 1e-4
V2_WINDOW = 16  # of the published 256 px models; a version 2 checkpoint does not tell its window


_EPILOG = """examples:
  python -m tfvit.compare tiny224.safetensors recorded.npz
  python -m tfvit.compare v2_base.pth recorded.npz --window-size 16"""


def parser() -> Parser:
    parser = Parser(prog="python -m tfvit.compare", description=__doc__, epilog=_EPILOG)
    parser.add_argument("checkpoint", type=Path, help=".safetensors, .pth or .npz with official names")
    parser.add_argument("reference", type=Path, help=".npz with input and outputs of the original")
    parser.add_argument(
        "--window-size", type=int, help=f"side of the windows (default: version 1, the checkpoint's; version 2, {V2_WINDOW})"
    )
    parser.add_argument("--pretrained-window-sizes", help="version 2: one a stage, for example 12,12,12,6 (default: none)")
    parser.add_argument(
        "--tolerance", type=float, default=RELATIVE_TOLERANCE, help="largest difference allowed, of scale (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _compare, argv)


def _compare(arguments: argparse.Namespace, terminal: Terminal) -> int:
    recorded = _read_reference(arguments.reference)
    with terminal.progress.stage("load Keras"):
        from tfvit import weights

        path = weights.existing_weights_file(arguments.checkpoint)
    with terminal.progress.stage("run the model"):
        outputs = layer_outputs(
            weights.read_tensors(path),
            path.name,
            recorded,
            window_size=arguments.window_size,
            pretrained_window_sizes=_windows(arguments.pretrained_window_sizes),
        )
    rows = differences(recorded, outputs)
    worst = max(rows, key=lambda row: row["max_of_scale"])
    passed = all(row["max_of_scale"] <= arguments.tolerance for row in rows)  # NaN fails
    table = [
        (row["layer"], "x".join(map(str, row["shape"])), *(f"{row[key]:.1e}" for key in ("scale", "max_abs", "mean_abs", "max_of_scale")))
        for row in rows
    ]
    verdict = f"worst layer: {worst['layer']}, {worst['max_of_scale']:.1e} of its scale; limit {arguments.tolerance:g}"
    verdict += ": passed" if passed else ": FAILED"
    document = {"checkpoint": path.name, "reference": arguments.reference.name, "layers": rows, "worst": worst["layer"], "passed": passed}
    terminal.result(document, ("layer", "shape", "scale", "max abs difference", "mean abs", "max of scale"), table, [verdict])
    return EXIT_OK if passed else EXIT_CHECK_FAILED


def layer_outputs(
    tensors: dict[str, np.ndarray],
    name: str,
    recorded: dict[str, np.ndarray],
    window_size: int | None = None,
    pretrained_window_sizes: Sequence[int] | None = None,
) -> dict[str, np.ndarray]:
    """Our outputs for the recorded input, under the recorded names.

    Args:
        tensors: a checkpoint with official names.
        name: of the checkpoint, for errors.
        recorded: `input`, and one entry for each layer to compare.
        window_size: by default that of a version 1 checkpoint, or `V2_WINDOW`.
        pretrained_window_sizes: of version 2, one for each stage.
    """
    import keras

    from tfvit.checkpoints.names import architecture
    from tfvit.checkpoints.official import assign_tensors
    from tfvit.plain_names import is_plain
    from tfvit.windowed import ViTTransformer

    if is_plain(tensors):
        return _plain_outputs(tensors, name, recorded)
    found: dict[str, Any] = {"window_size": V2_WINDOW, **architecture(tensors)}
    found.pop("image_size", None)
    given = {"window_size": window_size, "pretrained_window_sizes": pretrained_window_sizes}
    found |= {name: value for name, value in given.items() if value}
    pixels = recorded["input"]
    model = ViTTransformer(**found, input_shape=pixels.shape[1:], classifier_activation=None)
    assign_tensors(model, tensors, model.name, name)
    stages = {f"stage{stage}": f"stage{stage + 1}_block{depth}" for stage, depth in enumerate(found["depths"])}
    layers = {"patch_embed": "patch_embedding", **stages, "norm": "norm", "logits": "head"}
    wanted = [key for key in layers if key in recorded]
    outputs = keras.Model(model.input, [model.get_layer(layers[key]).output for key in wanted])(pixels)
    return {key: keras.ops.convert_to_numpy(output) for key, output in zip(wanted, outputs, strict=True)}


def _plain_outputs(tensors: dict[str, np.ndarray], name: str, recorded: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same for a plain model; the original's tensors have no unit axis."""
    import keras

    from tfvit.checkpoints import assign_tensors
    from tfvit.plain import VisionTransformer
    from tfvit.plain_names import plain_architecture

    pixels = recorded["input"]
    model = VisionTransformer(**plain_architecture(tensors), input_shape=pixels.shape[1:], classifier_activation=None)
    assign_tensors(model, tensors, model.name, name)
    layers = {"patch_embed": "patch_embedding", "Transformer.posembed_input": "patch_embedding", "Transformer": "norm"}
    layers |= {"norm": "norm", "logits": "head"}
    for block in range(sum(layer.name.startswith("block") for layer in model.layers)):
        layers |= {f"block{block + 1}": f"block{block + 1}", f"Transformer.encoderblock_{block}": f"block{block + 1}"}
    wanted = [key for key in recorded if key in layers]
    outputs = keras.Model(model.input, [model.get_layer(layers[key]).output for key in wanted])(pixels)
    found = {key: keras.ops.convert_to_numpy(output) for key, output in zip(wanted, outputs, strict=True)}
    return {key: output.squeeze(1) if output.ndim == 4 else output for key, output in found.items()}


def differences(recorded: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """One row a layer, in the order of the network.

    Raises:
        InputError: a shape differs, or there is nothing to compare.
    """
    rows = []
    for layer, output in outputs.items():
        expected = recorded[layer]
        if expected.shape != output.shape:
            raise InputError(
                f"{layer} has another shape",
                expected=f"{list(expected.shape)} as recorded",
                received=f"{list(output.shape)}",
                action="check --window-size and that the reference belongs to this checkpoint",
            )
        difference, scale = np.abs(output - expected), float(np.abs(expected).max())
        rows.append(
            {
                "layer": layer,
                "shape": list(expected.shape),
                "scale": scale,
                "max_abs": float(difference.max()),
                "mean_abs": float(difference.mean()),
                "max_of_scale": float(difference.max() / scale),
            }
        )
    if not rows:
        raise InputError(
            "nothing to compare",
            expected="patch_embed, stage0 … stage3 or block1 …, norm or logits in the reference",
            received=", ".join(recorded),
            action="record the original's outputs under these names",
        )
    return rows


def _read_reference(path: Path) -> dict[str, np.ndarray]:
    # numpy and zipfile meet broken files with errors of every type
    with reading(path, "an .npz with input and layer outputs", "reference", errors=Exception), np.load(path, allow_pickle=False) as file:
        recorded = {name: np.asarray(file[name]) for name in file.files}
    if recorded.get("input", np.zeros(0)).ndim != 4:
        raise InputError(
            "a reference without an input", expected="input [B, H, W, 3]", received=", ".join(recorded), action="record the input too"
        )
    return recorded


def _windows(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            "unusable windows", expected="whole numbers, one a stage: 12,12,12,6", received=text, action="check the list"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
