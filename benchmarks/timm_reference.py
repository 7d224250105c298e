"""Runs timm's PyTorch model of one variant with random weights and records weights, input, stage outputs and logits.

Runs in the timm environment (`make fidelity` builds it), not in ours; `timm_fidelity.py` calls it.

    python benchmarks/timm_reference.py TIMM_NAME OUT_DIR
"""

import sys
from pathlib import Path

import numpy as np
import torch

# timm imports torchvision for image transforms only. Its compiled operations do not load beside a CPU build of PyTorch, and its import
# stops at two of them that it wants to describe: declared here, neither is ever called.
_LIBRARY = torch.library.Library("torchvision", "DEF")
for _operation in ("nms", "qnms"):
    _LIBRARY.define(f"{_operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
from safetensors.torch import save_file  # noqa: E402


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    torch.manual_seed(0)
    size = {"img_size": 224, "num_classes": 1000} if "dinov2" in name else {}
    model = timm.create_model(name, pretrained=False, **size).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # V2's norms start at zero: every parameter must matter
            parameter.add_(torch.randn_like(parameter) * 0.05)
    size = model.patch_embed.img_size
    pixels = torch.randn(1, 3, *size)
    recorded = {"input": pixels.permute(0, 2, 3, 1).numpy()}
    if hasattr(model, "layers"):
        hooks = {"patch_embed": model.patch_embed, **{f"stage{i}": layer for i, layer in enumerate(model.layers)}, "norm": model.norm}
    else:
        hooks = {**{f"block{i}": block for i, block in enumerate(model.blocks, start=1)}, "norm": model.norm}
    for key, module in hooks.items():
        module.register_forward_hook(lambda _, __, output, key=key: recorded.update({key: output.detach().numpy().copy()}))
    with torch.no_grad():
        recorded["logits"] = model(pixels).numpy()
    np.savez(folder / "reference.npz", **recorded)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "weights.safetensors")
    print(f"timm {timm.__version__}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
