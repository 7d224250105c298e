"""The wheel and the source distribution: built, read, and installed into environments of their own. `make package` runs this.

PYTHONS, in the environment: interpreters to install into, separated by spaces; the running one alone where it is not set.
"""

import email.parser
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.package
ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("tfvit/", "edge/", "calibration/")
SUPPORTED = ("3.11", "3.12", "3.13")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28")
EXTRAS = ("edge", "plots", "report")
# Of installed distributions, none without an extra
HEAVY_EXTRAS = {"ai-edge-litert", "ai-edge-quantizer", "scipy", "matplotlib", "jinja2", "jsonschema", "platformdirs"}
# A command line that needs an extra -> the extra. FILE is a TFLite file.
NEEDS = {
    "edge-convert --variant nano32 --quant float32": "edge",
    "edge-validate FILE": "edge",
    "edge-inspect FILE": "edge",
    "edge-bundle FILE --zip x.zip": "edge",
    "edge-benchmark FILE": "edge",
    "edge-cache": "edge",
    "edge-device": "edge",
    "edge-report .": "report",
}


def _run(*command, **arguments) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "TFVIT_CACHE")}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment, **arguments)
    print(f"$ {' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> dict[str, Path]:
    """Built from the repository's own files alone: what a working copy has lying about is not in the way, and not in the package."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in _tracked():
        if name.startswith(PACKAGES) or "/" not in name or name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    done = _run(sys.executable, "-m", "build", "--outdir", out, source)
    assert done.returncode == 0
    assert "Warning" not in done.stdout + done.stderr
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def test_the_wheel_has_every_file_of_the_packages_and_no_other(built):
    names = set(zipfile.ZipFile(built["wheel"]).namelist())
    information = {name for name in names if ".dist-info/" in name}
    assert names - information == {name for name in _tracked() if name.startswith(PACKAGES)}
    assert {name.split("/", 1)[1] for name in information} == {
        "METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"
    }  # fmt: skip


def test_the_source_distribution_has_what_the_wheel_is_made_from(built):
    with tarfile.open(built["sdist"]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    files = {name for name in names if not any(other.startswith(f"{name}/") for other in names)}
    written = {name for name in files if ".egg-info/" in name} | {"PKG-INFO", "setup.cfg"}
    top = {"CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml"}
    assert files - written == {name for name in _tracked() if name.startswith(PACKAGES)} | top


def test_the_metadata(built):
    assert _run(sys.executable, "-m", "twine", "check", "--strict", *built.values()).returncode == 0
    archive = zipfile.ZipFile(built["wheel"])
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    found = email.parser.Parser().parsestr(archive.read(name).decode())
    assert found["License-Expression"] == "Apache-2.0"
    assert found.get_all("License-File") == ["LICENSE"]
    assert found["Requires-Python"] == "<3.14,>=3.11"
    minors = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", one) for one in found.get_all("Classifier")]
    assert tuple(minor[1] for minor in minors if minor) == SUPPORTED
    plain = {re.split(r"[^\w-]", one)[0].lower() for one in found.get_all("Requires-Dist") if "extra ==" not in one}
    assert not plain & HEAVY_EXTRAS
    assert found.get_all("Project-URL") is None, "an address: is it a true one?"


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("version", SUPPORTED)
def test_wheels_of_all_requirements_exist(version, platform):
    assert _resolved(version, platform).returncode == 0


def test_the_check_above_can_fail():
    assert "tensorflow" in _resolved("3.14", PLATFORMS[0], "--no-header").stderr


def _resolved(version: str, platform: str, *more: str) -> subprocess.CompletedProcess:
    extras = [part for extra in EXTRAS for part in ("--extra", extra)]
    uv = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--only-binary", ":all:", *extras, *more]
    return _run(*uv, "--python-version", version, "--python-platform", platform, ROOT / "pyproject.toml")


@pytest.mark.parametrize("python", os.environ.get("PYTHONS", sys.executable).split())
def test_installs_and_runs(python, built, tmp_path):
    """Without an extra, with `edge`, and with the rest: what runs, and what says which extra it needs."""
    if python == sys.executable:
        venv.create(tmp_path / "venv", with_pip=True)
    else:
        assert _run(python, "-m", "venv", tmp_path / "venv").returncode == 0
    folder = tmp_path / "work"  # not the repository: nothing is imported from there
    folder.mkdir()
    bin = tmp_path / "venv" / "bin"
    (folder / "FILE").write_bytes(b"\x1c\0\0\0TFL3" + bytes(64))

    _install(bin, built["wheel"])
    assert not _installed(bin) & HEAVY_EXTRAS
    for script in PROJECT["scripts"]:
        assert _run(bin / script, "--help", cwd=folder).stdout.startswith(f"usage: {script} ")
        module = _run(bin / "python", "-m", script.replace("-", "."), "--help", cwd=folder)
        assert module.stdout.startswith(f"usage: python -m {script.replace('-', '.')} ")
    for command, extra in NEEDS.items():
        script, *arguments = command.split()
        done = _run(bin / script, *arguments, "--quiet", cwd=folder)
        assert (done.returncode, f"pip install '.[{extra}]'" in done.stderr) == (3, True), command
        assert len(done.stderr.splitlines()) <= 4, command
    example = "import tfvit, tfvit.labels\nfrom calibration import builtin\n"
    example += "print(tfvit.ViTTransformerNano32().count_params(), len(tfvit.labels.imagenet_labels()), builtin.generate(0, 32, 0).shape)"
    assert _run(bin / "python", "-c", example, cwd=folder).stdout == "2643758 1000 (32, 32, 3)\n"

    _install(bin, f"{built['wheel']}[edge]")
    assert not _installed(bin) & {"matplotlib", "jinja2"}
    done = _run(bin / "python", "-m", "edge.convert", "--variant", "nano32", "--quant", "int8", "--json", "--quiet", cwd=folder)
    assert done.returncode == 0
    (artifact,) = json.loads(done.stdout)["artifacts"]
    assert artifact["status"] == "written"
    assert artifact["manifest"]["drift"]["passed"]
    file = "artifacts/nano32-int8.tflite"
    assert _run(bin / "edge-inspect", file, "--quiet", cwd=folder).returncode == 0
    assert _run(bin / "edge-bundle", file, "--zip", "nano32.zip", "--quiet", cwd=folder).returncode == 0
    assert _run(bin / "edge-validate", file, "--quiet", "--no-cache", "--samples", "8", cwd=folder).returncode == 0

    _install(bin, f"{built['wheel']}[report]")
    assert _run(bin / "edge-report", "artifacts", "--quiet", cwd=folder).returncode == 0
    assert "nano32-int8" in (folder / "artifacts" / "report.html").read_text(encoding="utf-8")


def _install(bin: Path, wheel: Path | str) -> None:
    assert _run(bin / "pip", "install", "--quiet", "--disable-pip-version-check", wheel).returncode == 0


def _installed(bin: Path) -> set[str]:
    listed = json.loads(_run(bin / "pip", "list", "--format", "json", "--disable-pip-version-check").stdout)
    return {one["name"].lower().replace("_", "-") for one in listed}
