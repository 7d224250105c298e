"""The scripts around the Android app: what they do where tools cannot be had, and the checks of the APK that CI can build."""

import importlib
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from android_demo.ci import check_apk
from android_demo.desktop import screens

DEMO = Path(__file__).parents[1] / "android_demo"
APP = DEMO / "app"
NAMESPACE = "tfvit.edge.app"


def _run(script, *arguments, **environment):
    return subprocess.run(
        [shutil.which("bash"), DEMO / script, *arguments], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )


@pytest.fixture
def without_java(tmp_path):
    """A PATH with what the scripts begin with, and no Java."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("bash", "dirname", "realpath", "mkdir", "cat", "sed", "grep", "uname"):
        (folder / tool).symlink_to(shutil.which(tool))
    return str(folder)


def test_what_scripts_import_is_there():
    """Python inside shell scripts is seen by no linter."""
    found = [
        (script.name, *match)
        for script in sorted(DEMO.rglob("*.sh"))
        for match in re.findall(r"from ((?:edge|tfvit|calibration)[\w.]*) import (\w+)", script.read_text(encoding="utf-8"))
    ]
    assert found
    assert [one for one in found if not hasattr(importlib.import_module(one[1]), one[2])] == []


@pytest.mark.parametrize("script", ["desktop/test.sh", "ci/apk.sh"])
def test_without_java_it_is_skipped(script, tmp_path, without_java):
    ended = _run(script, tmp_path / "build", PATH=without_java, PYTHON=sys.executable)
    assert ended.returncode == 3
    assert ended.stderr.startswith("skipped: ")
    assert "java" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""


@pytest.mark.parametrize("script", ["desktop/test.sh", "desktop/toolchain.sh", "ci/apk.sh", "ci/debian_tools.sh"])
def test_without_a_folder_it_is_wrong_usage(script):
    ended = _run(script)
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: ")


@pytest.mark.skipif(shutil.which("apt-get") is None or shutil.which("curl") is None, reason="no apt-get or no curl")
def test_without_debian_s_packages_it_is_skipped(tmp_path):
    ended = _run("ci/debian_tools.sh", tmp_path, DEBIAN_MIRROR=f"file:{tmp_path}/nowhere")
    assert ended.returncode == 3
    assert ended.stderr.startswith("skipped: ")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "apk-tools.done").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sources.list", "# deb http://old/debian x main\ndeb [arch=amd64 signed-by=/k.gpg] http://here/debian/ bookworm main\n"),
        ("sources.list.d/debian.sources", "Types: deb\nURIs: http://here/debian\nSuites: bookworm\n\nURIs: http://here/debian-security\n"),
        ("sources.list.d/other.list", "deb http://elsewhere/ubuntu noble main\ndeb\thttp://here/debian\tbookworm main\n"),
    ],
)
def test_debian_s_packages_come_from_where_apt_s_do(tmp_path, name, content):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    ended = _run("../scripts/debian_mirrors.sh", APT_SOURCES=str(tmp_path), DEBIAN_MIRROR="")
    assert (ended.returncode, ended.stdout) == (0, "http://here/debian\n")


def test_without_a_mirror(tmp_path):
    ended = _run("../scripts/debian_mirrors.sh", APT_SOURCES=str(tmp_path), DEBIAN_MIRROR="")
    assert ended.returncode == 1
    assert "set DEBIAN_MIRROR" in ended.stderr
    ended = _run("desktop/deb.sh", tmp_path, "x/x.deb", "0" * 64, APT_SOURCES=str(tmp_path), DEBIAN_MIRROR="")
    assert ended.returncode == 1
    assert "set DEBIAN_MIRROR" in ended.stderr
    ended = _run("ci/debian_tools.sh", tmp_path, APT_SOURCES=str(tmp_path), DEBIAN_MIRROR="")
    assert ended.returncode == 3
    assert ended.stderr.startswith("skipped: ")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None or shutil.which("curl") is None, reason="no dpkg-deb or no curl")
def test_a_package_is_unpacked_only_with_its_hash(tmp_path):
    made = tmp_path / "made"
    (made / "DEBIAN").mkdir(parents=True)
    (made / "DEBIAN" / "control").write_text("Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n")
    (made / "file").write_text("x")
    pool = tmp_path / "mirror" / "pool" / "main" / "x"
    pool.mkdir(parents=True)
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", made, pool / "x.deb"], check=True, capture_output=True)
    mirror = {"DEBIAN_MIRROR": (tmp_path / "mirror").as_uri()}
    out = tmp_path / "out"
    assert _run("desktop/deb.sh", out, "x/x.deb", "0" * 64, **mirror).returncode == 1
    assert not (out / "sysroot").exists()
    right = subprocess.run(["sha256sum", pool / "x.deb"], capture_output=True, text=True, check=True).stdout.split()[0]
    assert _run("desktop/deb.sh", out, "x/x.deb", right, **mirror).returncode == 0
    assert (out / "sysroot" / "file").read_text() == "x"


# what aapt2 said of the APK
BADGING = """package: name='tfvit.edge.app' versionCode='1' versionName='0.1.0-no-runtime'
sdkVersion:'24'
targetSdkVersion:'36'
uses-permission: name='android.permission.CAMERA'
application-label:'tfvit edge (no runtime)'
launchable-activity: name='tfvit.edge.app.MainActivity'  label='' icon=''
feature-group: label=''
  uses-feature-not-required: name='android.hardware.camera'
  uses-implied-feature: name='android.hardware.faketouch' reason='default feature for all apps'
