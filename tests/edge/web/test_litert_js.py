"""LiteRT.js comes from the cache or from npm, in the pinned version, or not at all."""

import os
import stat

import pytest

from edge.artifacts.store import Store
from edge.web import litert_js
from tfvit.errors import EXIT_UNUSABLE, EnvironmentUnusableError


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Puts a program in npm's place, or nothing."""

    def put(script: str | None) -> None:
        programs = tmp_path / "programs"
        programs.mkdir()
        for tool in ("sh", "cp", "echo"):
            (programs / tool).symlink_to(next(path for path in (f"/bin/{tool}", f"/usr/bin/{tool}") if os.path.exists(path)))
        if script is not None:
            (programs / "npm").write_text(f"#!/bin/sh\n{script}\n")
            (programs / "npm").chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", str(programs))

    return put


def test_what_is_kept_needs_no_npm(store, npm):
    npm(None)
    files = litert_js.files(store)
    assert set(files) == set(litert_js._FILES)
    assert files["litert-core.js"] == b"// dist/index.js"
    assert files["litert_wasm_threaded_internal.wasm"] == b"// wasm/litert_wasm_threaded_internal.wasm"


def test_what_npm_packs_is_kept(small_packages, npm, tmp_path):
    for package, data in small_packages.items():
        (tmp_path / f"{package.rpartition('/')[2]}-{litert_js.VERSION}").write_bytes(data)
    # npm pack NAME@VERSION --silent --ignore-scripts --pack-destination FOLDER
    npm(f'case "$2" in @litertjs/core@*) from=core;; *) from=wasm-utils;; esac; cp "{tmp_path}/$from-{litert_js.VERSION}" "$6/$from.tgz"')
    kept = Store(tmp_path / "new")
    files = litert_js.files(kept)
    (tmp_path / "programs" / "npm").unlink()
    assert litert_js.files(kept) == files


@pytest.mark.parametrize(
    ("script", "received"),
    [
        (None, "No such file"),
        ("echo 'ENOTFOUND registry' >&2; exit 1", "npm ended with 1: ENOTFOUND registry"),
        ("exit 0", "npm ended with 0: it printed nothing"),
    ],
    ids=["no npm", "no network", "no file"],
)
def test_where_it_cannot_be_had(small_packages, npm, tmp_path, script, received):
    npm(script)
    with pytest.raises(EnvironmentUnusableError) as caught:
        litert_js.files(Store(tmp_path / "empty"))
    assert caught.value.exit_code == EXIT_UNUSABLE
    assert caught.value.summary == "LiteRT.js cannot be had"
    assert received in caught.value.received
    assert not (tmp_path / "empty").exists() or not any(path.is_file() and path.stat().st_size for path in (tmp_path / "empty").rglob("*"))


def test_another_package_is_refused(small_packages, npm, tmp_path):
    (tmp_path / "other").write_bytes(b"something else")
    npm(f'cp "{tmp_path}/other" "$6/other.tgz"')
    kept = Store(tmp_path / "new")
    with pytest.raises(EnvironmentUnusableError, match=r"not LiteRT\.js as it was published"):
        litert_js.files(kept)
    assert litert_js.key_of(litert_js.CORE) not in kept


def test_a_cache_that_was_filled_with_something_else_is_refused(small_packages, tmp_path):
    kept = Store(tmp_path / "new")
    kept.write(litert_js.key_of(litert_js.CORE), b"something else", "LiteRT.js", "")
    with pytest.raises(EnvironmentUnusableError, match=r"not LiteRT\.js as it was published"):
        litert_js.files(kept)
