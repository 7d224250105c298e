"""edge.publish: the card says what the manifests say, and a hub on loopback gets the files."""

import base64
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from edge import publish
from edge.artifacts import artifact
from edge.publishing.card import card
from tests.edge import report_documents as made
from tests.edge.small_models import run_command
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]


class _Hub(http.server.BaseHTTPRequestHandler):
    """What huggingface_hub asks of a hub to make a repository and commit files: texts inside the commit, models as LFS objects."""

    def log_message(self, *_):
        pass

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _say(self, answer, status=200):
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        body, base = self._body(), f"http://127.0.0.1:{self.server.server_address[1]}"
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        if self.headers.get("Authorization") != "Bearer right":
            self._say({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/repos/create":
            self.server.repositories.append(json.loads(body))
            self._say({"url": f"{base}/me/model"})
        elif self.path == "/api/validate-yaml":
            self.server.cards.append(json.loads(body)["content"])
            self._say({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = [
                {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(".tflite") else "regular", "shouldIgnore": False}
                for one in files
            ]
            self._say({"files": modes})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            actions = [{**one, "actions": {"upload": {"href": f"{base}/upload/{one['oid']}"}}} for one in objects]
            self._say({"transfer": "basic", "objects": actions})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.decode().splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.server.files[value["path"]] = self.server.objects[value["oid"]]
            self._say({"commitUrl": f"{base}/me/model/commit/1", "commitOid": "1" * 40, "pullRequestUrl": None})
        else:
            self._say({"error": self.path}, 404)

    def do_PUT(self):
        data = self._body()
        self.server.objects[hashlib.sha256(data).hexdigest()] = data
        self._say({})

    def do_GET(self):
        self._say({"id": "me/model", "siblings": [], "sha": "0" * 40})


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.asked, server.repositories, server.cards, server.files, server.objects = [], [], [], {}, {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def folder(micro_files, tmp_path):
    """Artifacts with what belongs to them."""
    for path in micro_files["float32"].parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def published(folder, hub, *arguments, token="right"):
    """In a process of its own: huggingface_hub reads its settings once."""
    environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}", "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HOME": str(folder / ".hf"), "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-m", "edge.publish", str(folder), "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    print(done.stdout, done.stderr)
    return done


def test_a_hub_gets_the_files_and_the_card(folder, hub):
    done = published(folder, hub, "--to", "me/model", "--allow-random", "--private", "--json")
    assert done.returncode == EXIT_OK
    document = json.loads(done.stdout)
    assert document["url"].endswith("/me/model")
    (asked,) = hub.repositories
    assert (asked["name"], asked["organization"]) == ("model", "me")
    assert asked.get("private") is True or asked.get("visibility") == "private"  # as the client's release says it
    assert set(hub.files) == set(document["files"])
    assert hub.files == {name: (folder / name).read_bytes() for name in document["files"]}
    assert sum(name.endswith(".tflite") for name in hub.files) == 3
    assert hub.files["README.md"].startswith(b"---\n")
    assert [card.encode() for card in hub.cards] == [hub.files["README.md"]]


def test_a_hub_that_refuses_is_one_error(folder, hub):
    done = published(folder, hub, "--to", "me/model", "--allow-random", token="wrong")
    assert done.returncode == EXIT_UNUSABLE
    assert "the hub took nothing" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4
    assert hub.files == {}


def test_what_must_not_be_published(folder, capfd):
    found = run_command(publish.main, capfd, folder, "--quiet")
    assert found.code == EXIT_CHECK_FAILED
    assert found.out.count("random weights") == 3
    assert not (folder / "README.md").exists()
    path = next(folder.glob("*float32*.tflite"))
    path.write_bytes(path.read_bytes() + b"\0")
    found = run_command(publish.main, capfd, folder, "--quiet", "--allow-random")
    assert "its hash is not the one in its manifest" in found.out


def test_a_readme_of_others_is_left_alone(folder, capfd):
    (folder / "README.md").write_text("mine")
    found = run_command(publish.main, capfd, folder, "--quiet", "--allow-random")
    assert found.code == EXIT_UNUSABLE
    assert (folder / "README.md").read_text() == "mine"
    assert run_command(publish.main, capfd, folder, "--quiet", "--allow-random", "--force").code == EXIT_OK
    assert run_command(publish.main, capfd, folder, "--quiet", "--allow-random").code == EXIT_OK


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("no/such/folder",), EXIT_UNUSABLE, "no such folder"),
        ((".", "--to", "model"), EXIT_USAGE, "OWNER/NAME"),
        (("EMPTY",), EXIT_UNUSABLE, "no artifacts"),
    ],
)
def test_wrong_usage(tmp_path, capfd, arguments, code, words):
    found = run_command(publish.main, capfd, *(tmp_path if one == "EMPTY" else one for one in arguments), "--quiet")
    assert (found.code, words in found.err) == (code, True)


def test_the_card_says_what_the_manifests_say(folder):
    artifacts = [artifact.load(path) for path in sorted(folder.glob("*.tflite"))]
    text = card(artifacts, "micro|<b>", {})
    print(text)
    front = text.split("---")[1]
    fields = yaml.safe_load(front)
    assert (fields["library_name"], fields["pipeline_tag"]) == ("litert", "image-classification")
    assert {"tflite", "int8"} <= set(fields["tags"])
    assert "license: other" in front or "license: apache-2.0" in front
    assert "pipeline_tag: image-classification" in front
    assert "<b>" not in text
    for one in artifacts:
        assert f"{one.manifest['file']['size_bytes'] / 1e6:.2f}" in text
    assert "Accuracy was not measured." in text


def test_the_card_of_a_model_without_classes():
    document = made.manifest("float16", top1_agreement=None)
    text = card([artifact.Artifact(document["name"], b"", document)], "values", {})
    assert "| float16 |  | 74.2 | not measured |" in text