"""


def test_badging():
    gradle = check_apk.gradle_values(APP)
    assert check_apk.badging_problems(BADGING, gradle) == []
    for right, wrong in (
        ("name='tfvit.edge.app'", "name='tfvit.other'"),
        ("versionCode='1'", "versionCode='2'"),
        ("-no-runtime", ""),
        ("sdkVersion:'24'", "sdkVersion:'26'"),
        ("targetSdkVersion:'36'", "targetSdkVersion:'23'"),
        (" (no runtime)", ""),
        ("MainActivity'", "BenchmarkActivity'"),
        ("implied-feature: name='android.hardware.faketouch'", "implied-feature: name='android.hardware.camera'"),
    ):
        assert right in BADGING
        assert len(check_apk.badging_problems(BADGING.replace(right, wrong, 1), gradle)) == 1, wrong


def test_manifest():
    """A dump in aapt2's form of what the source manifest says."""
    android = "http://schemas.android.com/apk/res/android"
    lines = [f"N: android={android} (line=2)"]
    for element in ElementTree.parse(APP / "src/main/AndroidManifest.xml").iter():
        lines.append(f"  E: {element.tag} (line=4)")
        for name, value in element.attrib.items():
            value = f"{NAMESPACE}{value}" if value.startswith(".") else value
            shown = value if value in ("true", "false") else f'"{value}" (Raw: "{value}")'
            lines.append(f"    A: {android}:{name.rpartition('}')[2]}(0x01010003)={shown}")
    dump = "\n".join(lines)
    source = check_apk.source_manifest(APP / "src/main/AndroidManifest.xml", NAMESPACE)
    assert check_apk.packed_manifest(dump) == source
    assert ("activity", f"{NAMESPACE}.BenchmarkActivity", "true", "") in source
    assert ("uses-feature", "android.hardware.camera", "", "false") in source
    assert check_apk.packed_manifest(dump.replace("=true", "=false")) != source
    assert check_apk.packed_manifest(dump.replace("BenchmarkActivity", "Other")) != source


def test_references():
    """Only what is known to be newer than the stubs may be missing."""
    known = (
        "Warning: tfvit.edge.core.Task: can't find referenced method 'int hashCode(int)' in library class java.lang.Integer\n"
        "Warning: tfvit.edge.app.Device: can't find referenced field 'java.lang.String SOC_MODEL' in library class android.os.Build\n"
        "Warning: there were 2 unresolved references to library class members.\n"
    )
    assert check_apk.reference_problems(known) == []
    new = "Warning: tfvit.edge.core.Json: can't find referenced method 'int floorMod(int,int)' in library class java.lang.Math\n"
    (problem,) = check_apk.reference_problems(known + new)
    assert "tfvit.edge.core.Json" in problem
    assert "floorMod" in problem


def _dex(*names):
    """The parts of a dex file that say which classes it defines."""
    header, count = 112, len(names)
    classes, strings, types = header, header + 32 * count, header + 36 * count
    data = b"".join(bytes([len(name)]) + name.encode() + b"\0" for name in names)
    offsets, at = [], header + 40 * count
    for name in names:
        offsets.append(at)
        at += len(name) + 2
    fixed = bytearray(header)
    struct.pack_into("<I", fixed, 60, strings)
    struct.pack_into("<I", fixed, 68, types)
    struct.pack_into("<II", fixed, 96, count, classes)
    definitions = b"".join(struct.pack("<8I", index, *[0] * 7) for index in range(count))
    return bytes(fixed) + definitions + struct.pack(f"<{count}I", *offsets) + struct.pack(f"<{count}I", *range(count)) + data


