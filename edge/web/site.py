"""The files of a folder that runs a bundle in a browser: the page, LiteRT.js, the bundle, and a list of them all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from edge.artifacts import strict_json
from edge.artifacts.store import Store
from edge.web import litert_js
from tfvit import __version__
from tfvit.errors import InputError, reading
from tfvit.hashing import sha256

KIND, SCHEMA_VERSION = "edge_web", 1
SITE_FILE, SESSION_FILE, PACKAGE_FILE = "edge_web.json", "session.json", "edge_package.json"
PAGE = "index.html"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".tflite": "application/octet-stream",
}
_NOTICE = f"""\
litert-core.js and litert_wasm_* are files of the npm package {litert_js.CORE} {litert_js.VERSION},
litert-wasm-utils.js is of {litert_js.WASM_UTILS} {litert_js.VERSION}, unchanged.
Apache License 2.0: litert-LICENSE.txt. Source: https://github.com/google-ai-edge/LiteRT
"""


def refusals(package: Mapping[str, Any]) -> list[str]:
    """Which models of an `edge_package.json` no page can run, as sentences."""
    return [
        f"{model['name']}: its {side} is int8, and LiteRT.js {litert_js.VERSION} gives a page no int8 tensors; use another recipe"
        for model in package["models"]
        for side in ("input", "output")
        if model[side]["dtype"] == "int8"
    ]


def files(package_files: Mapping[str, bytes], store: Store) -> dict[str, bytes]:
    """The folder's files: name -> bytes. Equal bundles give equal bytes.

    Args:
        package_files: of the bundle, `edge_package.json` among them.
        store: keeps LiteRT.js.

    Raises:
        EnvironmentUnusableError: LiteRT.js cannot be had.
    """
    page = {file.name: file.read_bytes() for file in resources.files("edge.web").joinpath("site").iterdir()}
    session = _json({"reports": False, "preset": "default", "run": None})
    made = {**page, **litert_js.files(store), "litert-NOTICE.txt": _NOTICE.encode(), SESSION_FILE: session, **package_files}
    listing = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "litert_js": {"version": litert_js.VERSION, "packages": litert_js.INTEGRITY},
        "files": {name: sha256(data) for name, data in sorted(made.items())},
    }
    return {**made, SITE_FILE: _json(listing)}


def session(run: str, preset: str) -> bytes:
    """What the served folder has instead of its `session.json`: the page may send its report."""
    return _json({"reports": True, "preset": preset, "run": run})


def read_folder(folder: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """The files that a folder of ours lists, each there and unchanged, and its `edge_package.json`.

    Raises:
        InputError: no such folder, another one, or a file that was changed.
    """
    expected = "a folder that edge.bundle --web made"
    with reading(folder / SITE_FILE, expected, action="make it again: python -m edge.bundle FILE... --web DIR"):
        listing = strict_json.loads((folder / SITE_FILE).read_bytes())
    if not isinstance(listing, dict) or listing.get("kind") != KIND or listing.get("schema_version") != SCHEMA_VERSION:
        raise _unusable(folder, f"another {SITE_FILE}")
    found = {SITE_FILE: folder / SITE_FILE}
    for name, digest in listing["files"].items():
        path = folder / name
        if path.name != name or path.is_symlink() or not path.is_file() or Path(name).suffix not in CONTENT_TYPES:
            raise _unusable(folder, f"{name} is missing, or no file of a bundle")
        if sha256(path.read_bytes()) != digest:
            raise _unusable(folder, f"{name} was changed")
        found[name] = path
    if not {PAGE, PACKAGE_FILE, SESSION_FILE} <= set(found):
        raise _unusable(folder, f"a {SITE_FILE} without the page or the bundle")
    return found, strict_json.loads(found[PACKAGE_FILE].read_bytes())


def _unusable(folder: Path, received: str) -> InputError:
    return InputError(
        "the folder cannot be served",
        expected="a folder as edge.bundle --web made it",
        received=f"{folder}: {received}",
        action="make it again: python -m edge.bundle FILE... --web DIR",
    )


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
