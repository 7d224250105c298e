"""Every reader of bytes from outside, on the sound, damaged and hostile files of tests/fuzz: each is read, or ends in one clear error."""

import pytest

from fuzz import target

# Drawing a page takes a second, and those of sound documents have tests of their own
SLOW = ("report_page",)
FILES = [
    pytest.param(name, path, id=f"{name}/{path.name}")
    for name in target.names()
    for path in sorted(target.corpus(name).iterdir())
    if name not in SLOW or path.name.startswith("crash-")
]


@pytest.mark.parametrize(("name", "path"), FILES)
def test_it_ends_well(name, path):
    print(target.outcome(target.load(name), path.read_bytes()))
