"""Runs a `.tflite` with a reader that is not TensorFlow's: raw inputs from a file, raw outputs to another.

    python read.py READER MODEL INPUTS OUTPUTS [FLAG ...]        READER: openvino, tf2onnx, mnn, tvm; FLAG: of mnn's converter

Runs in the reader's own environment, where of this project nothing is installed. One line of JSON on stdout: `refused`, the reader's reason
where it does not read or run the file, else null; `made_bytes`, of the file that mnn's converter makes of it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

MADE_BYTES = []  # of the file that mnn's converter made


def openvino(model):
    import openvino

    # in float32, as LiteRT computes: the default is bfloat16 where the CPU has it. Its products of 8-bit integers overflow on a CPU without
    # VNNI: there they are computed in float32 too
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    if "vnni" not in Path("/proc/cpuinfo").read_text():
        settings["LP_TRANSFORMS_MODE"] = "NO"
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    (source,) = compiled.inputs
    return tuple(source.shape), source.element_type.to_dtype(), lambda pixels: compiled(pixels)[0]


def tf2onnx(model):
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.onnx"
        command = [sys.executable, "-m", "tf2onnx.convert", "--tflite", model, "--output", str(made), "--opset", "18"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not made.exists():
            raise RuntimeError((done.stderr.strip().splitlines() or ["no file"])[-1])
        session = onnxruntime.InferenceSession(made.read_bytes(), providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    kind = {"tensor(float)": np.float32, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8}[source.type]
    return tuple(source.shape), np.dtype(kind), lambda pixels: session.run(None, {source.name: pixels})[0]


def mnn(model, *flags):
    import MNN

    with tempfile.TemporaryDirectory() as folder:
        made = str(Path(folder) / "made.mnn")
        # not MNN.tools.mnnconvert: that runs `pip install` with whichever pip is found first, and sends usage logs
        arguments = ["mnnconvert", "-f", "TFLITE", "--modelFile", model, "--MNNModel", made, "--bizCode", "x", *flags]
        command = [sys.executable, "-c", f"import _tools; _tools.mnnconvert({arguments!r})"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not Path(made).exists():
            said = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line or "NOT_SUPPORTED" in line]
            crash = f"the converter ended by signal {-done.returncode}" if done.returncode < 0 else "no file"
            raise RuntimeError("; ".join(said[:2]) or crash)
        MADE_BYTES.append(Path(made).stat().st_size)
        interpreter = MNN.Interpreter(made)
    session = interpreter.createSession({})
    source = interpreter.getSessionInput(session)
    shape = tuple(source.getShape())

    def run(pixels):
        given = MNN.Tensor(shape, MNN.Halide_Type_Float, pixels.astype(np.float32), MNN.Tensor_DimensionType_Tensorflow)
        source.copyFrom(given)
        interpreter.runSession(session)
        target = interpreter.getSessionOutput(session)
        result = MNN.Tensor(
            target.getShape(), MNN.Halide_Type_Float, np.zeros(target.getShape(), np.float32), MNN.Tensor_DimensionType_Tensorflow
        )
        target.copyToHostTensor(result)
        return np.array(result.getData(), np.float32).reshape(target.getShape())

    return shape, np.dtype(np.float32), run


def tvm(model):
    import tflite
    import tvm
    from tvm.relax.frontend import tflite as frontend

    module = frontend.from_tflite(tflite.Model.GetRootAsModel(Path(model).read_bytes(), 0))
    machine = tvm.relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
    (parameter,) = module["main"].params
    about = getattr(parameter, "struct_info", None) or parameter.ty
    shape, kind = tuple(int(side) for side in about.shape), np.dtype(str(about.dtype))

    def run(pixels):
        found = machine["main"](tvm.runtime.tensor(pixels))
        return (found[0] if isinstance(found, tvm.ir.Array) else found).numpy()

    return shape, kind, run


def main():
    reader, model, inputs, outputs, *flags = sys.argv[1:]
    refused = None
    try:
        shape, kind, run = {"openvino": openvino, "tf2onnx": tf2onnx, "mnn": mnn, "tvm": tvm}[reader](model, *flags)
        with open(outputs, "wb") as file:
            for pixels in np.fromfile(inputs, kind).reshape(-1, *shape):
                file.write(np.ascontiguousarray(run(pixels)).tobytes())
    except Exception as error:  # each reader has its own kinds
        refused = f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}"
    print(json.dumps({"refused": refused, "made_bytes": MADE_BYTES[0] if MADE_BYTES else None}))


if __name__ == "__main__":
    main()
