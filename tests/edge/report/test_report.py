"""edge.report as a command: what the page and report.json say, and which files it writes.

Covers __main__.py, page.py (with test_page.py in a browser), plots.py, sections.py, summary.py and validation_section.py.
"""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edge.quantization.recipes import RECIPES
from edge.report import __main__ as command
from edge.report import summary
from tests.edge import report_documents as made
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A folder with everything, its page and its report.json."""
    folder = tmp_path_factory.mktemp("full") / "artifacts"
    manifests = made.full_folder(folder)
    assert command.main([str(folder), "--quiet"]) == EXIT_OK
    return folder, manifests, (folder / "report.html").read_text(encoding="utf-8"), json.loads((folder / "report.json").read_text())


class Tags(HTMLParser):
    """Tags and attributes of a page, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_everything_at_once(full):
    _, manifests, text, document = full
    assert document["kind"] == "report"
    assert document["schema_version"] == 1
    assert document["passed"] is True
    assert {one["target"]: one["file"] for one in document["recommendations"]} == {
        "CPU": "nano32-int8",
        "GPU": "nano32-float16",
        "NPU": "nano32-int8_full",
    }
    assert {one["path"]: one["kind"] for one in document["inputs"]}["phone.json"] == "device_report"
    assert all(re.fullmatch("[0-9a-f]{64}", one["sha256"]) for one in document["inputs"])
    assert {file["file"] for file in document["files"]} == {f"{manifest['name']}.tflite" for manifest in manifests.values()}
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings == [
        "All checks passed", "What to ship", "Files", "Size, latency, accuracy", "Latency (edge.benchmark)", "Drift",
        "Validation on images", "Delegate coverage",
        "Phones and other devices", "Calibration", "Environment and versions", "What this was made from",
    ]  # fmt: skip


