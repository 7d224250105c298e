"""A five-class model of transformers or timm, random weights: saved as its library saves it, with its logits and its pixels of a picture.

Runs in an environment of its own (`make checkpoints` builds it), not in ours; `checkpoint_fidelity.py` calls it.

    python benchmarks/checkpoint_reference.py MODEL OUT_DIR
"""

import sys
from pathlib import Path

import numpy as np
import torch

# torchvision's compiled operations do not load beside a CPU build of PyTorch (see timm_reference.py)
_LIBRARY = torch.library.Library("torchvision", "DEF")
for _operation in ("nms", "qnms"):
    _LIBRARY.define(f"{_operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from PIL import Image  # noqa: E402

CLASSES = 5
SIZES = {
    "tiny": (96, [2, 2, 6, 2], [3, 6, 12, 24]),
    "small": (96, [2, 2, 18, 2], [3, 6, 12, 24]),
    "base": (128, [2, 2, 18, 2], [4, 8, 16, 32]),
}
# transformers: size, version, image, window, windows of the pretraining, and how its processor resizes
TRANSFORMERS = {
    "swin-tiny-224": ("tiny", 1, 224, 7, None, "squash"),
    "swin-small-224": ("small", 1, 224, 7, None, "crop"),
    "swin-base-384": ("base", 1, 384, 12, None, "squash"),
    "swinv2-tiny-256": ("tiny", 2, 256, 8, [0, 0, 0, 0], "squash"),
    "swinv2-small-256": ("small", 2, 256, 16, [0, 0, 0, 0], "crop"),
    "swinv2-base-256": ("base", 2, 256, 16, [12, 12, 12, 6], "squash"),
    "swinv2-tiny-192-window8": ("tiny", 2, 192, 8, [0, 0, 0, 0], "squash"),
}


def perturbed(model: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases start at zero and one: every parameter must matter
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def of_transformers(name: str, folder: Path, picture: Image.Image) -> tuple[torch.Tensor, torch.Tensor, str]:
    import transformers

    size, version, side, window, pretrained, how = TRANSFORMERS[name]
    embed_dim, depths, heads = SIZES[size]
    kind = "Swin" if version == 1 else "Swinv2"
    more = {} if pretrained is None else {"pretrained_window_sizes": pretrained}
    labels = {index: f"thing {index}" for index in range(CLASSES)}
    config = getattr(transformers, f"{kind}Config")(
        embed_dim=embed_dim, depths=depths, num_heads=heads, window_size=window, image_size=side, id2label=labels,
        label2id={label: index for index, label in labels.items()}, **more,
    )  # fmt: skip
    model = perturbed(getattr(transformers, f"{kind}ForImageClassification")(config))
    if how == "squash":
        processor = transformers.ViTImageProcessor(size={"height": side, "width": side}, resample=3)
    else:
        processor = transformers.BitImageProcessor(
            size={"shortest_edge": side * 8 // 7}, crop_size={"height": side, "width": side}, resample=3, do_center_crop=True
        )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    pixels = processor(picture, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        return pixels, model(pixels).logits, f"transformers {transformers.__version__}"


def of_timm(name: str, folder: Path, picture: Image.Image) -> tuple[torch.Tensor, torch.Tensor, str]:
    import timm
    from timm.models._hub import save_for_hf

    model = perturbed(timm.create_model(name, pretrained=False, num_classes=CLASSES))
    save_for_hf(model, folder, model_config={"label_names": [f"thing {index}" for index in range(CLASSES)]})
    pixels = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)(picture)[None]
    with torch.no_grad():
        return pixels, model(pixels), f"timm {timm.__version__}"


def main() -> None:
    name, out = sys.argv[1], Path(sys.argv[2])
    picture = Image.open(out / "picture.png").convert("RGB")
    pixels, logits, version = (of_transformers if name in TRANSFORMERS else of_timm)(name, out / "saved", picture)
    np.savez(out / "reference.npz", pixels=pixels.permute(0, 2, 3, 1).numpy(), logits=logits.numpy())
    print(f"{version}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
