"""Fetching published checkpoints: a hub on loopback, and clients in processes of their own, as huggingface_hub reads its settings once."""

import contextlib
import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tfvit import hub
from tfvit.errors import EnvironmentUnusableError

REFERENCE = Path(__file__).parents[2].parent / "shared" / "data" / "reference" / "v1_window7_224.safetensors"
REPOSITORY = "timm/swin_tiny_patch4_window7_224.ms_in1k"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
# huggingface_hub keeps what it received in pieces of 10 MiB: a download must have reached more than one to be taken up again
BIG_BYTES = 24 << 20
# starting Python and huggingface_hub on a busy machine, on top of the time that is measured inside
PROCESS_S = 60
# an answer's limit, and what may come on top: two connections, a thread, a busy machine
SHORT_TIMEOUT_S, SLACK_S = 1.0, 2.0

CLIENT = """
import json, sys, time
from tfvit import hub
from tfvit.errors import WeightsError
import huggingface_hub
start = time.monotonic()
try:
    fetched = hub.fetch_checkpoint("tiny224", "imagenet", timeout_s=float(sys.argv[1]))
    said = {"path": str(fetched.path), **{k: getattr(fetched, k) for k in ("sha256", "repository", "revision", "license", "origin")}}
    said |= {k: getattr(fetched, k) for k in ("size_bytes", "verified", "from_cache")}
except WeightsError as error:
    said = {"kind": error.kind, "message": str(error), "cause": type(error.__cause__).__name__, "repository": error.repository}
print(json.dumps({**said, "seconds": time.monotonic() - start}))
"""


