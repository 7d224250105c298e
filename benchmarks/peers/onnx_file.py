"""timm's model through torch.onnx.export.

python benchmarks/peers/onnx_file.py swin_tiny_patch4_window7_224 FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch_model import random_model, sample


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    model = random_model(name)
    # opset 20 is the first with GELU as one operation
    torch.onnx.export(
        model,
        sample(model),
        str(folder / "float32.onnx"),
        input_names=["image"],
        output_names=["logits"],
        opset_version=20,
        external_data=False,
        dynamo=True,
    )


if __name__ == "__main__":
    main()
