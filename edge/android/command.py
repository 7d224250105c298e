"""From what `edge.bundle` is given to its document: artifacts become a package, and the package goes into an app or a zip."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.android import assets, package
from edge.artifacts import artifact
from tfvit.hashing import sha256
from tfvit.progress import step


def bundle(files: Sequence[Path], app: Path | None, zip_file: Path | None, allow_random: bool, force: bool) -> dict[str, Any]:
    """The JSON of docs/android.md; the arguments are those of `edge.bundle`, with one of `app` and `zip_file`."""
    app_assets = assets.assets_folder(app) if app else None
    paths = list({path.resolve(): path for path in files}.values())
    made = package.build([artifact.load(path, verify=False) for path in paths], allow_random)
    changes, target = assets.Changes((), (), (), ()), zip_file
    if app_assets:
        target = app_assets / assets.FOLDER
    if not made.refusals:
        with step("write"):
            if app_assets:
                changes = assets.save_in_assets(app_assets, made.files, force)
            elif zip_file:
                changes = assets.save_zip(zip_file, made.files, force)
    return {
        "kind": "bundle",
        "target": "app" if app else "zip",
        "path": str(target),
        "written": [{"file": name, "sha256": sha256(data), "size_bytes": len(data)} for name, data in made.files.items()],
        **{name: list(names) for name, names in dataclasses.asdict(changes).items()},
        "refused": list(made.refusals),
        "edge_package": made.document,
    }