def test_classes():
    manifest = check_apk.source_manifest(APP / "src/main/AndroidManifest.xml", NAMESPACE)
    names = ["tfvit/edge/app/EdgeApplication", "tfvit/edge/app/MainActivity", "tfvit/edge/app/BenchmarkActivity", "kotlin/Unit"]
    defined = check_apk.defined_classes(_dex(*(f"L{name};" for name in names)))
    assert defined == [name.replace("/", ".") for name in names]
    assert check_apk.class_problems(defined, manifest) == []
    (missing,) = check_apk.class_problems([name for name in defined if "Main" not in name], manifest)
    assert "MainActivity" in missing
    (stub,) = check_apk.class_problems([*defined, "android.os.Build"], manifest)
    assert "android.os.Build" in stub


def test_assets(tmp_path):
    bundle = tmp_path / "edge"
    bundle.mkdir()
    (bundle / "a.tflite").write_bytes(bytes(1000))
    (bundle / "edge_package.json").write_text("{}")

    def problems(model=bytes(1000), method=zipfile.ZIP_STORED, extra=None):
        path = tmp_path / "x.apk"
        with zipfile.ZipFile(path, "w") as apk:
            apk.writestr(zipfile.ZipInfo("assets/edge/a.tflite"), model, method)
            apk.writestr("assets/edge/edge_package.json", "{}")
            if extra:
                apk.writestr(extra, b"x")
        with zipfile.ZipFile(path) as apk:
            return check_apk.asset_problems(apk, bundle)

    assert problems() == []
    assert "a.tflite" in problems(model=bytes(999) + b"\1")[0]
    assert "compressed" in problems(method=zipfile.ZIP_DEFLATED)[0]
    assert "native code" in problems(extra="lib/arm64-v8a/libLiteRt.so")[0]
    assert "other" in problems(extra="assets/edge/other")[0]


# The drawing of the screens

ANSWER = {
    "model": "nano32-int8",
    "opened": ["cpu", 21.4, 1.93],
    "scores": [["cat", 0.78], ["dog", 0.09]],
    "stages": [4.0, 1.0, 0.1, 1.2, 0.1],
}
ROW = {
    "name": "nano32-int8", "backend_requested": "gpu", "backend_used": "cpu", "backend_reason": "gpu: none", "median_ms": 1.25,
    "p90_ms": 1.5, "first_inference_ms": 3.0, "init_ms": 40.0, "num_runs": 90, "invalid_reasons": [],
    "parity": {"passed": True, "max_abs_err": 1e-7, "tolerance": 1e-3, "pixels_same": True},
}  # fmt: skip


def test_screens_are_drawn_from_the_layouts(tmp_path):
    (tmp_path / "cat.png").write_bytes(b"png")
    resources = screens.Resources(APP)
    first = screens.main_screen(resources, ANSWER, tmp_path / "cat.png").html
    for text in (
        "Runs on the CPU, opened in 21 ms, first answer after 1.9 ms",
        "cat  0.780\ndog  0.090",
        "model 1.2",
        "Measure this phone",
    ):
        assert text in first
    assert "Allow the camera" not in first  # gone in the layout, and the code does not show it
    assert "Pick a picture" not in first
    assert "1. Pick a picture" in screens.first_screen(resources, ANSWER).html
    second = screens.benchmark_screen(resources, {"results": [ROW]}).html
    for text in (
        "Done: 1 results",
        "Median ms",
        ">1.25<",
        "asked for the GPU: gpu: none\nfirst answer 3.0 ms",
        "same answer as on the machine",
    ):
        assert text in second
    assert "var(--passed)" in second
    wrong = ROW | {"parity": ROW["parity"] | {"passed": False}}
    assert "var(--failed)" in screens.benchmark_screen(resources, {"results": [wrong]}).html


def test_what_cannot_be_drawn_is_an_error(tmp_path):
    app = tmp_path / "app"
    shutil.copytree(APP / "src/main/res", app / "src/main/res")
    (tmp_path / "cat.png").write_bytes(b"png")
    layout = app / "src/main/res/layout/main.xml"
    text = layout.read_text()

    def drawn(changed):
        layout.write_text(changed)
        return screens.main_screen(screens.Resources(app), ANSWER, tmp_path / "cat.png").html

    before = drawn(text)
    assert drawn(text.replace('android:padding="16dp"', 'android:padding="24dp"')) != before
    with pytest.raises(ValueError, match="no view stages"):
        drawn(text.replace("@+id/stages", "@+id/times"))
    with pytest.raises(ValueError, match="rotation"):
        drawn(text.replace('android:minLines="5"', 'android:rotation="5"'))
    with pytest.raises(ValueError, match="SeekBar"):
        drawn(text.replace("<Spinner", "<SeekBar"))
