"""Puts metadata and files into a `.tflite` without touching the graph, and takes them out again.

A flatbuffer's offsets point forward, so a new root can be written in front of a finished file. The new root refers to everything that the
old one had, and to the new metadata. The graph stays the same, byte for byte, and ends where the flatbuffer ends; files follow as a zip.

    new root, new buffers | the graph: a `.tflite` of its own | zip
"""

from __future__ import annotations

import dataclasses
import io
import struct
import zipfile
from collections.abc import Mapping

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import number_types
from flatbuffers.table import Table

from edge.tflite.flatbuffer import BUFFER_ALIGNMENT, FILE_IDENTIFIER

# Fields of `Model` in schema.fbs, by slot
_VERSION, _BUFFERS, _METADATA = 0, 4, 6
_REFERENCES = (1, 2, 3, 5, 7)  # operator_codes, subgraphs, description, metadata_buffer, signature_defs
_FIELDS = 8
# A larger file in a zip from outside is refused
_MOST_MEMBER_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class Embedded:
    """What a file carries besides its graph.

    Attributes:
        buffers: metadata name -> content.
        files: file name in the zip -> content.
        flatbuffer_bytes: where the zip begins, or the file ends.
    """

    buffers: dict[str, bytes]
    files: dict[str, bytes]
    flatbuffer_bytes: int


def embed(graph: bytes, buffers: Mapping[str, bytes], files: Mapping[str, bytes]) -> bytes:
    """The same graph with metadata in front and files behind; equal arguments give equal bytes.

    Args:
        graph: from `flatbuffer.write_model`, with all constants inside the flatbuffer.
        buffers: metadata name -> content.
        files: file name -> content. They are stored without compression, with a fixed date.

    Raises:
        ValueError: the graph has another form, or metadata of one of the names.
    """
    root = _Root(graph, 0)
    names = root.metadata_names()
    if len(graph) % BUFFER_ALIGNMENT or root.slots > _FIELDS or root.has_outer_constants() or set(buffers) & set(names):
        raise ValueError(f"not a graph as write_model makes it: {len(graph)} bytes, {root.slots} fields, metadata {names}")
    existing = root.elements(_BUFFERS)
    builder = flatbuffers.Builder(len(graph) + sum(map(len, buffers.values())) + 8 * len(existing) + 4096)
    builder.head -= len(graph)  # the graph is put there at the end; the builder needs only offsets from the end
    builder.minalign = BUFFER_ALIGNMENT
    entries, added = [], []
    for name, content in buffers.items():
        label = builder.CreateString(name)
        schema.MetadataStart(builder)
        schema.MetadataAddName(builder, label)
        schema.MetadataAddBuffer(builder, len(existing) + len(added))
        entries.append(schema.MetadataEnd(builder))
        builder.StartVector(1, len(content), BUFFER_ALIGNMENT)
        builder.head -= len(content)
        builder.Bytes[builder.head : builder.head + len(content)] = content
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        added.append(schema.BufferEnd(builder))
    from_end = [len(graph) - position for position in existing], [len(graph) - position for position in root.elements(_METADATA)]
    new_buffers, new_metadata = _vector(builder, from_end[0] + added), _vector(builder, from_end[1] + entries)
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, root.version)
    schema.ModelAddBuffers(builder, new_buffers)
    schema.ModelAddMetadata(builder, new_metadata)
    for slot in _REFERENCES:
        if (position := root.position(slot)) is not None:
            builder.PrependUOffsetTRelativeSlot(slot, len(graph) - position, 0)
    builder.Finish(schema.ModelEnd(builder), file_identifier=FILE_IDENTIFIER)
    front = bytes(builder.Bytes[builder.head : len(builder.Bytes) - len(graph)])
    return _with_zip(front + graph, files) if files else front + graph


