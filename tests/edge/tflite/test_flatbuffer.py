"""Reading and writing flatbuffers: nothing is lost, constants are aligned, damage is one error."""

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from benchmarks import foreign_kinds
from edge.runtime.cpu import Interpreter
from edge.tflite import flatbuffer, runtime_versions, versions
from tfvit.errors import InputError


def contents(graph) -> list:
    """Everything a runtime sees, comparable."""
    tensors = [
        (
            flatbuffer.tensor_name(graph, index),
            flatbuffer.tensor_shape(graph, index),
            flatbuffer.tensor_type(graph, index),
            _bytes(graph, index),
        )
        for index in range(len(graph.subgraphs[0].tensors))
    ]
    operators = [(name, list(operator.inputs), list(operator.outputs)) for name, operator in flatbuffer.operators(graph)]
    signatures = [
        (signature.signatureKey, [(entry.name, entry.tensorIndex) for entry in (*signature.inputs, *signature.outputs)])
        for signature in graph.signatureDefs or []
    ]
    metadata = [(entry.name, bytes(graph.buffers[entry.buffer].data)) for entry in graph.metadata or []]
    return [tensors, operators, signatures, metadata, list(graph.subgraphs[0].inputs), list(graph.subgraphs[0].outputs)]


def _bytes(graph, index: int) -> bytes | None:
    data = flatbuffer.constant(graph, index)
    return None if data is None else data.tobytes()


def test_round_trip(micro_float):
    once = flatbuffer.write_model(flatbuffer.read_model(micro_float))
    assert once == flatbuffer.write_model(flatbuffer.read_model(once))
    assert contents(flatbuffer.read_model(once)) == contents(flatbuffer.read_model(micro_float))


def test_every_constant_is_aligned(tiny_v1):
    for recipe in ("float32", "float16", "int8", "dynamic"):
        file = tiny_v1.file(recipe)
        packed = schema.Model.GetRootAs(file, 0)
        starts = []
        for index in range(packed.BuffersLength()):
            data = packed.Buffers(index).DataAsNumpy()
            if isinstance(data, np.ndarray) and data.size:
                starts.append(data.__array_interface__["data"][0] - np.frombuffer(file, np.uint8).__array_interface__["data"][0])
        misaligned = [start for start in starts if start % flatbuffer.BUFFER_ALIGNMENT]
        print(recipe, len(starts), "constants,", len(misaligned), "misaligned")
        assert len(starts) > 50
        assert misaligned == []


def test_constants_behind_the_flatbuffer_are_found(micro_float):
    """What converters write for large models: offset and size instead of data."""
    graph = flatbuffer.read_model(micro_float)
    index = max(range(len(graph.buffers)), key=lambda index: 0 if graph.buffers[index].data is None else len(graph.buffers[index].data))
    data = bytes(graph.buffers[index].data)
    graph.buffers[index].data = None
    graph.buffers[index].offset, graph.buffers[index].size = 1 << 20, len(data)
    builder = flatbuffers.Builder(1 << 20)  # our own writer puts every constant inside
    builder.Finish(graph.Pack(builder), file_identifier=flatbuffer.FILE_IDENTIFIER)
    short = bytes(builder.Output())
    assert len(short) < 1 << 20
    whole = short.ljust(1 << 20, b"\0") + data
    assert bytes(flatbuffer.read_model(whole).buffers[index].data) == data
    with pytest.raises(InputError, match="damaged"):
        flatbuffer.read_model(whole[:-1])


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0\0\0\0TFL2", b"text that is no model", bytes(range(256))])
def test_what_is_no_tflite_file(data):
    with pytest.raises(InputError, match="not a TFLite file") as caught:
        flatbuffer.read_model(data)
    assert f"{len(data)} bytes" in caught.value.received


