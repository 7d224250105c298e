"""The ONNX file quantized with ONNX Runtime's own tools.

    python benchmarks/peers/onnxruntime_files.py FOLDER

Static files are QDQ with one scale a channel, min-max ranges of the calibration images: of every operation (the default), or of the matrix
products and the convolution alone. 4-bit weights have one scale in 32 and are computed with 8-bit activations. Their quantizer takes MatMul
alone, so that it is given the file before preparation, which makes them Gemm.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from made import make
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process
from pixels import inputs

DENSE = ["MatMul", "Gemm", "Conv"]


class _Images(CalibrationDataReader):
    def __init__(self, folder: Path) -> None:
        self._images: Iterator[np.ndarray] = inputs(folder, "calibration", (1, 3, 0, 0))

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image}


def main() -> None:
    folder = Path(sys.argv[1])
    float_file, prepared = folder / "float32.onnx", folder / "prepared.onnx"
    if not prepared.exists():
        quant_pre_process(str(float_file), str(prepared), skip_symbolic_shape=True)

    def write_float(path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError("torch.onnx.export made no file")

    def write_static(path: Path, operations: list[str] | None) -> None:
        quantize_static(
            str(prepared),
            str(path),
            _Images(folder),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=operations,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )

    def write_int4(path: Path) -> None:
        engine = MatMulNBitsQuantizer(onnx.load(str(float_file)), block_size=32, is_symmetric=True, accuracy_level=4)
        engine.process()
        engine.model.save_model_to_file(str(path))

    make(
        folder,
        "ONNX Runtime",
        onnxruntime.__version__,
        {
            "float32": ("onnxruntime", float_file.name, write_float),
            "dynamic int8": (
                "onnxruntime",
                "onnxruntime_dynamic.onnx",
                lambda path: quantize_dynamic(str(prepared), str(path), per_channel=True, weight_type=QuantType.QInt8),
            ),
            "int4 weights": ("onnxruntime", "onnxruntime_int4.onnx", write_int4),
            "int8": ("onnxruntime", "onnxruntime_int8.onnx", lambda path: write_static(path, None)),
            "int8 of dense layers": ("onnxruntime", "onnxruntime_int8_dense.onnx", lambda path: write_static(path, DENSE)),
        },
    )


if __name__ == "__main__":
    main()
