"""Small files of the kinds that others publish: operations that our graphs do not have, and forms that our converter never writes.

`PROBES` are graphs of one question each, NAME -> (function of (tf, inputs), input shapes). `FILES` are whole files, NAME -> function that
gives the bytes. benchmarks/foreign_files.py asks the delegates about all of them; tests/edge does it again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

_GENERATOR = np.random.default_rng(1)


def _weights(*shape: int) -> np.ndarray:
    return _GENERATOR.standard_normal(shape).astype(np.float32)


GRID = (1, 4, 6, 8)
_KERNEL, _DEPTHWISE, _DOUBLED, _GROUPED = _weights(3, 3, 8, 5), _weights(3, 3, 8, 1), _weights(3, 3, 8, 2), _weights(3, 3, 4, 6)
_ROW, _BIAS, _UP_2, _UP_3 = np.abs(_weights(8)), _weights(5), _weights(2, 2, 5, 8), _weights(3, 3, 5, 8)
_TABLE, _CUBE = _weights(10, 8), _weights(2, 2, 2, 8, 3)


def _nearest(tf, x, **options):
    return tf.compat.v1.image.resize_nearest_neighbor(x, (8, 12), **options)


def _bilinear(tf, x, **options):
    return tf.compat.v1.image.resize_bilinear(x, (8, 12), **options)


def _depthwise(tf, x, weights, stride, dilation):
    return tf.nn.depthwise_conv2d(x, weights, (1, stride, stride, 1), "SAME", dilations=(dilation, dilation))


def _up(tf, x, weights, height, width, padding):
    return tf.nn.conv2d_transpose(x, weights, (1, height, width, 5), 2, padding)


def _of_parts(first, second):
    return first * 2.0 + second[..., :3]


PROBES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "prelu": (lambda tf, x: tf.nn.relu(x) + -_ROW * tf.nn.relu(-x), [GRID]),
    "relu between -1 and 1": (lambda tf, x: tf.maximum(-1.0, tf.minimum(x, 1.0)), [GRID]),
    "resize to nearest": (lambda tf, x: _nearest(tf, x), [GRID]),
    "resize to nearest, half pixel centres": (lambda tf, x: _nearest(tf, x, half_pixel_centers=True), [GRID]),
    "resize to nearest, corners aligned": (lambda tf, x: _nearest(tf, x, align_corners=True), [GRID]),
    "resize, corners aligned": (lambda tf, x: _bilinear(tf, x, align_corners=True), [GRID]),
    "resize, neither": (lambda tf, x: _bilinear(tf, x), [GRID]),
    "depthwise convolution, stride 2": (lambda tf, x: _depthwise(tf, x, _DEPTHWISE, 2, 1), [GRID]),
    "depthwise convolution, two of each": (lambda tf, x: _depthwise(tf, x, _DOUBLED, 1, 1), [GRID]),
    "depthwise convolution, dilated": (lambda tf, x: _depthwise(tf, x, _DEPTHWISE, 1, 2), [GRID]),
    "convolution, dilated": (lambda tf, x: tf.nn.conv2d(x, _KERNEL, 1, "SAME", dilations=2), [GRID]),
    "convolution, two groups": (lambda tf, x: tf.nn.conv2d(x, _GROUPED, 1, "SAME"), [GRID]),
    "convolution, no padding": (lambda tf, x: tf.nn.conv2d(x, _KERNEL, 1, "VALID"), [GRID]),
    "convolution of a volume": (lambda tf, x: tf.nn.conv3d(x, _CUBE, (1, 1, 1, 1, 1), "SAME"), [(1, 3, 4, 5, 8)]),
    "transposed convolution": (lambda tf, x: _up(tf, x, _UP_2, 8, 12, "SAME"), [GRID]),
    "transposed convolution, bias": (lambda tf, x: _up(tf, x, _UP_2, 8, 12, "SAME") + _BIAS, [GRID]),
    "transposed convolution, overlapping": (lambda tf, x: _up(tf, x, _UP_3, 8, 12, "SAME"), [GRID]),
    "transposed convolution, no padding": (lambda tf, x: _up(tf, x, _UP_3, 9, 13, "VALID"), [GRID]),
    "max pooling, padded": (lambda tf, x: tf.nn.max_pool2d(x, 3, 2, "SAME"), [GRID]),
    "average pooling, padded": (lambda tf, x: tf.nn.avg_pool2d(x, 3, 2, "SAME"), [GRID]),
    "log softmax": (lambda tf, x: tf.nn.log_softmax(x), [GRID]),
    "local response normalization": (lambda tf, x: tf.nn.local_response_normalization(x), [GRID]),
    "squeeze": (lambda tf, x: tf.squeeze(x * 2.0, 0) * 3.0, [(1, 1, 6, 8)]),
    "reshape to a computed shape": (lambda tf, x: tf.reshape(x, tf.stack([tf.shape(x)[0], -1])), [(None, 4, 8)]),
    "argmin": (lambda tf, x: tf.cast(tf.argmin(x, -1, output_type="int32"), "float32"), [GRID]),
    "ceiling": (lambda tf, x: tf.math.ceil(x * 3.3), [GRID]),
    "floor": (lambda tf, x: tf.floor(x * 3.3), [GRID]),
    "floor of a quotient": (lambda tf, x: tf.math.floordiv(x, 0.3), [GRID]),
    "remainder": (lambda tf, x: tf.math.floormod(x, 0.3), [GRID]),
    "sign": (lambda tf, x: tf.sign(x), [GRID]),
    "angle": (lambda tf, x: tf.atan2(x, tf.nn.relu(x) + 1.0), [GRID]),
    "less": (lambda tf, x: tf.cast(x < 0.3, "float32"), [GRID]),
    "less or equal": (lambda tf, x: tf.cast(x <= 0.3, "float32"), [GRID]),
    "greater or equal": (lambda tf, x: tf.cast(x >= 0.3, "float32"), [GRID]),
    "equal": (lambda tf, x: tf.cast(tf.equal(tf.round(x), 1.0), "float32"), [GRID]),
    "not equal": (lambda tf, x: tf.cast(tf.not_equal(tf.round(x), 1.0), "float32"), [GRID]),
    "and": (lambda tf, x: tf.cast(tf.logical_and(x > 0.0, x < 1.0), "float32"), [GRID]),
    "or": (lambda tf, x: tf.cast(tf.logical_or(x > 1.0, x < 0.0), "float32"), [GRID]),
    "any": (lambda tf, x: tf.cast(tf.reduce_any(x > 1.0, -1), "float32"), [GRID]),
    "all": (lambda tf, x: tf.cast(tf.reduce_all(x > -1.0, -1), "float32"), [GRID]),
    "bitwise": (lambda tf, x: tf.cast(tf.bitwise.bitwise_xor(tf.cast(x * 9.0, "int32"), 5), "float32"), [GRID]),
    "minimum of channels": (lambda tf, x: tf.reduce_min(x, -1, keepdims=True) * x, [GRID]),
    "product of channels": (lambda tf, x: tf.reduce_prod(x, -1, keepdims=True) * x, [GRID]),
    "sum of a grid": (lambda tf, x: tf.reduce_sum(x, (1, 2)), [GRID]),
    "maximum of a grid": (lambda tf, x: tf.reduce_max(x, (1, 2)), [GRID]),
    "split unevenly": (lambda tf, x: _of_parts(*tf.split(x, [3, 5], -1)), [GRID]),
    "space to batch": (lambda tf, x: tf.space_to_batch(x * 2.0, (2, 2), ((0, 0), (0, 0))) * 3.0, [GRID]),
    "batch to space": (lambda tf, x: tf.batch_to_space(x * 2.0, (2, 2), ((0, 0), (0, 0))) * 3.0, [(4, 4, 6, 8)]),
    "pad with ones": (lambda tf, x: tf.pad(x, ((0, 0), (0, 1), (0, 2), (0, 0)), constant_values=1.0), [GRID]),
    "pad by mirroring the edge": (lambda tf, x: tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "SYMMETRIC"), [GRID]),
    "zeros like": (lambda tf, x: tf.raw_ops.ZerosLike(x=x) + x, [GRID]),
    "reverse a sequence": (lambda tf, x: tf.reverse_sequence(x * 2.0, [2, 3, 1, 4], 1, 0), [(4, 6, 8)]),
    "diagonal matrix": (lambda tf, x: tf.linalg.diag(x * 2.0), [(1, 6)]),
    "sums of segments": (lambda tf, x: tf.math.segment_sum(x, [0, 0, 1, 1]), [(4, 8)]),
    "scatter": (lambda tf, x: tf.scatter_nd([[0], [2]], x, (4, 8)), [(2, 8)]),
    "where": (lambda tf, x: tf.cast(tf.where(x > 0.0), "float32"), [(4, 8)]),
    "unique": (lambda tf, x: tf.unique(tf.cast(x, "int32"))[0], [(8,)]),
    "embedding": (lambda tf, x: tf.nn.embedding_lookup(_TABLE, tf.cast(x, "int32")), [(1, 6)]),
    "spectrum": (lambda tf, x: tf.abs(tf.signal.rfft2d(x)), [(1, 8, 8)]),
    "loop": (lambda tf, x: tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2.0), (0, x))[1], [GRID]),
    "branch": (lambda tf, x: tf.cond(tf.reduce_sum(x) > 0.0, lambda: tf.nn.relu(x), lambda: tf.tanh(x)), [GRID]),
}


def graph(function: Callable[..., Any], *shapes: Any, **settings: Any) -> bytes:
    """A TensorFlow function of float32 inputs of the given shapes as a file; `settings` are the converter's."""
    import tensorflow as tf

    concrete = tf.function(function).get_concrete_function(*(tf.TensorSpec(shape, "float32") for shape in shapes))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    for name, value in settings.items():
        setattr(converter, name, value)
    return bytes(converter.convert())