def test_a_folder_of_real_artifacts(tiny, reported, tmp_path):
    code, out, _ = reported(tiny.folder, "-o", tmp_path / "tiny.html", "--json")
    document = json.loads(out)
    missed = sorted(path.stem for path in tiny.folder.glob("*.json") if not json.loads(path.read_text())["drift"]["passed"])
    print(f"too small for its gate: {missed}")
    assert code == (EXIT_CHECK_FAILED if missed else EXIT_OK)
    assert [(problem["file"], problem["name"]) for problem in document["problems"]] == [(name, "drift gate") for name in missed]
    assert len(document["files"]) == len(RECIPES)
    assert all(file["random_weights"] and file["state"] == "intact" for file in document["files"])
    assert not any(one["ships"] for one in document["recommendations"])
    assert document == json.loads((tmp_path / "tiny.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_equal_inputs_give_equal_bytes(full, reported, tmp_path):
    folder, _, text, _ = full
    assert reported(folder, "-o", tmp_path / "report.html")[0] == EXIT_OK
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text
    assert (tmp_path / "report.json").read_bytes() == (folder / "report.json").read_bytes()


def test_nothing_is_fetched(full):
    _, _, text, _ = full
    tags = Tags(text).found
    for tag, attributes in tags:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "xlink:href", "action", "poster", "data"):
            value = attributes.get(name)
            assert not value or value.startswith(("#", "data:")), (tag, name, value)
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "@import" not in text
    policy = next(attributes["content"] for _, attributes in tags if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_ids_are_unique_and_links_lead_somewhere(full):
    tags = Tags(full[2]).found
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"][1:] for _, attributes in tags if (attributes.get("href") or "").startswith("#")}
    assert links <= set(ids)
    assert len(links) > 15


def test_plots_say_what_they_show(full):
    plots = [attributes for tag, attributes in Tags(full[2]).found if tag == "svg"]
    assert len(plots) > 10
    for attributes in plots:
        assert attributes["role"] == "img"
        assert ": " in attributes["aria-label"]
    assert not re.search(r"#0[1-5]0[1-5]0[1-5]", full[2])  # no place-holder colour is left


def test_names_are_text(tmp_path, reported):
    """In labels, paths, file names, reasons and devices: nothing becomes markup, in the page or in a plot."""
    attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>$\\frac{"
    document = made.manifest("int8", "nano32-<b>int8")
    document["delegates"]["gpu"] |= {"verdict": "refused", "refused": [{"op": attack, "layer": attack, "reason": attack, "tensor": attack}]}
    document["calibration"]["source"] = attack
    document["tools"][attack] = attack
    made.save_artifact(tmp_path, document)
    found = made.validation(document, layers=True)
    found["images"] |= {"source": attack, "skipped": [{"path": attack, "reason": attack}]}
    found["accuracy"]["per_class"][0]["label"] = attack
    found["layers"]["rows"][0]["layer"] = attack
    found["gate"] |= {"passed": False, "failures": [attack]}
    found["flipped"]["shown"] = [
        {
            "path": attack,
            "label": attack,
            "reference": {"answer": attack, "probability": 0.5},
            "target": {"answer": attack, "probability": 0.5},
            "thumbnail": thumbnail,
        }
        for thumbnail in (
            "javascript:alert(3)",
            "data:text/html,<script>",
            'data:image/png;base64,AA"onload="x',
            "http://example.org/x.png",
        )
    ]
    made.save(tmp_path / "validation.json", found)
    made.save(tmp_path / "benchmark.json", made.benchmark([made.row(document, valid=False, invalid_reasons=[attack])], cpu=attack))
    made.save(tmp_path / "phone.json", made.device_report([made.device_row(document)], model=attack))
    assert reported(tmp_path)[0] == EXIT_CHECK_FAILED
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    tags = Tags(text).found
    assert sum(tag == "script" for tag, _ in tags) == 1
    assert not [tag for tag, attributes in tags if tag == "img" or any(name.startswith("on") for name in attributes)]
    assert "<b>int8" not in text
    assert text.count("no picture") == 4
    json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))


def test_software_gpus_random_weights_and_other_devices_are_labelled(full, one, reported):
    text = full[2]
    assert "gpu (software GPU)" in text
    assert "desktop (this is a computer&#39;s JVM, not a phone)" in text
    drawn = " ".join(attributes["aria-label"] for tag, attributes in Tags(text).found if tag == "svg")
    assert "3000" not in drawn
    folder, _ = one
    made.save_artifact(folder, made.manifest("float32", random=True))
    assert reported(folder)[0] == EXIT_OK
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "RANDOM weights: not to ship" in text
    assert text.count("RANDOM") >= 6


def test_phone_rows_stand_apart(full):
    _, _, text, document = full
    host, phones = (re.search(rf'<section id="{name}">(.*?)</section>', text, re.DOTALL)[1] for name in ("latency", "devices"))
    assert "Example Nine" in phones
    assert "Example Nine" not in host
    assert "asked for gpu: Failed to compile model" in phones
    int8 = next(file for file in document["files"] if file["file"] == "nano32-int8.tflite")
    assert [row["run"] for row in int8["host"]] == ["benchmark.json", "benchmark.json"]
    assert {row["is_phone"] for row in int8["devices"]} == {True, False}


def test_a_board_stands_apart_from_this_machine(tmp_path):
    """edge.benchmark's JSON from an ARM board, put into the folder: sections of their own, and no ratio between the two machines."""
    manifests = [made.manifest(recipe) for recipe in ("float32", "int8")]
    for document in manifests:
        made.save_artifact(tmp_path, document)
    made.save(tmp_path / "desk.benchmark.json", made.benchmark([made.row(document) for document in manifests]))
    slow = [made.row(document, median_ms=median) for document, median in zip(manifests, (61.0, 23.0), strict=True)]
    made.save(tmp_path / "board.benchmark.json", made.benchmark(slow, cpu="Cortex-A76", machine="aarch64", system="Linux 6.6"))
    assert command.main([str(tmp_path), "--quiet"]) == EXIT_OK
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    latency, environment = (re.search(rf'<section id="{name}">(.*?)</section>', text, re.DOTALL)[1] for name in ("latency", "environment"))
    board, desk = re.search(r"board\.benchmark\.json: cpu(.*?)(desk\.benchmark\.json: cpu.*)", latency, re.DOTALL).groups()
    assert ("Cortex-A76" in board, "61.00" in board, "23.00" in board) == (True,) * 3
    assert ("Example 9" in desk, "61.00" in desk, "23.00" in desk) == (True, False, False)
    assert "Machine of board.benchmark.json" in environment
    assert "Machine of desk.benchmark.json" in environment
    for file in json.loads((tmp_path / "report.json").read_text())["files"]:
        assert sorted(row["run"] for row in file["host"]) == ["board.benchmark.json", "desk.benchmark.json"]


def test_files_of_others_are_not_overwritten(one, reported):
    folder, _ = one
    foreign = folder / "report.html"
    foreign.write_text("<html>mine</html>", encoding="utf-8")
    code, _, err = reported(folder)
    assert code == EXIT_UNUSABLE
    assert "did not write" in err
    assert foreign.read_text(encoding="utf-8") == "<html>mine</html>"
    assert not (folder / "report.json").exists()
    assert reported(folder, "--force")[0] == EXIT_OK
    assert reported(folder)[0] == EXIT_OK  # now it is ours
    manifest = (folder / "nano32-int8.json").read_bytes()
    assert reported(folder, "-o", folder / "nano32-int8.html")[0] == EXIT_UNUSABLE  # its JSON would be the manifest's
    assert (folder / "nano32-int8.json").read_bytes() == manifest
    assert not (folder / "nano32-int8.html").exists()
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]


