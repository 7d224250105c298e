"""timm's model through litert-torch, and its files through the quantizer that comes with it.

    python benchmarks/peers/litert_torch_files.py swin_tiny_patch4_window7_224 FOLDER

"int4" is the quantizer's own dynamic_wi4c_afp32, "int8" its static_wi8_ai8 with its own calibration; "int8 of dense layers" is a recipe of
one's own: the same, of FULLY_CONNECTED and CONV_2D alone.
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import litert_torch
from ai_edge_quantizer import qtyping, quantizer, recipe
from ai_edge_quantizer.recipe_manager import RecipeManager
from made import make
from pixels import inputs
from torch_model import random_model, sample


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    float_file = folder / "litert_torch_float32.tflite"
    calibrations: dict = {}

    def write_float(path: Path) -> None:
        model = random_model(name)
        litert_torch.convert(model, sample(model)).export(str(path))

    def write_quantized(path: Path, rules: list) -> None:
        engine = quantizer.Quantizer(str(float_file), rules)
        result = engine.quantize(calibration(engine, str(rules)) if engine.need_calibration else None)
        result.export_model(str(path), overwrite=True)

    def calibration(engine: quantizer.Quantizer, key: str) -> dict:
        if key not in calibrations:
            from ai_edge_litert.interpreter import Interpreter

            ((signature, names),) = Interpreter(str(float_file)).get_signature_list().items()
            images = inputs(folder, "calibration", (1, 3, 0, 0))
            calibrations[key] = engine.calibrate({signature: [{names["inputs"][0]: image} for image in images]})
        return calibrations[key]

    dense = RecipeManager()
    for operation in ("FULLY_CONNECTED", "CONV_2D"):
        dense.add_static_config(".*", qtyping.TFLOperationName[operation], activation_num_bits=8, weight_num_bits=8)
    make(
        folder,
        "litert-torch",
        f"{metadata.version('litert-torch')}, ai-edge-quantizer {metadata.version('ai-edge-quantizer')}",
        {
            "float32": ("litert", float_file.name, write_float),
            "dynamic int8": ("litert", "litert_torch_dynamic.tflite", lambda path: write_quantized(path, recipe.dynamic_wi8_afp32())),
            "int4": ("litert", "litert_torch_int4.tflite", lambda path: write_quantized(path, recipe.dynamic_wi4c_afp32())),
            "int8": ("litert", "litert_torch_int8.tflite", lambda path: write_quantized(path, recipe.static_wi8_ai8())),
            "int8 of dense layers": (
                "litert",
                "litert_torch_int8_dense.tflite",
                lambda path: write_quantized(path, dense.get_quantization_recipe()),
            ),
        },
    )


if __name__ == "__main__":
    main()