def probe(name: str) -> bytes:
    """The file of one of `PROBES`."""
    import tensorflow as tf

    function, shapes = PROBES[name]
    return graph(lambda *inputs: function(tf, *inputs), *shapes)


def _network(tf, x):
    """A convolutional network on one image of 0..255, as in public files."""
    generator = np.random.default_rng(2)

    def weights(*shape):
        return (generator.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)

    x = x * np.float32(1 / 127.5) - 1.0
    x = tf.nn.relu6(tf.nn.conv2d(x, weights(3, 3, 3, 16), 2, "SAME"))
    x = tf.nn.relu6(tf.nn.depthwise_conv2d(x, weights(3, 3, 16, 1), (1, 1, 1, 1), "SAME"))
    x = tf.nn.relu6(tf.nn.conv2d(x, weights(1, 1, 16, 32), 1, "SAME"))
    return tf.nn.softmax(tf.matmul(tf.reduce_mean(x, (1, 2)), weights(32, 10) * 8.0))


IMAGE = (1, 32, 32, 3)


def _image_network(**settings: Any) -> bytes:
    import tensorflow as tf

    return graph(lambda x: _network(tf, x), IMAGE, **settings)


def _quantized(kind: str, **settings: Any) -> bytes:
    """The network in integers: "INT8", or "INT16" activations."""
    import tensorflow as tf

    def images():
        from calibration import builtin

        for index in range(8):
            yield [builtin.generate(index, IMAGE[1], 5)[None].astype(np.float32)]

    operations = {
        "INT8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
        "INT16": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    }[kind]
    target = tf.lite.TargetSpec(supported_ops=[operations])
    return _image_network(optimizations=[tf.lite.Optimize.DEFAULT], representative_dataset=images, target_spec=target, **settings)


