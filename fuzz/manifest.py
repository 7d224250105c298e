"""A manifest beside its file: what load, edge.validate and edge.bundle read of it before anything is built or run."""

import json

from edge.android import package
from edge.artifacts import artifact
from edge.drift.limits import Limits
from edge.export import recorded_source
from edge.validation.images import choose_images
from fuzz.json_mutator import mutate as mutate
from fuzz.target import file, folder
from tfvit import hashing

_FILE = b"\x1c\0\0\0TFL3 a made-up file"


def read(data: bytes) -> None:
    path = file("manifest/model.tflite", _FILE)
    file("manifest/model.json", _with_hash(data))
    found = artifact.load(path)
    artifact.load_current(folder("manifest"), "model", "")
    artifact.require_valid(found.manifest)
    package._refusals([found], allow_random=False)
    package.recommended({found.name: found.manifest})
    recorded_source.require_usable(found.manifest)
    Limits(**found.manifest["drift"]["limits"])
    choose_images("builtin", 4, 0, found, None)
    recorded_source.source_of(found.manifest, None, None, None)


def _with_hash(data: bytes) -> bytes:
    """The same, describing the file where it describes any: else nothing would be read behind the hash."""
    try:
        document = json.loads(data)
        if isinstance(document["file"]["sha256"], str):
            document["file"]["sha256"] = hashing.sha256(_FILE)
            return json.dumps(document).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return data
