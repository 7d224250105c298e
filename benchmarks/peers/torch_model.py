"""timm's model with random weights of seed 0, in PyTorch: its weights for our converter and its logits for everyone.

python benchmarks/peers/torch_model.py swin_tiny_patch4_window7_224 FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from pixels import inputs
from safetensors.torch import save_file

try:
    import timm
except RuntimeError:  # PyPI's torchvision is built for CUDA: beside a CPU build of PyTorch its operations do not load, and timm needs none
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    import timm


def random_model(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # zeros and ones, as initialised, could be folded away
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def sample(model: torch.nn.Module) -> tuple[torch.Tensor]:
    return (torch.zeros(1, 3, *model.patch_embed.img_size),)


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    model = random_model(name)
    with torch.no_grad():
        logits = [model(torch.from_numpy(image)).numpy()[0] for image in inputs(folder, "held_out", sample(model)[0].shape)]
    np.save(folder / "logits.npy", np.stack(logits))
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "weights.safetensors")


if __name__ == "__main__":
    main()