def int8_ends() -> bytes:
    """Integers from end to end."""
    import tensorflow as tf

    return _quantized("INT8", inference_input_type=tf.int8, inference_output_type=tf.int8)


def uint8() -> bytes:
    """As the converter wrote integers until 2019: unsigned, one scale for all channels."""
    import tensorflow as tf
    from ai_edge_litert import schema_py_generated as schema

    from edge.tflite import flatbuffer

    settings = {"inference_input_type": tf.int8, "inference_output_type": tf.int8, "_experimental_disable_per_channel": True}
    model = flatbuffer.read_model(_quantized("INT8", **settings))
    done = set()
    for tensor in model.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.INT8:
            tensor.type = schema.TensorType.UINT8
            tensor.quantization.zeroPoint = np.asarray(tensor.quantization.zeroPoint) + 128
            data = model.buffers[tensor.buffer].data
            if data is not None and tensor.buffer not in done:
                model.buffers[tensor.buffer].data = np.asarray(data) ^ 0x80
                done.add(tensor.buffer)
    for code in model.operatorCodes:
        code.version = 1
    return flatbuffer.write_model(model)


def float16() -> bytes:
    """float16 constants."""
    import tensorflow as tf

    return _image_network(optimizations=[tf.lite.Optimize.DEFAULT], target_spec=tf.lite.TargetSpec(supported_types=[tf.float16]))


def dynamic_range() -> bytes:
    """int8 weights, float activations; too small a network for the converter's own threshold is quantized by our recipe."""
    from edge.quantization import quantize
    from edge.quantization.recipes import RECIPES

    return quantize.quantize(_image_network(), RECIPES["dynamic"])