def test_truncated_files(micro_float):
    lengths = [8, 9, 16, 40, *(len(micro_float) * part // 40 for part in range(1, 40)), len(micro_float) - 100]
    for length in lengths:
        with pytest.raises(InputError, match="damaged TFLite file"):
            flatbuffer.read_model(micro_float[:length])


def test_random_bytes_behind_a_right_identifier():
    rng = np.random.default_rng(0)
    for size in (8, 64, 1000):
        for _ in range(20):
            with pytest.raises(InputError, match="damaged TFLite file"):
                flatbuffer.read_model(rng.bytes(4) + b"TFL3" + rng.bytes(size))


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([("ADD", 1)], "1.5.0"),
        ([("ADD", 1), ("GELU", 1)], "2.9.0"),
        ([("GELU", 1), ("FULLY_CONNECTED", 12)], "2.17.0"),
        ([("TRANSPOSE", 7), ("GELU", 1)], "2.14.4"),
        ([("FULLY_CONNECTED", 99)], None),
        ([("FULLY_CONNECTED", 0)], None),
        ([("NON_MAX_SUPPRESSION_V4", 1)], "2.1.0"),
        ([("BROADCAST_TO", 1)], None),
        ([("GATHER", 7)], "2.15.0"),
        ([("STABLEHLO_SORT", 1)], None),  # no runtime has a kernel
        ([], "1.5.0"),
    ],
)
def test_min_runtime_version(operations, expected):
    model = schema.ModelT()
    model.operatorCodes = []
    for name, version in operations:
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = getattr(schema.BuiltinOperator, name), version
        model.operatorCodes.append(code)
    assert versions.min_runtime_version(model) == expected


def test_the_file_says_its_own_minimum_runtime(tiny_v1):
    for recipe, expected in (("float32", "2.9.0"), ("float16", "2.9.0"), ("int8", "2.17.0"), ("dynamic", "2.17.0"), ("int4", "2.17.0")):
        graph = tiny_v1.graph(recipe)
        (entry,) = [entry for entry in graph.metadata if entry.name == b"min_runtime_version"]
        written = bytes(graph.buffers[entry.buffer].data)
        print(recipe, written, versions.min_runtime_version(graph))
        assert len(written) == 16
        assert written.rstrip(b"\0").decode() == (versions.min_runtime_version(graph) or "")
        assert versions.min_runtime_version(graph) == expected


@pytest.mark.parametrize(
    ("operation", "types", "scales", "version"),
    [
        ("FULLY_CONNECTED", ("FLOAT32", "FLOAT32"), 0, 1),
        ("FULLY_CONNECTED", ("FLOAT32", "INT8"), 1, 3),
        ("FULLY_CONNECTED", ("FLOAT32", "INT8"), 8, 12),
        ("FULLY_CONNECTED", ("FLOAT32", "INT4"), 8, 12),
        ("FULLY_CONNECTED", ("FLOAT32", "INT4"), 1, 12),
        ("FULLY_CONNECTED", ("INT8", "INT8"), 8, 4),
        ("CONV_2D", ("FLOAT32", "INT8"), 8, 5),
        ("CONV_2D", ("INT8", "INT8"), 8, 3),
        ("RSQRT", ("INT16",), 1, 3),
        ("RSQRT", ("FLOAT32",), 0, 1),
        ("RESHAPE", ("INT8", "INT32"), 1, 1),
    ],
)
def test_versions_are_those_of_the_types(operation, types, scales, version):
    model, graph, operator, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    code.builtinCode, code.version = getattr(schema.BuiltinOperator, operation), 1
    graph.tensors = []
    for name in (*types, types[0]):
        tensor = schema.TensorT()
        tensor.type, tensor.quantization = getattr(schema.TensorType, name), schema.QuantizationParametersT()
        tensor.quantization.scale = [0.1] * scales
        graph.tensors.append(tensor)
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, list(range(len(types))), [len(types)]
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph.operators, model.subgraphs, model.operatorCodes = [operator], [graph], [code]
    versions.set_operator_versions(model)
    assert code.version == version
    code.version = 99
    versions.set_operator_versions(model)
    assert code.version == 99


@pytest.mark.parametrize(
    ("operation", "fields", "written"),
    [
        ("QUANTIZE", (114, 0), (114, 114)),  # as ai-edge-quantizer writes it: LiteRT reads 114, other readers an addition
        ("FULLY_CONNECTED", (0, 9), (9, 9)),  # as files from before 2020 have it
        ("ADD", (0, 0), (0, 0)),
        ("GELU", (150, 0), (150, 127)),
    ],
)
def test_the_number_of_an_operation_is_written_twice(micro_float, operation, fields, written):
    model = flatbuffer.read_model(micro_float)
    (code,) = (code for code in model.operatorCodes if flatbuffer.builtin_operation(code) == schema.BuiltinOperator.GELU)
    code.builtinCode, code.deprecatedBuiltinCode = fields
    after = schema.ModelT.InitFromPackedBuf(flatbuffer.write_model(model), 0).operatorCodes[model.operatorCodes.index(code)]
    assert (after.builtinCode, after.deprecatedBuiltinCode) == written
    assert getattr(schema.BuiltinOperator, operation) == after.builtinCode


