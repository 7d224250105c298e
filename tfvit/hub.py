"""The published ImageNet checkpoints, fetched through huggingface_hub and checked.

huggingface_hub brings the cache, locks, proxies, mirrors (HF_ENDPOINT), tokens, progress and offline mode (HF_HUB_OFFLINE). This module
adds a limit on waiting for an answer, a check of the file's SHA-256, and one kind of error. `tfvit.repositories` says where a variant's
weights lie.

Why the wait is limited here: `hf_hub_download` of huggingface_hub 2.4, with nothing cached, was measured to give up

- after 25 s if the host is unknown or refuses, and after 398 s if it accepts and never answers,
- after 142 s if the hub answers and its Xet storage refuses, and not within 595 s if that storage never answers.

So the hub and the host of the file are each asked once, together within `timeout_s`. The file then comes over plain HTTP. There a download
that stops is resumed (within one call, in steps of 10 MiB), and given up after 67 s without a byte.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tfvit.errors import EnvironmentUnusableError, WeightsError, reading
from tfvit.hashing import file_sha256
from tfvit.repositories import license_of, repository_of

Answer = TypeVar("Answer")

FILE_NAME = "model.safetensors"
TIMEOUT_S = 10.0
# Where the hub was silent once, the next file waits only a moment for it
_SHORT_TIMEOUT_S = 1.0

SCHEME = "hf://"
# Of a checkpoint of anyone's: its configuration, what may lie beside it, and its weights, the first that is there
CONFIGURATION = "config.json"
BESIDE = ("preprocessor_config.json", "image_converter.json", "task.weights.h5")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json", "model.weights.h5")
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class FetchedCheckpoint:
    """A checkpoint file in the local cache.

    Attributes:
        path: the file in huggingface_hub's cache, to be read and not to be changed or moved.
        sha256: hash of the file's bytes, computed now.
        repository: for example "timm/swin_tiny_patch4_window7_224.ms_in1k".
        revision: the repository's commit.
        license: of the weights; None for a repository of anyone's.
        size_bytes: of the file.
        verified: whether the hash was compared with the one that the hub announced. False only if none was announced: by some mirrors,
            and without network on a file system without links (the cache keeps the hash in the name that the link points to).
        from_cache: whether nothing was downloaded.
    """

    path: Path
    sha256: str
    repository: str
    revision: str
    license: str | None
    size_bytes: int
    verified: bool
    from_cache: bool

    @property
    def origin(self) -> str:
        """Repository and commit in one string."""
        return f"{self.repository}@{self.revision}"


class LocalCheckpoint(NamedTuple):
    """A checkpoint that a user named, on this machine.

    Attributes:
        path: of a folder or file.
        name: what it is called.
        origin: repository and commit, of one from the hub.
    """

    path: Path
    name: str
    origin: str | None


class _Announced(NamedTuple):
    """What the hub says about the file."""

    revision: str
    etag: str
    size_bytes: int | None


def fetch_checkpoint(variant_id: str, weights: str = "imagenet", timeout_s: float = TIMEOUT_S) -> FetchedCheckpoint:
    """The published checkpoint of a variant, in its newest revision, downloaded if the cache lacks it.

    If the hub does not answer, the cached revision is used.

    Args:
        variant_id: an id of `tfvit.variants.VARIANTS`.
        weights: "imagenet" (1000 classes) or "imagenet21k" (21841 classes, windowed version 1 only).
        timeout_s: seconds to wait for the hub's answer, name resolution and redirects included. A download that has begun may take longer.

    Raises:
        UsageError: there is no such variant.
        EnvironmentUnusableError: huggingface_hub is not installed.
        WeightsError: there is no usable file; `repository` names where it should be. `kind` is "offline" (HF_HUB_OFFLINE is set and nothing
            is cached), "unreachable" (no answer from a hub, and nothing is cached), "not_found" (no such repository or file, or HF_ENDPOINT
            is no address), "gated" (an account or token is needed), "corrupt" (other bytes than announced; removed from the cache), "disk"
            (no space, no permission) or "incomplete" (the download stopped).
    """
    repository = repository_of(variant_id, weights)
    return _fetched(_import_huggingface_hub(repository), repository, FILE_NAME, timeout_s)


def fetch_folder(repository: str, timeout_s: float = TIMEOUT_S) -> FetchedCheckpoint:
    """A repository's checkpoint: its configuration, its weights and what is done to an image, as a folder in the cache.

    Args:
        repository: "OWNER/NAME".
        timeout_s: as for `fetch_checkpoint`, for each file.

    Returns:
        The weights file (the index of shards) with `path.parent` the folder.

    Raises:
        EnvironmentUnusableError, WeightsError: as for `fetch_checkpoint`.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise _error(repository, "not_found", "hf://OWNER/NAME", repository, "check the spelling")
    hub = _import_huggingface_hub(repository)
    configuration = _fetched(hub, repository, CONFIGURATION, timeout_s)
    # without an answer, what the cache lacks was not there when it was filled
    absent = ("not_found", "offline", "unreachable") if configuration.from_cache else ("not_found",)
    missing: WeightsError | None = None
    for name in (*BESIDE, *WEIGHTS):
        try:
            found = _fetched(hub, repository, name, timeout_s)
        except WeightsError as error:
            kind, missing = getattr(error, "kind", None), error
            if kind not in absent:
                raise
            timeout_s = min(timeout_s, _SHORT_TIMEOUT_S) if kind == "unreachable" else timeout_s
            continue
        if name in BESIDE:
            continue
        for shard in _shards(found.path) if name.endswith(".json") else ():
            _fetched(hub, repository, shard, timeout_s)
        if found.path.parent != configuration.path.parent:
            received = "a commit while they were fetched"
            raise _error(repository, "incomplete", "configuration and weights of one commit", received, "try again")
        return found
    if missing is not None and getattr(missing, "kind", None) != "not_found":
        raise missing
    raise _error(repository, "not_found", f"one of {', '.join(WEIGHTS)}", "only a configuration", "check the repository's files")


