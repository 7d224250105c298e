"""`python -m calibration.inspect`: every check can fail, and every exit code is met."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration import builtin, checks, inspect, stability, survey
from calibration.decoding import decode
from calibration.inspect import main as command
from tfvit.preprocessing import to_rgb

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT.parent / "shared" / "data" / "photos"
HELP_SECONDS = 2.0  # 0.25 s on an idle machine; the rest is for busy ones


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def write(folder, contents):
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return str(folder)


def main(arguments):
    """The command without the model, which has tests of its own below."""
    return command([*arguments, "--no-ranges"])


@pytest.fixture(scope="module")
def scenes():
    """Sixteen natural-looking images; 32 px, so that generating and reading them is quick."""
    return {f"{index:02}.png": encoded(Image.fromarray(builtin.generate(index, 32, 0))) for index in range(16)}


@pytest.fixture(autouse=True)
def small_input(monkeypatch):
    """The checks do not depend on the variant's size; a small one keeps the tests quick."""
    variant = inspect.find_variant("small224")
    small = type(variant.preprocessing)(resize_px=32, crop_px=32)
    monkeypatch.setattr(inspect, "find_variant", lambda name: type("Small", (), {"id": name, "preprocessing": small}))


def document(capfd, *arguments, code):
    assert main([*arguments, "--json", "--quiet"]) == code
    captured = capfd.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def statuses(found):
    return {check["name"]: check["status"] for check in found["checks"]}


def test_good_set_passes(tmp_path, scenes, capfd, monkeypatch):
    monkeypatch.setattr(inspect, "ADVISED_IMAGES", 16)
    found = document(capfd, write(tmp_path / "set", scenes | {"cat/a.png": scenes["00.png"], "notes.txt": b""}), code=0)
    assert found["passed"] is True
    assert statuses(found) == {
        "readable": "ok",
        "count": "ok",
        "duplicates": "warn",
        "sizes": "ok",
        "content": "ok",
        "colour": "ok",
        "brightness": "ok",
        "contrast": "ok",
        "channel order": "ok",
    }
    assert found["source"] == "set"
    assert found["images"] == {"found": 17, "readable": 17, "labels": {"cat": 1}}
    assert found["other_files"] == {".txt": 1}
    assert found["duplicates"] == [["00.png", "cat/a.png"]]
    assert found["sizes"]["width"] == {"min_px": 32, "median_px": 32, "max_px": 32}
    assert found["overlap"] is None


def test_channel_statistics_are_over_all_pixels(tmp_path, scenes, capfd):
    found = document(capfd, write(tmp_path, scenes), code=0)
    pixels = np.stack([np.asarray(decode(content)) for content in scenes.values()]).reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(found["channels"]["mean"], pixels.mean(axis=0), atol=1e-3)  # printed with three decimals
    np.testing.assert_allclose(found["channels"]["std"], pixels.std(axis=0), atol=1e-3)


@pytest.mark.parametrize(("broken", "status", "code"), [(1, "warn", 0), (5, "fail", 1)])
def test_unreadable(tmp_path, scenes, capfd, broken, status, code):
    found = document(capfd, write(tmp_path, scenes | {f"broken {index}.jpg": b"words" for index in range(broken)}), code=code)
    assert statuses(found)["readable"] == status
    assert found["passed"] is (code == 0)
    assert found["unreadable"][0] == {"path": "broken 0.jpg", "reason": "not an image in a known format"}


def test_single_image(tmp_path, scenes, capfd):
    assert statuses(document(capfd, write(tmp_path, {"a.png": scenes["00.png"]}), code=1))["count"] == "fail"


def test_few_images(tmp_path, scenes, capfd):
    assert statuses(document(capfd, write(tmp_path, scenes), code=0))["count"] == "warn"


def test_many_duplicates(tmp_path, scenes, capfd):
    copies = {f"copy of {name}": content for name, content in scenes.items()}
    found = document(capfd, write(tmp_path, scenes | copies), code=1)
    assert statuses(found)["duplicates"] == "fail"
    assert len(found["duplicates"]) == 16


def test_small_images(tmp_path, capfd):
    images = {f"{index}.png": encoded(Image.fromarray(builtin.generate(index, 16, 0))) for index in range(8)}
    assert statuses(document(capfd, write(tmp_path, images), code=0))["sizes"] == "warn"


def plain(color):
    return encoded(Image.new("RGB", (32, 32), color))


def test_one_colour(tmp_path, scenes, capfd):
    found = document(capfd, write(tmp_path / "all", {"a.png": plain((200, 90, 60)), "b.png": plain((90, 60, 30))}), code=1)
    assert statuses(found)["content"] == "fail"
    found = document(capfd, write(tmp_path / "one", scenes | {"x.png": plain((200, 90, 60))}), code=0)
    assert statuses(found)["content"] == "warn"
    assert found["one_colour"] == ["x.png"]


