"""LiteRT.js, the runtime of the page: fetched with npm in one pinned version, checked, and kept in the cache.

Another version: change `VERSION`, and the integrity of each package to what `npm view NAME@VERSION dist.integrity` prints.
"""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

from edge.artifacts.store import Store
from tfvit.errors import EnvironmentUnusableError, first_line
from tfvit.progress import step

VERSION = "2.5.3"
CORE, WASM_UTILS = "@litertjs/core", "@litertjs/wasm-utils"
INTEGRITY = {
    CORE: "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    WASM_UTILS: "sha512-4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
}
# The build for old browsers, the usual one, and the one with threads
_BUILDS = ("compat_", "", "threaded_")
# Name in the folder -> package, and its name there
_FILES = {
    "litert-core.js": (CORE, "dist/index.js"),
    "litert-wasm-utils.js": (WASM_UTILS, "dist/index.js"),
    **{
        f"litert_wasm_{build}internal.{kind}": (CORE, f"wasm/litert_wasm_{build}internal.{kind}")
        for build in _BUILDS
        for kind in ("js", "wasm")
    },
}
_NPM_SECONDS = 900


def files(store: Store) -> dict[str, bytes]:
    """The files of LiteRT.js that the page loads, as their makers left them: name -> bytes, 28 MB together.

    Args:
        store: the packages are kept here; without them npm fetches them.

    Raises:
        EnvironmentUnusableError: there is no npm, it cannot fetch a package, or what came is another one.
    """
    found: dict[str, bytes] = {}
    for package in INTEGRITY:
        with step("LiteRT.js", subject=package):
            packed = store.made(key_of(package), lambda package=package: _fetched(package), "LiteRT.js", f"{package}@{VERSION}")
        with tarfile.open(fileobj=io.BytesIO(checked(package, packed))) as archive:
            found |= {name: _member(archive, f"package/{path}") for name, (whose, path) in _FILES.items() if whose == package}
    return found


def key_of(package: str) -> str:
    """The key of a package in the store."""
    return hashlib.sha256(f"{package} {INTEGRITY[package]}".encode()).hexdigest()


def checked(package: str, packed: bytes) -> bytes:
    """The same bytes, where they are the package's.

    Raises:
        EnvironmentUnusableError: they are not.
    """
    received = "sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode()
    if received != INTEGRITY[package]:
        raise EnvironmentUnusableError(
            "what came is not LiteRT.js as it was published",
            expected=f"{package}@{VERSION}, {INTEGRITY[package]}",
            received=f"{len(packed)} bytes, {received}",
            action="see which registry npm asks (npm config get registry), and run this again",
        )
    return packed


def _fetched(package: str) -> bytes:
    """The package as npm packs it, into a folder that is removed."""
    with tempfile.TemporaryDirectory(prefix="edge-litert-js-") as folder:
        command = ["npm", "pack", f"{package}@{VERSION}", "--silent", "--ignore-scripts", "--pack-destination", folder]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _missing(package, first_line(error)) from error
        packed = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(packed) != 1:
            raise _missing(
                package, f"npm ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:] or 'it printed nothing'}"
            )
        return checked(package, packed[0].read_bytes())


def _missing(package: str, received: str) -> EnvironmentUnusableError:
    return EnvironmentUnusableError(
        "LiteRT.js cannot be had",
        expected=f"npm (it comes with Node.js), and a registry that has {package}@{VERSION}; or a cache that has it",
        received=received,
        action="install npm, or connect to the network; once fetched, LiteRT.js stays in the cache",
    )


def _member(archive: tarfile.TarFile, path: str) -> bytes:
    file = archive.extractfile(path)
    assert file is not None, path  # the integrity says which files there are
    return file.read()