def _saved(signatures: dict[str, tuple[Callable[..., Any], list[Any]]]) -> bytes:
    import tensorflow as tf

    module = tf.Module()
    for name, (function, shapes) in signatures.items():
        specifications = [tf.TensorSpec(shape, "float32", name=f"x{number}") for number, shape in enumerate(shapes)]
        setattr(module, name, tf.function(function, input_signature=specifications))
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, {name: getattr(module, name).get_concrete_function() for name in signatures})
        return bytes(tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures)).convert())


def with_signature() -> bytes:
    """As Keras's export leads to: inputs and outputs have names of their own."""
    import tensorflow as tf

    return _saved({"serving_default": (lambda x: {"probabilities": _network(tf, x)}, [IMAGE])})


def two_inputs() -> bytes:
    """The signature lists its inputs in another order than the graph."""
    from edge.tflite import flatbuffer

    model = flatbuffer.read_model(_saved({"serving_default": (lambda x, y: {"z": x * 2.0 - y}, [(1, 64), (1, 64)])}))
    first, second = model.signatureDefs[0].inputs
    first.name, second.name = b"zz_image", b"aa_mask"
    model.signatureDefs[0].inputs = [second, first]
    return flatbuffer.write_model(model)


def two_signatures() -> bytes:
    """Encoder and decoder in one file: two graphs, of which a runtime's `invoke` runs the first."""
    return _saved(
        {
            "encode": (lambda x: {"y": x * 2.0 + 1.0}, [(1, 64)]),
            "decode": (lambda x: {"y": x * x}, [(1, 16)]),
        }
    )


def second_signature_refused() -> bytes:
    """The second graph has what the GPU delegate refuses."""
    import tensorflow as tf

    return _saved(
        {
            "first": (lambda x: {"y": x + 1.0}, [(1, 4)]),
            "second": (lambda x: {"y": tf.math.l2_normalize(x)}, [(1, 4)]),
        }
    )


def dynamic_size() -> bytes:
    """An image of any size."""
    import tensorflow as tf

    return graph(lambda x: tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(x, _weights(3, 3, 3, 4), 1, "SAME")), (1, 2)), (1, None, None, 3))


def variables() -> bytes:
    """A stream: the graph keeps a variable, and gives it its first value in a graph without outputs."""
    import tensorflow as tf

    class Stream(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.state = tf.Variable(tf.zeros((1, 4)))

        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32)])
        def step(self, x):
            self.state.assign(self.state * 0.5 + x)
            return {"y": self.state * 2.0}

    module = Stream()
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, {"serving_default": module.step.get_concrete_function()})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.experimental_enable_resource_variables = True
        return bytes(converter.convert())


def recurrent() -> bytes:
    """One operation with a memory: its state is in a variable tensor, as an LSTM's is."""
    from ai_edge_litert import schema_py_generated as schema

    from edge.tflite import flatbuffer

    units, memory, features = 4, 3, 5
    model = flatbuffer.read_model(graph(lambda x: x * 2.0, (1, features)))
    main = model.subgraphs[0]
    constants = {"feature": _weights(units, features), "time": _weights(units, memory)}
    tensors = {"state": (1, memory * units), "answer": (1, units), **{name: values.shape for name, values in constants.items()}}
    numbers = {}
    for name, shape in tensors.items():
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), np.array(shape, np.int32), schema.TensorType.FLOAT32, 0
        tensor.isVariable = name == "state"
        if name in constants:
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data, tensor.buffer = constants[name].reshape(-1).view(np.uint8), len(model.buffers) - 1
        main.tensors.append(tensor)
        numbers[name] = len(main.tensors) - 1
    operator, options = schema.OperatorT(), schema.SVDFOptionsT()
    options.rank = 1
    operator.opcodeIndex = flatbuffer.operator_code(model, schema.BuiltinOperator.SVDF, 1)
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.SVDFOptions, options
    operator.inputs = np.array([main.outputs[0], numbers["feature"], numbers["time"], -1, numbers["state"]], np.int32)
    operator.outputs = np.array([numbers["answer"]], np.int32)
    main.operators.append(operator)
    main.outputs = operator.outputs
    return flatbuffer.write_model(model)