def changed(scenes, change):
    return {
        name: encoded(Image.fromarray(change(np.asarray(decode(content)).astype(float)).astype(np.uint8)))
        for name, content in scenes.items()
    }


def test_grayscale(tmp_path, scenes, capfd):
    gray = {name: encoded(decode(content).convert("L")) for name, content in scenes.items()}
    assert statuses(document(capfd, write(tmp_path / "all", gray), code=0))["colour"] == "warn"
    found = document(capfd, write(tmp_path / "one", scenes | {"gray.png": gray["00.png"]}), code=0)
    assert statuses(found)["colour"] == "ok"
    assert found["grayscale"] == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda pixels: pixels * 0.55, "warn"),
        (lambda pixels: pixels * 0.15, "fail"),
        (lambda pixels: 255 - (255 - pixels) * 0.1, "fail"),
        (lambda pixels: pixels / 255, "fail"),  # already normalised to 0..1
        (lambda pixels: np.clip((pixels - 118) / 57, 0, 255), "fail"),  # already normalised
    ],
)
def test_brightness(tmp_path, scenes, capfd, change, status):
    found = document(capfd, write(tmp_path, changed(scenes, change)), code=int(status == "fail"))
    assert statuses(found)["brightness"] == status


def test_normalised_images_are_called_so(tmp_path, scenes, capfd):
    assert main([write(tmp_path, changed(scenes, lambda pixels: pixels / 255)), "--quiet"]) == 1
    assert "already normalised?" in capfd.readouterr().out


@pytest.mark.parametrize(("factor", "status"), [(0.45, "warn"), (0.1, "fail")])
def test_contrast(tmp_path, scenes, capfd, factor, status):
    found = document(capfd, write(tmp_path, changed(scenes, lambda pixels: 118 + (pixels - 118) * factor)), code=int(status == "fail"))
    assert statuses(found)["contrast"] == status


def test_swapped_channels(tmp_path, scenes, capfd):
    assert statuses(document(capfd, write(tmp_path, changed(scenes, lambda pixels: pixels[..., ::-1])), code=0))["channel order"] == "warn"


def test_nan_fails():
    assert checks._status(abs(float("nan")) <= 1, abs(float("nan")) <= 2) == "fail"


# ---- overlap with a validation set


def test_no_overlap(tmp_path, scenes, capfd):
    names = sorted(scenes)
    here = write(tmp_path / "here", {name: scenes[name] for name in names[:8]} | {"plain.png": plain((9, 9, 9))})
    there = write(tmp_path / "there", {name: scenes[name] for name in names[8:]} | {"plain.png": plain((200, 200, 200))})
    found = document(capfd, here, "--validation", there, code=0)
    assert statuses(found)["overlap"] == "ok"
    assert found["overlap"] == {"identical": [], "near": []}


