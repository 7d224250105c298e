"""LiteRT.js in headless Chromium, its own two ways to compute: WebAssembly and WebGPU. Versions: package.json.

The browser is Debian's, or what CHROMIUM names. It is started with SwiftShader as its WebGPU adapter, so that a machine without a GPU has
one: right numbers, meaningless milliseconds.
"""

from __future__ import annotations

import json
import os
import shutil

from benchmarks.runtimes.runtime import BUILD, HERE, Runtime, UnavailableError, fetch

PACKAGES = BUILD / "js"
VERSION = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]["@litertjs/core"]


def chromium() -> str:
    found = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if found is None:
        raise UnavailableError("no Chromium: apt-get install chromium, or CHROMIUM=/path/to/chrome")
    return found


def prepare() -> None:
    chromium()
    PACKAGES.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, PACKAGES)
    fetch("npm", "ci", "--silent", "--prefix", PACKAGES)


def command(accelerator: str) -> list[str]:
    return ["node", str(HERE / "browser.mjs"), str(PACKAGES), chromium(), accelerator]


RUNTIMES = tuple(
    Runtime(
        name="@litertjs/core",
        version=VERSION,
        machine=accelerator,
        recipes={"nano32": ("float32", "float16", "int8", "dynamic")},
        prepare=prepare,
        command=lambda accelerator=accelerator: command(accelerator),
    )
    for accelerator in ("wasm", "webgpu")
)
