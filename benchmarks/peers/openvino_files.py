"""The ONNX file in OpenVINO's own format, and quantized with NNCF.

    python benchmarks/peers/openvino_files.py FOLDER

On a CPU with bfloat16 OpenVINO computes what is not int8 in bfloat16 unless told otherwise: both ways are rows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nncf
import openvino
from made import make
from pixels import inputs


def main() -> None:
    folder = Path(sys.argv[1])
    images = list(inputs(folder, "calibration", (1, 3, 0, 0)))

    def write_float(path: Path) -> None:
        openvino.save_model(openvino.convert_model(str(folder / "float32.onnx")), str(path), compress_to_fp16=False)

    def write_int8(path: Path, model_type: nncf.ModelType | None) -> None:
        model = openvino.Core().read_model(str(folder / "openvino_float32.xml"))
        openvino.save_model(
            nncf.quantize(model, nncf.Dataset(images), subset_size=len(images), model_type=model_type), str(path), compress_to_fp16=False
        )

    def write_int4(path: Path) -> None:
        """Symmetric, one scale a channel, of all dense layers, with what NNCF has against its error that needs calibration."""
        model = openvino.Core().read_model(str(folder / "openvino_float32.xml"))
        settings = {"ratio": 1.0, "group_size": -1, "all_layers": True, "dataset": nncf.Dataset(images), "scale_estimation": True}
        made = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_SYM, **settings)
        openvino.save_model(made, str(path), compress_to_fp16=False)

    make(
        folder,
        "OpenVINO",
        f"{openvino.__version__.split('-')[0]}, NNCF {nncf.__version__}",
        {
            "float32": ("openvino_f32", "openvino_float32.xml", write_float),
            "float32, computed in bfloat16": ("openvino", "openvino_float32.xml", write_float),
            "int4 weights": ("openvino_f32", "openvino_int4.xml", write_int4),
            "int8": ("openvino_f32", "openvino_int8.xml", lambda path: write_int8(path, None)),
            "int8, rest in bfloat16": ("openvino", "openvino_int8.xml", lambda path: write_int8(path, None)),
            "int8 transformer": (
                "openvino_f32",
                "openvino_int8_transformer.xml",
                lambda path: write_int8(path, nncf.ModelType.TRANSFORMER),
            ),
            "int8 transformer, rest in bfloat16": (
                "openvino",
                "openvino_int8_transformer.xml",
                lambda path: write_int8(path, nncf.ModelType.TRANSFORMER),
            ),
        },
    )


if __name__ == "__main__":
    main()
