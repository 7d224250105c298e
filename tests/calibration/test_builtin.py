"""The built-in set: the same bytes everywhere, and the statistics of photographs."""

import hashlib

import numpy as np
import pytest

from calibration import builtin
from calibration.builtin import generate
from tfvit.errors import UsageError
from tfvit.preprocessing import IMAGENET_MEAN, IMAGENET_STD

# A change of these bytes changes every artifact calibrated with the built-in set: raise builtin.VERSION with it.
GOLDEN = {
    (0, 32, 0): "593370e2f027d249d9a5ba351f9626bad613028ba2e60cda193bd0105b9766ba",
    (3, 224, 7): "5de67f2c3c5faeb22297b06bc0c9f27fee7e6606c5c1b637d9165be87928a885",
}
# 64 images leave the set's mean uncertain by 36 / sqrt(64), about 5 levels, on top of what the constants were tuned to
MEAN_TOLERANCE = 12.0
STD_TOLERANCE = 8.0
# Measured on 42 photographs at 224 px: slope -2.49 on average with deviation 0.33; kurtosis of the gradients 8 to 40, median 19;
# luma deviation of an image 36 to 62; 10 % to 90 % quantiles of the images' brightness 72 and 146
SLOPE_RANGE = (-2.8, -2.2)
KURTOSIS_RANGE = (12.0, 30.0)


@pytest.fixture(scope="module")
def images():
    return np.stack([generate(index, 224, 0) for index in range(64)])


@pytest.mark.parametrize("key", GOLDEN)
def test_bytes_are_the_same_everywhere(key):
    assert hashlib.sha256(generate(*key).tobytes()).hexdigest() == GOLDEN[key]


@pytest.mark.parametrize("size_px", [1, 32, 45, 100, 256])
def test_any_size(size_px):
    image = generate(1, size_px, 0)
    assert image.shape == (size_px, size_px, 3)
    assert image.dtype == np.uint8


def test_index_and_seed_make_other_images():
    first = generate(0, 32, 0)
    np.testing.assert_array_equal(first, generate(0, 32, 0))
    assert np.abs(first.astype(int) - generate(1, 32, 0)).mean() > 5
    assert np.abs(first.astype(int) - generate(0, 32, 1)).mean() > 5


def test_global_random_state_does_not_matter():
    np.random.seed(1)
    first = generate(0, 32, 0)
    np.random.seed(2)
    np.testing.assert_array_equal(first, generate(0, 32, 0))


@pytest.mark.parametrize(("index", "size_px", "seed"), [(-1, 32, 0), (0, 0, 0), (0, 32, -1)])
def test_impossible_arguments(index, size_px, seed):
    with pytest.raises(UsageError, match=f"index={index}, seed={seed}, size_px={size_px}"):
        generate(index, size_px, seed)


def test_channel_statistics(images):
    pixels = images.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(pixels.mean(axis=0), IMAGENET_MEAN, atol=MEAN_TOLERANCE)
    np.testing.assert_allclose(pixels.std(axis=0), IMAGENET_STD, atol=STD_TOLERANCE)


def test_images_differ_as_photographs_do(images):
    luma = images @ np.array([0.299, 0.587, 0.114])
    low, high = np.percentile(luma.mean(axis=(1, 2)), (10, 90))
    assert low < 90
    assert high > 140
    low, high = np.percentile(luma.std(axis=(1, 2)), (10, 90))
    assert low < 40
    assert high > 50
    assert not [index for index, image in enumerate(luma) if image.std() < 3], "an image of one colour calibrates nothing"


def test_power_spectrum(images):
    slopes = [_spectrum_slope(image) for image in images @ np.array([0.299, 0.587, 0.114])]
    assert SLOPE_RANGE[0] < np.mean(slopes) < SLOPE_RANGE[1]


def test_spectrum_slope_tells_noise_from_images():
    assert abs(_spectrum_slope(np.random.default_rng(0).normal(size=(224, 224)))) < 0.3


def test_gradients_have_heavy_tails(images):
    luma = images @ np.array([0.299, 0.587, 0.114])
    gradients = np.diff(luma, axis=2).reshape(len(images), -1)
    gradients -= gradients.mean(axis=1, keepdims=True)
    kurtosis = (gradients**4).mean(axis=1) / (gradients**2).mean(axis=1) ** 2
    assert KURTOSIS_RANGE[0] < np.median(kurtosis) < KURTOSIS_RANGE[1]


@pytest.mark.parametrize(("cover", "expected"), [(0, {100}), (1, {100, 200})])  # 100 also where the scene has no front at all
def test_background_shows_only_where_the_front_does_not_cover(cover, expected, monkeypatch):
    seen = set()
    for index in range(20):
        layers = iter([np.full((32, 32, 3), colour, np.float32) for colour in (100, 200)])
        monkeypatch.setattr(builtin, "_layer", lambda *_, layers=layers: (next(layers), np.full((32, 32, 1), cover, np.float32)))
        monkeypatch.setattr(builtin, "_light", lambda draws, scene_px: 1)
        seen |= set(np.unique(builtin._scene(builtin._Draws(index), 32)))
    assert seen == expected


def _spectrum_slope(luma):
    """Exponent of the radially averaged power spectrum."""
    side = luma.shape[0]
    window = np.hanning(side)
    power = np.abs(np.fft.fftshift(np.fft.fft2((luma - luma.mean()) * window[:, None] * window))) ** 2
    rows, columns = np.indices(power.shape) - side // 2
    radius = np.hypot(rows, columns).round().astype(int).ravel()
    average = np.bincount(radius, power.ravel()) / np.bincount(radius)
    used = np.arange(3, int(0.4 * side))
    return np.polyfit(np.log(used), np.log(average[used]), 1)[0]
