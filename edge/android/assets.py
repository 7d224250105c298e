"""Writes a package into the folder `edge` of an app's assets, or into a zip.

Files of others are not overwritten: a file is ours where the `edge_package.json` beside it names it with its hash. The new folder is made
beside the old one, under a name that Android's packager leaves out, and the two change places: in one step where the system can (Linux,
macOS), else in two. Where a run is killed between the two, the next run puts the old folder back.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edge.android.package import KIND, PACKAGE_FILE, zip_bytes
from edge.apps.projects import FOLDER as FOLDER
from edge.artifacts import atomic_files
from edge.web import site
from tfvit.errors import EnvironmentUnusableError, InputError, in_the_way, no_such_folder
from tfvit.hashing import sha256

# The new folder while it is made, then the old one while it is removed; the old one between two renames
_STAGED, _REPLACED = ".edge-bundle-staged", ".edge-bundle-replaced"
_NAMED = 5
_EXCHANGE = 2  # RENAME_EXCHANGE and RENAME_SWAP
_CURRENT_FOLDER = -100  # AT_FDCWD


@dataclasses.dataclass(frozen=True)
class Changes:
    """What writing a package changed, as sorted names of files.

    Attributes:
        added, replaced, unchanged, removed: our own files; `removed` were in the old package and are not in the new one.
        kept, overwritten: files of others, with `force`.
    """

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...] = ()
    overwritten: tuple[str, ...] = ()


def save_in_assets(assets: Path, files: Mapping[str, bytes], force: bool = False) -> Changes:
    """Writes files to ASSETS/edge, as `save_in_folder` does.

    Args:
        assets: the folder that `edge.apps.projects.recognise` names; it need not exist.
    """
    return save_in_folder(assets, FOLDER, files, force, PACKAGE_FILE)


def save_in_folder(assets: Path, name: str, files: Mapping[str, bytes], force: bool, listing: str) -> Changes:
    """Writes files to ASSETS/NAME. Where that fails, all of the old files are there.

    Args:
        assets: the folder around it; it is made where it is missing.
        files: name -> bytes.
        force: go on where there are files of others: those in the way are overwritten, the others kept.
        listing: the one of `files` that names the others with their hashes.

    Raises:
        InputError: there are files of others and `force` is off; or ASSETS/NAME is a link or a file.
        EnvironmentUnusableError: the folder or the disk refuses.
    """
    folder, staged, replaced = assets / name, assets / _STAGED, assets / _REPLACED
    made_assets = not assets.exists()
    try:
        assets.mkdir(parents=True, exist_ok=True)
        with atomic_files.locked(assets):
            _tidy(folder, staged, replaced)
            own, foreign = _contents(folder, listing)
            if foreign and not force:
                raise _in_the_way(folder, foreign)
            try:
                _stage(staged, files, [folder / other for other in foreign if other not in files])
                _swap(staged, folder, replaced)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        if made_assets:
            with contextlib.suppress(OSError):
                assets.rmdir()
        raise EnvironmentUnusableError(
            "the bundle could not be written",
            expected=f"{sum(map(len, files.values())) / 1e6:.1f} MB of free space and write permission in {assets}",
            received=error.strerror or str(error),
            action="free space or check the permissions, and run it again",
        ) from error
    return _changes(own, files, foreign)


def save_zip(path: Path, files: Mapping[str, bytes], force: bool = False) -> Changes:
    """Writes a zip of these files, over an older package of ours.

    Raises:
        InputError: something else is there and `force` is off, or the folder does not exist.
        EnvironmentUnusableError: the folder or the disk refuses.
    """
    if not path.parent.is_dir():
        raise no_such_folder(path.parent)
    own = _zip_contents(path)
    there = path.exists() or path.is_symlink()
    if own is None and there and (not force or not path.is_file()):
        raise in_the_way(path, "an older package of ours", action="move it away, choose another name, or overwrite it with --force")
    atomic_files.save_bytes(path, zip_bytes(files), "bundle")
    changes = _changes(own or {}, files, [])
    return dataclasses.replace(changes, overwritten=(path.name,)) if own is None and there else changes


def _tidy(folder: Path, staged: Path, replaced: Path) -> None:
    """Cleans up after a killed run: puts the old package back where the new one was not in its place yet."""
    if replaced.exists() and not folder.exists():
        os.rename(replaced, folder)
    for leftover in (staged, replaced):
        if leftover.exists():
            shutil.rmtree(leftover)


def _contents(folder: Path, listing: str) -> tuple[dict[str, str], list[str]]:
    """What is in a folder: our files with their hashes, and the names of all others."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(
            "a link or a file is in the way",
            expected=f"no {folder.name} in {folder.parent}, or a folder",
            received=str(folder),
            action="move it away",
        )
    if not folder.exists():
        return {}, []
    listed = _listed((folder / listing).read_bytes(), listing) if (folder / listing).is_file() else {}
    own, foreign = {}, []
    for entry in sorted(folder.iterdir()):
        digest = sha256(entry.read_bytes()) if entry.name in listed and entry.is_file() and not entry.is_symlink() else None
        if digest is not None and listed[entry.name] in (digest, None):
            own[entry.name] = digest
        else:
            foreign.append(entry.name)
    return own, foreign


