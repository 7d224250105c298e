"""What is run of a file: its signature, its shapes, and inputs in its own range."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import foreign_kinds
from edge.latency import command
from edge.latency.subject import image, in_range, is_image, shown, subject
from edge.runtime.cpu import Interpreter
from tfvit.errors import InputError, UsageError

SIDES = foreign_kinds.IMAGE


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The path of a kind's file."""
    folder = tmp_path_factory.mktemp("foreign")

    def path(kind: str):
        found = folder / f"{kind.replace(' ', '_')}.tflite"
        if not found.exists():
            found.write_bytes(foreign_kinds.make(kind))
        return found

    return path


def values(found) -> dict[str, np.ndarray]:
    with np.load(found.run.inputs) as stored:
        return {name.removeprefix("_"): stored[name] for name in stored.files}


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("with a signature", 0.0, 255.0),  # its first operation is a product with 1/127.5
        ("metadata with a range", -1.0, 1.0),
        ("int8 from end to end", 0.0, 255.0),  # its integers say so
        ("uint8 from end to end", 0.0, 255.0),
        ("int8, float ends", 0.0, 255.0),
        ("image of any size", 0.0, 1.0),
    ],
)
def test_inputs_are_in_the_files_own_range(file, tmp_path, kind, low, high):
    shapes = {"": SIDES} if kind == "image of any size" else {}
    found = subject(file(kind), tmp_path, None, shapes)
    (pixels,) = values(found).values()
    print(found.inputs, pixels.min(), pixels.max())
    assert pixels.shape == SIDES
    assert found.inputs.startswith("a generated image of ")
    span = high - low
    assert low - 0.02 * span <= pixels.min() <= low + 0.2 * span
    assert high - 0.2 * span <= pixels.max() <= high + 0.02 * span
    assert np.unique(pixels).size > 100


def test_signatures_are_chosen_by_name(file, tmp_path):
    path = file("two signatures")
    assert set(subject(path, tmp_path).signatures) == {"encode", "decode"}
    for name, length in (("encode", 64), ("decode", 16)):
        found = subject(path, tmp_path, name)
        assert found.run.signature == name
        assert [value.shape for value in values(found).values()] == [(1, length)]
        model = Interpreter(path.read_bytes(), signature=name)
        given = found.run.values(model.inputs)
        model.write(given)
        (answer,), (x,) = model.invoke(), given.values()
        np.testing.assert_allclose(answer, x * 2.0 + 1.0 if name == "encode" else x * x, rtol=1e-6)
    with pytest.raises(UsageError, match="did you mean encode"):
        subject(path, tmp_path, "encod")


def test_dynamic_sides_need_a_size(file, tmp_path):
    path = file("image of any size")
    with pytest.raises(UsageError, match=r"dynamic dimensions") as caught:
        subject(path, tmp_path)
    assert "[1, any, any, 3]" in caught.value.expected
    found = subject(path, tmp_path, None, {"": (1, 20, 24, 3)})
    assert list(found.run.shapes.values()) == [(1, 20, 24, 3)]
    model = Interpreter(path.read_bytes(), shapes=found.run.shapes)
    assert model.input_shape == (1, 20, 24, 3)
    for wrong in ((1, 20, 24), (1, 20, 24, 4), (1, 0, 24, 3)):
        with pytest.raises(UsageError, match="does not take"):
            subject(path, tmp_path, None, {"": wrong})
    with pytest.raises(UsageError, match="unknown input"):
        subject(path, tmp_path, None, {"nobody": SIDES})


def test_shapes_are_read_from_words():
    assert command.input_shapes(["1,2,3", "x=4x5"]) == {"": (1, 2, 3), "x": (4, 5)}
    assert shown((1, -1, 3)) == "[1, any, 3]"
    with pytest.raises(UsageError, match="bad shape"):
        command.input_shapes(["x=1,two"])


def test_inputs_of_the_user(file, tmp_path):
    path, rng = file("two inputs in another order"), np.random.default_rng(0)
    given = {name: rng.standard_normal((1, 64)).astype(np.float32) for name in ("aa_mask", "zz_image")}
    np.savez(tmp_path / "both.npz", **given)
    (tmp_path / "folder").mkdir()
    for name, value in given.items():
        np.save(tmp_path / "folder" / f"{name}.npy", value)
    for source in ("both.npz", "folder"):
        found = values(subject(path, tmp_path, data=tmp_path / source))
        assert {name: value.tobytes() for name, value in found.items()} == {name: value.tobytes() for name, value in given.items()}
    with pytest.raises(InputError, match="inputs are missing"):
        subject(path, tmp_path, data=tmp_path / "folder" / "aa_mask.npy")
    np.save(tmp_path / "short.npy", np.zeros((1, 3), np.float32))
    with pytest.raises(InputError, match="another shape"):
        subject(file("no operation"), tmp_path, data=tmp_path / "short.npy")
    with pytest.raises(InputError, match="unreadable input"):
        subject(file("no operation"), tmp_path, data=tmp_path / "nothing.npy")


def test_an_image_of_the_user_is_brought_to_the_files_range(file, tmp_path):
    Image.new("RGB", (50, 40), (255, 0, 51)).save(tmp_path / "photo.png")
    (pixels,) = values(subject(file("with a signature"), tmp_path, data=tmp_path / "photo.png")).values()
    np.testing.assert_allclose(pixels[0, 3, 5], (255, 0, 51), atol=0.01)
    (pixels,) = values(subject(file("metadata with a range"), tmp_path, data=tmp_path / "photo.png")).values()
    np.testing.assert_allclose(pixels[0, 3, 5], (1.0, -1.0, -0.6), atol=0.01)


@pytest.mark.parametrize("shape", [(1, 40, 60, 3), (1, 3, 40, 60), (40, 60, 1), (1, 300, 20, 4), (2, 40, 60, 3)])
def test_images_of_every_layout(shape):
    pixels = image(shape)
    assert is_image(shape)
    assert pixels.shape == shape
    assert 0.0 <= pixels.min() < 0.4 < pixels.max() <= 1.0
    assert in_range(pixels, -1.0, 1.0).min() >= -1.0


@pytest.mark.parametrize("shape", [(1, 40), (1, 3, 40), (1, 7, 7, 512), (1, 1000, 2)])
def test_what_is_no_image(shape):
    assert not is_image(shape)


def test_a_damaged_file_is_left_to_the_runtime(tmp_path):
    (tmp_path / "damaged.tflite").write_bytes(b"\x10\0\0\0TFL3" + b"\xff" * 40)
    found = subject(tmp_path / "damaged.tflite", tmp_path)
    assert found.quantized is None
    assert found.run.inputs is None
