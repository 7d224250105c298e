"""What a file says of itself: metadata in front of the graph, labels behind it, and the graph between them as it was."""

import io
import json
import struct
import zipfile

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import number_types
from flatbuffers.table import Table

from edge.artifacts import self_description
from edge.artifacts.artifact import canonical_json
from edge.runtime import cpu
from edge.tflite import attachments, flatbuffer, metadata
from tfvit.hashing import sha256

pytestmark = pytest.mark.whole

BUFFERS = {"TFLITE_METADATA": b"first" * 7, "EDGE_PROVENANCE": b"second"}
FILES = {"labels.txt": "Katze\nnaïve\n猫\n".encode()}
FULL = {
    "name": "everything",
    "license": "naïve",
    "subgraph_metadata": [
        {
            "name": "main",
            "input_tensor_metadata": [
                {
                    "name": "pixels",
                    "dimension_names": ["batch", "y", "x", "channel"],
                    "content": {
                        "content_properties": {"ImageProperties": {"color_space": "RGB", "default_size": {"width": 3, "height": 4}}},
                        "range": {"min": 1, "max": -2},
                    },
                    "process_units": [
                        {"options": {"NormalizationOptions": {"mean": [0.5], "std": [1.0, 2.0]}}},
                        {"options": {"RegexTokenizerOptions": {"delim_regex_pattern": r"\W+", "vocab_file": []}}},
                    ],
                    "stats": {"max": [255.0], "min": [0.0]},
                }
            ],
            "output_tensor_metadata": [
                {
                    "content": {"content_properties": {"BoundingBoxProperties": {"index": [3, 1], "type": "CENTER"}}},
                    "associated_files": [{"name": "labels.txt", "type": "TENSOR_AXIS_LABELS", "locale": "de"}],
                }
            ],
            "custom_metadata": [{"name": "mine", "data": [1, 2, 255]}],
        }
    ],
    "min_parser_version": "1.5.0",
}


# The schema


def test_metadata_round_trip():
    packed = metadata.pack(FULL)
    assert packed == metadata.pack(FULL)
    assert packed[4:8] == b"M001"
    assert metadata.unpack(packed) == FULL


def test_fields_are_where_the_published_schema_has_them():
    """By slot, without the table under test: `make mediapipe` does it with MediaPipe's generated code."""
    data = metadata.pack(FULL)

    def table(parent: Table | None, slot: int, index: int | None = None) -> Table:
        if parent is None:
            return Table(data, struct.unpack_from("<I", data)[0])
        at = parent.Pos + parent.Offset(4 + 2 * slot)
        return Table(data, parent.Indirect(at) if index is None else parent.Indirect(parent.Indirect(at) + 4 + 4 * index))

    model = table(None, 0)
    assert model.String(model.Pos + model.Offset(4)) == b"everything"
    assert model.String(model.Pos + model.Offset(14)) == "naïve".encode()  # license: slot 5
    assert model.String(model.Pos + model.Offset(18)) == b"1.5.0"  # min_parser_version: 7
    part = table(model, 3, 0)
    tensor = table(part, 2, 0)
    content, unit = table(tensor, 3), table(tensor, 4, 0)
    assert content.Get(number_types.Uint8Flags, content.Pos + content.Offset(4)) == 2  # ImageProperties
    image = table(content, 1)
    assert image.Get(number_types.Int8Flags, image.Pos + image.Offset(4)) == 1  # RGB
    assert unit.Get(number_types.Uint8Flags, unit.Pos + unit.Offset(4)) == 1  # NormalizationOptions
    normalization = table(unit, 1)
    vector = normalization.Indirect(normalization.Pos + normalization.Offset(6))
    assert struct.unpack_from("<I2f", data, vector) == (2, 1.0, 2.0)
    file = table(table(part, 3, 0), 6, 0)
    assert file.Get(number_types.Int8Flags, file.Pos + file.Offset(8)) == 2  # TENSOR_AXIS_LABELS


@pytest.mark.parametrize("wrong", [{"nam": "x"}, {"subgraph_metadata": [{"input_tensor_metadata": [{"labels": []}]}]}])
def test_fields_that_the_schema_has_not(wrong):
    with pytest.raises(ValueError, match="has no field"):
        metadata.pack(wrong)


