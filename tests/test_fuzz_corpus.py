"""Every reader of bytes from outside, on the sound, damaged and hostile files of tests/fuzz: each is read, or ends in one clear error."""

from types import SimpleNamespace

import pytest

from fuzz import target
from tfvit.errors import InputError

# Drawing a page takes a second, and those of sound documents have tests of their own
SLOW = ("report_page",)
FILES = [
    pytest.param(name, path, id=f"{name}/{path.name}")
    for name in target.names()
    for path in sorted(target.corpus(name).iterdir())
    if name not in SLOW or path.name.startswith("crash-")
]
# What is damaged or hostile, or, of the manifest and package.json, sound up to the last check: another model's weights, a foreign file
REFUSED = {
    "edge_package/package.json": "InputError",
    "image_zip/bomb.zip": "InputError",
    "keras_model/lambda.json": "InputError",
    "keras_model/names_a_function.json": "InputError",
    "keras_model/reads_a_file.json": "InputError",
    "keras_model/switches_safety_off.json": "InputError",
    "labels/odd.txt": "InputError",
    "manifest/nano32-int8.json": "InputError",
    "recorded_arrays/answers.npy": "InputError",
    "recorded_arrays/objects.npy": "InputError",
    "torch_checkpoint/deep.pkl": "WeightsError",
    "torch_checkpoint/runs_code.pkl": "WeightsError",
    "weights_h5/bomb.weights.h5": "WeightsError",
    "weights_h5/link.weights.h5": "WeightsError",
}


@pytest.mark.parametrize(("name", "path"), FILES)
def test_it_ends_well(name, path):
    ending = target.outcome(target.load(name), path.read_bytes())
    if path.name.startswith("crash-"):  # damaged at random: some are still whole where it matters
        assert ending in ("read", "InputError", "WeightsError")
    else:
        assert ending == REFUSED.get(f"{name}/{path.name}", "read")


def _ending(error):
    def read(data):
        raise error

    return target.outcome(SimpleNamespace(read=read), b"")


def test_an_end_that_is_no_user_error_is_a_finding():
    with pytest.raises(KeyError):
        _ending(KeyError("not foreseen"))


def test_a_message_without_end_is_a_finding(monkeypatch):
    assert _ending(InputError("damaged", expected="a file", received="x" * 1000, action="check it")) == "InputError"
    monkeypatch.setattr(target, "_LONGEST_LINE", 100)
    with pytest.raises(AssertionError, match="characters"):
        _ending(InputError("damaged", expected="a file", received="x" * 1000, action="check it"))
