"""Chunks of answers: kept, taken up again, and never mixed up."""

import dataclasses
import io
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from calibration.image_set import open_image_set
from edge.artifacts.store import Store
from edge.validation import predictions
from tfvit.preprocessing import Preprocessing

GEOMETRY = Preprocessing(resize_px=8, crop_px=8)


@pytest.fixture
def images(tmp_path):
    """More than two chunks of small pictures, one of them no picture."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(2 * predictions.CHUNK + 5):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{index:04d}.png")
    (folder / "0003.png").write_bytes(b"no picture")
    return open_image_set(folder)


class _Counting:
    """A model that says each image's means, and how many images it was asked about."""

    def __init__(self, key="a", preprocessing=GEOMETRY):
        self.asked = self.loaded = 0
        self.model = predictions.Model(key, key, preprocessing, self._load)

    def _load(self, workers):
        self.loaded += 1
        return self._answer

    def _answer(self, pixels):
        self.asked += len(pixels)
        return pixels.mean(axis=(1, 2))


def _rows(images, models, store):
    run = predictions.Run(images, images.references, [model.model for model in models], store)
    found = list(run.answers(2))
    return found, {model.model.name: np.concatenate([chunk.logits[model.model.name] for chunk in found]) for model in models}


def test_every_readable_image_is_answered_in_order(images):
    model = _Counting()
    found, rows = _rows(images, [model], Store(None))
    expected = [images.pixels(reference, GEOMETRY).mean(axis=(0, 1)) for reference in images.references if reference.path != "0003.png"]
    np.testing.assert_allclose(rows["a"], np.stack(expected), rtol=1e-6)
    assert [reference.path for chunk in found for reference, _ in chunk.unreadable] == ["0003.png"]
    assert all("image" in reason for chunk in found for _, reason in chunk.unreadable)


def test_what_was_answered_is_not_asked_again(images, tmp_path):
    store, first, other = Store(tmp_path / "store"), _Counting("a"), _Counting("b")
    _, rows = _rows(images, [first], store)
    again = _Counting("a")
    _, both = _rows(images, [again, other], store)
    assert (again.asked, again.loaded) == (0, 0)
    assert other.asked == len(images.references) - 1
    np.testing.assert_array_equal(both["a"], rows["a"])


def test_a_stopped_run_goes_on_where_it_was(images, tmp_path):
    store, model = Store(tmp_path / "store"), _Counting()
    stopped = predictions.Run(images, images.references, [model.model], store).answers(1)
    next(stopped)
    stopped.close()
    done = sum(1 for _ in (tmp_path / "store").glob("*/*"))
    assert done >= 1
    again = _Counting()
    _, rows = _rows(images, [again], store)
    assert again.asked < len(images.references) - 1
    np.testing.assert_array_equal(rows["a"], _rows(images, [_Counting()], Store(None))[1]["a"])


@pytest.mark.parametrize("change", ["key", "preprocessing", "picture"])
def test_what_an_answer_depends_on_is_asked_again(images, tmp_path, change):
    store = Store(tmp_path / "store")
    _rows(images, [_Counting()], store)
    other = _Counting("b") if change == "key" else _Counting()
    if change == "preprocessing":
        other = _Counting(preprocessing=dataclasses.replace(GEOMETRY, interpolation="bilinear"))
    if change == "picture":
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "images" / "0000.png")
        images = open_image_set(tmp_path / "images")
    _rows(images, [other], store)
    assert other.asked == (predictions.CHUNK - 1 if change == "picture" else len(images.references) - 1)


def test_a_damaged_chunk_is_answered_again(images, tmp_path):
    store = Store(tmp_path / "store")
    _, rows = _rows(images, [_Counting()], store)
    damaged = sorted((tmp_path / "store").glob("*/*"))
    damaged[0].write_bytes(damaged[0].read_bytes()[:50])
    damaged[1].write_bytes(b"")
    _, again = _rows(images, [_Counting()], store)
    np.testing.assert_array_equal(again["a"], rows["a"])


def test_a_store_that_cannot_be_written_costs_nothing_but_time(images, tmp_path):
    (tmp_path / "store").write_text("a file where the folder should be")
    _, rows = _rows(images, [_Counting()], Store(tmp_path / "store"))
    assert len(rows["a"]) == len(images.references) - 1


