"""Preprocessing: geometry, colour and normalisation of the published evaluation."""

import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

from tfvit.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, normalize, resize_and_crop, to_rgb


def saved(image, format="PNG", **options):
    """The image as Pillow opens it from a file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return Image.open(io.BytesIO(file.getvalue()))


def columns(width, height):
    """An image whose red is the column's number."""
    return Image.fromarray(np.broadcast_to(np.arange(width, dtype=np.uint8)[None, :, None], (height, width, 3)).copy())


def test_published_protocol():
    assert Preprocessing.for_image_size(224).resize_px == 256
    assert Preprocessing.for_image_size(256).resize_px == 292
    assert Preprocessing.for_image_size(384, crop_fraction=1.0).resize_px == 384


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (64, 64), (20, 16), (1, 1), (1, 40), (683, 512)])
@pytest.mark.parametrize("keep_aspect", [True, False])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_shape(size, keep_aspect, interpolation):
    preprocessing = Preprocessing(resize_px=37, crop_px=32, interpolation=interpolation, keep_aspect=keep_aspect)
    pixels = resize_and_crop(Image.new("RGB", size, (1, 2, 3)), preprocessing)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (1, 2, 3)).all()


@pytest.mark.parametrize(
    ("width", "first"),
    # int(round((width - 32) / 2)), which rounds half to even: torchvision's CenterCrop
    [(32, 0), (34, 1), (35, 2), (37, 2), (39, 4), (100, 34)],
)
def test_crop_is_central_as_in_torchvision(width, first):
    pixels = resize_and_crop(columns(width, 32), Preprocessing(resize_px=32, crop_px=32))
    assert pixels[0, 0, 0] == first
    assert pixels[0, -1, 0] == first + 31


def test_long_side_is_rounded_down_as_in_torchvision():
    """683 x 512 at 256 px is 341.5 x 256: torchvision makes it 341, and the crop starts at round(42.5) = 42."""
    image = Image.effect_noise((683, 512), 80).convert("RGB")
    expected = np.asarray(image.resize((341, 256), Image.Resampling.BICUBIC))[:, 42 : 42 + 256]
    np.testing.assert_array_equal(resize_and_crop(image, Preprocessing(resize_px=256, crop_px=256)), expected)


def test_squashed_without_aspect():
    pixels = resize_and_crop(columns(200, 20), Preprocessing(resize_px=40, crop_px=40, keep_aspect=False))
    assert pixels[0, 0, 0] < 10
    assert pixels[0, -1, 0] > 189


def test_geometry_is_the_manifest_block():
    assert Preprocessing(256, 224).geometry() == {"resize_px": 256, "crop_px": 224, "interpolation": "bicubic", "keep_aspect": True}


WORDS = [
    (Preprocessing(36, 32), "its short side resized to 36 (bicubic, antialiased), its centre of 32 x 32 cut out"),
    (Preprocessing(32, 32, "bilinear"), "its short side resized to 32 (bilinear, antialiased), its centre of 32 x 32 cut out"),
    (Preprocessing(32, 32, keep_aspect=False), "resized to 32 x 32 (bicubic, antialiased)"),
    (Preprocessing(36, 32, keep_aspect=False), "resized to 36 x 36 (bicubic, antialiased), its centre of 32 x 32 cut out"),
    (
        Preprocessing((27, 55), (24, 48)),
        "resized until it covers 55 wide and 27 high (bicubic, antialiased), its centre of 48 wide and 24 high cut out",
    ),
    (Preprocessing(32, 32, pad=114), "resized to fit into 32 x 32 (bicubic, antialiased), centred, the rest filled with 114"),
]


@pytest.mark.parametrize(("preprocessing", "words"), WORDS, ids=[str(index) for index in range(len(WORDS))])
def test_what_to_do_with_an_image_in_words_and_as_json(preprocessing, words):
    assert preprocessing.words() == words
    assert Preprocessing(**json.loads(json.dumps(preprocessing.geometry()))) == preprocessing


