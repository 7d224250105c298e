"""TensorFlow Lite's metadata as dictionaries: metadata_schema.fbs (version 1.5.0) as data, with a writer and a reader.

No package that edge needs brings generated code for this schema: tflite-support was given up, and MediaPipe brings OpenCV too.
`make mediapipe` compares `TABLES` and `ENUMS` with the schema in MediaPipe's wheel, and lets MediaPipe read files that are written here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

import flatbuffers
from flatbuffers import number_types
from flatbuffers.table import Table

FILE_IDENTIFIER = b"M001"
ROOT = "ModelMetadata"

# Values by their number
ENUMS: dict[str, tuple[str, ...]] = {
    "AssociatedFileType": (
        "UNKNOWN", "DESCRIPTIONS", "TENSOR_AXIS_LABELS", "TENSOR_VALUE_LABELS", "TENSOR_AXIS_SCORE_CALIBRATION", "VOCABULARY",
        "SCANN_INDEX_FILE",
    ),
    "BoundingBoxType": ("UNKNOWN", "BOUNDARIES", "UPPER_LEFT", "CENTER"),
    "ColorSpaceType": ("UNKNOWN", "RGB", "GRAYSCALE"),
    "CoordinateType": ("RATIO", "PIXEL"),
    "ScoreTransformationType": ("IDENTITY", "LOG", "INVERSE_LOGISTIC"),
}  # fmt: skip

# Members by their number, from 1 on
UNIONS: dict[str, tuple[str, ...]] = {
    "ContentProperties": ("FeatureProperties", "ImageProperties", "BoundingBoxProperties", "AudioProperties"),
    "ProcessUnitOptions": (
        "NormalizationOptions", "ScoreCalibrationOptions", "ScoreThresholdingOptions", "BertTokenizerOptions",
        "SentencePieceTokenizerOptions", "RegexTokenizerOptions",
    ),
}  # fmt: skip

# Fields in the order of the schema, which is that of their slots; a union takes two
TABLES: dict[str, dict[str, str]] = {
    "AssociatedFile": {"name": "string", "description": "string", "type": "AssociatedFileType", "locale": "string", "version": "string"},
    "AudioProperties": {"sample_rate": "uint", "channels": "uint"},
    "BertTokenizerOptions": {"vocab_file": "[AssociatedFile]"},
    "BoundingBoxProperties": {"index": "[uint]", "type": "BoundingBoxType", "coordinate_type": "CoordinateType"},
    "Content": {"content_properties": "ContentProperties", "range": "ValueRange"},
    "CustomMetadata": {"name": "string", "data": "[ubyte]"},
    "FeatureProperties": {},
    "ImageProperties": {"color_space": "ColorSpaceType", "default_size": "ImageSize"},
    "ImageSize": {"width": "uint", "height": "uint"},
    "ModelMetadata": {
        "name": "string", "description": "string", "version": "string", "subgraph_metadata": "[SubGraphMetadata]", "author": "string",
        "license": "string", "associated_files": "[AssociatedFile]", "min_parser_version": "string",
    },
    "NormalizationOptions": {"mean": "[float]", "std": "[float]"},
    "ProcessUnit": {"options": "ProcessUnitOptions"},
    "RegexTokenizerOptions": {"delim_regex_pattern": "string", "vocab_file": "[AssociatedFile]"},
    "ScoreCalibrationOptions": {"score_transformation": "ScoreTransformationType", "default_score": "float"},
    "ScoreThresholdingOptions": {"global_score_threshold": "float"},
    "SentencePieceTokenizerOptions": {"sentencePiece_model": "[AssociatedFile]", "vocab_file": "[AssociatedFile]"},
    "Stats": {"max": "[float]", "min": "[float]"},
    "SubGraphMetadata": {
        "name": "string", "description": "string",
        "input_tensor_metadata": "[TensorMetadata]", "output_tensor_metadata": "[TensorMetadata]",
        "associated_files": "[AssociatedFile]", "input_process_units": "[ProcessUnit]", "output_process_units": "[ProcessUnit]",
        "input_tensor_groups": "[TensorGroup]", "output_tensor_groups": "[TensorGroup]", "custom_metadata": "[CustomMetadata]",
    },
    "TensorGroup": {"name": "string", "tensor_names": "[string]"},
    "TensorMetadata": {
        "name": "string", "description": "string", "dimension_names": "[string]", "content": "Content", "process_units": "[ProcessUnit]",
        "stats": "Stats", "associated_files": "[AssociatedFile]",
    },
    "ValueRange": {"min": "int", "max": "int"},
}  # fmt: skip

_NUMBERS = {
    "uint": number_types.Uint32Flags, "int": number_types.Int32Flags, "float": number_types.Float32Flags, "ubyte": number_types.Uint8Flags,
}  # fmt: skip
_VECTOR_ALIGNMENT = 16  # of CustomMetadata.data (force_align); more than enough for the others
# What a reader follows of a file that is not ours: tables may be shared, so that a small file can stand for a very large tree
_MOST_TABLES, _MOST_ELEMENTS = 10_000, 1_000_000


def pack(metadata: Mapping[str, Any]) -> bytes:
    """A `ModelMetadata` flatbuffer; equal dictionaries give equal bytes.

    Args:
        metadata: field -> value. A value is a text, a number, the name of an enum value, a list, or a dictionary for a table. A union is
            {member: dictionary}.

    Raises:
        ValueError: the schema has no such field or name.
    """
    builder = flatbuffers.Builder(1024)
    builder.Finish(_pack_table(builder, ROOT, metadata), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def unpack(data: bytes) -> dict[str, Any]:
    """The fields of a `ModelMetadata` flatbuffer, as `pack` takes them. An enum value or union member of a newer schema is a number.

    Raises:
        ValueError: the flatbuffer is damaged, or another one.
    """
    if len(data) < 8 or bytes(data[4:8]) != FILE_IDENTIFIER:
        raise ValueError(f"no metadata of the schema {FILE_IDENTIFIER.decode()}: {len(data)} bytes, identifier {bytes(data[4:8])!r}")
    data = bytes(data)
    try:
        return _Reader(data).table(ROOT, struct.unpack_from("<I", data)[0])
    except (struct.error, IndexError, TypeError, OverflowError, MemoryError) as error:  # whatever a broken offset leads to
        raise ValueError(f"damaged metadata: {error}") from error


def _slots(table: str) -> dict[str, int]:
    """Field -> slot. A union has two slots, of which the second, with the value, is given."""
    slots, number = {}, 0
    for field, kind in TABLES[table].items():
        number += kind in UNIONS
        slots[field] = number
        number += 1
    return slots


def _pack_table(builder: flatbuffers.Builder, table: str, value: Mapping[str, Any]) -> int:
    fields, slots = TABLES[table], _slots(table)
    unknown = [name for name in value if name not in fields]
    if unknown:
        raise ValueError(f"{table} has no field {', '.join(unknown)}")
    # what a table points to is written before it
    offsets = {}
    for name, content in value.items():
        kind = fields[name]
        if kind in UNIONS:
            ((member, inside),) = content.items()
            offsets[name] = _pack_table(builder, member, inside)
        elif kind not in ENUMS and kind not in _NUMBERS:
            offsets[name] = _pack(builder, kind, content)
    builder.StartObject(max(slots.values(), default=-1) + 1)
    for name, content in value.items():
        kind, slot = fields[name], slots[name]
        if kind in UNIONS:
            builder.PrependUint8Slot(slot - 1, UNIONS[kind].index(next(iter(content))) + 1, 0)
        if name in offsets:
            builder.PrependUOffsetTRelativeSlot(slot, offsets[name], 0)
        elif kind in ENUMS:
            builder.PrependInt8Slot(slot, ENUMS[kind].index(content), 0)
        else:
            builder.PrependSlot(_NUMBERS[kind], slot, content, 0)
    return builder.EndObject()


def _pack(builder: flatbuffers.Builder, kind: str, value: Any) -> int:
    """Writes a text, a table or a vector; returns its offset."""
    if kind == "string":
        return builder.CreateString(value)
    if kind in TABLES:
        return _pack_table(builder, kind, value)
    element = kind.strip("[]")
    if element in _NUMBERS:
        flags = _NUMBERS[element]
        builder.StartVector(flags.bytewidth, len(value), _VECTOR_ALIGNMENT)
        for number in reversed(value):
            builder.Prepend(flags, number)
    else:
        offsets = [_pack(builder, element, content) for content in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


class _Reader:
    """Follows offsets, but only so many, since a damaged file may lead in circles."""

    def __init__(self, data: bytes) -> None:
        self._data, self._tables, self._elements = data, 0, 0

    def table(self, name: str, position: int) -> dict[str, Any]:
        self._tables += 1
        if self._tables > _MOST_TABLES:
            raise ValueError(f"damaged metadata: more than {_MOST_TABLES} tables")
        table, slots, value = Table(self._data, position), _slots(name), {}
        for field, kind in TABLES[name].items():
            offset = table.Offset(4 + 2 * slots[field])
            if offset:
                value[field] = self._field(table, kind, position + offset, table.Offset(2 + 2 * slots[field]))
        return value

    def _field(self, table: Table, kind: str, at: int, member_offset: int) -> Any:
        if kind in _NUMBERS:
            return self._number(table, _NUMBERS[kind], at)
        if kind in ENUMS:
            return _named(ENUMS[kind], table.Get(number_types.Int8Flags, at))
        if kind in UNIONS:
            number = table.Get(number_types.Uint8Flags, table.Pos + member_offset) if member_offset else 0
            member = _named(("NONE", *UNIONS[kind]), number)
            return {member: self.table(member, table.Indirect(at)) if member in TABLES else {}}
        return self._read(table, kind, at)

    def _read(self, table: Table, kind: str, at: int) -> Any:
        """What the offset at `at` leads to."""
        if kind in TABLES:
            return self.table(kind, table.Indirect(at))
        start = table.Indirect(at)
        (length,) = struct.unpack_from("<I", self._data, start)
        self._elements += length
        if self._elements > _MOST_ELEMENTS or start + 4 + length > len(self._data):
            raise ValueError(f"damaged metadata: {length} elements in {len(self._data)} bytes")
        if kind == "string":
            return self._data[start + 4 : start + 4 + length].decode("utf-8", "replace")
        element = kind[1:-1]
        if element in _NUMBERS:
            flags = _NUMBERS[element]
            return [self._number(table, flags, start + 4 + flags.bytewidth * index) for index in range(length)]
        return [self._read(table, element, start + 4 + 4 * index) for index in range(length)]

    @staticmethod
    def _number(table: Table, flags: Any, at: int) -> int | float:
        value = table.Get(flags, at)
        if not math.isfinite(value):
            raise ValueError(f"damaged metadata: {value}")
        return value


def _named(names: tuple[str, ...], number: int) -> str | int:
    return names[number] if 0 <= number < len(names) else number