def custom_operation() -> bytes:
    """An operation that no runtime here has."""
    from ai_edge_litert import schema_py_generated as schema

    from edge.tflite import flatbuffer

    model = flatbuffer.read_model(graph(lambda x: x * 2.0, (1, 4)))
    for code in model.operatorCodes:
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode = (
            schema.BuiltinOperator.CUSTOM,
            schema.BuiltinOperator.CUSTOM,
            b"MyOperation",
        )
    for operator in model.subgraphs[0].operators:
        operator.builtinOptionsType, operator.builtinOptions = 0, None
    return flatbuffer.write_model(model)


def detections() -> bytes:
    """Boxes, classes, scores and their number, sorted by score: the outputs of a detector."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import flexbuffers

    from edge.tflite import flatbuffer

    anchors = 40
    file = graph(lambda boxes, scores: (boxes * 2.0, scores * 2.0), (1, anchors, 4), (1, anchors, 4))
    model = flatbuffer.read_model(file)
    main = model.subgraphs[0]
    generator = np.random.default_rng(3)
    boxes = np.concatenate([generator.uniform(0.2, 0.8, (anchors, 2)), np.full((anchors, 2), 0.2)], 1).astype(np.float32)
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = boxes.reshape(-1).view(np.uint8)
    anchor = schema.TensorT()
    anchor.name, anchor.shape, anchor.type, anchor.buffer = b"anchors", np.array([anchors, 4], np.int32), 0, len(model.buffers) - 1
    main.tensors.append(anchor)
    outputs = []
    for name in ("boxes", "classes", "scores", "number"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), np.array([], np.int32), 0, 0
        main.tensors.append(tensor)
        outputs.append(len(main.tensors) - 1)
    options = {
        "max_detections": 10, "max_classes_per_detection": 1, "num_classes": 3, "detections_per_class": 10, "use_regular_nms": False,
        "nms_score_threshold": 0.01, "nms_iou_threshold": 0.5, "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0,
    }  # fmt: skip
    builder = flexbuffers.Builder()
    with builder.Map():
        for name, value in options.items():
            builder.Key(name)
            builder.Float(value) if isinstance(value, float) else builder.Bool(value) if isinstance(value, bool) else builder.Int(value)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = b"TFLite_Detection_PostProcess", 1
    model.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.customOptions = len(model.operatorCodes) - 1, np.frombuffer(bytes(builder.Finish()), np.uint8)
    operator.inputs = np.array([*main.outputs, len(main.tensors) - 5], np.int32)
    operator.outputs = np.array(outputs, np.int32)
    main.operators.append(operator)
    main.outputs, model.signatureDefs = np.array(outputs, np.int32), None
    return flatbuffer.write_model(model)


def described() -> bytes:
    """TensorFlow Lite's metadata, which say that pixels are given as -1..1."""
    from edge.tflite import attachments, metadata

    unit = {"options": {"NormalizationOptions": {"mean": [127.5], "std": [127.5]}}}
    described = {"name": "described", "subgraph_metadata": [{"input_tensor_metadata": [{"name": "image", "process_units": [unit]}]}]}
    return attachments.embed(_image_network(), {"TFLITE_METADATA": metadata.pack(described)}, {})


def ultralytics() -> bytes:
    """As Ultralytics exports: a zip behind the file with the words of a Python dictionary."""
    from edge.tflite import attachments

    said = {
        "description": "Ultralytics YOLOv8n model",
        "author": "Ultralytics",
        "task": "detect",
        "imgsz": [32, 32],
        "names": {0: "person", 1: "bicycle"},
    }
    return attachments.embed(_image_network(), {}, {"temp_meta.txt": str(said).encode()})


FILES: dict[str, Callable[[], bytes]] = {
    "float network, no signature": _image_network,
    "float16 constants": float16,
    "dynamic range": dynamic_range,
    "int8, float ends": lambda: _quantized("INT8"),
    "int8 from end to end": int8_ends,
    "uint8 from end to end": uint8,
    "int16 activations": lambda: _quantized("INT16"),
    "with a signature": with_signature,
    "two inputs in another order": two_inputs,
    "two signatures": two_signatures,
    "two signatures, one with a refused operation": second_signature_refused,
    "image of any size": dynamic_size,
    "variables": variables,
    "memory in a variable tensor": recurrent,
    "no operation": lambda: graph(lambda x: x * 1.0, (1, 4)),
    "custom operation": custom_operation,
    "detections": detections,
    "metadata with a range": described,
    "Ultralytics' metadata": ultralytics,
}


def make(name: str) -> bytes:
    """The file of one kind."""
    return FILES[name]() if name in FILES else probe(name)