def _checkpoint(size_bytes):
    return save({"head.weight": np.random.default_rng(0).standard_normal(size_bytes // 4, dtype=np.float32)})


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        served = self.server.served
        if "/resolve/" not in self.path:  # huggingface_hub may ask for a list of tools that call it
            return self._say(404, {"Content-Length": "0"})
        served.requests.append((self.command, self.path, self.headers.get("Range")))
        if served.silent:
            served.closing.wait(PROCESS_S)
            return None
        if served.status != 200:
            return self._say(served.status, {"X-Error-Code": served.error_code, "Content-Length": "0"})
        if served.foreign:
            return self._say(200, {"Content-Length": "0"})
        if self.path in served.files:
            return self._file(served.files[self.path])
        if self.path != f"/{REPOSITORY}/resolve/main/model.safetensors":
            return self._say(404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
        linked = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{served.sha256}"', "X-Linked-Size": str(served.announced_bytes)}
        if served.xet:
            linked |= {"X-Xet-Hash": "c" * 64, "X-Xet-Refresh-Route": f"{served.endpoint}/token"}
        if served.storage:  # the body lies elsewhere, as it does for the real hub
            return self._say(302, {**linked, "Location": f"{served.storage}/blob", "Content-Length": "0"})
        body, status = served.body, 200
        headers = {**linked, "ETag": '"of-the-front"', "Accept-Ranges": "bytes"}
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            last = int(last) if last else len(body) - 1
            headers["Content-Range"], status = f"bytes {first}-{last}/{len(body)}", 206
            body = body[int(first) : last + 1]
        self._say(status, {**headers, "Content-Length": str(len(body))})
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):
                if served.cut_at and not asked:
                    self.wfile.write(body[: served.cut_at])
                    self.close_connection = True
                else:
                    self.wfile.write(body)
        return None

    def _file(self, body):
        """Of a folder. Small files are announced by git's hash, large ones by that of their content."""
        hashed = (hashlib.sha256 if len(body) > 10_000 else hashlib.sha1)(body).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{hashed}"', "X-Linked-Size": str(len(body)), "ETag": f'"{hashed}"'}
        status = 200
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            last = int(last) if last else len(body) - 1
            headers["Content-Range"], status = f"bytes {first}-{last}/{len(body)}", 206
            body = body[int(first) : last + 1]
        self._say(status, {**headers, "Content-Length": str(len(body))})
        if self.command == "GET":
            self.wfile.write(body)

    def _say(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class _Hub:
    """A hub with one file, and what is wrong with it."""

    def __init__(self, body):
        self.body, self.sha256, self.announced_bytes = body, hashlib.sha256(body).hexdigest(), len(body)
        self.status, self.error_code, self.foreign, self.silent, self.cut_at, self.storage = 200, "", False, False, None, None
        self.xet, self.requests, self.closing = False, [], threading.Event()
        self.files = {}  # path -> content, of the folders of anyone
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads, self.server.served = True, self
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def bodies(self):
        """The ranges of the requests for the file's content; the question for one byte is not one."""
        return [asked for command, _, asked in self.requests if command == "GET" and asked != "bytes=0-0"]


@pytest.fixture
def served():
    server = _Hub(_checkpoint(100_000))
    yield server
    with contextlib.suppress(OSError):
        server.close()


@pytest.fixture
def fetch(served, tmp_path):
    def run(timeout_s=10.0, **settings):
        environment = {k: v for k, v in os.environ.items() if not (k.lower().endswith("_proxy") or k.startswith("HF_"))}
        environment |= {"HF_ENDPOINT": served.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", **settings}
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, str(timeout_s)], env=environment, capture_output=True, text=True, timeout=PROCESS_S
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout.splitlines()[-1])
        if "kind" in said:
            assert [line.split(":")[0].strip() for line in said["message"].splitlines()[1:]] == ["expected", "received", "do"]
            assert said["repository"] == REPOSITORY
        return said

    return run


def _kept(tmp_path):
    """Checkpoint bytes in the cache: blobs, snapshots, half downloads."""
    return [path for path in (tmp_path / "hf" / "hub").glob("models--*/**/*") if not path.is_dir() and path.name != "main"]


@pytest.mark.parametrize("content", ["small", "reference"])
def test_download_and_second_load_from_the_cache(content, served, fetch, tmp_path):
    if content == "reference":
        if not REFERENCE.is_file():
            pytest.skip(f"{REFERENCE.name} is not on this machine")
        served.body = REFERENCE.read_bytes()
        served.sha256, served.announced_bytes = hashlib.sha256(served.body).hexdigest(), len(served.body)
    first = fetch()
    assert Path(first["path"]).read_bytes() == served.body
    assert (tmp_path / "hf").resolve() in Path(first["path"]).resolve().parents
    assert first["sha256"] == served.sha256
    assert (first["repository"], first["revision"], first["license"]) == (REPOSITORY, COMMIT, "MIT")
    assert first["origin"] == f"{REPOSITORY}@{COMMIT}"
    assert (first["size_bytes"], first["verified"], first["from_cache"]) == (len(served.body), True, False)
    assert served.bodies() == [None]
    served.requests.clear()
    second = fetch()
    assert [command for command, _, _ in served.requests] == ["HEAD"]
    assert second == {**first, "from_cache": True, "seconds": second["seconds"]}


def test_an_interrupted_download_goes_on_where_it_stopped(served, fetch):
    served.body = _checkpoint(BIG_BYTES)
    served.sha256, served.announced_bytes = hashlib.sha256(served.body).hexdigest(), len(served.body)
    served.cut_at = len(served.body) // 2
    said = fetch()
    assert served.bodies() == [None, f"bytes={10 << 20}-"]
    assert (said["sha256"], said["verified"]) == (served.sha256, True)
    assert Path(said["path"]).read_bytes() == served.body


def test_a_file_in_xet_storage_comes_over_plain_http(served, fetch):
    served.xet = True
    assert fetch()["sha256"] == served.sha256
    assert served.bodies() == [None]


def test_a_download_that_ends_early_is_incomplete_and_leaves_nothing(served, fetch, tmp_path):
    served.announced_bytes += 1
    said = fetch()
    assert (said["kind"], said["cause"]) == ("incomplete", "OSError")
    assert _kept(tmp_path) == []


def test_other_bytes_than_announced_are_refused_and_removed(served, fetch, tmp_path):
    good = served.body
    served.body = bytes(len(good))
    said = fetch()
    assert said["kind"] == "corrupt"
    assert served.sha256 in said["message"]
    assert hashlib.sha256(served.body).hexdigest() in said["message"]
    assert _kept(tmp_path) == []
    served.body = good
    assert fetch()["sha256"] == served.sha256


@pytest.mark.parametrize("online", [True, False])
def test_a_cached_file_that_changed_is_refused_and_removed(online, served, fetch, tmp_path):
    blob = Path(fetch()["path"]).resolve()
    blob.write_bytes(bytes(len(served.body)))
    said = fetch() if online else fetch(HF_HUB_OFFLINE="1")
    assert said["kind"] == "corrupt"
    assert "cached" in said["message"]
    assert _kept(tmp_path) == []
    assert fetch()["from_cache"] is False


@pytest.mark.parametrize(
    ("status", "error_code", "kind", "cause"),
    [
        (404, "RepoNotFound", "not_found", "RepositoryNotFoundError"),
        (401, "RepoNotFound", "not_found", "RepositoryNotFoundError"),
        (404, "EntryNotFound", "not_found", "RemoteEntryNotFoundError"),
        (404, "", "not_found", "HfHubHTTPError"),
        (403, "GatedRepo", "gated", "GatedRepoError"),
        (401, "", "gated", "HfHubHTTPError"),
        (403, "", "gated", "HfHubHTTPError"),
        (503, "", "unreachable", "HfHubHTTPError"),
    ],
)
def test_refusals(status, error_code, kind, cause, served, fetch):
    served.status, served.error_code = status, error_code
    said = fetch()
    assert (said["kind"], said["cause"]) == (kind, cause)


def test_a_login_page_is_no_hub(served, fetch):
    served.foreign = True
    said = fetch()
    assert (said["kind"], said["cause"]) == ("unreachable", "FileMetadataError")


def test_a_server_that_is_down_with_and_without_the_file_in_the_cache(served, fetch):
    kept = fetch()
    served.close()
    again = fetch()
    assert again == {**kept, "from_cache": True, "seconds": again["seconds"]}
    without = fetch(HF_HUB_CACHE=str(Path(kept["path"]).parents[5] / "empty"))
    assert (without["kind"], without["cause"]) == ("unreachable", "ConnectError")
    assert without["seconds"] < SLACK_S


def test_offline_with_and_without_the_file_in_the_cache(served, fetch):
    without = fetch(HF_HUB_OFFLINE="1")
    assert (without["kind"], without["cause"]) == ("offline", "OfflineModeIsEnabled")
    assert served.requests == []
    kept = fetch()
    served.requests.clear()
    again = fetch(HF_HUB_OFFLINE="1")
    assert again == {**kept, "from_cache": True, "seconds": again["seconds"]}
    assert served.requests == []


def test_an_unknown_host(fetch):
    said = fetch(HF_ENDPOINT="http://hub.invalid")
    assert (said["kind"], said["cause"]) == ("unreachable", "ConnectError")


@pytest.mark.parametrize("endpoint", ["hub.invalid", "http://[hub", "http://hub:port", "http://hub..invalid"])
def test_an_endpoint_that_is_no_address_is_no_lack_of_network(endpoint, fetch):
    assert fetch(HF_ENDPOINT=endpoint)["kind"] == "not_found"


def test_a_server_that_never_answers_is_given_up(served, fetch):
    served.silent = True
    said = fetch(SHORT_TIMEOUT_S)
    assert said["kind"] == "unreachable"
    assert SHORT_TIMEOUT_S / 2 < said["seconds"] < SHORT_TIMEOUT_S + SLACK_S


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up_after_the_default_limit(served, fetch):
    served.silent = True
    said = fetch(hub.TIMEOUT_S)
    assert said["kind"] == "unreachable"
    assert said["seconds"] < hub.TIMEOUT_S + SLACK_S


def test_a_storage_host_that_never_answers_is_given_up(served, fetch):
    with socket.create_server(("127.0.0.1", 0)) as storage:  # connections wait in its queue for ever
        served.storage = f"http://127.0.0.1:{storage.getsockname()[1]}"
        said = fetch(SHORT_TIMEOUT_S)
    assert said["kind"] == "unreachable"
    assert said["seconds"] < SHORT_TIMEOUT_S + SLACK_S
    assert len(served.bodies()) == 0


def test_a_cache_that_cannot_be_written(served, fetch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    said = fetch(HF_HUB_CACHE=str(tmp_path / "file" / "hub"))
    assert said["kind"] == "disk"
    assert "HF_HOME" in said["message"]


def test_a_disk_without_room_is_told_before_the_download(served, fetch, tmp_path):
    served.announced_bytes = 1 << 60
    said = fetch()
    assert said["kind"] == "disk"
    assert served.bodies() == []
    assert _kept(tmp_path) == []


def test_waiting_ends_where_no_socket_would_end_it():
    release = threading.Event()
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.2 s"):
        hub._within(0.2, release.wait)  # as in a name resolution
    assert time.monotonic() - start < SLACK_S
    release.set()
    assert hub._within(SLACK_S, lambda: 3) == 3
    with pytest.raises(KeyError):
        hub._within(SLACK_S, lambda: {}[0])


def test_removing_a_cached_file_follows_its_links_and_stays_in_the_cache(tmp_path):
    cache, outside = tmp_path / "hub", tmp_path / "outside"
    for name in ("store", "blobs", "snapshots"):
        (cache / name).mkdir(parents=True)
    settings = types.SimpleNamespace(constants=types.SimpleNamespace(HF_HUB_CACHE=str(cache)))
    for shared in (cache / "store" / "x", outside):
        shared.write_text("bytes")
        (cache / "blobs" / "b").symlink_to(os.path.relpath(shared, cache / "blobs"))
        (cache / "snapshots" / "s").symlink_to("../blobs/b")
        assert hub._linked_name(cache / "snapshots" / "s") == "b"
        hub._remove(settings, cache / "snapshots" / "s")
        assert [path.name for path in cache.rglob("*") if not path.is_dir()] == []
    assert outside.read_text() == "bytes"


def test_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EnvironmentUnusableError, match="pip install huggingface_hub"):
        hub.fetch_checkpoint("tiny224")


def test_importing_the_module_does_not_import_huggingface_hub():
    program = "import sys, tfvit.hub; sys.exit('huggingface_hub' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=PROCESS_S).returncode == 0


END_TO_END = """
import json, sys
import numpy as np
import keras
from tfvit.model import ViTTransformer
from tfvit.variants import VARIANTS
from tfvit.weights import load_weights

recorded = np.load(sys.argv[1])
model = ViTTransformer(
    embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=7, classes=10, input_shape=(224, 224, 3),
    classifier_activation=None,
)
origin = load_weights(model, "imagenet", VARIANTS["tiny224"])
logits = keras.ops.convert_to_numpy(model(recorded["input"]))
difference = float(np.abs(logits - recorded["logits"]).max() / np.abs(recorded["logits"]).max())
print(json.dumps({"source": origin.source, "license": origin.license, "origin": origin.origin, "difference": difference}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.is_file(), reason="reference tensors of the original model are not on this machine")
def test_a_model_gets_its_weights_from_the_hub(tmp_path):
    served = _Hub(REFERENCE.read_bytes())
    environment = {name: value for name, value in os.environ.items() if not (name.lower().endswith("_proxy") or name.startswith("HF_"))}
    environment |= {"HF_ENDPOINT": served.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", END_TO_END, str(REFERENCE.with_suffix(".npz"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PROCESS_S, check=False)
    served.close()
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    print(said)
    assert (said["source"], said["license"]) == ("imagenet", "MIT")
    assert said["origin"].startswith("timm/swin_tiny_patch4_window7_224.ms_in1k@")
    assert said["difference"] <= 1e-4


# Folders of anyone: hf://OWNER/NAME


FOLDER_CLIENT = """
import json, sys
from tfvit import hub
from tfvit.checkpoints import read_checkpoint
from tfvit.errors import WeightsError
try:
    local = hub.local_checkpoint(sys.argv[1])
    found = read_checkpoint(local.path)
    files = sorted(path.name for path in local.path.iterdir())
    said = {"name": local.name, "origin": local.origin, "files": files, "classes": found.classes, "labels": found.labels}
except WeightsError as error:
    said = {"kind": error.kind, "message": str(error)}
print(json.dumps(said))
"""


@pytest.fixture
def folder(served, tmp_path):
    """A folder as transformers saves it, behind hf://someone/my-swin."""
    from tests.tfvit.checkpoints import small_checkpoints as make
    from tfvit.checkpoints.official import official_tensors

    named = make.huggingface_names(official_tensors(make.build()))
    local = make.folder(tmp_path / "saved", make.huggingface_config(), named, make.PROCESSOR)

    def publish(*names):
        served.files = {f"/someone/my-swin/resolve/main/{name}": (local / name).read_bytes() for name in names}

    publish("config.json", "model.safetensors", "preprocessor_config.json")
    return types.SimpleNamespace(path=local, publish=publish)


@pytest.fixture
def fetch_folder(served, tmp_path):
    def run(address="hf://someone/my-swin", **settings):
        environment = {k: v for k, v in os.environ.items() if not (k.lower().endswith("_proxy") or k.startswith("HF_"))}
        environment |= {"HF_ENDPOINT": served.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", **settings}
        done = subprocess.run(
            [sys.executable, "-c", FOLDER_CLIENT, address], env=environment, capture_output=True, text=True, timeout=PROCESS_S
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_a_folder_is_fetched_and_read_and_found_again_offline(folder, fetch_folder, served):
    first = fetch_folder()
    assert first == {
        "name": "my-swin", "origin": f"hf://someone/my-swin@{COMMIT}", "classes": 5, "labels": [f"thing {n}" for n in range(5)],
        "files": ["config.json", "model.safetensors", "preprocessor_config.json"],
    }  # fmt: skip
    served.close()
    assert fetch_folder(HF_HUB_OFFLINE="1") == first


def test_shards_are_fetched_too(folder, fetch_folder):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder.path / "model.safetensors")
    shards = {f"model-0000{index}-of-00002.safetensors": sorted(tensors)[index - 1 :: 2] for index in (1, 2)}
    for shard, names in shards.items():
        save_file({name: tensors[name] for name in names}, folder.path / shard)
    index = {"weight_map": {name: shard for shard, names in shards.items() for name in names}}
    (folder.path / "model.safetensors.index.json").write_text(json.dumps(index))
    folder.publish("config.json", "model.safetensors.index.json", *shards)
    said = fetch_folder()
    assert said["files"] == ["config.json", *shards, "model.safetensors.index.json"]
    assert said["classes"] == 5


@pytest.mark.parametrize(
    ("address", "names", "words"),
    [
        ("hf://someone/none", ("config.json",), "config.json in this repository"),
        ("hf://someone/my-swin", ("config.json",), "one of model.safetensors"),
        ("hf://someone", ("config.json",), "hf://OWNER/NAME"),
        ("hf://../../etc/passwd", ("config.json",), "hf://OWNER/NAME"),
    ],
)
def test_folders_that_are_not_there(address, names, words, folder, fetch_folder):
    folder.publish(*names)
    said = fetch_folder(address)
    assert said["kind"] == "not_found"
    assert words in said["message"]
    assert len(said["message"].splitlines()) == 4