def test_nothing_is_half_written(one, reported, monkeypatch):
    folder, _ = one
    (folder / "report.html").mkdir()
    code, _, err = reported(folder)
    assert code == EXIT_UNUSABLE
    assert "could not be written" in err
    (folder / "report.html").rmdir()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.artifacts.atomic_files.os.fsync", full_disk)
    before = sorted(path.name for path in folder.iterdir())
    code, _, err = reported(folder)
    assert code == EXIT_UNUSABLE
    assert "No space left" in err
    assert sorted(path.name for path in folder.iterdir()) == before


def test_wrong_usage(one, reported, tmp_path):
    folder = one[0]
    assert reported()[0] == EXIT_USAGE
    assert reported(folder, "--compare", folder, folder)[0] == EXIT_USAGE
    assert reported(folder, "-o", "report.pdf")[0] == EXIT_USAGE
    assert reported("--compare", folder, folder, "-o", "x.html")[0] == EXIT_USAGE
    assert reported("--compare", folder, folder, "--max-growth", "-1")[0] == EXIT_USAGE
    assert reported("--compare", folder, folder, "--max-slowdown", "nan")[0] == EXIT_USAGE
    assert reported("--compare", folder, folder, "--device", "x.json")[0] == EXIT_USAGE
    assert reported(folder, "-o", tmp_path / "no" / "report.html")[0] == EXIT_UNUSABLE


def test_help_loads_nothing_heavy():
    code = "import sys\nfrom edge.report.__main__ import main\nmain(['--help'])\n"
    code += "print(sorted({'tensorflow', 'keras', 'matplotlib', 'jinja2', 'jsonschema'} & set(sys.modules)), file=sys.__stderr__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
    assert "exit codes:" in done.stdout


def test_the_module_runs(one):
    done = subprocess.run([sys.executable, "-m", "edge.report", str(one[0]), "--quiet"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == EXIT_OK, done.stderr
    assert json.loads((one[0] / "report.json").read_text())["schema_version"] == summary.SCHEMA_VERSION


def test_phones_alone_make_a_page(tmp_path, reported):
    rows = [made.device_row(made.manifest("int8")), made.device_row(made.manifest("int8"), "gpu")]
    made.save(tmp_path / "phone.json", made.device_report(rows))
    code, out, _ = reported(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert code == EXIT_OK
    assert "No artifacts are here" in out
    assert "What phones measured" in page
    assert page.count("nano32-int8") >= 2
    assert 'id="ship"' not in page


def test_names_from_outside_are_isolated(tmp_path, reported):
    """A label that turns the direction of writing must not turn the number beside it."""
    document, evil = made.manifest("int8"), "\u202eevil 1"
    content = made.validation(document)
    content["flipped"]["shown"][0]["reference"] = {"answer": evil, "probability": 0.4}
    made.save_artifact(tmp_path, document)
    made.save(tmp_path / "validation.json", content)
    reported(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"<bdi>{evil}</bdi> 0.40" in page
    assert not re.search(r"<td[^>]*>(?!<bdi>|<span)", page)


def test_a_validated_model_that_gives_numbers(tmp_path, reported):
    """It has no classes to agree on: the ratio of signal and noise stands for it."""
    document = made.manifest("int8", top1_agreement=None, top5_agreement=None)
    content = made.validation(document, labelled=False)
    content |= {"meaning": "values", "confidence": None, "flipped": {"number": 0, "shown": []}}
    for one in content["differences"]:
        one["metrics"] |= {"top1_agreement": None, "top1_in_top5": None, "top5_overlap": None, "kl": None}
    made.save_artifact(tmp_path, made.changed(document, "output.meaning", "values"))
    made.save(tmp_path / "validation.json", content)
    code, _, err = reported(tmp_path)
    assert (code, err) == (EXIT_OK, "")
    (cpu, *_) = json.loads((tmp_path / "report.json").read_text())["recommendations"]
    assert "logits SNR 38.1 dB against Keras on 5000 images of test.zip" in cpu["reasons"]


@pytest.mark.slow
def test_many_files_fit(tmp_path, reported):
    """The verdict comes first and names a few; the operations are a row a file."""
    for number in range(72):
        document = made.manifest("int8", name=f"model-{number:02}")
        made.save_artifact(tmp_path, document)
    code, out, _ = reported(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert code == EXIT_OK
    assert "and 66 more" in out
    assert max(len(line) for line in page[: page.index('id="ship"')].splitlines() if "<li>" in line or "<p>" in line) < 2000
    operations = page[page.index("<caption>Operations</caption>") :]
    assert operations[: operations.index("</thead>")].count("<th ") == 2
