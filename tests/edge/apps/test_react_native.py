"""The TypeScript class: its syntax and what it says; in node, its pixels and numbers against Python's. Fresh projects: test_pasting.py."""

import json

import numpy as np
import pytest
from PIL import Image

from edge.apps import react_native
from edge.apps.projects import METRO_FILES, recognise
from edge.drift.metrics import sigmoid, softmax
from tests.edge.apps import javascript
from tests.edge.apps.entries import CASES, entry
from tests.edge.apps.syntax import errors
from tfvit.preprocessing import Preprocessing, resize_and_crop

# Larger and smaller than the input, both shapes, odd margins, and one that loses far more height than width
SIZES = ((300, 200), (53, 97), (36, 36), (20, 31), (41, 300), (1, 9), (37, 36))
# float32 in JavaScript against NumPy's float64: a softmax differs by rounding alone
ROUNDING = 1e-6


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_its_syntax(changes):
    assert errors("typescript", react_native.typescript(entry(**changes))) == []


def test_the_parser_finds_errors():
    assert errors("typescript", react_native.typescript(entry()).replace("const scale =", "const scale = =")) != []


def test_what_it_says():
    code = {name: react_native.typescript(entry(**changes)) for name, changes in CASES.items()}
    assert "require('./assets/edge/nano32-int8.tflite')" in code["values"]
    assert ("class Regressor" in code["values"], "async predict(" in code["values"], "Math.exp(" in code["values"]) == (True, True, False)
    assert "labels" in code["short side, classes"].partition("preprocess")[0]
    assert "labels" not in code["features, no names"]
    assert "class Encoder" in code["features, no names"]
    assert (
        "resized to fit into 56 wide and 24 high (bicubic, antialiased), centred, the rest filled with 114"
        in code["padded, labels' logits, no names"]
    )
    assert [name for name, text in code.items() if "Math.exp(" in text] == [name for name in CASES if "logits" in name]
    assert [name for name, text in code.items() if "$" in text] == []


def test_outputs_that_it_does_not_read_are_named():
    code = react_native.typescript(entry(other_outputs=[{"name": "embedding"}, {"name": "map"}]))
    assert "/** The probabilities of the 10 classes. Not read here: embedding, map. */" in code


def test_labels_of_any_language():
    assert json.loads(react_native.labels_json(["Käfer", '"quoted"', ""])) == ["Käfer", '"quoted"', ""]


@pytest.mark.parametrize(
    ("dependency", "more", "file", "written"),
    [
        ("expo", {}, None, True),
        ("expo", {"type": "module"}, None, True),
        ("expo", {"metro": {}}, None, False),
        *[("expo", {}, name, False) for name in METRO_FILES],
        ("react-native", {}, None, False),
    ],
)
def test_metro_is_told_only_where_nothing_is_said(tmp_path, dependency, more, file, written):
    (tmp_path / "android").mkdir()
    (tmp_path / "package.json").write_text(json.dumps({"dependencies": {dependency: "1"}} | more))
    if file:
        (tmp_path / file).write_text("mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    project = recognise(tmp_path)
    made = react_native.register(project)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert (made is not None, {name: after[name] for name in before}) == (written, before)
    assert set(after) - set(before) == ({project.config.name} if written else set())
    if written:
        assert recognise(tmp_path).registered
        assert react_native.register(recognise(tmp_path)) is None


_RUN = """
import fs from 'node:fs'
const cases = JSON.parse(fs.readFileSync('cases.json', 'utf8'))
for (const one of cases) {
  const model = await import('./' + one.module + '.js')
  const data = new Uint8Array(fs.readFileSync(one.image))
  const pixels = model.preprocess({ width: one.width, height: one.height, data })
  fs.writeFileSync(one.name + '.pixels', pixels)
  fs.writeFileSync(one.name + '.input', new Uint8Array(model.toInput(pixels)))
}
for (let m = 0; fs.existsSync('m' + m + '.output'); m++) {
  const model = await import('./m' + m + '.js')
  const bytes = new Uint8Array(fs.readFileSync('m' + m + '.output')) // a copy: a small file lies in a shared buffer
  fs.writeFileSync('m' + m + '.numbers', new Uint8Array(model.fromOutput(bytes.slice().buffer).buffer))
}
try {
  const model = await import('./m0.js')
  model.preprocess({ width: 2, height: 2, data: new Uint8Array(5) })
} catch (error) {
  console.log(error.message)
}
"""


@pytest.mark.slow
def test_its_pixels_and_numbers_are_pythons(tmp_path):
    """Everything of the class but the call into the package, transpiled by TypeScript's own compiler, in node."""
    random, models, cases, expected = np.random.default_rng(0), [entry(**changes) for changes in CASES.values()], [], {}
    outputs = [random.normal(size=10).astype(np.float32) * 3 for _ in models]
    (tmp_path / "package.json").write_text('{"type": "module"}')
    javascript.run("npm", "install", javascript.TYPESCRIPT, cwd=tmp_path)
    for number, model in enumerate(models):
        code = react_native.typescript(model)
        (tmp_path / f"m{number}.ts").write_text(code[code.index("/** An upright image") :])
        stored = outputs[number] if model["output"]["dtype"] == "float32" else random.integers(-128, 128, 10).astype(np.int8)
        outputs[number] = stored
        (tmp_path / f"m{number}.output").write_bytes(stored.tobytes())
        for width, height in SIZES:
            rgb = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
            pixels = resize_and_crop(Image.fromarray(rgb), Preprocessing(**model["preprocessing"]))
            for channels in (3, 4):
                name = f"m{number}-{width}x{height}x{channels}"
                data = np.concatenate([rgb, random.integers(0, 256, (height, width, channels - 3)).astype(np.uint8)], -1)
                (tmp_path / f"{name}.image").write_bytes(data.tobytes())
                cases.append({"name": name, "module": f"m{number}", "width": width, "height": height, "image": f"{name}.image"})
                expected[name] = (pixels, model)
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "run.mjs").write_text(_RUN)
    sources = [f"m{number}.ts" for number in range(len(models))]
    javascript.run("npx", "tsc", "--strict", "--target", "es2022", "--module", "esnext", *sources, cwd=tmp_path)
    said = javascript.run("node", "run.mjs", cwd=tmp_path)
    assert said == "expected 3 or 4 bytes a pixel. Received: 1.25\n"
    different = [name for name, (pixels, _) in expected.items() if (tmp_path / f"{name}.pixels").read_bytes() != pixels.tobytes()]
    assert (len(expected), different) == (2 * len(SIZES) * len(models), [])
    for name, (pixels, model) in expected.items():
        stored = {"float32": pixels.astype(np.float32), "uint8": pixels, "int8": (pixels.astype(np.int32) - 128).astype(np.int8)}
        assert (tmp_path / f"{name}.input").read_bytes() == stored[model["input"]["dtype"]].tobytes(), name
    for number, model in enumerate(models):
        numbers = outputs[number].astype(np.float64)
        if model["output"]["dtype"] == "int8":
            numbers = (numbers + 7) * 0.0927
        if model["output"]["activation"] is None and model["output"].get("meaning", "classes") in ("classes", "labels"):
            numbers = (sigmoid if model["output"].get("meaning") == "labels" else softmax)(numbers[None])[0]
        found = np.frombuffer((tmp_path / f"m{number}.numbers").read_bytes(), np.float32)
        np.testing.assert_allclose(found, numbers, rtol=ROUNDING, atol=ROUNDING)