def extract(data: bytes) -> Embedded:
    """The metadata and files in a file, ours or anyone's.

    Raises:
        ValueError: the flatbuffer or the zip is damaged.
    """
    try:
        root = _Root(data, 0)
        buffers = root.metadata()
    except (struct.error, IndexError, TypeError, OverflowError) as error:
        raise ValueError(f"damaged flatbuffer: {error}") from error
    # begins with a flatbuffer: `is_zipfile` alone would take a zip that happens to lie inside a constant
    files, end = {}, len(data)
    stream = io.BytesIO(data)
    if zipfile.is_zipfile(stream):
        try:
            with zipfile.ZipFile(stream) as members:
                end = min((info.header_offset for info in members.infolist()), default=end)
                for info in members.infolist():
                    if info.file_size > _MOST_MEMBER_BYTES:
                        raise ValueError(f"{info.filename} in the zip claims {info.file_size} bytes")
                    files[info.filename] = members.read(info)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
            raise ValueError(f"damaged zip: {error}") from error
    return Embedded(buffers, files, end)


def graph_in(data: bytes, embedded: Embedded, size_bytes: int, names: tuple[str, ...]) -> memoryview | None:
    """The graph that `embed` was given; None if the file was changed since.

    Args:
        data, embedded: the file, and what `extract` found in it.
        size_bytes: of the graph.
        names: of the metadata that `embed` added.
    """
    start = embedded.flatbuffer_bytes - size_bytes
    if size_bytes <= 0 or start <= 0:
        return None
    graph = memoryview(data)[start : embedded.flatbuffer_bytes]
    try:
        inner, outer = _Root(graph, start), _Root(data, 0)
        same = all(inner.position(slot) == outer.position(slot) for slot in _REFERENCES) and inner.version == outer.version
        for slot in (_BUFFERS, _METADATA):
            ours, theirs = inner.elements(slot), outer.elements(slot)
            same = same and theirs[: len(ours)] == ours and len(theirs) == len(ours) + len(names)
        return graph if same and outer.metadata_names()[-len(names) :] == list(names) else None
    except (struct.error, IndexError, TypeError, OverflowError):
        return None


class _Root:
    """The root table of a model, with positions counted from `start` bytes before its data."""

    def __init__(self, data: bytes | memoryview, start: int) -> None:
        self._model, self._start = schema.Model.GetRootAs(data), start
        self._table: Table = self._model._tab
        vtable = self._table.Pos - self._table.Get(number_types.SOffsetTFlags, self._table.Pos)
        self.slots = (self._table.Get(number_types.VOffsetTFlags, vtable) - 4) // 2
        self.version = self._model.Version()

    def position(self, slot: int) -> int | None:
        """Position of a field's table, vector or text; None without the field."""
        offset = self._table.Offset(4 + 2 * slot)
        return self._start + self._table.Indirect(self._table.Pos + offset) if offset else None

    def elements(self, slot: int) -> list[int]:
        """Positions of the tables of a vector."""
        if (position := self.position(slot)) is None:
            return []
        first = position - self._start + 4
        count = self._table.Get(number_types.UOffsetTFlags, first - 4)
        return [self._start + self._table.Indirect(first + 4 * index) for index in range(count)]

    def has_outer_constants(self) -> bool:
        """Whether constants lie behind the flatbuffer, at positions that a new root would shift."""
        return any(self._model.Buffers(index).Offset() > 1 for index in range(self._model.BuffersLength()))

    def metadata_names(self) -> list[str]:
        entries = (self._model.Metadata(index) for index in range(self._model.MetadataLength()))
        return [(entry.Name() or b"").decode("utf-8", "replace") for entry in entries]

    def metadata(self) -> dict[str, bytes]:
        found = {}
        for index, name in enumerate(self.metadata_names()):
            buffer = self._model.Metadata(index).Buffer()
            if buffer < self._model.BuffersLength() and not self._model.Buffers(buffer).DataIsNone():
                found[name] = bytes(self._model.Buffers(buffer).DataAsNumpy())
        return found


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _with_zip(flatbuffer: bytes, files: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as members:
        for name, content in files.items():
            members.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), content)
    return archive.getvalue()