def test_damaged_metadata():
    packed = metadata.pack(FULL)
    outcomes = set()
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(packed)
        for position in rng.integers(8, len(data), 4):
            data[position] = rng.integers(256)
        try:
            metadata.unpack(bytes(data))
            outcomes.add("read")
        except ValueError as error:
            outcomes.add(str(error).split(":")[0])
    print(outcomes)
    assert "damaged metadata" in outcomes
    for data in (b"", packed[:8], packed[: len(packed) // 2], b"\0\0\0\0M002"):
        with pytest.raises(ValueError, match="metadata"):
            metadata.unpack(data)


def test_a_small_file_that_stands_for_a_large_tree():
    """Tables may be shared: 300 parts that all are one part with 300 tensors are 90,000 tables."""
    builder = flatbuffers.Builder(1024)

    def same(offset: int, count: int = 300) -> int:
        builder.StartVector(4, count, 4)
        for _ in range(count):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    builder.StartObject(0)
    tensors = same(builder.EndObject())
    builder.StartObject(3)
    builder.PrependUOffsetTRelativeSlot(2, tensors, 0)
    parts = same(builder.EndObject())
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(3, parts, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"M001")
    with pytest.raises(ValueError, match="more than 10000 tables"):
        metadata.unpack(bytes(builder.Output()))


# The file's form


@pytest.fixture(scope="module")
def graph(micro_float) -> bytes:
    return flatbuffer.write_model(flatbuffer.read_model(micro_float))


def test_the_graph_stays_as_it_was(graph):
    before = flatbuffer.read_model(graph)
    file = attachments.embed(graph, BUFFERS, FILES)
    assert file == attachments.embed(graph, BUFFERS, FILES)
    embedded = attachments.extract(file)
    assert {name: embedded.buffers[name] for name in BUFFERS} == BUFFERS
    assert list(embedded.buffers) == [entry.name.decode() for entry in before.metadata] + list(BUFFERS)
    assert embedded.files == FILES
    assert attachments.graph_in(file, embedded, len(graph), tuple(BUFFERS)) == graph
    after = flatbuffer.read_model(file)
    assert [bytes(buffer.data) for buffer in after.buffers if buffer.data is not None][: -len(BUFFERS)] == [
        bytes(buffer.data) for buffer in before.buffers if buffer.data is not None
    ]
    assert [signature.signatureKey for signature in after.signatureDefs] == [signature.signatureKey for signature in before.signatureDefs]
    assert after.version == before.version
    # written as any other model again, the graph is the same graph
    after.buffers, after.metadata = after.buffers[: -len(BUFFERS)], after.metadata[: -len(BUFFERS)]
    assert flatbuffer.write_model(after) == graph


def test_everything_stays_aligned(graph):
    for extra in range(17):
        file = attachments.embed(graph, {"NAME": b"x" * extra}, {})
        model = schema.Model.GetRootAs(file)
        start = np.frombuffer(file, np.uint8).__array_interface__["data"][0]
        buffers = [model.Buffers(index).DataAsNumpy() for index in range(model.BuffersLength())]
        offsets = [data.__array_interface__["data"][0] - start for data in buffers if isinstance(data, np.ndarray) and data.size]
        assert len(offsets) > 10
        assert {offset % 16 for offset in offsets} == {0}, extra
        assert len(file) % 16 == 0


def test_the_runtime_runs_it_all_the_same(graph):
    file = attachments.embed(graph, BUFFERS, FILES)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    assert np.array_equal(cpu.Interpreter(file).run(pixels), cpu.Interpreter(graph).run(pixels))
    assert cpu.xnnpack_partitions(file) == cpu.xnnpack_partitions(graph)
    assert cpu.xnnpack_partitions(file).partitions == 1


def test_files_are_a_zip_that_any_tool_reads(graph):
    with zipfile.ZipFile(io.BytesIO(attachments.embed(graph, BUFFERS, FILES))) as members:
        (info,) = members.infolist()
        assert (info.filename, info.compress_type, info.date_time) == ("labels.txt", zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))
        assert members.read(info) == FILES["labels.txt"]
    assert not zipfile.is_zipfile(io.BytesIO(attachments.embed(graph, BUFFERS, {})))


def test_what_cannot_get_metadata(graph):
    with pytest.raises(ValueError, match="not a graph as write_model makes it"):
        attachments.embed(graph + b"\0", BUFFERS, {})
    with pytest.raises(ValueError, match="EDGE_PROVENANCE"):  # twice
        attachments.embed(attachments.embed(graph, BUFFERS, {}), BUFFERS, {})
    model = flatbuffer.read_model(graph)
    index = max(range(len(model.buffers)), key=lambda index: len(model.buffers[index].data) if model.buffers[index].data is not None else 0)
    model.buffers[index].data, model.buffers[index].offset, model.buffers[index].size = None, 1 << 20, 16
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=flatbuffer.FILE_IDENTIFIER)
    data = bytes(builder.Output())
    with pytest.raises(ValueError, match="not a graph"):  # constants behind the flatbuffer would move
        attachments.embed(data + b"\0" * (-len(data) % 16), BUFFERS, {})


# What our files say