@pytest.mark.parametrize(
    ("size", "inside"),
    # what tf.image.resize_with_pad leaves between its margins: rounded down, the odd pixel right and below
    [
        ((100, 50), (0, 8, 32, 24)),
        ((50, 100), (8, 0, 24, 32)),
        ((64, 64), (0, 0, 32, 32)),
        ((97, 61), (0, 6, 32, 26)),
        ((900, 3), (0, 15, 32, 16)),
    ],
)
def test_a_padded_image_is_whole_and_in_the_middle(size, inside):
    pixels = resize_and_crop(Image.new("RGB", size, (200, 100, 50)), Preprocessing(32, 32, pad=7))
    left, top, right, bottom = inside
    assert (pixels[top:bottom, left:right] == (200, 100, 50)).all()
    assert (pixels == 7).all(axis=2).sum() == 32 * 32 - (right - left) * (bottom - top)


def test_a_padded_image_is_pillow_s_between_the_margins():
    image = Image.effect_noise((683, 512), 80).convert("RGB")
    pixels = resize_and_crop(image, Preprocessing(64, 64, "bilinear", pad=0))
    np.testing.assert_array_equal(pixels[8:55], np.asarray(image.resize((64, 47), Image.Resampling.BILINEAR)))


def test_inputs_that_are_no_squares():
    """Covered by the whole image in its aspect, squashed, or padded: [24, 48] is the height and the width."""
    image = columns(200, 20)
    assert resize_and_crop(image, Preprocessing((24, 48), (24, 48), keep_aspect=False)).shape == (24, 48, 3)
    covered = resize_and_crop(image, Preprocessing((24, 48), (24, 48)))  # 240 x 24, of which the middle fifth is seen
    assert covered.shape == (24, 48, 3)
    assert 78 <= covered[0, 0, 0] <= 82 and 118 <= covered[0, -1, 0] <= 121  # noqa: PT018
    tall = resize_and_crop(columns(48, 480), Preprocessing((24, 48), (24, 48)))  # already as wide: cut above and below alone
    np.testing.assert_array_equal(tall[0, :, 0], np.arange(48))
    padded = resize_and_crop(image, Preprocessing((24, 48), (24, 48), pad=255))  # 48 x 4
    assert (padded[:10] == 255).all() and (padded[14:] == 255).all() and (padded[10:14] < 200).all()  # noqa: PT018


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), {}),
        (Image.new("LA", (4, 4), (0, 0)), {}),
        (Image.new("RGB", (4, 4), (255, 0, 0)), {"transparency": (255, 0, 0)}),
        (Image.new("L", (4, 4), 7), {"transparency": 7}),
        (Image.new("P", (4, 4), 0), {"transparency": 0}),
    ],
    ids=["RGBA", "LA", "RGB key", "L key", "palette"],
)
def test_transparency_is_laid_over_white(image, options):
    opened = saved(image, **options)
    assert opened.has_transparency_data
    rgb = to_rgb(opened)
    assert rgb.mode == "RGB"
    assert rgb.getpixel((0, 0)) == (255, 255, 255)


def test_half_transparent():
    assert to_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 128))).getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grayscale_is_scaled(format):
    ramp = np.array([[0, 257 * 100, 257 * 100 + 129, 65535]], np.uint16)
    opened = saved(Image.fromarray(ramp), format)
    assert opened.mode.startswith("I")
    assert np.asarray(to_rgb(opened))[0, :, 0].tolist() == [0, 100, 101, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV"])
def test_other_modes(mode):
    assert to_rgb(Image.new(mode, (4, 4))).mode == "RGB"


def test_exif_rotation():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert to_rgb(saved(Image.new("RGB", (8, 4)), "JPEG", exif=exif)).size == (4, 8)


def test_normalize_numpy():
    preprocessing = Preprocessing(256, 224)
    pixels = np.array([[[0, 128, 255]]], np.uint8)
    expected = (pixels.astype(np.float64) - IMAGENET_MEAN) / IMAGENET_STD
    result = normalize(pixels, preprocessing)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)  # a few float32 roundings
    assert normalize(pixels.astype(np.float16), preprocessing).dtype == np.float16
    assert np.isnan(normalize(np.full((1, 1, 3), np.nan, np.float32), preprocessing)).all()


def test_normalize_tensor_gives_what_numpy_gives():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3)).astype(np.uint8)
    preprocessing = Preprocessing(256, 224)
    for values in (pixels, pixels.astype(np.float32)):
        result = normalize(keras.ops.convert_to_tensor(values), preprocessing)
        assert keras.backend.standardize_dtype(result.dtype) == "float32"
        np.testing.assert_allclose(keras.ops.convert_to_numpy(result), normalize(values, preprocessing), rtol=1e-6, atol=1e-6)