def _zip_contents(path: Path) -> dict[str, str] | None:
    """The files of a package of ours with their hashes; None where it is something else, or nothing."""
    try:
        with zipfile.ZipFile(path) as members:
            if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):  # ours never are: and no bomb
                return None
            listed = _listed(members.read(PACKAGE_FILE))
            own = {name: sha256(members.read(name)) for name in members.namelist() if name in listed}
            return own if listed and len(own) == len(members.namelist()) else None
    except Exception:  # zipfile meets broken files with errors of every type
        return None


def _listed(document: bytes, name: str = PACKAGE_FILE) -> dict[str, str | None]:
    """The files an `edge_package.json` or `edge_web.json` names, with their hashes (its own is None); empty where it is something else."""
    try:
        package: Any = json.loads(document)
        if package["kind"] == site.KIND:
            return {name: None} | {str(file): str(digest) for file, digest in package["files"].items()}
        if package["kind"] != KIND:
            return {}
        blocks = [package["golden_image"], *package["models"], *(model["labels"] for model in package["models"] if model["labels"])]
        blocks += package.get("app_files", [])
        return {PACKAGE_FILE: None} | {str(block["file"]): str(block["sha256"]) for block in blocks}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _in_the_way(folder: Path, foreign: list[str]) -> InputError:
    more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
    return InputError(
        "files that edge.bundle did not write are in the way",
        expected=f"in {folder} nothing but an older bundle, unchanged",
        received=", ".join(foreign[:_NAMED]) + more,
        action="move them away, or use --force: it overwrites those whose names the bundle needs and keeps the others",
        foreign=tuple(foreign),
    )


def _stage(staged: Path, files: Mapping[str, bytes], kept: Iterable[Path]) -> None:
    """Makes the new folder and flushes it to the disk before it goes to its place."""
    staged.mkdir()
    for path in kept:
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, staged / path.name, symlinks=True)
        else:
            shutil.copy2(path, staged / path.name, follow_symlinks=False)
    for name, data in files.items():
        with open(staged / name, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    atomic_files.sync_folder(staged)


def _swap(staged: Path, folder: Path, replaced: Path) -> None:
    """Puts the new folder in its place. The old one is then at `staged`, or removed."""
    if not folder.exists():
        os.rename(staged, folder)
    elif not _exchange(staged, folder):
        os.rename(folder, replaced)
        try:
            os.rename(staged, folder)
        except OSError:
            os.rename(replaced, folder)
            raise
        shutil.rmtree(replaced, ignore_errors=True)
    atomic_files.sync_folder(folder.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Exchanges the names of two folders in one step; False where the system or the file system cannot."""
    if sys.platform not in ("linux", "darwin"):
        return False
    library = ctypes.CDLL(None)
    names = os.fsencode(first), os.fsencode(second)
    if hasattr(library, "renameat2"):
        return library.renameat2(_CURRENT_FOLDER, names[0], _CURRENT_FOLDER, names[1], _EXCHANGE) == 0
    return hasattr(library, "renamex_np") and library.renamex_np(*names, _EXCHANGE) == 0


def _changes(own: Mapping[str, str], files: Mapping[str, bytes], foreign: Iterable[str]) -> Changes:
    equal = {name for name, data in files.items() if own.get(name) == sha256(data)}
    foreign = set(foreign)
    return Changes(
        added=tuple(sorted(set(files) - set(own) - foreign)),
        replaced=tuple(sorted((set(files) & set(own)) - equal)),
        unchanged=tuple(sorted(equal)),
        removed=tuple(sorted(set(own) - set(files))),
        kept=tuple(sorted(foreign - set(files))),
        overwritten=tuple(sorted(foreign & set(files))),
    )
