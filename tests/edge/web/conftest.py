"""A folder as edge.bundle --web makes it, of small stand-ins for LiteRT.js and the models: what no browser has to run."""

import base64
import hashlib
import io
import json
import tarfile

import pytest

from edge.artifacts.store import Store
from edge.web import litert_js, site

MODEL = {
    "name": "small-int8",
    "file": "small-int8.tflite",
    "sha256": hashlib.sha256(b"model").hexdigest(),
    "input": {"dtype": "float32"},
    "output": {"dtype": "float32"},
}
PACKAGE = {
    "edge_package.json": json.dumps({"kind": "edge_package", "schema_version": 1, "models": [MODEL]}).encode(),
    "small-int8.tflite": b"model",
    "golden.png": b"picture",
}


def packed(members: dict[str, bytes]) -> bytes:
    """As npm packs a package."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture
def small_packages(monkeypatch):
    """Package -> packed stand-in, whose integrity is the one that is asked for."""
    members = {name: {} for name in litert_js.INTEGRITY}
    for package, path in litert_js._FILES.values():
        members[package][path] = f"// {path}".encode()
    made = {name: packed(files) for name, files in members.items()}
    integrity = {name: "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode() for name, data in made.items()}
    monkeypatch.setattr(litert_js, "INTEGRITY", integrity)
    return made


@pytest.fixture
def store(small_packages, tmp_path):
    """A cache that has them."""
    kept = Store(tmp_path / "cache")
    for package, data in small_packages.items():
        kept.write(litert_js.key_of(package), data, "LiteRT.js", package)
    return kept


@pytest.fixture
def folder(store, tmp_path):
    """The folder itself."""
    made = tmp_path / "page"
    made.mkdir()
    for name, data in site.files(PACKAGE, store).items():
        (made / name).write_bytes(data)
    return made
