"""JSON documents against a schema, and the schema of manifests: what a message says of the place, and what is held to it."""

import pytest

from edge.artifacts import artifact
from edge.artifacts.json_schema import violation
from tests.edge import report_documents as made
from tfvit.errors import InputError
from tfvit.preprocessing import INTERPOLATIONS

SCHEMA = {
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "layout": {"const": "NHWC"},
        "inner": {"required": ["a"]},
    },
}


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"name": "a", "sizes": [1, 2], "layout": "NHWC", "inner": {"a": None}, "more": 1}, None),
        ({}, ("$.name", "missing")),
        ({"name": "a", "inner": {}}, ("$.inner.a", "missing")),
        ({"name": None}, ("$.name", "None is not of type 'string'")),
        ({"name": "a", "layout": "NCHW"}, ("$.layout", "'NCHW' is not 'NHWC'")),
        ({"name": "a", "sizes": [1, 0]}, ("$.sizes[1]", "0 is less than the minimum of 1")),
        ({"name": "a", "sizes": [1e300]}, ("$.sizes[0]", "1e+300 is not of type 'integer'")),
        ({"name": "a", "sizes": [True]}, ("$.sizes[0]", "True is not of type 'integer'")),
        ({"name": "a", "sizes": "x" * 1000}, ("$.sizes", f"'{'x' * 99} ... {'x' * 76}' is not of type 'array'")),
    ],
)
def test_the_place_and_the_reason(document, found):
    assert violation(document, SCHEMA) == found


@pytest.mark.parametrize("field", artifact.manifest_schema()["required"])
def test_every_field_of_a_manifest_is_asked_for(field):
    manifest = made.manifest("int8")
    artifact.require_valid(manifest)
    with pytest.raises(InputError) as caught:
        artifact.require_valid({name: value for name, value in manifest.items() if name != field}, "a.json")
    assert caught.value.received == f"a.json: $.{field}: missing"


def test_a_record_needs_what_the_file_was_made_with():
    settings = {"input": "float32", "output": "logits", "takes_pixels": None, "without_dynamic": False, "position_tables": True}
    settings |= {"repair": True, "labels_sha256": None, "images": None, "limits": None}
    record = {name: value for name, value in made.manifest("float32").items() if name not in ("drift", "file", "delegates")}
    artifact.require_record(record | {"settings": settings}, "a.tflite")
    for name in settings.keys() - {"limits"}:
        with pytest.raises(InputError) as caught:
            artifact.require_record(record | {"settings": {key: value for key, value in settings.items() if key != name}}, "a.tflite")
        assert caught.value.received == f"a.tflite: $.settings.{name}: missing"
    with pytest.raises(InputError, match=r"\$\.settings: missing"):
        artifact.require_record(record, "a.tflite")


def test_the_schema_knows_what_the_tools_know():
    properties = artifact.manifest_schema()["properties"]
    assert set(properties["preprocessing"]["properties"]["interpolation"]["enum"]) == set(INTERPOLATIONS)
    assert properties["schema_version"]["const"] == artifact.SCHEMA_VERSION