def local_checkpoint(path: str | os.PathLike[str], timeout_s: float = TIMEOUT_S) -> LocalCheckpoint:
    """The checkpoint that a user names: a path as it is, "hf://OWNER/NAME" fetched."""
    text = os.fspath(path)
    if not text.startswith(SCHEME):
        return LocalCheckpoint(Path(text), Path(text).name, None)
    repository = text.removeprefix(SCHEME).strip("/")
    fetched = fetch_folder(repository, timeout_s)
    return LocalCheckpoint(fetched.path.parent, repository.rpartition("/")[2], f"{SCHEME}{fetched.origin}")


def _shards(index: Path) -> list[str]:
    """The files that an index of shards names."""
    with reading(index.name, "an index of shards", "weights file", kind=WeightsError, errors=(OSError, ValueError, AttributeError)):
        shards = sorted({str(shard) for shard in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
        if any(Path(shard).name != shard for shard in shards):
            raise ValueError("shards in other folders")
    return shards


def _fetched(hub: Any, repository: str, name: str, timeout_s: float) -> FetchedCheckpoint:
    """One file of a repository, in its newest revision."""
    try:
        announced = _within(timeout_s, lambda: _ask(hub, repository, name, timeout_s))
    except Exception as error:
        if (path := _cached(hub, repository, name, hub.constants.DEFAULT_REVISION)) is None:
            raise _unanswered(hub, repository, name, error) from error
        return _checked(hub, repository, path, _linked_name(path), from_cache=True)
    if (path := _cached(hub, repository, name, announced.revision)) is not None:
        return _checked(hub, repository, path, announced.etag, from_cache=True)
    try:
        _require_space(hub, repository, announced.size_bytes)
        with _plain_http(hub):
            path = Path(hub.hf_hub_download(repository, name, etag_timeout=timeout_s))
    except WeightsError:
        raise
    except Exception as error:
        raise _stopped(hub, repository, name, error) from error
    # a commit between the two questions: the file's own link then bears the hash that belongs to it
    etag = announced.etag if path.parent.name == announced.revision else _linked_name(path)
    return _checked(hub, repository, path, etag, from_cache=False)


def _import_huggingface_hub(repository: str) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.file_download  # reads the settings and takes the hub's address apart
        from huggingface_hub import constants
    except ImportError as error:
        raise EnvironmentUnusableError(
            "huggingface_hub is not installed",
            expected="the package that downloads published weights",
            received=f"{error}",
            action="pip install huggingface_hub, or pass the path of a checkpoint",
        ) from error
    except ValueError as error:
        raise _error(
            repository, "not_found", "settings HF_… that can be read", _said(error), "mend or unset HF_ENDPOINT or HF_…"
        ) from error
    if not constants.ENDPOINT.startswith(("http://", "https://")):
        expected, received = "a hub address beginning with http:// or https://", f"HF_ENDPOINT={constants.ENDPOINT}"
        raise _error(repository, "not_found", expected, received, "mend or unset HF_ENDPOINT")
    return huggingface_hub


def _within(timeout_s: float, ask: Callable[[], Answer]) -> Answer:
    """Calls `ask` in a thread for at most `timeout_s` seconds, then raises `TimeoutError` and leaves the thread to itself.

    Timeouts of sockets limit each wait and not the sum of them, and do not limit name resolution.
    """
    outcome: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((True, ask()))
        except Exception as error:
            outcome.put((False, error))

    threading.Thread(target=run, daemon=True, name="tfvit.hub").start()
    try:
        answered, result = outcome.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError(f"no answer within {timeout_s:g} s") from None
    if not answered:
        raise result
    return result


def _ask(hub: Any, repository: str, name: str, timeout_s: float) -> _Announced:
    """The file's commit, hash and size. For a file that is not cached, one byte is read from where the hub stores it, as a test."""
    if hub.constants.is_offline_mode():
        raise hub.errors.OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    url = hub.hf_hub_url(repository, name)
    metadata = hub.get_hf_file_metadata(url, timeout=timeout_s)
    if metadata.commit_hash is None or metadata.etag is None:
        raise hub.errors.FileMetadataError("the answer names no commit and no hash: it is not from a hub (a login page or proxy?)")
    if _cached(hub, repository, name, metadata.commit_hash) is None:
        headers = {**hub.utils.build_hf_headers(), "Range": "bytes=0-0"}
        with hub.get_session().stream("GET", url, headers=headers, timeout=timeout_s) as response:
            hub.utils.hf_raise_for_status(response)
            next(response.iter_raw(), b"")
    return _Announced(metadata.commit_hash, metadata.etag, metadata.size)


def _cached(hub: Any, repository: str, name: str, revision: str) -> Path | None:
    """The cached file of a commit or branch, without network: the cache remembers which commit a branch was at."""
    try:
        path = hub.try_to_load_from_cache(repository, name, revision=revision)
    except OSError as error:
        raise _unreadable_cache(hub, repository, error) from error
    return Path(path) if isinstance(path, str) else None


def _linked_name(path: Path) -> str | None:
    """The hash of a cached file, from the name of the blob that it links to (which may itself link to a shared store)."""
    return Path(os.readlink(path)).name if path.is_symlink() else None


def _require_space(hub: Any, repository: str, size_bytes: int | None) -> None:
    folder = Path(hub.constants.HF_HUB_CACHE)
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free_bytes = shutil.disk_usage(existing).free
    if size_bytes is not None and free_bytes < size_bytes:
        received = f"{free_bytes / 1e6:.0f} MB free in {folder}"
        raise _error(repository, "disk", f"{size_bytes / 1e6:.0f} MB of disk space", received, "make room, or set HF_HOME to another disk")


_PLAIN_HTTP = threading.Lock()


@contextlib.contextmanager
def _plain_http(hub: Any) -> Iterator[None]:
    """Downloads over HTTP inside the `with`: a caller cannot limit the waiting of Xet transfers."""
    with _PLAIN_HTTP:
        disabled, hub.constants.HF_HUB_DISABLE_XET = hub.constants.HF_HUB_DISABLE_XET, True
        try:
            yield
        finally:
            hub.constants.HF_HUB_DISABLE_XET = disabled


def _checked(hub: Any, repository: str, path: Path, announced: str | None, *, from_cache: bool) -> FetchedCheckpoint:
    """The checkpoint, with its bytes checked against the announced hash."""
    try:
        sha256, size_bytes = file_sha256(path), path.stat().st_size
    except OSError as error:
        raise _unreadable_cache(hub, repository, error) from error
    # small files are announced by another hash, git's
    verified = announced is not None and _SHA256.fullmatch(announced) is not None
    if verified and sha256 != announced:
        _remove(hub, path)
        received = f"SHA-256 {sha256} ({size_bytes} bytes{', cached' if from_cache else ''}); the file was removed"
        raise _error(repository, "corrupt", f"SHA-256 {announced}", received, "try again; if it stays, check HF_ENDPOINT and proxies")
    return FetchedCheckpoint(path, sha256, repository, path.parent.name, license_of(repository), size_bytes, verified, from_cache)


def _unreadable_cache(hub: Any, repository: str, error: OSError) -> WeightsError:
    received = f"{_said(error)} ({hub.constants.HF_HUB_CACHE})"
    return _error(repository, "disk", "a cache that can be read and written", received, "mend its permissions, make room, or set HF_HOME")


def _remove(hub: Any, path: Path) -> None:
    """Removes a cached file and everything it links to inside the cache."""
    cache = Path(os.path.realpath(hub.constants.HF_HUB_CACHE))
    links = [path]
    while links[-1].is_symlink():
        links.append(links[-1].parent / os.readlink(links[-1]))
    for link in links:
        if Path(os.path.realpath(link.parent)).is_relative_to(cache):
            link.unlink(missing_ok=True)


def _unanswered(hub: Any, repository: str, name: str, error: Exception) -> WeightsError:
    """The error for a question that got no usable answer."""
    errors, status = hub.errors, getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        action = "unset HF_HUB_OFFLINE once, or pass the path of a checkpoint"
        return _error(repository, "offline", "the file in the cache, or network", "HF_HUB_OFFLINE is set and nothing is cached", action)
    # a gated repository is a kind of one not found
    if isinstance(error, errors.GatedRepoError | errors.DisabledRepoError) or (status == 403):
        action = "log in with hf auth login or set HF_TOKEN; an invalid token is refused too: unset it"
        return _error(repository, "gated", "a repository open to everyone", _said(error), action)
    if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError | errors.EntryNotFoundError) or status == 404:
        action = "check HF_ENDPOINT, or pass the path of a checkpoint"
        return _error(repository, "not_found", f"{name} in this repository", _said(error), action)
    if status == 401:
        return _error(repository, "gated", "a valid token or none", _said(error), "log in again with hf auth login, or unset HF_TOKEN")
    # other errors do not come from the network (an address that cannot be parsed, an old huggingface_hub): no reason to fall back
    kind = "unreachable" if isinstance(error, OSError | _http_error(hub)) else "not_found"
    action = "check the connection, HTTPS_PROXY and HF_ENDPOINT, or pass the path of a checkpoint"
    return _error(repository, kind, "an answer from the hub, or the file in the cache", _said(error), action)


def _stopped(hub: Any, repository: str, name: str, error: Exception) -> WeightsError:
    """The error for a download that began and failed."""
    if isinstance(error, hub.errors.HfHubHTTPError):
        return _unanswered(hub, repository, name, error)
    if isinstance(error, hub.errors.LocalEntryNotFoundError):  # the hub, asked a second time, no longer answers
        cause = error.__cause__
        return _unanswered(hub, repository, name, cause if isinstance(cause, Exception) else ConnectionError(str(error)))
    # an OSError without a number is huggingface_hub's count of bytes
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
        return _unreadable_cache(hub, repository, error)
    return _error(repository, "incomplete", "the whole file", _said(error), "try again; whole files in the cache are kept")


def _http_error(hub: Any) -> type[Exception]:
    """The base class of the errors of huggingface_hub's HTTP library, which are no `OSError`."""
    return getattr(hub.errors, "HTTPError", OSError)


def _said(error: BaseException) -> str:
    """An error in one line: its type, and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


def _error(repository: str, kind: str, expected: str, received: str, action: str) -> WeightsError:
    return WeightsError(
        f"{_SUMMARIES[kind]}: {repository}", expected=expected, received=received, action=action, kind=kind, repository=repository
    )


_SUMMARIES = {
    "offline": "published weights are not cached and network use is switched off",
    "unreachable": "published weights cannot be reached",
    "not_found": "published weights not found",
    "gated": "published weights are not open to this account",
    "corrupt": "the checkpoint has other bytes than announced",
    "disk": "the checkpoint cannot be stored",
    "incomplete": "the download stopped before the end",
}
