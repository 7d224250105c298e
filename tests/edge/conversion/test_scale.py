"""The same files, whoever makes them: one process, several, a run that was killed and taken up, the workers of a cluster. `make scale`"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tfvit.errors import EXIT_UNUSABLE

ROOT = Path(__file__).parents[3]
VARIANTS = ("nano32", "v2_nano32")
ARGUMENTS = ("--variant", ",".join(VARIANTS), "--quant", "float32,int8", "--weights", "random:0", "--no-gate")
ARGUMENTS += ("--calibration-samples", "4", "--drift-samples", "2")
# Two models, on a machine that does other things too
MOST_SECONDS = 1200

pytestmark = pytest.mark.scale


def start(*arguments, cache: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "edge.convert", *ARGUMENTS, *map(str, arguments)]
    environment = os.environ | {"TFVIT_CACHE": str(cache)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def converted(*arguments, cache: Path) -> dict:
    process = start(*arguments, "--json", cache=cache)
    out, err = process.communicate(timeout=MOST_SECONDS)
    print(err[-2000:])
    assert process.returncode == 0, err
    document = json.loads(out)
    print([(row["name"], row["status"], row["error"]) for row in document["cells"]])
    return document


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> dict[str, bytes]:
    """What one process after the other makes, without a cache."""
    folder = tmp_path_factory.mktemp("serial")
    converted("--no-cache", "--out", folder / "out", cache=folder / "cache")
    assert not (folder / "cache").exists()
    files = listing(folder / "out")
    assert len(files) == len(VARIANTS) * 2 * 2
    return files


def test_side_by_side(serial, tmp_path):
    document = converted("--jobs", "2", "--out", tmp_path / "out", cache=tmp_path / "cache")
    assert {row["status"] for row in document["cells"]} == {"written"}
    assert listing(tmp_path / "out") == serial


def test_killed_and_taken_up(serial, tmp_path):
    """SIGKILL to the command while both models are being converted: its processes end too, and the next run makes only what is missing."""
    process = start("--jobs", "2", "--out", tmp_path / "out", "--save", tmp_path / "table.json", cache=tmp_path / "cache")
    for line in process.stderr:
        if " written" in line:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=120)
    assert alive == []
    assert listing(tmp_path / "out").items() < serial.items()  # some of them, each whole
    document = converted("--out", tmp_path / "out", "--save", tmp_path / "table.json", cache=tmp_path / "cache")
    statuses = [row["status"] for row in document["cells"]]
    print(statuses)
    assert set(statuses) == {"written", "current"}
    assert listing(tmp_path / "out") == serial
    rows = json.loads((tmp_path / "table.json").read_text())["cells"]
    assert len(rows) == len(statuses)
    assert all(row["seconds"] for row in rows)  # of the first run's files, as the first run measured them


def test_on_a_cluster(serial, tmp_path):
    """Two workers of a dask cluster: each has its own processes, and sends the files back."""
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    environment = os.environ | {"TFVIT_CACHE": str(tmp_path / "cache of the workers")}
    dask, file = [sys.executable, "-m", "dask"], tmp_path / "scheduler.json"
    log = (tmp_path / "dask.log").open("w")
    options = {"cwd": ROOT, "env": environment, "stdout": log, "stderr": log}
    place = ["--scheduler-file", str(file), "--no-dashboard"]
    processes = [subprocess.Popen([*dask, "scheduler", *place, "--host", "127.0.0.1", "--port", "0"], **options)]
    try:
        worker = [*dask, "worker", *place, "--nthreads", "1", "--local-directory", str(tmp_path)]
        processes += [subprocess.Popen(worker, **options) for _ in range(2)]
        deadline = time.monotonic() + 120
        while not file.is_file():
            assert time.monotonic() < deadline, (tmp_path / "dask.log").read_text()
            time.sleep(0.1)
        from distributed import Client

        address = json.loads(file.read_text())["address"]
        with Client(address) as client:
            client.wait_for_workers(2, timeout=120)
        document = converted("--cluster", address, "--out", tmp_path / "out", cache=tmp_path / "cache")
        assert {row["status"] for row in document["cells"]} == {"written"}
        assert not (tmp_path / "cache").exists()  # the workers' machines have caches, this one needs none
        again = converted("--cluster", address, "--out", tmp_path / "out", cache=tmp_path / "cache")
        assert {row["status"] for row in again["cells"]} == {"current"}
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in reversed(processes):
            process.wait(60)
        log.close()
    print((tmp_path / "dask.log").read_text()[-2000:])
    assert listing(tmp_path / "out") == serial


def test_a_cluster_that_is_not_there(tmp_path):
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    process = start("--cluster", "tcp://127.0.0.1:1", "--out", tmp_path / "out", "--quiet", cache=tmp_path)
    _, err = process.communicate(timeout=MOST_SECONDS)
    assert process.returncode == EXIT_UNUSABLE
    assert err.startswith("error: no dask scheduler answers")
    assert len(err.splitlines()) == 4
