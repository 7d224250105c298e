"""The page of edge.bundle --web in headless Chromium, on WebAssembly and on WebGPU: its pixels, its answers, its report, its looks.

`make browser` fetches LiteRT.js into build/litert_js; without it, or without Chromium, these tests are skipped. WebGPU is SwiftShader's:
right numbers, meaningless milliseconds.
"""

import base64
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import edge
from calibration import builtin
from edge import bundle, convert
from edge.android import package
from edge.artifacts import artifact
from edge.artifacts.store import FOLDER_VARIABLE, Store
from edge.drift.metrics import sigmoid, softmax
from edge.latency import protocol
from edge.report import __main__ as report_command
from edge.runtime.cpu import Interpreter
from edge.web import certificate, litert_js, reports, server, site
from tests.edge.report.test_page import _OVERFLOW, _TEXTS, LEAST_CONTRAST, LEAST_LETTERS_PX
from tests.edge.small_models import MICRO, SEED, build
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE
from tfvit.preprocessing import Preprocessing, resize_and_crop, to_rgb

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PHOTOS = ROOT.parent / "shared" / "data" / "photos"
LITERT_JS = ROOT / "build" / "litert_js"
NUMBER_OF_PHOTOS = 20
VIEWS = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]
RUN = "0123456789abcdef"
# A float model adds in another order, an 8-bit one rounds, a GPU computes in float16 where it can: the package has these tolerances
ERROR = {"wasm": {"float32": 1e-4, "float16": 1e-4, "int8": 0.05}, "webgpu": {"float32": 0.05, "float16": 0.05, "int8": 0.05}}
# How far apart two scores may be that change places: in float never; WebAssembly's 8-bit kernels round some values otherwise
TIE = {"wasm": {"float32": 0.0, "float16": 0.0, "int8": 0.001}, "webgpu": {"float32": 0.0, "float16": 0.0, "int8": 0.001}}
# Transparent pixels are laid over white by the browser, which rounds differently from Pillow
BLENDED = 1
FLAGS = ["--no-sandbox", "--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-webgpu-adapter=swiftshader"]
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def playwright():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def chromium(playwright):
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium")
    browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *CAMERA])
    yield browser
    browser.close()


