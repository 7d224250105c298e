"""The images of a conversion: read ahead on a thread of its own, and what goes wrong there told where the pixels are asked for."""

import threading

import numpy as np
import pytest
from PIL import Image

from calibration.image_set import open_image_set
from edge.conversion.images import Images
from tfvit.errors import InputError
from tfvit.preprocessing import Preprocessing

SIZE = Preprocessing.for_image_size((32, 32), 1.0)


def _folder(folder, count):
    rng = np.random.default_rng(0)
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{index}.png")
    return folder


def _images(folder, calibration):
    images = open_image_set(str(folder))
    return Images(images, images.split(calibration, 2, 0), SIZE)


def test_reading_ahead_gives_the_same_pixels(tmp_path):
    _folder(tmp_path, 8)
    plain, ahead = _images(tmp_path, 6), _images(tmp_path, 6)
    ahead.read_ahead()
    np.testing.assert_array_equal(ahead.calibration, plain.calibration)
    assert ahead.calibration.shape == (6, 32, 32, 3)


def test_images_are_read_once(tmp_path, monkeypatch):
    images = _images(_folder(tmp_path, 8), 6)
    read, here = [], threading.get_ident()
    pixels = images.image_set.pixels
    monkeypatch.setattr(images.image_set, "pixels", lambda *given: read.append(threading.get_ident()) or pixels(*given))
    images.read_ahead()
    images.read_ahead()
    assert images.calibration is images.calibration
    assert len(read) == 6
    assert here not in read


def test_an_error_waits_for_who_asks(tmp_path):
    images = _images(_folder(tmp_path, 8), 6)
    for path in tmp_path.iterdir():
        path.write_bytes(b"no image any more")
    images.read_ahead()
    with pytest.raises(InputError, match="unreadable"):
        _ = images.calibration