def test_the_store_keeps_within_its_limit(tmp_path):
    import os

    store = Store(tmp_path, limit_bytes=3000)
    for index, key in enumerate(("aa", "bb", "cc", "dd")):
        store.write(key * 8, bytes(1000), "answers", key)
        (path,) = tmp_path.glob(f"{key}/*")
        os.utime(path, (index, index))
    assert store.read("aa" * 8) is not None  # used just now
    store.prune()
    kept = {path.parent.name for path in tmp_path.glob("*/*")}
    assert kept == {"aa", "dd"}


def test_a_chunk_without_one_readable_image(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", b"no picture")
    (tmp_path / "images.zip").write_bytes(file.getvalue())
    images = open_image_set(tmp_path / "images.zip")
    found, rows = _rows(images, [_Counting()], Store(None))
    assert len(found[0].unreadable) == 1
    assert len(rows["a"]) == 0


def test_how_many_work_changes_no_answer_and_no_order(images):
    batched = [_Counting(), _Counting(), _Counting()]
    found = [
        list(predictions.Run(images, images.references, [model.model], Store(None)).answers(workers))
        for model, workers in zip(batched, (1, 2, 5), strict=True)
    ]
    for other in found[1:]:
        assert [chunk.references for chunk in other] == [chunk.references for chunk in found[0]]
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one.logits["a"], two.logits["a"])


def test_a_stop_does_not_wait_for_whole_chunks(images):
    started = threading.Event()

    def answer(pixels):
        started.set()
        return pixels.mean(axis=(1, 2))

    model = predictions.Model("slow", "slow", GEOMETRY, lambda workers: answer, batch=1)
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(predictions.CancelledError):
        predictions._answered(model.load(1), model.batch, [np.zeros((8, 8, 3), np.uint8)] * 3, stopped)
    assert not started.is_set()
    assert predictions._answered(model.load(1), model.batch, [np.zeros((8, 8, 3), np.uint8)] * 3, threading.Event())["read"].all()


def test_a_failure_ends_the_run(images):
    def fail(pixels):
        raise ValueError("no answer")

    model = predictions.Model("broken", "broken", GEOMETRY, lambda workers: fail)
    with pytest.raises(ValueError, match="no answer"):
        list(predictions.Run(images, images.references, [model], Store(None)).answers(2))


def test_the_first_model_answers_while_the_others_are_loaded(images):
    first, asked = _Counting(), threading.Event()

    def answer(pixels):
        asked.set()
        return first._answer(pixels)

    def load(workers):
        assert asked.wait(60), "the first model waits for the second"
        return first._answer

    models = [predictions.Model("first", "first", GEOMETRY, lambda workers: answer), predictions.Model("second", "second", GEOMETRY, load)]
    found = list(predictions.Run(images, images.references, models, Store(None)).answers(1))
    assert all((chunk.logits["first"] == chunk.logits["second"]).all() for chunk in found)


def test_each_model_answers_as_soon_as_it_is_loaded_and_no_image_twice(images):
    first, second, third = (_Counting(name) for name in "abc")
    loading_third, second_asked = threading.Event(), threading.Event()

    def first_answer(pixels):
        assert loading_third.wait(60), "the first model's answers hold up the others' loading"
        return first._answer(pixels)

    def second_answer(pixels):
        second_asked.set()
        return second._answer(pixels)

    def load_third(workers):
        loading_third.set()
        assert second_asked.wait(60), "the second model waits for the third"
        return third._answer

    models = [
        dataclasses.replace(first.model, load=lambda workers: first_answer),
        dataclasses.replace(second.model, load=lambda workers: second_answer),
        dataclasses.replace(third.model, load=load_third),
    ]
    found = list(predictions.Run(images, images.references, models, Store(None)).answers(1))
    assert [model.asked for model in (first, second, third)] == [len(images.references) - 1] * 3
    for chunk in found:
        np.testing.assert_array_equal(chunk.logits["a"], chunk.logits["b"])
        np.testing.assert_array_equal(chunk.logits["a"], chunk.logits["c"])