@pytest.fixture(scope="module", autouse=True)
def kept_litert_js():
    """The cache that the bundles here are made with."""
    kept = Store(LITERT_JS)
    if not all(litert_js.key_of(name) in kept for name in litert_js.INTEGRITY):
        pytest.skip("no LiteRT.js: make browser fetches it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(LITERT_JS))
        yield


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> Path:
    """The shipped nano32 in three recipes, and a plain ViT."""
    out = tmp_path_factory.mktemp("artifacts")
    for variant, recipes in (("nano32", "float32,float16,int8"), ("vit_nano32", "float32")):
        assert convert.main(["--variant", variant, "--quant", recipes, "--out", str(out), "--quiet", "--agreement-samples", "0"]) == EXIT_OK
    return out


@pytest.fixture(scope="module")
def folder(artifacts, tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("web") / "page"
    assert bundle.main([*map(str, sorted(artifacts.glob("*.tflite"))), "--web", str(made), "--quiet"]) == EXIT_OK
    return made


class _Served:
    """A folder behind the server of edge.device, and what was sent to it."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.files, self.package = site.read_folder(folder)
        self.models = {(model["name"], model["sha256"]) for model in self.package["models"]}
        self.out, self.kept, self.url = out, [], ""

    def receive(self, body: bytes) -> str:
        self.kept.append(reports.save(self.out, reports.checked(body, RUN, self.models)))
        return f"The report is kept as {self.kept[-1].name}."


@pytest.fixture(scope="module")
def served(folder, tmp_path_factory) -> Iterator[_Served]:
    pytest.importorskip("cryptography", reason="the extra web")
    yield from _serve(folder, tmp_path_factory.mktemp("reports"))


def _serve(folder, out):
    one = _Served(folder, out)
    files = {**one.files, site.SESSION_FILE: site.session(RUN, "quick")}
    with server.serving(files, "token", one.receive, certificate.make_context("127.0.0.1")[0], "127.0.0.1") as port:
        one.url = f"https://127.0.0.1:{port}/token/"
        yield one


class _Opened:
    """The page in a tab, and what the browser complained of and asked for."""

    def __init__(self, chromium, url, width=390, scheme="light", **options) -> None:
        self.context = chromium.new_context(
            ignore_https_errors=True, viewport={"width": width, "height": 844}, color_scheme=scheme, permissions=["camera"], **options
        )
        self.page = self.context.new_page()
        self.problems, self.requests = [], []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("requestfailed", lambda request: self.problems.append(f"{request.url}: {request.failure}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)
        self.page.wait_for_selector("html[data-ready=true]")

    def module(self, code: str, argument=None):
        """What a function gives that is called with the page's modules and an argument."""
        names = ("pixels", "scores", "latency", "report", "bundle", "runtime")
        imports = ", ".join(f"import('./{name}.js')" for name in names)
        return self.page.evaluate(
            f"async (argument) => {{ const [{', '.join(names)}] = await Promise.all([{imports}]); {code} }}", argument
        )


@pytest.fixture(scope="module")
def opened(chromium, served):
    one = _Opened(chromium, served.url)
    yield one
    one.context.close()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _photos() -> list[Path]:
    if not PHOTOS.is_dir():
        pytest.skip("no photographs: ../shared/data/photos")
    return sorted(PHOTOS.glob("*.jpg"))[:NUMBER_OF_PHOTOS]


# ---- pixels

_PREPROCESS = """
  const bytes = Uint8Array.from(atob(argument.image), (letter) => letter.charCodeAt(0));
  const image = await pixels.decode(new Blob([bytes]));
  const made = argument.preprocessing ? pixels.preprocess(image, argument.preprocessing) : image.pixels;
  let text = '';
  for (let at = 0; at < made.length; at += 8192) text += String.fromCharCode(...made.subarray(at, at + 8192));
  return btoa(text);
"""


def _seen(opened, image: bytes, preprocessing: Preprocessing | None = None) -> np.ndarray:
    """Bytes of RGB as the page has them."""
    block = preprocessing and preprocessing.geometry()
    return np.frombuffer(base64.b64decode(opened.module(_PREPROCESS, {"image": _base64(image), "preprocessing": block})), np.uint8)


def _png(pixels: np.ndarray, **options) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", **options)
    return data.getvalue()


@functools.cache
def _scene(height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(builtin.generate(1, max(height, width), 7)).crop((0, 0, width, height)))


GEOMETRIES = {
    "short side": Preprocessing(256, 224),
    "bilinear": Preprocessing(256, 224, "bilinear"),
    "no crop": Preprocessing(32, 32),
    "wide": Preprocessing((120, 200), (96, 161)),
    "squash": Preprocessing(64, 64).squashed(),
    "squash and crop": Preprocessing(71, 64, keep_aspect=False),
    "pad": Preprocessing(64, 64).padded(0),
    "pad grey, wide": Preprocessing((48, 80), (48, 80), "bilinear").padded(114),
}


@pytest.mark.parametrize("preprocessing", GEOMETRIES.values(), ids=GEOMETRIES)
def test_pixels_equal_pillows(opened, preprocessing):
    """Larger and smaller, wide and tall, odd margins, one pixel, and taller than a strip of the canvas."""
    different = {}
    for height, width in ((200, 300), (301, 200), (33, 47), (20, 900), (700, 31), (1, 1), (600, 257)):
        pixels = _scene(height, width)
        expected = resize_and_crop(Image.fromarray(pixels), preprocessing).reshape(-1)
        seen = _seen(opened, _png(pixels), preprocessing)
        if not np.array_equal(seen, expected):
            different[height, width] = int(np.abs(seen.astype(int) - expected).max()) if seen.size == expected.size else seen.size
    assert different == {}


def test_a_picture_is_turned_upright(opened):
    pixels = _scene(40, 60)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = _png(pixels, exif=exif)
        expected = np.asarray(to_rgb(Image.open(io.BytesIO(data))))
        assert np.array_equal(_seen(opened, data), expected.reshape(-1)), orientation


def test_transparency_is_laid_over_white(opened):
    pixels = np.dstack([_scene(40, 60), np.linspace(0, 255, 2400).astype(np.uint8).reshape(40, 60)])
    data = _png(pixels)
    expected = np.asarray(to_rgb(Image.open(io.BytesIO(data)))).reshape(-1).astype(int)
    assert np.abs(_seen(opened, data) - expected).max() <= BLENDED


def test_what_is_no_picture_is_said(opened):
    with pytest.raises(Exception, match="not a picture that this browser can read"):
        _seen(opened, b"no picture")


# ---- answers

_ANSWERS = """
  const { model, backend, images } = argument;
  const opened = await runtime.open(model, await bundle.readFile(model), backend, 1);
  const found = [];
  for (const image of images) {
    const bytes = Uint8Array.from(atob(image), (letter) => letter.charCodeAt(0));
    await opened.write(pixels.preprocess(await pixels.decode(new Blob([bytes])), model.preprocessing));
    found.push(Array.from(scores.realNumbers(model, (await opened.run())[0])));
  }
  opened.close();
  return found;
"""


def _answers(opened, model, backend, images) -> np.ndarray:
    return np.array(opened.module(_ANSWERS, {"model": model, "backend": backend, "images": images}))


def _top5(scores: np.ndarray) -> np.ndarray:
    return np.argsort(-scores, axis=-1, kind="stable")[:, :5]


def _swapped(found: np.ndarray, expected: np.ndarray) -> list[float]:
    """Of each row whose five best are others or in another order: how far apart the scores of what stands in another place are."""
    places = np.take_along_axis(expected, _top5(found), 1), np.take_along_axis(expected, _top5(expected), 1)
    apart = np.abs(places[0] - places[1]).max(axis=1)
    return [float(one) for one, same in zip(apart, (_top5(found) == _top5(expected)).all(axis=1), strict=True) if not same]


def _has_webgpu(opened) -> bool:
    return opened.page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())")


@pytest.mark.parametrize("name", ["nano32-float32", "nano32-float16", "nano32-int8", "vit_nano32-float32"])
@pytest.mark.parametrize("machine", ["wasm", "webgpu"])
def test_photographs_are_answered_as_in_python(opened, served, artifacts, machine, name):
    if machine == "webgpu" and not _has_webgpu(opened):
        pytest.skip("this Chromium gives no WebGPU adapter")
    _require_same_answers(opened, served, artifacts, machine, name)


@pytest.mark.parametrize("variant", ["v2_nano32", "vit_nano32"])
def test_the_other_families_are_answered_as_in_python(chromium, tmp_path, variant):
    """In three recipes, on whatever this Chromium has."""
    pytest.importorskip("cryptography", reason="the extra web")
    recipes = ("float32", "float16", "int8")
    arguments = ["--variant", variant, "--quant", ",".join(recipes), "--out", str(tmp_path), "--quiet", "--agreement-samples", "0"]
    assert convert.main(arguments) == EXIT_OK
    assert bundle.main([*map(str, sorted(tmp_path.glob("*.tflite"))), "--web", str(tmp_path / "page"), "--quiet"]) == EXIT_OK
    for served in _serve(tmp_path / "page", tmp_path / "out"):
        opened = _Opened(chromium, served.url)
        for machine in ("wasm", *["webgpu"] * _has_webgpu(opened)):
            for recipe in recipes:
                _require_same_answers(opened, served, tmp_path, machine, f"{variant}-{recipe}")
        opened.context.close()


_ON_THE_GPU = """
import sys
import numpy as np
from edge.runtime.cpu import real_outputs
from edge.runtime.gpu import F32, GpuModel
model = GpuModel(open(sys.argv[1], "rb").read(), F32)
(name,) = model.inputs
found = []
for one in np.load(sys.argv[2]):
    model.write({name: one[None].astype(np.float32)})
    found.append(next(iter(real_outputs(model, model.invoke()).values())))
np.save(sys.argv[3], np.concatenate(found))
"""


def _on_pythons_gpu(file: Path, pixels: list[np.ndarray], folder: Path) -> np.ndarray:
    """A GPU computes in float what 8 bits round on the CPU: its like is another GPU. In a process of its own, where drivers may die."""
    np.save(folder / "pixels.npy", np.stack(pixels))
    command = [sys.executable, "-c", _ON_THE_GPU, str(file), str(folder / "pixels.npy"), str(folder / "gpu.npy")]
    subprocess.run(command, cwd=ROOT, check=True)
    return np.load(folder / "gpu.npy")


def _require_same_answers(opened, served, artifacts, machine, name):
    """The same five classes in the same order, but for ties, on pictures that the browser itself decodes."""
    (model,) = [one for one in served.package["models"] if one["name"] == name]
    photos = _photos()
    loaded = artifact.load(artifacts / f"{name}.tflite")
    interpreter, preprocessing = Interpreter(loaded.file), artifact.preprocessing_of(loaded.manifest)
    pixels = [resize_and_crop(to_rgb(Image.open(path)), preprocessing) for path in photos]
    expected = np.concatenate([interpreter.run(one[None]) for one in pixels])
    if machine == "webgpu" and loaded.manifest["recipe"] == "int8":
        if "VK_ICD_FILENAMES" not in os.environ:
            print(f"{name} on WebGPU: not compared, for want of a Vulkan driver (make vulkan)")
            return
        expected = _on_pythons_gpu(artifacts / f"{name}.tflite", pixels, artifacts)
    found = _answers(opened, model, {"wasm": "cpu", "webgpu": "gpu"}[machine], [_base64(path.read_bytes()) for path in photos])
    print(name, machine, f"largest difference {np.abs(found - expected).max():.2g}")
    assert len(photos) == NUMBER_OF_PHOTOS
    assert np.abs(found - expected).max() <= ERROR[machine][loaded.manifest["recipe"]]
    swapped = _swapped(found, expected)
    print(f"photographs in another order: {len(swapped)}, of scores apart by at most {max(swapped, default=0):.2g}")
    assert np.array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    assert max(swapped, default=0) <= TIE[machine][loaded.manifest["recipe"]]


def test_every_output_is_shown_for_what_it_is(chromium, tmp_path):
    """Labels, values, features, and several of them in one file: real files through the whole page, against Python."""
    micro = build(MICRO, SEED)
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\ndog\neel\n")
    pooled = micro.layers[-2].output
    models = {
        "labels": (keras.Model(micro.input, micro.layers[-1].output), {"output": "multilabel", "labels": str(tmp_path / "names.txt")}),
        "values": (keras.Model(micro.input, keras.layers.Dense(7)(pooled)), {"output": "values"}),
        "features": (keras.Model(micro.input, pooled), {"output": "features"}),
        "several": (
            keras.Model(micro.input, [keras.layers.Dense(7)(pooled), keras.layers.Identity(name="embedding")(pooled)]),
            {"output": "values,features"},
        ),
    }
    paths = []
    for name, (model, arguments) in models.items():
        model.save(tmp_path / f"{name}.keras")
        made = edge.convert(
            model=tmp_path / f"{name}.keras", quant="float32", out=tmp_path, gate=False, calibration_samples=8, quiet=True, **arguments
        )
        paths.append(made.path)
    assert bundle.main([*map(str, paths), "--web", str(tmp_path / "page"), "--quiet"]) == EXIT_OK
    picture = _scene(50, 70)
    (tmp_path / "picture.png").write_bytes(_png(picture))
    for one in _serve(tmp_path / "page", tmp_path / "out"):
        opened = _Opened(chromium, one.url)
        opened.page.set_input_files("#file", tmp_path / "picture.png")
        for model in one.package["models"]:
            means = model["output"].get("meaning", "classes")
            opened.page.select_option("#model", index=one.package["models"].index(model))
            opened.page.wait_for_selector("#choose:enabled")
            rows = [
                (row.query_selector("th").inner_text(), row.query_selector("td").inner_text())
                for row in opened.page.query_selector_all("#answers tbody tr")
            ]
            loaded = artifact.load(tmp_path / model["file"])
            pixels = resize_and_crop(Image.fromarray(picture), artifact.preprocessing_of(loaded.manifest))
            numbers, *others = (output.reshape(-1) for output in Interpreter(loaded.file).run_each(pixels[None]))
            further = [one.inner_text() for one in opened.page.query_selector_all("#others li")]
            assert [line.split(":")[0] for line in further] == (["embedding"] if others else [])
            if others:
                largest = int(np.abs(others[0]).argmax())
                name, value = further[0].removeprefix("embedding: ").split(", ")[0].rsplit(" ", 1)
                assert name == f"feature {largest}"
                np.testing.assert_allclose(float(value), others[0][largest], rtol=1e-2)
            if means == "labels":
                assert loaded.manifest["output"]["activation"] == "sigmoid"
                best = np.argsort(-numbers, kind="stable")[:5]
                expected = [(loaded.labels[index], f"{100 * numbers[index]:.1f} %") for index in best]
            elif means == "values":
                expected = [(f"value {index}", numbers[index]) for index in range(5)]
            else:
                expected = [(f"feature {index}", numbers[index]) for index in np.argsort(-np.abs(numbers), kind="stable")[:5]]
            assert [name for name, _ in rows] == [name for name, _ in expected], means
            if means == "labels":
                assert rows == expected
            else:
                np.testing.assert_allclose([float(value) for _, value in rows], [value for _, value in expected], rtol=2e-3, atol=1e-4)
        assert opened.problems == []
        opened.context.close()


def test_scores_are_pythons(opened):
    """Without the model: logits of classes and labels, equal scores, and a NaN."""
    logits = np.random.default_rng(3).normal(0, 4, 50)
    for meaning, function in (("classes", softmax), ("labels", sigmoid)):
        model = {"output": {"meaning": meaning, "activation": None, "shape": [1, 50]}, "classes": 50}
        found = opened.module(
            "return Array.from(scores.realNumbers(argument.model, argument.logits))", {"model": model, "logits": logits.tolist()}
        )
        np.testing.assert_allclose(found, function(logits[None])[0], rtol=1e-9)
    assert opened.module("return scores.topK(argument, 3)", [0.1, 0.4, 0.4, 0.2]) == [1, 2, 3]
    assert opened.module("return scores.topK([NaN, 0.1, 0.3], 3)") == [2, 1, 0]
    quantized = {"dtype": "uint8", "quantization": {"scale": 2.0, "zero_point": 3}}
    stored = opened.module("return Array.from(runtime.stored(Uint8Array.from([0, 1, 3, 5, 255]), argument))", quantized)
    assert stored == [3, 3, 5, 5, 131]  # half to even
    assert opened.module("return Array.from(runtime.real(Uint8Array.from([3, 5]), argument))", quantized) == [0, 4]


# ---- latency


def _python_times(rounds, settled=True):
    return protocol.Times([np.array(one) for one in rounds], 12, settled)


@pytest.mark.parametrize(
    ("rounds", "settled"),
    [
        ([[5.0, 5.1, 5.2]] * 40, True),
        ([[5.0, 5.1, 5.2]], True),
        ([[5.0, 9.0, 5.2], [7.0, 30.0, 5.0]] * 40, False),
        ([[5.0 + 0.2 * index] * 3 for index in range(30)], True),
        ([[9.0 - 0.1 * index] * 4 for index in range(30)], True),
    ],
    ids=["quiet", "short", "noisy", "slows down", "speeds up"],
)
def test_statistics_are_pythons(opened, rounds, settled):
    times = _python_times(rounds, settled)
    preset = protocol.Preset(50, 0.5)
    found = opened.module(
        "return [latency.statistics(argument.times), latency.invalidReasons(argument.times, argument.preset)]",
        {"times": {"rounds": rounds, "settled": settled, "warmupRuns": 12}, "preset": {"minRuns": 50, "minSeconds": 0.5}},
    )
    expected = protocol.statistics(times)
    expected["avg_ms"] = expected.pop("mean_ms")
    assert found[0].pop("num_warmup_runs") == 12
    assert found[0] == pytest.approx(expected, abs=1e-4)
    assert found[1] == protocol.invalid_reasons(times, preset)


_MEASURE = """
  let clock = 0;
  const each = [...argument.each];
  const infer = async () => { clock += each.shift() ?? argument.then; };
  return latency.measure(argument.preset, infer, async () => {}, () => clock);
"""


@pytest.mark.parametrize("each", [[40.0] * 3 + [20.0] * 3 + [11.0] * 4, ([100.0] * 3 + [10.0] * 5) * 40], ids=["settles", "never settles"])
def test_the_protocol_is_pythons(opened, each):
    """On a clock that moves by what an inference takes: the same bursts, the same end of warming up."""
    then = 10.0

    class Timed:
        def __init__(self) -> None:
            self.clock_ms, self.left = 0.0, list(each)

        def burst(self, min_runs, min_seconds, discarded):
            found = []
            while len(found) < min_runs or sum(found) < 1e3 * min_seconds:
                found.append(self.left.pop(0) if self.left else then)
            self.clock_ms += sum(found)
            return found

    timed = Timed()
    expected = protocol.warm_up(timed, lambda: timed.clock_ms / 1e3)
    while len(expected.all) < 10 or expected.seconds < 1:
        expected.rounds.append(np.array(timed.burst(protocol.BURST_RUNS, protocol.BURST_SECONDS, 0)))
    found = opened.module(_MEASURE, {"each": each, "then": then, "preset": {"minRuns": 10, "minSeconds": 1}})
    assert (found["warmupRuns"], found["settled"]) == (expected.warmup_runs, expected.settled)
    assert found["rounds"] == [one.tolist() for one in expected.rounds]


# ---- the page


def test_it_measures_and_sends_a_report(chromium, served, artifacts, tmp_path):
    """The way of a user: open, name the device, measure, send; edge.report shows it beside the files."""
    opened = _Opened(chromium, served.url)
    page = opened.page
    isolated = page.evaluate("crossOriginIsolated")
    has_webgpu = _has_webgpu(opened)
    assert isolated
    page.select_option("#preset", "quick")
    page.click("#measure")
    page.wait_for_selector("#send:visible", timeout=600_000)
    assert page.inner_text("#measure-status").endswith("every answer is the golden one.")
    page.fill("#device", "A test's <b>browser</b>")
    page.click("#send")
    page.wait_for_selector("#report-status:text('Sent')")
    kept = served.kept[-1]
    assert kept.name in page.inner_text("#report-status")
    report = json.loads(kept.read_text())
    assert report["device"]["model"] == "A test's <b>browser</b>"
    assert report["browser"]["cross_origin_isolated"] is True
    threads = {result["threads"] for result in report["results"]}
    backends = {result["backend_used"] for result in report["results"]}
    assert 1 in threads
    assert backends == ({"cpu", "gpu"} if has_webgpu else {"cpu"})
    assert len(report["results"]) == 4 * (len(threads - {None}) + has_webgpu)
    for result in report["results"]:
        assert result["parity"] == result["parity"] | {"passed": True, "top5_same": True, "pixels_same": True}
        assert result["num_runs"] >= 10
        assert result["min_ms"] <= result["p5_ms"] <= result["median_ms"] <= result["p90_ms"] <= result["p95_ms"] <= result["max_ms"]
        assert result["valid"] == (result["invalid_reasons"] == [])
        if result["backend_used"] == "gpu":
            assert "a software GPU: it computes on the CPU" in result["invalid_reasons"]
    with page.expect_download() as saved:
        page.click("#save")
    assert json.loads(Path(saved.value.path()).read_text()) == report
    assert saved.value.suggested_filename == "device_report.json"
    assert opened.problems == []
    assert {url.split("/token/")[0] for url in opened.requests if not url.startswith(("blob:", "data:"))} == {
        served.url.split("/token/")[0]
    }
    opened.context.close()
    assert report_command.main([str(artifacts), "--device", str(kept), "-o", str(tmp_path / "report.html"), "--quiet"]) in (
        EXIT_OK,
        EXIT_CHECK_FAILED,
    )
    merged = json.loads((tmp_path / "report.json").read_text())
    rows = [row for one in merged["files"] for row in one["devices"]]
    assert len(rows) == len(report["results"])
    assert {row["is_phone"] for row in rows} == {False}
    assert all("in a browser, not in an app" in row["device"] for row in rows)


def test_a_wrong_golden_answer_is_said(chromium, folder, tmp_path):
    """A package that says something else: the row is wrong, and so is the report."""
    copy = tmp_path / "page"
    shutil.copytree(folder, copy)
    document = json.loads((copy / "edge_package.json").read_text())
    document["models"] = [model for model in document["models"] if model["name"] == "nano32-int8"]
    document["models"][0]["golden"]["top5"][0]["score"] -= 0.1
    (copy / "edge_package.json").write_text(json.dumps(document))
    listing = json.loads((copy / "edge_web.json").read_text())
    listing["files"]["edge_package.json"] = site.sha256((copy / "edge_package.json").read_bytes())
    (copy / "edge_web.json").write_text(json.dumps(listing))
    for one in _serve(copy, tmp_path):
        opened = _Opened(chromium, one.url)
        opened.page.select_option("#preset", "quick")
        opened.page.click("#measure")
        opened.page.wait_for_selector("#send:visible", timeout=600_000)
        assert "WRONG: off by 0.1" in opened.page.inner_text("#latencies")
        assert "gave a WRONG answer" in opened.page.inner_text("#measure-status")
        opened.context.close()


def test_it_can_be_stopped(chromium, served):
    """What was measured until then can be kept."""
    opened = _Opened(chromium, served.url)
    opened.page.click("#measure")
    opened.page.wait_for_selector("#latencies tbody tr:nth-child(2)", timeout=120_000)
    opened.page.click("#stop")
    opened.page.wait_for_selector("#send:visible")
    assert "stopped before all models were measured" in opened.page.text_content("#remarks ul")
    assert not opened.page.is_visible("#stop")
    assert opened.page.is_enabled("#measure")
    opened.context.close()


def test_a_gpu_that_answers_wrongly_is_not_asked(opened, served):
    (model,) = [one for one in served.package["models"] if one["name"] == "nano32-int8"]
    model = {**model, "gpu": {"verdict": "wrong", "basis": "a rule"}}
    with pytest.raises(Exception, match=r"known to answer wrongly on the GPU \(a rule\)"):
        _answers(opened, model, "gpu", [])


def test_a_changed_model_is_not_run(chromium, folder, tmp_path):
    copy = tmp_path / "page"
    shutil.copytree(folder, copy)
    for one in _serve(copy, tmp_path):
        (copy / "nano32-int8.tflite").write_bytes(b"TFL3" * 1000)
        opened = _Opened(chromium, one.url)
        opened.page.select_option(
            "#model",
            label=next(
                text for text in opened.page.eval_on_selector_all("#model option", "all => all.map((o) => o.text)") if "int8" in text
            ),
        )
        opened.page.set_input_files("#file", folder / "golden.png")
        opened.page.wait_for_selector("#alert:visible")
        assert "nano32-int8.tflite was changed after it was bundled" in opened.page.inner_text("#alert")
        opened.context.close()


def test_the_camera(opened, served):
    """Chromium's own stand-in for one: a moving picture."""
    page = opened.page
    page.click("#camera")
    page.wait_for_selector("#answers tbody tr")
    page.wait_for_selector("#camera:text('Stop the camera'):enabled")
    assert page.is_visible("#video")
    assert not page.is_visible("#picture")
    page.click("#camera")
    page.wait_for_selector("#choose:enabled")
    assert not page.is_visible("#video")
    assert opened.problems == []


def test_on_a_plain_host(chromium, folder):
    """Any server of static files, on localhost, without the headers: one thread, nowhere to send to, and it says so."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    host = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=host.serve_forever, daemon=True).start()
    try:
        opened = _Opened(chromium, f"http://127.0.0.1:{host.server_address[1]}/")
        assert "1 thread: this page is not cross-origin isolated" in opened.page.inner_text("#facts")
        opened.page.set_input_files("#file", folder / "golden.png")
        opened.page.wait_for_selector("#answers tbody tr")
        assert "frog" in opened.page.inner_text("#answers tbody tr")
        assert not opened.page.is_visible("#send")
        assert opened.problems == []
        opened.context.close()
    finally:
        host.shutdown()
        host.server_close()


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_it_can_be_read(chromium, served, folder, width, scheme):
    """No sideways scrolling, enough contrast, letters large enough, every control named and large enough for a finger."""
    opened = _Opened(chromium, served.url, width, scheme)
    page = opened.page
    page.set_input_files("#file", folder / "golden.png")
    page.wait_for_selector("#answers tbody tr")
    page.evaluate("() => { for (const one of document.querySelectorAll('[hidden]:not(input)')) one.hidden = false; }")
    assert page.evaluate(_OVERFLOW) <= 0
    texts = page.evaluate(_TEXTS)
    assert len(texts) > 30
    assert [one for one in texts if one["contrast"] < LEAST_CONTRAST or one["px"] < LEAST_LETTERS_PX] == []
    controls = page.eval_on_selector_all(
        "button, select, input[type=text]",
        "all => all.map((one) => [one.labels?.[0]?.innerText || one.innerText || one.ariaLabel || '', one.getBoundingClientRect().height])",
    )
    assert len(controls) == 10
    assert [name for name, height in controls if not name or height < 44] == []
    opened.context.close()


def test_the_bundle_is_not_half_written(artifacts, tmp_path, monkeypatch, capfd):
    """Without LiteRT.js nothing is written; files of others stay; a newer bundle takes the place of an older one."""
    (file,) = artifacts.glob("nano32-int8.tflite")
    target = tmp_path / "page"
    with monkeypatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path / "empty"))
        patch.setenv("PATH", str(tmp_path))
        assert bundle.main([str(file), "--web", str(target), "--quiet"]) == EXIT_UNUSABLE
    assert "error: LiteRT.js cannot be had" in capfd.readouterr().err
    assert not target.exists()
    target.mkdir()
    (target / "index.html").write_text("mine")
    assert bundle.main([str(file), "--web", str(target), "--quiet"]) == EXIT_UNUSABLE
    assert [path.name for path in target.iterdir()] == ["index.html"]
    assert bundle.main([str(file), "--web", str(target), "--quiet", "--force"]) == EXIT_OK
    site.read_folder(target)
    (other,) = artifacts.glob("nano32-float16.tflite")
    assert bundle.main([str(other), "--web", str(target), "--quiet"]) == EXIT_OK
    files, document = site.read_folder(target)
    assert [model["name"] for model in document["models"]] == ["nano32-float16"]
    assert {path.name for path in target.iterdir()} == set(files)
    assert package.PACKAGE_FILE in files
