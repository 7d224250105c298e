"""Real commands, killed at random points: what is there afterwards is whole, and the next run ends as if nothing had happened.

KILLS (2) kills of each command, from KILL_SEED (drawn, and printed): half at any time, half once the command has begun to write. `make
kill` makes 50 of them.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from edge.artifacts import artifact

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")]

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("KILLS", "2"))
SEED = int(os.environ.get("KILL_SEED") or random.SystemRandom().randrange(10**6))
# After the first sign of writing, seconds: the writing of these small files takes about a tenth of it
WRITING_SECONDS = 0.1
# What is being written, and no one may take for finished
UNFINISHED = (".edge-????????.tmp", ".edge-bundle-staged", ".edge-bundle-replaced")
RECIPES = "float32,float16,int8"


@pytest.fixture(scope="module")
def chance():
    print(f"KILL_SEED={SEED}")
    return random.Random(SEED)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small saved model and labels; `tmp` in it is where the commands keep what is temporary."""
    from tfvit.model import ViTTransformer

    folder = tmp_path_factory.mktemp("kill")
    (folder / "tmp").mkdir()
    (folder / "labels.txt").write_text("one\ntwo\nthree\n", encoding="utf-8")
    size = {"embed_dim": 16, "depths": (2,), "num_heads": (2,), "window_size": 4}
    ViTTransformer(**size, input_shape=(32, 32, 3), classes=3).save(folder / "small.keras")
    return folder


@pytest.fixture(scope="module")
def converted(place):
    """Files as a run that nobody kills leaves them, by name; and its seconds."""
    start = time.monotonic()
    _end(place, _convert(place, "whole"))
    return _contents(place / "whole"), time.monotonic() - start


def _convert(place, out, *flags):
    arguments = ["--model", place / "small.keras", "--quant", RECIPES, "--labels", place / "labels.txt", "--out", place / out]
    return ["edge.convert", *map(str, arguments), "--calibration-samples", "2", "--drift-samples", "2", "--no-gate", *flags]


def _started(place, command):
    environment = {**os.environ, "TMPDIR": str(place / "tmp"), "TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1"}
    with open(place / "stderr", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *command, "--quiet"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=log
        )


def _end(place, command):
    """Runs a command to its end, which must be a good one."""
    process = _started(place, command)
    code = process.wait()
    assert code == 0, (code, (place / "stderr").read_text()[-2000:])


def _killed(place, command, seconds, chance, folder):
    """Runs a command and kills it: at any time, or soon after it has begun to write in a folder. Whether it was still running."""
    before = _written(folder)
    process = _started(place, command)
    delay = chance.uniform(0, 1.2 * seconds)
    if chance.random() < 0.5:
        while _written(folder) <= before and process.poll() is None:
            time.sleep(0.0005)
        delay = chance.uniform(0, WRITING_SECONDS)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _unfinished(folder):
    return [path for pattern in UNFINISHED for path in folder.glob(pattern)]


def _written(folder):
    """What is there unfinished, and which: but for the empty file with which a command tries whether it may write."""
    found = set()
    for path in _unfinished(folder):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found |= {(path.name, status.st_ino, status.st_ctime_ns)} if status.st_size else set()
    return found


def test_convert(place, converted, chance):
    whole, seconds = converted
    out, states, killed = place / "out", {}, 0
    for number in range(KILLS):
        if number % 10 == 9:
            shutil.rmtree(out, ignore_errors=True)
        flags = ["--force"] if number % 2 else []
        killed += _killed(place, _convert(place, "out", *flags), seconds, chance, out)
        found = _contents(out) if out.is_dir() else {}
        staged = {path.name for path in _unfinished(out)}
        for name in sorted(found.keys() - staged):
            assert found[name] == whole[name], f"{name} is another file than a whole run writes (kill {number}, KILL_SEED={SEED})"
            if name.endswith(".tflite"):
                artifact.load(out / name)
        state = f"{sum(name.endswith('.tflite') for name in found)} of {len(RECIPES.split(','))} files, {len(staged)} staged"
        states[state] = states.get(state, 0) + 1
    print(f"{killed} of {KILLS} killed in time; found {states}")
    assert killed >= KILLS // 2
    _end(place, _convert(place, "out"))
    assert _contents(out) == whole
    assert list((place / "tmp").iterdir()) == []


@pytest.mark.parametrize("target", ["app", "zip"])
def test_bundle(place, converted, chance, target):
    project = place / "project"
    (project / "app" / "src" / "main").mkdir(parents=True, exist_ok=True)
    (project / "app" / "build.gradle.kts").touch()
    folder = project / "app" / "src" / "main" / "assets" if target == "app" else project
    where = ["--app", str(project)] if target == "app" else ["--zip", str(project / "package.zip")]
    sets = ["float32", "float16", "int8"], ["int8"]
    commands = [
        ["edge.bundle", *(str(place / "whole" / f"small-{recipe}.tflite") for recipe in recipes), *where, "--allow-random"]
        for recipes in sets
    ]
    _passed_drift(place / "whole")
    whole, seconds = [], 0.0
    for command in commands:
        start = time.monotonic()
        _end(place, command)
        seconds = time.monotonic() - start
        whole.append(_bundled(folder, target))
    assert whole[0] != whole[1]
    states, killed = {}, 0
    for number in range(KILLS):
        killed += _killed(place, commands[number % 2], seconds, chance, folder)
        found = _bundled(folder, target)
        # without an exchange of names in one step there is none for a moment, and the old one lies beside its place
        assert found in whole or (found is None and (folder / ".edge-bundle-replaced").is_dir()), f"kill {number}, KILL_SEED={SEED}"
        state = f"bundle {whole.index(found) if found in whole else None}, {len(_unfinished(folder))} staged"
        states[state] = states.get(state, 0) + 1
    print(f"{killed} of {KILLS} killed in time; found {states}")
    assert killed >= KILLS // 2
    _end(place, commands[0])
    assert _bundled(folder, target) == whole[0]
    assert _unfinished(folder) == []
    assert list((place / "tmp").iterdir()) == []


def _passed_drift(folder):
    """Has random weights ship: a bundle is what is tested here, not what a model of random weights reaches."""
    for path in folder.glob("*.json"):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["drift"]["passed"] = True
        path.write_text(json.dumps(manifest), encoding="utf-8")


def _bundled(folder, target):
    """The files of a bundle, if it is a whole one: its document names them with their hashes."""
    if target == "app":
        if not (folder / "edge").is_dir():
            return None
        files = _contents(folder / "edge")
    else:
        with zipfile.ZipFile(folder / "package.zip") as members:
            assert members.testzip() is None
            files = {name: members.read(name) for name in members.namelist()}
    document = json.loads(files["edge_package.json"])
    named = [document["golden_image"], *document["models"], *(model["labels"] for model in document["models"])]
    assert {one["file"]: one["sha256"] for one in named} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name != "edge_package.json"
    }
    return files
