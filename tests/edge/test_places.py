"""Where files lie: names that are hard to print, disks that are full or read-only. Every command, in this process."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration import inspect as calibration_inspect
from edge import benchmark, bundle, inspect
from edge.report import __main__ as report
from tests.edge import report_documents as made
from tfvit.errors import EXIT_BUG, EXIT_OK, EXIT_UNUSABLE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ODD = {"spaces, emoji, line end, markup": "sp ace 🙂 new\nline [b]x[-i]".encode(), "no UTF-8, escape": b"raw \xff\xfe \x1b[31m"}
QUICK = ("--min-runs", "1", "--min-seconds", "0")
LOOSE = ("--min-agreement", "0", "--min-snr", "-99", "--no-cache")


@pytest.fixture(params=ODD.values(), ids=ODD)
def odd(request, tmp_path) -> tuple[Path, str]:
    """A folder of an odd name, and the name."""
    name = os.fsdecode(request.param)
    try:
        (tmp_path / name).mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    return tmp_path / name, name


@pytest.fixture
def ran(capfd):
    def run(main, *arguments, code=EXIT_OK):
        capfd.readouterr()
        found = main([*map(str, arguments), "--quiet"])
        printed = capfd.readouterr()
        print(found, main.__module__, printed.out[-600:], printed.err[-1500:])
        assert found != EXIT_BUG
        assert found == code
        assert "\x1b" not in printed.out + printed.err
        return printed.out

    return run


def _images(folder: Path, name: str) -> Path:
    generator = np.random.default_rng(0)
    (folder / "images" / name).mkdir(parents=True)
    for index in range(4):
        Image.fromarray(generator.integers(0, 256, (36, 36, 3), dtype=np.uint8)).save(folder / "picture.png")
        (folder / "picture.png").rename(folder / "images" / name / f"{index} {name}.png")
    (folder / "images" / name / f"broken {name}.jpg").write_bytes(b"no image")
    return folder / "images"


def _project(folder: Path) -> Path:
    (folder / "app" / "src" / "main").mkdir(parents=True)
    (folder / "app" / "build.gradle.kts").touch()
    return folder


def test_names(odd, ran, cli, validated, micro_files):
    folder, name = odd
    images = _images(folder, name)
    labels = folder / f"{name}.txt"
    labels.write_text("one\ntwo\nthree\nfour\nfive\n")
    out = folder / "artifacts"
    arguments = (
        "--variant",
        "micro",
        "--weights",
        "random:1",
        "--quant",
        "float32",
        "--calibration",
        images,
        "--labels",
        labels,
        "--out",
        out,
    )
    converted = cli(*arguments, "--calibration-samples", "2", "--drift-samples", "2", "--no-gate", "--quiet")
    assert converted.code == EXIT_OK, converted.err
    file = out / "micro-float32.random.tflite"
    copy = folder / f"{name}.tflite"
    shutil.copy(file, copy)
    assert json.loads(ran(inspect.main, copy, "--json"))["file"] == str(copy)
    ran(inspect.main, copy)
    ran(calibration_inspect.main, images, "--variant", "nano32", code=1)  # four images and a broken one fail its checks
    ran(benchmark.main, file, copy, *QUICK, "--save", out / "benchmark.json", "--plot", folder / f"{name}.png")
    result = validated(file, "--images", images, "--save", out / "validation.json", *LOOSE, "--quiet")
    assert result.code == EXIT_OK, result.err
    file = _shippable(file, folder)
    ran(bundle.main, file, "--app", _project(folder / "project"), "--allow-random")
    ran(bundle.main, file, "--zip", folder / f"{name}.zip", "--allow-random")
    ran(bundle.main, copy, "--zip", folder / "b.zip", code=EXIT_UNUSABLE)  # no manifest beside it
    documents = folder / "documents"
    made.full_folder(documents)
    shutil.copy(out / "benchmark.json", documents / f"{name}.json")
    page = folder / f"{name}.html"
    ran(report.main, documents, "-o", page)
    ran(report.main, documents, "--json", "--force")
    ran(report.main, "--compare", documents, documents, "-o", folder / f"{name}.md")
    for path in (page, page.with_suffix(".json"), documents / "report.html"):
        path.read_bytes().decode("utf-8")


@pytest.fixture
def disk(tmp_path):
    """Mounts a small disk of its own: disk(bytes) gives its folder."""
    mounted = []

    def mount(size_bytes: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        if shutil.which("mount") is None or _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", folder):
            pytest.skip("mounting a disk takes root")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


def _mount(*arguments) -> int:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode


def _listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _writers(file: Path, documents: Path, folder: Path):
    """Every command that writes, with its arguments, into a folder."""
    return [
        (bundle.main, (file, "--zip", folder / "package.zip", "--allow-random")),
        (bundle.main, (file, "--app", folder / "project", "--allow-random")),
        (benchmark.main, (file, *QUICK, "--save", folder / "benchmark.json")),
        (report.main, (documents, "-o", folder / "report.html")),
    ]


def test_a_full_disk(disk, ran, cli, micro_files, tmp_path):
    small = disk(32 << 10)
    _project(small / "project")
    before = _listing(small)
    documents = tmp_path / "documents"
    made.full_folder(documents)
    writers = _writers(_shippable(micro_files["float32"], tmp_path), documents, small)
    for main, arguments in (one for one in writers if one[0] is not benchmark.main):  # whose document fits
        ran(main, *arguments, code=EXIT_UNUSABLE)
        assert _listing(small) == before
    arguments = ("--variant", "micro", "--weights", "random:1", "--quant", "float32", "--calibration-samples", "2", "--quiet")
    converted = cli(*arguments, "--no-gate", "--out", small / "out")
    assert converted.code == EXIT_UNUSABLE
    assert "No space left" in converted.err
    assert _listing(small) == before


def test_no_room_for_temporary_files(disk, tmp_path, capfd, micro_model):
    from edge.artifacts.atomic_files import scratch_folder
    from edge.export import to_tflite
    from tfvit.errors import EnvironmentUnusableError
    from tfvit.preprocessing import Preprocessing

    small = disk(64 << 10)
    exportable = to_tflite.exportable(micro_model, Preprocessing.for_image_size(32), takes_pixels=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(small))
        with pytest.raises(EnvironmentUnusableError, match="cannot hold the model") as caught:
            to_tflite.export_float(exportable)
        with scratch_folder() as folder:
            assert folder.parent == small
            assert tempfile.gettempdir() == str(folder)
    print(caught.value)
    assert list(small.iterdir()) == []


def test_a_read_only_disk(disk, ran, cli, micro_files, tmp_path):
    small = disk(1 << 20)
    _project(small / "project")
    file = _shippable(micro_files["float32"], tmp_path)
    documents = tmp_path / "documents"
    made.full_folder(documents)
    assert _mount("-o", "remount,ro", small) == 0
    for main, arguments in _writers(file, documents, small):
        ran(main, *arguments, code=EXIT_UNUSABLE)
    assert cli("--variant", "micro", "--weights", "random:1", "--quant", "float32", "--out", small / "out").code == EXIT_UNUSABLE
    assert cli("--variant", "micro", "--weights", "random:1", "--quant", "float32", "--out", small).code == EXIT_UNUSABLE
    # nothing is written where nothing has to be
    ran(inspect.main, file)


def _shippable(file: Path, folder: Path) -> Path:
    """A copy whose drift check passed: what random weights reach is not these tests' question."""
    for path in (file, file.with_suffix(".json"), file.with_suffix(".labels.txt")):
        if path.is_file():
            shutil.copy(path, folder)
    manifest = folder / f"{file.stem}.json"
    document = json.loads(manifest.read_text())
    document["drift"]["passed"] = True
    manifest.write_text(json.dumps(document))
    return folder / file.name


def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    from edge.artifacts import atomic_files

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    leftover = tmp_path / f"tfvit-{os.getuid()}-leftover"
    (leftover / "variables").mkdir(parents=True)
    with atomic_files.scratch_folder() as ours:
        assert not leftover.exists()
        other = "from edge.artifacts import atomic_files\nwith atomic_files.scratch_folder() as folder: print(folder.parent, end='')"
        command = [sys.executable, "-c", other]
        seen = subprocess.run(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=True)
        assert seen.stdout == str(tmp_path)
        assert ours.is_dir()  # in use, and left alone
    assert list(tmp_path.iterdir()) == []
