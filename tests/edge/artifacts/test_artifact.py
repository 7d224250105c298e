"""Artifacts: saved whole or not at all, loaded verified, nothing of anyone else's overwritten."""

import contextlib
import errno
import json
import math
import os
import subprocess
import sys

import pytest

from edge.artifacts import artifact, atomic_files
from edge.artifacts.artifact import Artifact
from tfvit import hashing
from tfvit.errors import EnvironmentUnusableError, InputError

NAME = "tiny-int8"


def made(content: bytes = b"file one", labels: tuple[str, ...] | None = None, **extra) -> Artifact:
    manifest = {"schema_version": 1, "name": NAME, "file": {"sha256": hashing.sha256(content), "size_bytes": len(content)}, **extra}
    return Artifact(NAME, content, manifest, labels)


def listing(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_round_trip(tmp_path):
    saved = made(labels=("Katze", "naïve", "猫"))
    path = artifact.save(saved, tmp_path)
    assert path == tmp_path / f"{NAME}.tflite"
    assert artifact.load(path) == saved
    assert sorted(listing(tmp_path)) == [f"{NAME}.json", f"{NAME}.labels.txt", f"{NAME}.tflite"]
    assert (tmp_path / f"{NAME}.labels.txt").read_text(encoding="utf-8") == "Katze\nnaïve\n猫\n"


def test_files_have_the_usual_mode(tmp_path):
    artifact.save(made(), tmp_path)
    mask = os.umask(0)
    os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~mask}


def test_a_newer_artifact_replaces_the_older(tmp_path):
    artifact.save(made(labels=("a", "b")), tmp_path)
    artifact.save(made(b"file two"), tmp_path)
    assert artifact.load(tmp_path / f"{NAME}.tflite").file == b"file two"
    assert sorted(listing(tmp_path)) == [f"{NAME}.json", f"{NAME}.tflite"]  # its labels are gone with it


def test_a_tampered_file_is_refused(tmp_path):
    path = artifact.save(made(inputs_sha256="abc"), tmp_path)
    assert artifact.load_current(tmp_path, NAME, "abc") == artifact.load(path)
    assert artifact.load_current(tmp_path, NAME, "abd") is None
    path.write_bytes(b"file 0ne")
    with pytest.raises(InputError, match="not the one its manifest describes"):
        artifact.load(path)
    assert artifact.load_current(tmp_path, NAME, "abc") is None


