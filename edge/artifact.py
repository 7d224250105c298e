"""An artifact is a file's bytes and its manifest: saved atomically, loaded verified.

`NAME.tflite`, `NAME.json` and, with labels, `NAME.labels.txt`. The manifest is written last and holds the file's hash, so that whatever
interrupts a save, a manifest never describes another file's bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfvit.errors import EnvironmentUnusableError, InputError

SCHEMA_VERSION = 1
LABELS_MEMBER = "labels.txt"


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A converted file with everything that is known about it.

    Attributes:
        name: without ending, for example "small224-int8" or "small224-int8.random".
        file: the `.tflite`.
        manifest: see `docs/manifest.md`.
        labels: one per class, or None.
    """

    name: str
    file: bytes
    manifest: dict[str, Any]
    labels: tuple[str, ...] | None = None


# A PNG begins with 8 bytes of signature and 25 of its header chunk; a text chunk behind them says who drew it
PNG_HEADER_BYTES = 33
_TEXT = b"tEXtSoftware\0tfvit edge"
_PICTURE_MARK = (len(_TEXT) - 4).to_bytes(4, "big") + _TEXT + zlib.crc32(_TEXT).to_bytes(4, "big")


# In the head of every page and Markdown text of ours
TEXT_MARK, _MARK_WITHIN = "tfvit edge.report", 256


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON that is the same for equal values; refuses NaN and infinity."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def embed_labels(file: bytes, labels: Sequence[str]) -> bytes:
    """Appends labels as an associated file: a zip behind the flatbuffer, as TFLite metadata readers (and `unzip`) expect it."""
    archive = io.BytesIO(file)
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as members:
        members.writestr(zipfile.ZipInfo(LABELS_MEMBER, date_time=(1980, 1, 1, 0, 0, 0)), "\n".join(labels) + "\n")
    return archive.getvalue()


def prepare_folder(folder: Path) -> None:
    """Makes sure artifacts can be written to a folder, before any long work.

    Raises:
        EnvironmentUnusableError: it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable-"):
            pass
    except OSError as error:
        raise EnvironmentUnusableError(
            "the output directory cannot be written to",
            expected="a directory that exists or can be made, with write permission",
            received=f"{folder}: {error.strerror or error}",
            action="choose another directory with --out",
        ) from error


def load_current(folder: Path, name: str, inputs_sha256: str) -> Artifact | None:
    """The folder's artifact of this name, if it is intact and made from the same inputs."""
    try:
        artifact = load(folder / f"{name}.tflite")
    except (InputError, OSError):
        return None
    return artifact if artifact.manifest.get("inputs_sha256") == inputs_sha256 else None


def load(path: Path, verify: bool = True) -> Artifact:
    """Reads an artifact and checks its hash.

    Args:
        path: of the `.tflite`.
        verify: False reads a file that its manifest does not describe, too.

    Raises:
        InputError: a part is missing, unreadable, or the file is not the one its manifest describes.
    """
    name = path.name.removesuffix(".tflite")
    manifest_path = path.with_name(f"{name}.json")
    if not path.is_file() or not manifest_path.is_file():
        missing = path if not path.is_file() else manifest_path
        raise InputError(
            "artifact not found",
            expected=f"{path.name} and {manifest_path.name} side by side",
            received=f"no {missing}",
            action="convert it",
        )
    manifest = _read_manifest(manifest_path)
    try:
        file, recorded = path.read_bytes(), manifest["file"]["sha256"]
    except OSError as error:
        raise InputError(
            "unreadable file",
            expected="a file that may be read",
            received=f"{path}: {error.strerror or error}",
            action="check its permissions",
        ) from error
    if verify and sha256(file) != recorded:
        raise InputError(
            "the file is not the one its manifest describes",
            expected=f"SHA-256 {recorded}",
            received=f"SHA-256 {sha256(file)} of {path}",
            action="convert the model again with --force",
        )
    labels_path = path.with_name(f"{name}.labels.txt")
    try:
        labels = tuple(labels_path.read_text(encoding="utf-8").splitlines()) if labels_path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "unreadable labels", expected="UTF-8 text", received=f"{labels_path}: {error}", action="convert the model again with --force"
        ) from error
    return Artifact(name, file, manifest, labels)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest["file"]["sha256"], str) or not isinstance(manifest["name"], str):
            raise ValueError("no name or no hash in it")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            "unreadable manifest",
            expected="the JSON that edge.convert wrote",
            received=f"{path}: {error}",
            action="convert the model again with --force",
        ) from error
    return manifest


