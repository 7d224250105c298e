"""The cache: nothing damaged is used, processes share it, it keeps within its limit, and one can look at it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge import cache
from edge.artifacts.store import Store, open_store
from tfvit.errors import EXIT_OK, EXIT_USAGE

ROOT = Path(__file__).parents[3]
KEY, OTHER = "ab" * 32, "cd" * 32


def path_of(folder: Path, key: str) -> Path:
    return folder / key[:2] / key


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_what_was_written_is_read(store):
    assert store.read(KEY) is None
    assert KEY not in store
    content = bytes(range(256)) * 3 + b"\n{}\n"
    store.write(KEY, content, "float file", "tiny224")
    assert KEY in store
    assert store.read(KEY) == content
    (entry,) = store.entries()
    assert (entry.kind, entry.subject) == ("float file", "tiny224")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:20],
        lambda data: b"",
        lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
        lambda data: data + b"\0",
        lambda data: data.replace(KEY.encode(), OTHER.encode()),
        lambda data: b"[1]\n" + data,
        lambda data: b"\xff" * len(data),
    ],
    ids=["cut by a byte", "cut in its first line", "empty", "one bit", "longer", "another key's", "no entry", "noise"],
)
def test_a_damaged_entry_is_never_used_and_made_again(store, tmp_path, damage):
    store.write(KEY, b"content" * 100, "ranges", "tiny224")
    path = path_of(tmp_path, KEY)
    path.write_bytes(damage(path.read_bytes()))
    assert store.read(KEY) is None
    assert not path.exists()
    assert store.made(KEY, lambda: b"again", "ranges", "tiny224") == b"again"
    assert store.read(KEY) == b"again"


def test_an_entry_under_another_name_is_never_used(store, tmp_path):
    store.write(KEY, b"content", "ranges", "tiny224")
    path_of(tmp_path, OTHER).parent.mkdir()
    path_of(tmp_path, KEY).rename(path_of(tmp_path, OTHER))
    assert store.read(OTHER) is None


def test_what_fails_to_be_made_is_not_kept(store):
    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.made(KEY, fail, "ranges", "tiny224")
    assert store.made(KEY, lambda: b"now", "ranges", "tiny224") == b"now"  # whoever failed had its turn


def test_no_folder_keeps_nothing():
    store, made = Store(None), []
    for _ in range(2):
        assert store.made(KEY, lambda: made.append(1) or b"made", "ranges", "tiny224") == b"made"
    assert len(made) == 2
    assert store.entries() == []


def test_a_folder_that_cannot_be_costs_nothing_but_time(tmp_path):
    (tmp_path / "file").write_text("x")
    store = Store(tmp_path / "file")
    assert store.made(KEY, lambda: b"made", "ranges", "tiny224") == b"made"
    assert store.made(KEY, lambda: b"again", "ranges", "tiny224") == b"again"


def test_a_large_entry_is_not_kept(tmp_path):
    store = Store(tmp_path, limit_bytes=100)
    store.write(KEY, bytes(101), "ranges", "tiny224")
    assert KEY not in store


_MAKING = """
import sys
from pathlib import Path
from edge.artifacts.store import Store

folder, log, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
store = Store(folder)
for index in range(number):
    def make():
        with open(log, "a") as file:
            file.write(f"{index}\\n")
        return str(index).encode() * 100_000
    key = f"{index:064x}"[::-1]
    assert store.made(key, make, "ranges", "tiny224") == str(index).encode() * 100_000
"""


def test_two_processes_make_each_entry_once(tmp_path):
    number, log = 60, tmp_path / "made.txt"
    arguments = [sys.executable, "-c", _MAKING, str(tmp_path / "cache"), str(log), str(number)]
    processes = [subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(60) for process in processes] == [0, 0]
    for process in processes:
        process.stdin.close()
        process.stdout.close()
    assert sorted(map(int, log.read_text().split())) == list(range(number))


_KILLED = """
import os, sys
from pathlib import Path
from edge.artifacts.store import Store

os.replace = lambda *names: os._exit(9)
Store(Path(sys.argv[1])).made(sys.argv[2], lambda: b"half", "ranges", "tiny224")
"""


def test_a_process_killed_while_writing(tmp_path):
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), KEY], cwd=ROOT, check=False)
    assert done.returncode == 9
    store = Store(tmp_path)
    assert store.read(KEY) is None
    assert store.made(KEY, lambda: b"whole", "ranges", "tiny224") == b"whole"  # its turn ended with it
    assert len(store.entries()) == 2  # what it left behind is seen, and goes like everything else
    assert cache.main(["--cache", str(tmp_path), "--clear"]) == EXIT_OK
    assert store.entries() == []


def test_the_command_lists_and_clears(store, tmp_path, capfd):
    store.write(KEY, bytes(1000), "float file", "tiny224")
    store.write(OTHER, bytes(10), "ranges", "small224")
    assert cache.main(["--cache", str(tmp_path)]) == EXIT_OK
    printed = capfd.readouterr().out
    assert "float file" in printed
    assert "2 entries" in printed
    assert cache.main(["--cache", str(tmp_path), "--json", "--clear", "--kind", "ranges"]) == EXIT_OK
    document = json.loads(capfd.readouterr().out)
    assert [(entry["kind"], entry["subject"]) for entry in document["entries"]] == [("ranges", "small224")]
    assert KEY in store
    assert OTHER not in store


def test_the_limit_is_the_users(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TFVIT_CACHE", str(tmp_path))
    monkeypatch.setenv("TFVIT_CACHE_GIB", "0.000001")  # 1073 bytes
    store = open_store()
    for used, key in enumerate((KEY, OTHER)):
        store.write(key, bytes(600), "ranges", "tiny224")
        os.utime(path_of(tmp_path, key), (used, used))
    store.prune()
    assert KEY not in store
    assert OTHER in store
    monkeypatch.setenv("TFVIT_CACHE_GIB", "much")
    assert cache.main([]) == EXIT_USAGE
    assert "TFVIT_CACHE_GIB" in capfd.readouterr().err