@pytest.mark.parametrize(
    "manifest",
    ["", "{", "[]", "null", "3", '"text"', "{}", '{"file": 3}', '{"file": {}}', "\xff", '{"file": {"sha256": "HASH"}}',
     '{"file": {"sha256": "HASH"}, "name": 7}'],
)  # fmt: skip
def test_a_broken_manifest_is_one_error(tmp_path, manifest):
    path = artifact.save(made(), tmp_path)
    text = manifest.replace("HASH", hashing.sha256(b"file one"))
    (tmp_path / f"{NAME}.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="unreadable manifest"):
        artifact.load(path)


def test_broken_labels_are_one_error(tmp_path):
    path = artifact.save(made(labels=("a",)), tmp_path)
    (tmp_path / f"{NAME}.labels.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="unreadable labels"):
        artifact.load(path)


@pytest.mark.parametrize("missing", [f"{NAME}.tflite", f"{NAME}.json"])
def test_a_missing_part_is_one_error(tmp_path, missing):
    path = artifact.save(made(), tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match="artifact not found") as caught:
        artifact.load(path)
    assert missing in caught.value.received


def test_a_renamed_artifact_keeps_together(tmp_path):
    artifact.save(made(labels=("a",)), tmp_path)
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / path.name.replace(NAME, "renamed"))
    loaded = artifact.load(tmp_path / "renamed.tflite")
    assert (loaded.name, loaded.labels) == ("renamed", ("a",))


@pytest.mark.parametrize("ending", ["tflite", "json", "labels.txt"])
@pytest.mark.parametrize("labels", [None, ("a",)])
def test_a_foreign_file_is_left_alone(tmp_path, ending, labels):
    foreign = tmp_path / f"{NAME}.{ending}"
    foreign.write_bytes(b'{"mine": true}')
    with pytest.raises(InputError, match="did not write is in the way") as caught:
        artifact.save(made(labels=labels), tmp_path)
    print(caught.value)
    assert foreign.name in caught.value.received
    assert listing(tmp_path) == {foreign.name: b'{"mine": true}'}
    artifact.save(made(labels=labels), tmp_path, force=True)
    assert artifact.load(tmp_path / f"{NAME}.tflite").file == b"file one"


def test_a_file_changed_since_is_foreign_too(tmp_path):
    path = artifact.save(made(), tmp_path)
    path.write_bytes(b"edited by hand")
    before = listing(tmp_path)
    with pytest.raises(InputError, match="in the way"):
        artifact.save(made(b"file two"), tmp_path)
    assert listing(tmp_path) == before


def test_a_deleted_file_is_made_again(tmp_path):
    """The manifest alone is ours: whoever deletes the big file and converts again is not asked to force anything."""
    artifact.save(made(), tmp_path).unlink()
    artifact.save(made(b"file two"), tmp_path)
    assert artifact.load(tmp_path / f"{NAME}.tflite").file == b"file two"


@pytest.mark.parametrize("failing", ["fsync", "fdopen"])
@pytest.mark.parametrize("kind", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["disk full", "interrupt"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_save_that_fails_while_writing_changes_nothing(tmp_path, monkeypatch, failing, kind, nth):
    artifact.save(made(labels=("a",)), tmp_path)
    before = listing(tmp_path)
    monkeypatch.setattr(os, failing, _fail_at(getattr(os, failing), nth, kind))
    expected = EnvironmentUnusableError if isinstance(kind, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        artifact.save(made(b"file two", labels=("b",)), tmp_path)
    print(caught.value)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("kind", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_save_that_fails_while_renaming_leaves_no_lie(tmp_path, monkeypatch, kind, nth):
    artifact.save(made(labels=("a",)), tmp_path)
    monkeypatch.setattr(os, "replace", _fail_at(os.replace, nth, kind))
    with pytest.raises(EnvironmentUnusableError if isinstance(kind, OSError) else KeyboardInterrupt):
        artifact.save(made(b"file two", labels=("b",)), tmp_path)
    left = listing(tmp_path)
    print(sorted(left))
    assert set(left) <= {f"{NAME}.tflite", f"{NAME}.json", f"{NAME}.labels.txt"}
    if f"{NAME}.tflite" in left:
        artifact.load(tmp_path / f"{NAME}.tflite")
    monkeypatch.undo()
    artifact.save(made(b"file two"), tmp_path)  # without force: what is left is ours
    assert artifact.load(tmp_path / f"{NAME}.tflite").file == b"file two"


def _fail_at(function, nth: int, error: BaseException):
    calls = []

    def failing(*arguments, **keywords):
        calls.append(1)
        if len(calls) == nth:
            raise error
        return function(*arguments, **keywords)

    return failing


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_it_cannot_say(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifact.save(made(drift={"logits_snr_db": value}), tmp_path)
    assert listing(tmp_path) == {}
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifact.canonical_json({"value": value})


def test_canonical_json_is_the_same_for_equal_values():
    assert artifact.canonical_json({"b": 1, "a": ["é"]}) == artifact.canonical_json({"a": ["é"], "b": 1}) == '{"a":["é"],"b":1}'


def test_a_folder_below_a_file_cannot_be_prepared(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(EnvironmentUnusableError, match="cannot be written to"),
        atomic_files.prepared_folder(tmp_path / "file" / "artifacts"),
    ):
        pass
    assert listing(tmp_path) == {"file": b"x"}


def test_a_folder_made_for_nothing_goes_again(tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    for folder in (there / "new" / "artifacts", there):
        with contextlib.suppress(ValueError), atomic_files.prepared_folder(folder):
            assert listing(folder) == {}
            raise ValueError("no artifact")
        assert list(tmp_path.iterdir()) == [there]
        assert list(there.iterdir()) == []
    with atomic_files.prepared_folder(there / "new" / "artifacts"):
        (there / "new" / "artifacts" / "a.tflite").write_bytes(b"x")
    assert (there / "new" / "artifacts" / "a.tflite").read_bytes() == b"x"


# Saves each of two contents in turn, many times
_WRITER = """
import sys
from pathlib import Path
from edge.artifacts import artifact
from tfvit.hashing import sha256
for turn in range(30):
    content = bytes([65 + int(sys.argv[2])]) * (1000 + turn)
    manifest = {"name": "tiny-int8", "file": {"sha256": sha256(content)}}
    artifact.save(artifact.Artifact("tiny-int8", content, manifest), Path(sys.argv[1]))
"""


def test_writers_take_turns(tmp_path):
    """Four processes save into one folder: each finds an intact artifact there, or none."""
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), str(index)], stderr=subprocess.PIPE) for index in range(4)]
    errors = [writer.communicate()[1].decode()[-500:] for writer in writers]
    print(errors)
    assert [writer.returncode for writer in writers] == [0, 0, 0, 0]
    assert len(artifact.load(tmp_path / f"{NAME}.tflite").file) == 1029
    assert sorted(listing(tmp_path)) == [f"{NAME}.json", f"{NAME}.tflite"]


def test_manifest_is_readable_json(tmp_path):
    artifact.save(made(note="naïve"), tmp_path)
    text = (tmp_path / f"{NAME}.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert "naïve" in text
    assert json.loads(text)["name"] == NAME
