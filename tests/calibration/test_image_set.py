"""Folders and zips of images: what is found, what is chosen, what is read, and what is refused."""

import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration import decoding, files
from calibration.image_set import ImageReference, open_image_set
from tfvit.errors import InputError, UsageError, printable
from tfvit.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(resize_px=16, crop_px=12)
JPEG_TOLERANCE = 6  # levels: chroma and rounding of a JPEG of one colour
PHOTOS = Path(__file__).parents[2].parent / "shared" / "data" / "photos"


def encoded(color=(200, 100, 50), size=(20, 16), format="PNG", image=None, **options):
    file = io.BytesIO()
    (image or Image.new("RGB", size, color)).save(file, format, **options)
    return file.getvalue()


def different(count):
    return {f"{index:03}.png": encoded((index, 255 - index, index // 2)) for index in range(count)}


def write(folder, contents):
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def write_zip(path, contents):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def paths(references):
    return [reference.path for reference in references]


def read_one(tmp_path, content, name="a.png"):
    image_set = open_image_set(write(tmp_path, {name: content}))
    (pixels,) = image_set.read(image_set.references, PREPROCESSING)
    assert pixels.shape == (12, 12, 3)
    assert pixels.dtype == np.uint8
    return pixels


# ---- what is found


def test_folder_is_searched_recursively(tmp_path):
    image = encoded()
    names = ["b.png", "A.PNG", "cats/c.png", "cats/deep/d.png", "with space.png", "snow \u2603 \U0001f600.png", "new\nline.png"]
    write(tmp_path, dict.fromkeys([*names, ".hidden.png", ".cache/e.png", "__MACOSX/._b.png", "notes.txt", "README"], image))
    image_set = open_image_set(tmp_path)
    assert paths(image_set.references) == sorted(names)
    assert image_set.other_files == {"": 1, ".txt": 1}
    assert image_set.source == tmp_path.name
    assert len(list(image_set.read(image_set.references, PREPROCESSING))) == len(names)


def test_labels_are_the_folders_one_level_down(tmp_path):
    image = encoded()
    image_set = open_image_set(write(tmp_path, {"a.png": image, "cat/b.png": image, "cat/deep/c.png": image}))
    assert [reference.label for reference in image_set.references] == [None, "cat", None]


def test_undecodable_file_name(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"bad\xff.png")).write_bytes(encoded())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    image_set = open_image_set(tmp_path)
    assert len(list(image_set.read(image_set.shuffled(0), PREPROCESSING))) == 1
    assert printable(image_set.references[0].path).encode() == b"bad\\udcff.png"


def test_links_are_followed_once(tmp_path):
    write(tmp_path, {"a/b.png": encoded()})
    try:
        (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere.png")
    except OSError:
        pytest.skip("no symbolic links here")
    assert paths(open_image_set(tmp_path).references) == ["a/b.png"]


def test_pipes_are_not_opened(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    write(tmp_path, {"a.png": encoded()})
    os.mkfifo(tmp_path / "b.png")
    assert paths(open_image_set(tmp_path).references) == ["a.png"]


def test_source_is_no_machine_path(tmp_path, monkeypatch):
    folder = write(tmp_path / "my photos", {"a.png": encoded()})
    assert open_image_set(folder).source == "my photos"
    assert open_image_set(f"{folder}{os.sep}").source == "my photos"
    monkeypatch.chdir(folder)
    assert open_image_set(".").source == "my photos"


def test_folder_called_builtin(tmp_path, monkeypatch):
    write(tmp_path / "builtin", {"a.png": encoded()})
    monkeypatch.chdir(tmp_path)
    assert open_image_set("builtin").source == "builtin"
    assert open_image_set("./builtin").source == "./builtin"


@pytest.mark.parametrize(
    ("contents", "received"),
    [
        ({}, "no files at all"),
        ({"a.txt": b"a", "b/c.txt": b"b", "d.heic": b"c"}, r"3 files, none of them images \(2 \.txt, 1 \.heic\)"),
        ({".DS_Store": b"a"}, "no files at all"),
    ],
)
def test_folder_without_images(tmp_path, contents, received):
    with pytest.raises(InputError, match=received) as caught:
        open_image_set(write(tmp_path, contents))
    assert caught.value.exit_code == 3
    assert len(str(caught.value).splitlines()) <= 4


@pytest.mark.parametrize(("name", "content"), [("nowhere", None), ("photo.jpg", encoded()), ("broken.zip", b"PK\x03\x04 no zip")])
def test_neither_folder_nor_zip(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        open_image_set(tmp_path / name)


def test_folder_that_may_not_be_listed(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(files.os, "scandir", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        open_image_set(tmp_path)


# ---- zips


def test_zip_gives_what_the_folder_gives(tmp_path):
    contents = different(9) | {"cat/x.png": encoded((1, 2, 3)), "notes.txt": b""}
    folder = open_image_set(write(tmp_path / "set", contents))
    flat = open_image_set(write_zip(tmp_path / "flat.zip", contents))
    wrapped = open_image_set(write_zip(tmp_path / "wrapped.zip", {f"photos/{name}": content for name, content in contents.items()}))
    assert flat.source == "flat.zip"
    for archive in (flat, wrapped):
        assert archive.references == folder.references
        assert archive.other_files == folder.other_files
        assert archive.split(3, 3, 5) == folder.split(3, 3, 5)
        for one, other in zip(archive.read(archive.references, PREPROCESSING), folder.read(folder.references, PREPROCESSING), strict=True):
            np.testing.assert_array_equal(one, other)


def test_zip_tricks_are_harmless(tmp_path):
    names = ["../../up.png", "/etc/absolute.png", "back\\slash.png", "__MACOSX/._a.png", "plain.png", "folder.png/"]
    archive = write_zip(tmp_path / "set.zip", dict.fromkeys(names, encoded()))
    before = sorted(tmp_path.rglob("*"))
    image_set = open_image_set(archive)
    assert paths(image_set.references) == ["back/slash.png", "etc/absolute.png", "plain.png", "up.png"]
    assert len(list(image_set.read(image_set.references, PREPROCESSING))) == 4
    assert sorted(tmp_path.rglob("*")) == before


def test_damaged_zip_member_is_skipped(tmp_path):
    contents = different(12)
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as file:  # stored, so that the damage below meets the content and its check sum
        for name, content in contents.items():
            file.writestr(name, content)
    raw = archive.read_bytes()
    position = raw.index(contents["004.png"]) + 40
    archive.write_bytes(raw[:position] + bytes([raw[position] ^ 255]) + raw[position + 1 :])
    image_set = open_image_set(archive)
    assert len(list(image_set.read(image_set.references, PREPROCESSING))) == 11
    assert [(image.path, "CRC" in image.reason) for image in image_set.skipped] == [("004.png", True)]


def test_zip_member_that_unpacks_to_too_much_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 2**20)
    image_set = open_image_set(write_zip(tmp_path / "set.zip", {"bomb.png": bytes(2**20 + 1), "a.png": encoded()}))
    assert len(list(image_set.read(image_set.references, PREPROCESSING))) == 1
    assert image_set.skipped[0].path == "bomb.png"
    assert "larger than 1 MiB" in image_set.skipped[0].reason


def test_large_file_in_folder_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 2**20)
    image_set = open_image_set(write(tmp_path, {"bomb.png": bytes(2**20 + 1), "a.png": encoded()}))
    assert len(list(image_set.read(image_set.references, PREPROCESSING))) == 1


# ---- what is read


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_formats(tmp_path, format):
    pixels = read_one(tmp_path, encoded(format=format), f"a.{format.lower()}")
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() <= JPEG_TOLERANCE


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 90, (90, 90, 90)),
        ("1", 1, (255, 255, 255)),
        ("LA", (90, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("I;16", 0x8080, (128, 128, 128)),
    ],
)
def test_modes(tmp_path, mode, color, expected):
    pixels = read_one(tmp_path, encoded(image=Image.new(mode, (20, 16), color)))
    assert np.abs(pixels.astype(int) - expected).max() == 0


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (20, 16), 1)
    image.putpalette([9, 9, 9, 200, 0, 0])
    assert read_one(tmp_path / "opaque", encoded(image=image))[0, 0].tolist() == [200, 0, 0]
    assert read_one(tmp_path / "clear", encoded(image=image, transparency=1))[0, 0].tolist() == [255, 255, 255]


def test_cmyk_jpeg(tmp_path):
    pixels = read_one(tmp_path, encoded(image=Image.new("CMYK", (20, 16), (0, 255, 255, 0)), format="JPEG"), "a.jpg")
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= JPEG_TOLERANCE


def test_exif_rotation(tmp_path):
    image = Image.new("RGB", (16, 16), "black")
    image.paste("white", (0, 0, 16, 8))  # bright above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    pixels = read_one(tmp_path, encoded(image=image, format="JPEG", exif=exif, quality=95), "a.jpg")
    assert pixels[:, -1].mean() > 200
    assert pixels[:, 0].mean() < 50


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (20, 16), color) for color in ("red", "blue")]
    pixels = read_one(tmp_path, encoded(image=frames[0], format="GIF", save_all=True, append_images=frames[1:]), "a.gif")
    assert pixels[0, 0].tolist() == [255, 0, 0]


def test_content_counts_more_than_the_extension(tmp_path):
    assert read_one(tmp_path, encoded(format="PNG"), "a.jpg")[0, 0].tolist() == [200, 100, 50]


def huge_png():
    """A PNG header that announces 30,000 x 30,000 pixels."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
        + chunk(b"IEND", b"")
    )


UNREADABLE = {
    "text.jpg": (b"these are words", "not an image"),
    "empty.jpg": (b"", "not an image"),
    "truncated.jpg": (encoded(image=Image.effect_noise((64, 64), 50), format="JPEG")[:-900], "truncated"),
    "truncated.png": (encoded(image=Image.effect_noise((64, 64), 50))[:-900], "cannot be decoded"),
    "bomb.png": (huge_png(), "megapixels"),
    "strip.png": (encoded(size=(decoding.MAX_ASPECT + 1, 1)), "a strip"),
    "float.tiff": (encoded(image=Image.new("F", (20, 16), 0.5), format="TIFF"), "floating-point"),
    "nan.tiff": (encoded(image=Image.new("F", (20, 16), float("nan")), format="TIFF"), "floating-point"),
    "wide.tiff": (encoded(image=Image.new("I", (20, 16), 2**20), format="TIFF"), "32-bit"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_image_is_named_and_skipped(tmp_path, name):
    content, reason = UNREADABLE[name]
    image_set = open_image_set(write(tmp_path, {name: content} | different(3)))
    assert len(list(image_set.read(image_set.references, PREPROCESSING))) == 3
    assert [image.path for image in image_set.skipped] == [name]
    assert reason in image_set.skipped[0].reason
    with pytest.raises(decoding.UnreadableImageError, match=reason):
        decoding.check_decodes(content)


def test_image_without_area_is_unreadable():
    with pytest.raises(decoding.UnreadableImageError, match="no area"):  # Pillow refuses such files, but need not
        decoding._check_header(Image.new("RGB", (0, 16)))


def test_file_that_vanishes_is_skipped(tmp_path):
    image_set = open_image_set(write(tmp_path, different(3)))
    (tmp_path / "001.png").unlink()
    assert len(list(image_set.read(image_set.references, PREPROCESSING))) == 2
    assert "No such file" in image_set.skipped[0].reason


def test_reading_is_lazy_and_keeps_labels(tmp_path):
    image_set = open_image_set(write(tmp_path, {"cat/a.jpg": b"words", "cat/b.png": encoded(), "dog/c.png": encoded((1, 2, 3))}))
    stream = image_set.read_with_references(image_set.references, PREPROCESSING)
    assert image_set.skipped == []
    assert [(reference.label, pixels[0, 0].tolist()) for reference, pixels in stream] == [("cat", [200, 100, 50]), ("dog", [1, 2, 3])]
    assert len(image_set.skipped) == 1


def test_reading_stops_at_too_many_unreadable(tmp_path):
    broken = {f"broken {index}.jpg": b"words" for index in range(5)}
    image_set = open_image_set(write(tmp_path, different(25) | broken))  # 30 images: 3 are forgiven
    with pytest.raises(InputError, match=r"at most 3 (.|\n)*broken 0\.jpg (.|\n)*broken 4\.jpg") as caught:
        list(image_set.read(image_set.references, PREPROCESSING))
    assert len(caught.value.skipped) == 5  # all of them, so that they can be mended together


# ---- what is chosen


def test_split_is_disjoint_and_complete(tmp_path):
    image_set = open_image_set(write(tmp_path, different(40)))
    split = image_set.split(20, 10, 0)
    assert (len(split.calibration), len(split.held_out), split.note) == (20, 10, None)
    assert len(set(split.calibration) | set(split.held_out)) == 30


def test_split_depends_on_the_seed_alone(tmp_path, monkeypatch):
    contents = different(20)
    here = write(tmp_path / "here", contents)
    there = write(tmp_path / "elsewhere" / "there", dict(reversed(contents.items())))
    expected = open_image_set(here).split(8, 8, 3)
    assert open_image_set(there).split(8, 8, 3) == expected
    assert open_image_set(here).split(8, 8, 4) != expected
    scandir = os.scandir
    monkeypatch.setattr(files.os, "scandir", lambda folder: reversed(list(scandir(folder))))
    np.random.seed(7)
    assert open_image_set(here).split(8, 8, 3) == expected


def test_split_order_is_golden(tmp_path):
    """Every manifest's calibration block stands on this order."""
    image_set = open_image_set(write(tmp_path, different(6)))
    assert paths(image_set.shuffled(0)) == sorted(
        paths(image_set.references), key=lambda path: hashlib.sha256(f"0/{path}".encode()).digest()
    )


@pytest.mark.parametrize(
    ("samples", "held_out", "expected"),
    [
        (128, 64, (21, 21)),
        (21, 64, (21, 21)),
        (10, 64, (10, 32)),
        (30, 12, (30, 12)),
        (30, 13, (29, 13)),
        (128, 0, (42, 0)),
        (20, 0, (20, 0)),
    ],
)
def test_split_of_42_images(tmp_path, samples, held_out, expected):
    split = open_image_set(write(tmp_path, different(42))).split(samples, held_out, 0)
    assert (len(split.calibration), len(split.held_out)) == expected
    assert (split.note is None) == (samples + held_out <= 42)
    if split.note is not None:
        assert f"has 42 images where {samples} to calibrate" in split.note


@pytest.mark.parametrize("contents", [different(1), dict.fromkeys(["a.png", "b.png", "c.png"], encoded())])
def test_single_image_cannot_be_split(tmp_path, contents):
    with pytest.raises(InputError, match="at least 2 different"):
        open_image_set(write(tmp_path, contents)).split(10, 10, 0)


@pytest.mark.parametrize("arguments", [(0, 1, 0), (1, -1, 0), (1, 1, -1)])
@pytest.mark.parametrize("source", ["builtin", "folder"])
def test_impossible_split(tmp_path, arguments, source):
    image_set = open_image_set("builtin" if source == "builtin" else write(tmp_path, different(3)))
    with pytest.raises(UsageError):
        image_set.split(*arguments)


def test_unreadable_image_is_replaced_by_the_next(tmp_path):
    image_set = open_image_set(write(tmp_path, different(60)))
    order = image_set.shuffled(0)
    for reference in (order[2], order[25]):
        (tmp_path / reference.path).write_bytes(b"words")
    split = image_set.split(20, 10, 0)
    usable = [reference for reference in order if reference not in (order[2], order[25])]
    assert split.calibration == tuple(usable[:20])
    assert split.held_out == tuple(usable[20:30])
    assert split.note is None
    assert paths([order[2], order[25]]) == [image.path for image in image_set.skipped]
    assert image_set.split(20, 10, 0) == split
    assert len(image_set.skipped) == 2


def test_split_stops_at_too_many_unreadable(tmp_path):
    image_set = open_image_set(write(tmp_path, different(60)))
    for reference in image_set.shuffled(0)[:4]:
        (tmp_path / reference.path).write_bytes(b"words")
    with pytest.raises(InputError, match="at most 3 ") as caught:
        image_set.split(20, 10, 0)
    assert caught.value.exit_code == 3
    assert len(str(caught.value).splitlines()) <= 4


def test_identical_images_are_chosen_once(tmp_path):
    contents = different(20)
    copies = {f"copy of {name}": content for name, content in contents.items()}
    image_set = open_image_set(write(tmp_path, contents | copies))
    split = image_set.split(10, 10, 0)
    hashes = [hashlib.sha256((tmp_path / reference.path).read_bytes()).digest() for reference in split.calibration + split.held_out]
    assert len(set(hashes)) == len(hashes) == 20
    split = image_set.split(100, 100, 0)
    assert "has 20 images (0 unreadable and 20 identical to another left out)" in split.note


# ---- digests


def test_digest_is_of_the_chosen_content_in_order(tmp_path):
    contents = different(6)
    image_set = open_image_set(write(tmp_path / "one", contents))
    references = image_set.references[:3]
    expected = hashlib.sha256(b"".join(hashlib.sha256(contents[reference.path]).digest() for reference in references)).hexdigest()
    assert image_set.digest(references, PREPROCESSING) == expected
    assert image_set.digest(references[::-1], PREPROCESSING) != expected
    assert image_set.digest(image_set.references[:2], PREPROCESSING) != expected
    write(tmp_path / "one", {references[0].path: encoded((77, 77, 77))})
    assert open_image_set(tmp_path / "one").digest(references, PREPROCESSING) != expected


def test_digest_of_an_unreadable_file(tmp_path):
    image_set = open_image_set(write(tmp_path, different(2)))
    (tmp_path / "000.png").unlink()
    with pytest.raises(InputError, match=r"000\.png"):
        image_set.digest(image_set.references, PREPROCESSING)


# ---- the built-in set


def test_builtin():
    image_set = open_image_set("builtin")
    split = image_set.split(3, 2, 9)
    assert (len(split.calibration), len(split.held_out), split.note) == (3, 2, None)
    assert not set(split.calibration) & set(split.held_out)
    assert (image_set.source, image_set.skipped) == ("builtin", [])
    shapes = {pixels.tobytes(): pixels.shape for pixels in image_set.read(split.calibration + split.held_out, PREPROCESSING)}
    assert list(shapes.values()) == [(12, 12, 3)] * 5


def test_builtin_digest_names_version_seed_and_size(monkeypatch):
    image_set = open_image_set("builtin")
    references = image_set.split(3, 0, 9).calibration
    digests = [
        image_set.digest(references, PREPROCESSING),
        image_set.digest(image_set.split(3, 0, 8).calibration, PREPROCESSING),
        image_set.digest(image_set.split(4, 0, 9).calibration, PREPROCESSING),
        image_set.digest(references, Preprocessing(resize_px=32, crop_px=32)),
    ]
    monkeypatch.setattr("calibration.builtin.VERSION", 10**6)
    digests.append(image_set.digest(references, PREPROCESSING))
    assert len(set(digests)) == 5


# ---- photographs


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs in ../shared/data are not here")
def test_photographs():
    image_set = open_image_set(PHOTOS)
    split = image_set.split(128, 64, 0)
    assert (len(split.calibration), len(split.held_out)) == (21, 21)
    pixels = next(image_set.read(split.calibration, Preprocessing.for_image_size(224)))
    assert pixels.shape == (224, 224, 3)
    assert split.calibration[0] == ImageReference(split.calibration[0].path, None)
