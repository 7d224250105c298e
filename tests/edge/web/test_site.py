"""The folder of edge.bundle --web: what is in it, what it may load, and when it is not served."""

import base64
import hashlib
import json
import re
from importlib import resources
from pathlib import Path

import pytest

from edge import device
from edge.latency import protocol
from edge.web import litert_js, site
from tests.edge.web.conftest import MODEL, PACKAGE
from tfvit.errors import InputError

PAGE = {file.name: file.read_text(encoding="utf-8") for file in resources.files("edge.web").joinpath("site").iterdir()}


def test_the_files_and_their_list(store):
    files = site.files(PACKAGE, store)
    assert files == site.files(dict(reversed(PACKAGE.items())), store)
    listing = json.loads(files["edge_web.json"])
    assert listing["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name != "edge_web.json"}
    assert listing["litert_js"] == {"version": litert_js.VERSION, "packages": litert_js.INTEGRITY}
    assert json.loads(files["session.json"])["reports"] is False
    assert {*PAGE, *litert_js._FILES, *PACKAGE} < set(files)
    assert {Path(name).suffix for name in files} <= set(site.CONTENT_TYPES)
    assert litert_js.VERSION in files["litert-NOTICE.txt"].decode()


def test_int8_tensors_are_refused():
    model = {**MODEL, "input": {"dtype": "int8"}}
    (refusal,) = site.refusals({"models": [model, {**MODEL, "name": "other"}]})
    assert refusal.startswith("small-int8: its input is int8, and LiteRT.js ")


def test_the_page_loads_nothing_from_elsewhere():
    """By its own policy, which the browser keeps, and by its words."""
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', PAGE["index.html"])[1]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    assert rules["default-src"] == ["'none'"]
    assert {source for sources in rules.values() for source in sources if not source.startswith("'")} == {"blob:", "data:"}
    import_map = re.search(r'<script type="importmap">(.*?)</script>', PAGE["index.html"])[1]
    digest = base64.b64encode(hashlib.sha256(import_map.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in rules["script-src"]
    assert set(json.loads(import_map)["imports"].values()) == {"./litert-core.js", "./litert-wasm-utils.js"}
    assert [name for name, text in PAGE.items() if name != "litert-LICENSE.txt" and re.search(r"https?://", text)] == []


def test_the_page_measures_as_the_protocol_has_it():
    text = PAGE["latency.js"]
    constants = dict(re.findall(r"^  ([A-Z_]+): ([\d.]+),$", text, re.MULTILINE))
    assert {name: float(value) for name, value in constants.items()} == {name: getattr(protocol, name) for name in constants}
    assert len(constants) == 7
    presets = {
        name: (int(runs), float(seconds)) for name, runs, seconds in re.findall(r"(\w+): { minRuns: (\d+), minSeconds: (\d+) }", text)
    }
    assert presets == {name: (preset.min_runs, preset.min_seconds) for name, preset in protocol.PRESETS.items()}
    assert tuple(re.findall(r'<option value="(\w+)"', PAGE["index.html"])) == device.PRESETS


def test_a_folder_is_read(folder):
    files, package = site.read_folder(folder)
    assert set(files) == {path.name for path in folder.iterdir()}
    assert package["models"] == [MODEL]
    (folder / "of-others.txt").write_text("not listed")
    assert "of-others.txt" not in site.read_folder(folder)[0]


def _listed(folder, name):
    listing = json.loads((folder / "edge_web.json").read_text())
    listing["files"][name] = "0" * 64
    (folder / "edge_web.json").write_text(json.dumps(listing))


def _linked(folder):
    (folder / "golden.png").rename(folder.parent / "elsewhere.png")
    (folder / "golden.png").symlink_to(folder.parent / "elsewhere.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "page.js").write_text("changed"), "page.js was changed"),
        (lambda folder: (folder / "page.js").unlink(), "page.js is missing"),
        (_linked, "golden.png is missing, or no file of a bundle"),
        (lambda folder: _listed(folder, "../secret.txt"), "../secret.txt is missing, or no file"),
        (lambda folder: _listed(folder, "/etc/passwd"), "/etc/passwd is missing, or no file"),
        (lambda folder: (folder / "edge_web.json").write_text("{}"), "another edge_web.json"),
        (lambda folder: (folder / "edge_web.json").write_text("no JSON"), "edge_web.json: "),
        (lambda folder: (folder / "edge_web.json").unlink(), "No such file"),
        (
            lambda folder: (folder / "edge_web.json").write_text('{"kind": "edge_web", "schema_version": 1, "files": {}}'),
            "without the page or the bundle",
        ),
    ],
    ids=["changed", "missing", "link", "above", "absolute", "another", "no JSON", "none", "empty"],
)
def test_another_folder_is_not_served(folder, change, said):
    (folder.parent / "secret.txt").write_text("secret")
    change(folder)
    with pytest.raises(InputError) as caught:
        site.read_folder(folder)
    assert said in caught.value.received
    assert "edge.bundle" in caught.value.action
