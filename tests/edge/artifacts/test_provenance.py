"""What an artifact depends on: an edit of what makes files makes it outdated, an edit elsewhere does not."""

import json
import shutil
from pathlib import Path

import pytest

from edge.artifacts import provenance
from tests.edge.small_models import MICRO, SEED

ROOT = Path(__file__).parents[3]


@pytest.fixture
def sources(tmp_path, monkeypatch) -> Path:
    """A copy of our source code, taken for ours."""
    for package in ("tfvit", "calibration", "edge"):
        shutil.copytree(ROOT / package, tmp_path / "sources" / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "_ROOT", tmp_path / "sources")
    provenance.source_sha256.cache_clear()
    return tmp_path / "sources"


def _edit(path: Path) -> None:
    assert path.is_file(), path
    path.write_text(path.read_text(encoding="utf-8") + "\n# another line\n", encoding="utf-8")
    provenance.source_sha256.cache_clear()


NO_MAKERS = ("edge/report/page.py", "edge/android/package.py", "edge/validation/table.py", "edge/latency/protocol.py", "edge/convert.py")
MAKERS = (
    "edge/quantization/gptq.py", "edge/conversion/manifest.py", "edge/tflite/versions.py", "tfvit/blocks.py", "calibration/builtin.py",
)  # fmt: skip


def test_what_an_edit_makes_outdated(sources):
    before = provenance.code_sha256()
    for edited in NO_MAKERS:
        _edit(sources / edited)
    assert provenance.code_sha256() == before
    seen = {before}
    for edited in MAKERS:
        _edit(sources / edited)
        seen.add(provenance.code_sha256())
    assert len(seen) == 1 + len(MAKERS)


def test_the_command_goes_by_it(cli, sources, tmp_path):
    asked = ("--variant", MICRO.id, "--quant", "float32", "--weights", f"random:{SEED}", "--calibration-samples", "2")
    asked = (*asked, "--drift-samples", "1", "--out", tmp_path / "out", "--no-gate", "--no-cache", "--json", "--quiet")

    def status() -> str:
        return json.loads(cli(*asked).out)["cells"][0]["status"]

    assert status() == "written"
    _edit(sources / NO_MAKERS[0])
    assert status() == "current"
    _edit(sources / MAKERS[0])
    assert status() == "written"


def test_more_rooms_count_where_they_are_named(sources):
    before = provenance.code_sha256(), provenance.code_sha256("validation")
    assert before[0] != before[1]
    _edit(sources / "edge" / "validation" / "predictions.py")
    assert provenance.code_sha256() == before[0]
    assert provenance.code_sha256("validation") != before[1]