@pytest.mark.parametrize("recipe", ["float32", "float16", "int8", "dynamic", "int8_full", "w8a16"])
def test_our_files(tiny, recipe):
    manifest, said = tiny.manifest(recipe), self_description.read(tiny.file(recipe))
    assert said.problems == ()
    assert said.graph_matches is True
    assert sha256(said.graph) == said.provenance["graph"]["sha256"] == manifest["file"]["graph_sha256"]
    assert len(said.graph) == manifest["file"]["graph_size_bytes"]
    assert said.labels == tuple(f"label {index}" for index in range(10))
    assert said.provenance == self_description.provenance(manifest) | {"graph": said.provenance["graph"]}
    for field in ("weights", "preprocessing", "calibration", "tools", "recipe"):
        assert said.provenance[field] == manifest[field]
    (part,) = said.metadata["subgraph_metadata"]
    (image,), (scores,) = part["input_tensor_metadata"], part["output_tensor_metadata"]
    assert image["process_units"] == [{"options": {"NormalizationOptions": {"mean": [0.0], "std": [1.0]}}}]
    assert (image["stats"], image["content"]["content_properties"]) == (
        {"max": [255.0], "min": [0.0]},
        {"ImageProperties": {"color_space": "RGB"}},
    )
    assert (image["name"], scores["name"]) == (manifest["input"]["name"], manifest["output"]["name"])
    assert "RANDOM weights" in said.metadata["description"]
    assert "license" not in said.metadata
    assert ("stats" in scores) == (recipe != "int8_full")  # logits have no range
    assert ("zero point" in image["description"]) == ("zero point" in scores["description"]) == (recipe == "int8_full")
    # its size: well below a thousandth of a full-size model
    assert len(tiny.file(recipe)) - len(said.graph) < 16_000
    # the graph is a file of its own
    assert flatbuffer.operator_counts(flatbuffer.read_model(bytes(said.graph))) == manifest["file"]["ops"]


def test_without_labels_there_is_no_label_file(micro_files):
    said = self_description.read(micro_files["int8"].read_bytes())
    assert (said.labels, said.files) == (None, {})
    (scores,) = said.metadata["subgraph_metadata"][0]["output_tensor_metadata"]
    assert "associated_files" not in scores
    assert "names are not in the file" in scores["description"]


def test_what_the_bytes_do_not_depend_on_is_not_in_them(tiny_v1, micro_files):
    assert [self_description.read(micro_files[recipe].read_bytes()).provenance["settings"]["repair"] for recipe in ("int8", "float32")] == [
        True,
        False,
    ]
    float16, int8 = (self_description.read(tiny_v1.file(recipe)).provenance["settings"] for recipe in ("float16", "int8"))
    assert (float16["images"], float16["repair"], float16["limits"]) == (None, False, None)
    assert int8["images"]["source"] == "builtin"
    assert int8["limits"] == tiny_v1.manifest("int8")["drift"]["limits"]


def test_a_description_on_another_graph_is_seen(tiny_v1):
    """The metadata of one file on the graph of another, and a graph that was changed under its metadata."""
    mine, other = (self_description.read(tiny_v1.file(recipe)) for recipe in ("float32", "int8"))
    buffers = {
        self_description.METADATA_BUFFER: metadata.pack(mine.metadata),
        self_description.PROVENANCE_BUFFER: canonical_json(mine.provenance).encode(),
    }
    assert attachments.embed(bytes(mine.graph), buffers, mine.files) == tiny_v1.file("float32")
    assert self_description.read(attachments.embed(bytes(other.graph), buffers, mine.files)).graph_matches is False
    changed = bytearray(tiny_v1.file("float32"))
    changed[len(changed) // 2] ^= 1
    assert self_description.read(bytes(changed)).graph_matches is False
    # the old graph, dead, behind a new root that leads to another one
    model = flatbuffer.read_model(tiny_v1.file("int8"))
    for entry, content in zip(model.metadata[-2:], buffers.values(), strict=True):
        model.buffers[entry.buffer].data = np.frombuffer(content, np.uint8)
    decoy = flatbuffer.write_model(model) + bytes(mine.graph)
    assert self_description.read(decoy).graph_matches is False


def test_other_peoples_files(micro_float, small_graph):
    said = self_description.read(small_graph(lambda x: x * 2.0, (1, 4)))
    assert (said.metadata, said.provenance, said.graph_matches, said.labels, said.problems) == (None, None, None, None, ())
    graph = flatbuffer.write_model(flatbuffer.read_model(micro_float))
    theirs = attachments.embed(graph, {"TFLITE_METADATA": metadata.pack({"name": "theirs"}), "EDGE_PROVENANCE": b"[]"}, {})
    said = self_description.read(theirs)
    assert said.metadata == {"name": "theirs"}
    assert said.provenance is None
    assert "not the JSON that edge.convert writes" in said.problems[0]
    record = json.dumps({"schema_version": 1, "graph": {"sha256": "ab", "size_bytes": 10**15}}).encode()
    said = self_description.read(attachments.embed(graph, {"TFLITE_METADATA": b"none", "EDGE_PROVENANCE": record}, {}))
    assert said.graph_matches is False
    assert "no metadata of the schema M001" in said.problems[0]
