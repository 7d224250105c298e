"""What edge.device and the Android app have to agree on, read from the app's sources."""

import json
import re
from pathlib import Path

import pytest

from edge import device
from edge.android import package, phone, phone_status

DEMO = Path(__file__).parents[3] / "android_demo"
APP = DEMO / "app" / "src" / "main" / "java" / "tfvit" / "edge" / "app"
CORE = DEMO / "core" / "src" / "main" / "kotlin" / "tfvit" / "edge" / "core"
TESTS = DEMO / "desktop" / "src" / "test" / "tfvit" / "edge"


def _source(folder, name):
    return (folder / f"{name}.kt").read_text(encoding="utf-8")


def _constants(source):
    return dict(re.findall(r'const val (\w+) = "([^"]*)"', source))


def test_the_intent():
    activity = _constants(_source(APP, "BenchmarkActivity"))
    assert {name: activity[name] for name in ("PRESET", "RUN", "BUNDLE", "PUSHED")} == {
        "PRESET": "preset", "RUN": "run", "BUNDLE": "bundle", "PUSHED": "pushed",
    }  # fmt: skip
    gradle = (DEMO / "app" / "build.gradle.kts").read_text(encoding="utf-8")
    assert f'applicationId = "{phone.APP}"' in gradle
    assert f"{phone.APP}/.BenchmarkActivity" == phone.ACTIVITY
    presets = re.findall(r'Preset\("(\w+)"', _source(CORE, "Benchmark"))
    assert tuple(presets) == device.PRESETS


def test_the_files():
    session = _source(APP, "BenchmarkSession")
    for path in (phone.STATUS, phone.REPORT):
        assert f'shared("{path.rpartition("/")[2]}")' in session
    application = _constants(_source(APP, "EdgeApplication"))
    assert f"{phone.FILES}/{application['PUSHED']}" == phone.PACKAGE
    assert f"assets/{application['ASSETS']}/{package.PACKAGE_FILE}" == phone.ASSET


def test_the_status_of_the_apps_own_test_is_read():
    text = re.search(r'"""\n(\s+\{.*?\})\n', _source(TESTS, "RunStatusTest"), re.DOTALL)[1]
    status = phone_status.parse_status(text)
    assert status == phone_status.Status("7f3a", 4, 1, 0.375, "nano32-int8, gpu", None, ('"it" failed',))
    endings = re.findall(r'[A-Z]+\("(\w+)"\)', _source(CORE, "RunStatus"))
    assert endings == [phone_status.DONE, phone_status.STOPPED, phone_status.LEFT, phone_status.FAILED]
    for ending in endings:
        assert phone_status.parse_status(json.dumps({**json.loads(text), "ending": ending})).ending == ending
    with pytest.raises(ValueError, match="ending"):
        phone_status.parse_status(json.dumps({**json.loads(text), "ending": "DONE"}))