def test_custom_operations_have_their_own_name():
    model = schema.ModelT()
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode, code.customCode, operator.opcodeIndex = schema.BuiltinOperator.CUSTOM, b"FlexErf", 0
    model.operatorCodes = [code]
    assert flatbuffer.operator_name(model, operator) == "FlexErf"
    assert versions.min_runtime_version(model) is None


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("tiny224/stage1_block1_1/mlp/fc1/einsum/Einsum;other", "stage1_block1/mlp/fc1/einsum"),
        ("model/backbone/patch_embedding/projection/convolution", "patch_embedding/projection"),
        ("my_layer/Add", "my_layer"),
        ("Identity", "Identity"),
    ],
)
def test_keras_layer(tensor, layer):
    assert flatbuffer.keras_layer(tensor) == layer


def test_with_outputs_looks_inside(micro_float):
    graph = flatbuffer.read_model(micro_float)
    inner = next(int(operator.outputs[0]) for name, operator in flatbuffer.operators(graph) if name == "GELU")
    file = flatbuffer.with_outputs(micro_float, [inner])
    (value,) = Interpreter(file).run_each(np.full((1, 32, 32, 3), 100, np.float32))
    assert value.shape == flatbuffer.tensor_shape(graph, inner)
    assert np.ptp(value) > 0


def test_equal_vectors_are_written_once(tiny):
    """Two int64 zeros a channel would be a fiftieth of the file."""
    file = tiny.file("int8")
    model = flatbuffer.read_model(file)
    zeros = [tensor.quantization.zeroPoint for tensor in model.subgraphs[0].tensors if tensor.quantization is not None]
    longest = max(zeros, key=lambda vector: 0 if vector is None else len(vector))
    assert not longest.any()
    same = sum(vector is not None and len(vector) == len(longest) for vector in zeros)
    pattern = len(longest).to_bytes(4, "little") + longest.tobytes()
    print(same, "vectors of", len(longest), "zeros; in the file", file.count(pattern))
    assert same > 1
    assert 1 <= file.count(pattern) < same  # bytes of a constant may look like it


# They are in the schema, and no runtime runs them by themselves
_WITHOUT_A_KERNEL = {"CALL", "CONCAT_EMBEDDINGS", "CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}


def test_the_minimum_runtime_of_every_operation_is_known():
    known = {*versions._MIN_RUNTIME, *runtime_versions.MIN_RUNTIME}
    names = set(flatbuffer.OPERATOR_NAMES.values())
    assert known <= names
    assert {name for name in names - known if not name.startswith("STABLEHLO_")} == _WITHOUT_A_KERNEL


@pytest.mark.parametrize("kind", ["variables", "two signatures", "no operation", "memory in a variable tensor", "custom operation", "loop"])
def test_valid_files_of_others_are_read(kind):
    model = flatbuffer.read_model(foreign_kinds.make(kind))
    for number in range(len(model.subgraphs)):
        view = flatbuffer.graph(model, number)
        assert len(view.subgraphs) == 1
        assert flatbuffer.max_rank(view) <= 4
        assert len(flatbuffer.operator_counts(view)) <= 10
    if kind == "variables":
        assert "ASSIGN_VARIABLE" in flatbuffer.operator_counts(model)
        assert any(not len(operator.outputs) for _, operator in flatbuffer.operators(model))
    if kind == "two signatures":
        graphs = flatbuffer.signatures(model)
        assert sorted(graphs.values()) == [0, 1]
        shapes = {
            name: [flatbuffer.tensor_shape(view, index) for index in flatbuffer.signature_inputs(view).values()]
            for name, view in ((name, flatbuffer.graph(model, number)) for name, number in graphs.items())
        }
        assert shapes == {"encode": [(1, 64)], "decode": [(1, 16)]}
    assert bool(flatbuffer.variables(model)) == (kind == "memory in a variable tensor")


def test_references_of_every_graph_are_checked():
    model = flatbuffer.read_model(foreign_kinds.make("two signatures"))
    model.subgraphs[1].operators[0].inputs = np.array([99], np.int32)
    with pytest.raises(InputError, match="tensor 99 of"):
        flatbuffer.read_model(flatbuffer.write_model(model))


def test_dynamic_sides_are_said():
    model = flatbuffer.read_model(foreign_kinds.make("image of any size"))
    (index,) = flatbuffer.signature_inputs(model).values()
    assert flatbuffer.dynamic_shape(model, index) == (1, -1, -1, 3)
    assert flatbuffer.tensor_shape(model, index) == (1, 1, 1, 3)
