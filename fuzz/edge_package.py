"""An `edge_package.json` in a folder of assets, or a zip in a bundle's place: what edge.bundle reads before it replaces them."""

import shutil

from edge.android.assets import save_in_assets, save_zip
from fuzz.json_mutator import mutate as mutate
from fuzz.target import file, folder

_NEW = {"edge_package.json": b"{}", "model.tflite": b"new"}


def read(data: bytes) -> None:
    if data.startswith(b"PK"):
        save_zip(file("edge_package/package.zip", data), _NEW)
        return
    assets = folder("edge_package") / "assets"
    shutil.rmtree(assets, ignore_errors=True)
    (assets / "edge").mkdir(parents=True)
    (assets / "edge" / "edge_package.json").write_bytes(data)
    (assets / "edge" / "model.tflite").write_bytes(b"old")
    save_in_assets(assets, _NEW)