def save(artifact: Artifact, folder: Path, force: bool = False) -> Path:
    """Writes an artifact, all of it or nothing; returns the path of the `.tflite`.

    Two processes that save into one folder take turns. Files of the same names that belong to no artifact are not ours and are left alone.

    Raises:
        InputError: a foreign file is in the way and `force` is off.
        EnvironmentUnusableError: the folder or the disk refuses.
    """
    target = folder / f"{artifact.name}.tflite"
    manifest_path = folder / f"{artifact.name}.json"
    labels_path = folder / f"{artifact.name}.labels.txt"
    try:
        with locked(folder), contextlib.ExitStack() as cleanup:
            if not force:
                refuse_foreign_files(folder, artifact.name)
            manifest_text = json.dumps(artifact.manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            staged = [(_stage(folder, artifact.file, cleanup), target)]
            if artifact.labels is not None:
                staged.append((_stage(folder, ("\n".join(artifact.labels) + "\n").encode(), cleanup), labels_path))
            staged.append((_stage(folder, manifest_text.encode(), cleanup), manifest_path))
            manifest_path.unlink(missing_ok=True)
            if artifact.labels is None:
                labels_path.unlink(missing_ok=True)
            for temporary, final in staged:
                os.replace(temporary, final)
            sync_folder(folder)
    except OSError as error:
        raise _unwritable("artifact", len(artifact.file), folder, error) from error
    return target


def save_picture(folder: Path, name: str, png: bytes, force: bool = False) -> Path:
    """Writes NAME.png, all of it or nothing. One that we did not draw is left alone.

    Raises:
        InputError: a foreign file is in the way and `force` is off.
        EnvironmentUnusableError: the folder or the disk refuses.
    """
    path = folder / f"{name}.png"
    marked = png[:PNG_HEADER_BYTES] + _PICTURE_MARK + png[PNG_HEADER_BYTES:]
    try:
        if path.exists() and not force and _PICTURE_MARK not in path.read_bytes()[:256]:
            raise InputError(
                "a picture that edge did not draw is in the way",
                expected=f"no {path.name}, or an older one of ours",
                received=str(path),
                action="move it away, or choose another name",
            )
        with contextlib.ExitStack() as cleanup:
            os.replace(_stage(folder, marked, cleanup), path)
    except OSError as error:
        raise _unwritable("picture", len(marked), folder, error) from error
    return path


def require_replaceable(path: Path, kind: str) -> None:
    """Checks that a JSON document can go there: nothing is there, or a document of the same kind.

    Raises:
        InputError: no such folder, or a file that is something else.
    """
    if not path.parent.is_dir():
        raise InputError("no such folder", expected="an existing folder", received=str(path.parent), action="create it, or choose another")
    if not path.exists():
        return
    try:
        ours = json.loads(path.read_text(encoding="utf-8"))["kind"] == kind
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise InputError(
            "another file is in the way",
            expected=f"no {path.name}, or an older {kind} of ours",
            received=str(path),
            action="move it away, or choose another name",
        )


def save_document(path: Path, document: dict[str, Any]) -> None:
    """Writes a JSON document that names its `kind`, all of it or nothing, where `require_replaceable` lets it.

    Raises:
        InputError: a file that is something else is in the way.
        EnvironmentUnusableError: the folder or the disk refuses.
    """
    require_replaceable(path, document["kind"])
    save_bytes(path, (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(), document["kind"])


def save_bytes(path: Path, data: bytes, what: str) -> None:
    """Writes a file over whatever is there, all of it or nothing.

    Raises:
        EnvironmentUnusableError: the folder or the disk refuses.
    """
    try:
        with contextlib.ExitStack() as cleanup:
            os.replace(_stage(path.parent, data, cleanup), path)
    except OSError as error:
        raise _unwritable(what, len(data), path.parent, error) from error


def save_texts(texts: Mapping[Path, str], force: bool = False) -> None:
    """Writes documents together, all of them or none. What is there already and not ours is left alone: ours is JSON of the same `kind`,
    and a page or text with `TEXT_MARK` near its start.

    Args:
        texts: what to write where; JSON that names its `kind`, or text with the mark.
        force: overwrite what is not ours too.

    Raises:
        InputError: a foreign file is in the way and `force` is off.
        EnvironmentUnusableError: a folder or the disk refuses.
    """
    for path, text in texts.items():
        try:
            foreign = path.exists() and not force and not _is_our_text(path.read_text(encoding="utf-8", errors="replace"), text)
        except OSError as error:
            raise _unwritable("document", len(text), path.parent, error) from error
        if foreign:
            raise InputError(
                "a file that edge did not write is in the way",
                expected=f"no {path.name}, or an older one of ours",
                received=str(path),
                action="move it away, choose another name, or overwrite it with --force",
            )
    try:
        with contextlib.ExitStack() as cleanup:
            for temporary, path in [(_stage(path.parent, text.encode(), cleanup), path) for path, text in texts.items()]:
                os.replace(temporary, path)
    except OSError as error:
        raise _unwritable("document", sum(map(len, texts.values())), path.parent, error) from error


def _is_our_text(old: str, new: str) -> bool:
    if TEXT_MARK in new[:_MARK_WITHIN]:
        return TEXT_MARK in old[:_MARK_WITHIN]
    try:
        return json.loads(old)["kind"] == json.loads(new)["kind"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _unwritable(what: str, size_bytes: int, folder: Path, error: OSError) -> EnvironmentUnusableError:
    return EnvironmentUnusableError(
        f"the {what} could not be written",
        expected=f"{size_bytes / 1e6:.1f} MB of free space and write permission in {folder}",
        received=error.strerror or str(error),
        action="free space or choose another directory",
    )


def refuse_foreign_files(folder: Path, name: str) -> None:
    """Checks that nothing is in an artifact's way but an older artifact.

    Raises:
        InputError: a file of the same name belongs to no artifact.
    """
    target = folder / f"{name}.tflite"
    foreign = _foreign_file(target, folder / f"{name}.json", folder / f"{name}.labels.txt")
    if foreign:
        raise InputError(
            "a file that edge.convert did not write is in the way",
            expected=f"no {foreign.name}, or {target.name} with its intact manifest",
            received=str(foreign),
            action="move it away, choose another --out, or overwrite it with --force",
        )


def _foreign_file(target: Path, manifest_path: Path, labels_path: Path) -> Path | None:
    """What is there and not ours: ours is a file that its manifest describes, or a manifest whose file was deleted."""
    try:
        if target.exists():
            load(target)
        elif manifest_path.exists():
            _read_manifest(manifest_path)
        elif labels_path.exists():
            return labels_path
    except InputError:
        return target if target.exists() else manifest_path
    return None


def _stage(folder: Path, data: bytes, cleanup: contextlib.ExitStack) -> str:
    """A synced temporary file beside its destination, removed if it is not renamed."""
    handle, path = tempfile.mkstemp(dir=folder, prefix=".edge-", suffix=".tmp")
    cleanup.callback(lambda: Path(path).unlink(missing_ok=True))
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)
    return path


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """An exclusive lock on the folder itself: nothing is left behind in it, and a killed process releases it."""
    try:
        import fcntl
    except ImportError:  # not on Windows: renames stay atomic there, only the order between processes is open
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Has the system write down which names a folder holds, where it can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
