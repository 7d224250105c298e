"""What `edge.inspect --float16` says: how far every layer of a file stays below what float16 holds, on images."""

from __future__ import annotations

from typing import Any

from calibration.image_set import open_image_set
from edge.quantization import float16_headroom
from edge.tflite import flatbuffer
from tfvit.errors import InputError
from tfvit.preprocessing import Preprocessing
from tfvit.progress import counted, step

IMAGES = 16
_IMAGE_RANK, _CHANNELS = 4, 3
# Layers shown of the page, those with the least headroom
_SHOWN = 12


def on_images(data: bytes, source: str) -> dict[str, Any]:
    """The document's `float16`.

    Args:
        data: the bytes of a `.tflite` that takes one RGB image.
        source: folder or zip of images, or "builtin".

    Raises:
        InputError: the file takes no image, or computes on integers.
    """
    model = flatbuffer.read_model(data)
    shapes = {name: flatbuffer.tensor_shape(model, index) for name, index in flatbuffer.signature_inputs(model).items()}
    shape = next(iter(shapes.values()), ())
    if len(shapes) != 1 or len(shape) != _IMAGE_RANK or shape[0] != 1 or shape[-1] != _CHANNELS:
        raise InputError(
            "the file takes no image", expected="one input [1, H, W, 3]", received=str(shapes), action="ask it of another file"
        )
    image_set = open_image_set(source)
    chosen = image_set.split(IMAGES, 0, 0).calibration
    with step("look for the largest numbers", total=len(chosen)):
        images = image_set.read(chosen, Preprocessing.for_image_size((shape[1], shape[2])))
        layers = float16_headroom.headroom(data, (image[None] for image in counted(images)))
    return {
        "images": len(chosen),
        "source": image_set.source,
        "limit": float16_headroom.LARGEST,
        "layers": [float16_headroom.described(one) for one in layers],
    }


def lines(float16: dict[str, Any]) -> list[str]:
    """The document's `float16` as text."""
    layers, where = float16["layers"], f"the largest numbers on {float16['images']} images of {float16['source']}"
    text = [f"in float16 arithmetic, which ends at {float16['limit']:g}, by {where}:"]
    for one in layers[:_SHOWN]:
        overflows = "  OVERFLOWS" if one["headroom_db"] < 0 else ""
        text.append(f"  {one['headroom_db']:6.1f} dB left  {one['layer']}: {one['largest']:g} in {one['op']} ({one['what']}){overflows}")
    return text + ([f"  and {len(layers) - _SHOWN} layers with more"] if len(layers) > _SHOWN else [])