def test_overlap(tmp_path, scenes, capfd):
    names = sorted(scenes)
    here = write(tmp_path / "here", {name: scenes[name] for name in names[:8]})
    similar = encoded(decode(scenes[names[1]]), "JPEG", quality=60)
    there = write(tmp_path / "there", {name: scenes[name] for name in names[8:]} | {"same.png": scenes[names[0]], "similar.jpg": similar})
    found = document(capfd, here, "--validation", there, code=1)
    assert statuses(found)["overlap"] == "fail"
    assert found["overlap"] == {"identical": [[names[0], "same.png"]], "near": [[names[1], "similar.jpg"]]}
    assert main([here, "--validation", there, "--quiet"]) == 1
    assert f"{names[1]} ~ similar.jpg" in capfd.readouterr().out


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs in ../shared/data are not here")
def test_fingerprint_tells_copies_from_other_photographs():
    photos = [to_rgb(Image.open(path)) for path in sorted(PHOTOS.iterdir())[:20]]
    prints = [survey._fingerprint(photo) for photo in photos]
    distances = [np.bitwise_count(one ^ other).sum() for index, one in enumerate(prints) for other in prints[:index]]
    assert min(distances) > survey.NEAR_BITS
    copies = [decode(encoded(photo.resize((photo.width // 2, photo.height // 2)), "JPEG", quality=50)) for photo in photos]
    assert (
        max(np.bitwise_count(one ^ survey._fingerprint(copy)).sum() for one, copy in zip(prints, copies, strict=True)) <= survey.NEAR_BITS
    )


# ---- the command


def test_table(tmp_path, scenes, capfd):
    folder = write(tmp_path / "set", scenes | {"bad\nname.jpg": b"words", "copy.png": scenes["03.png"], "x.txt": b""})
    assert main([folder]) == 0
    captured = capfd.readouterr()
    assert "set for small224: 18 images, 17 readable" in captured.out
    assert "bad\\nname.jpg: not an image in a known format" in captured.out
    assert "03.png = copy.png" in captured.out
    assert "1 .txt" in captured.out
    assert captured.err.startswith("reading (18): ")
    assert len(captured.err.splitlines()) <= 10


def test_every_unreadable_image_is_named(tmp_path, scenes, capfd):
    """More than edge.convert forgives: nothing is run, and all are named at once."""
    import zipfile

    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name, content in (scenes | {f"broken {index}.jpg": b"words" for index in range(9)}).items():
            archive.writestr(name, content)
    assert main([str(tmp_path / "set.zip"), "--quiet", "--variant", "nano32"]) == 1
    captured = capfd.readouterr()
    assert [index for index in range(9) if f"broken {index}.jpg: not an image" in captured.out] == list(range(9))
    assert "fail  readable" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 2), (["--nonsense", "x"], 2), (["--help"], 0), (["builtin"], 2), (["/no/such/folder"], 3)]
)
def test_exit_codes(arguments, code, capfd):
    assert main(arguments) == code
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    assert (captured.out != "") == (code == 0)


def test_unknown_variant(tmp_path, scenes, capfd, monkeypatch):
    monkeypatch.undo()
    assert main([write(tmp_path, scenes), "--variant", "smal224"]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "did you mean small224" in captured.err
    assert main([write(tmp_path, scenes), "--variant", "v2-tiny256", "--quiet"]) == 0
    assert "for v2_tiny256" in capfd.readouterr().out


@pytest.mark.parametrize("contents", [{}, {"a.txt": b"words"}, {"a.jpg": b"words", "b.jpg": b"words"}])
def test_unusable_folder(tmp_path, contents, capfd):
    assert main([write(tmp_path, contents), "--quiet"]) == 3
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert len(captured.err.splitlines()) <= 4


def test_debug_shows_the_traceback(capfd):
    assert main(["/no/such/folder", "--debug"]) == 3
    assert "Traceback" in capfd.readouterr().err


def test_help_is_quick_and_needs_no_framework():
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from calibration.inspect import main; rc = main(['--help'])\n"
        "loaded = {'tensorflow', 'keras', 'edge', 'jax', 'torch'} & set(sys.modules)\n"
        "print(rc, sorted(loaded), time.perf_counter() - start, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "--validation" in done.stdout
    rc, loaded, seconds = done.stderr.split()
    assert (rc, loaded) == ("0", "[]")
    assert float(seconds) < HELP_SECONDS


@pytest.mark.parametrize(("odd", "status"), [(False, "ok"), (True, "warn")])
def test_range_stability(tmp_path, capfd, monkeypatch, odd, status):
    monkeypatch.undo()
    pictures = [builtin.generate(index, 32, 0) for index in range(24)]
    if odd:  # all but one have hardly any contrast: that one makes every range
        pictures = [pixels // 16 + 112 for pixels in pictures[1:]] + [np.indices((32, 32, 3)).sum(0) % 2 * 255]
    contents = {f"{index:02}.png": encoded(Image.fromarray(pixels.astype(np.uint8))) for index, pixels in enumerate(pictures)}
    code = command([write(tmp_path, contents), "--variant", "nano32", "--json", "--quiet"])
    found = json.loads(capfd.readouterr().out)
    assert (code, statuses(found)["range stability"]) == (0, status)
    ranges = found["ranges"]
    assert ranges["images"] == 24
    assert ranges["weights"]["source"] == "cifar10"
    assert not ranges["weights"]["random"]
    assert {"patch_embedding", "stage3_block2", "head"} <= {layer["layer"] for layer in ranges["layers"]}
    assert ranges["layers"] == sorted(ranges["layers"], key=lambda layer: layer["stability"])


def test_stability_of_known_extremes():
    steady = np.tile([-1.0, 1.0], (10, 1))
    one_makes_it = np.tile([0.0, 1.0], (10, 1))
    one_makes_it[3] = [0.0, 4.0]
    constant = np.zeros((10, 2))
    ranges = stability.layer_ranges(["steady", "one", "constant"], np.stack([steady, one_makes_it, constant], axis=1))
    assert ranges[0] == stability.LayerRange("one", 0.0, 4.0, 0.25)
    assert {one.layer: one.stability for one in ranges} == {"one": 0.25, "steady": 1.0, "constant": 1.0}


@pytest.mark.slow
def test_random_weights_are_labelled(tmp_path, scenes, capfd, monkeypatch):
    monkeypatch.undo()
    assert command([write(tmp_path, scenes), "--variant", "nano32", "--weights", "random:3"]) == 0
    captured = capfd.readouterr()
    assert "RANDOM weights" in captured.out


def test_unknown_weights(tmp_path, scenes, capfd, monkeypatch):
    monkeypatch.undo()
    assert command([write(tmp_path, scenes), "--variant", "nano32", "--weights", "imagenot"]) == 3
    assert "unknown weights" in capfd.readouterr().err
