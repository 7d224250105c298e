"""edge.verify: a file made again from what it says it was made from; what is named where it is not the same, or cannot be made."""

import functools
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from edge import convert, verify
from edge.artifacts import artifact, difference, self_description
from edge.tflite import attachments, flatbuffer
from edge.tflite import metadata as metadata_schema
from tests.edge.small_models import MICRO, SEED, build, run_command
from tfvit import hashing
from tfvit.checkpoints import official_tensors
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE, EXIT_USAGE

pytestmark = pytest.mark.whole

LABELS = ("daisy", "iris", "poppy", "rose", "tulip")


@pytest.fixture
def verified(capfd):
    """Runs `python -m edge.verify` in this process."""
    return functools.partial(run_command, verify.main, capfd)


@pytest.fixture
def converted(capfd, tmp_path):
    """Converts the smallest model; returns the path of its only file."""

    def run(*arguments):
        ran = run_command(convert.main, capfd, *arguments, "--calibration-samples", "4", "--no-gate", "--out", tmp_path / "out")
        assert ran.code == EXIT_OK
        (path,) = (tmp_path / "out").glob("*.tflite")
        return path

    return run


def assert_refused(ran, code: int, *words: str) -> None:
    assert ran.code == code
    assert 1 <= len(ran.error) <= 4
    assert ran.out == ""
    for word in words:
        assert word in "\n".join(ran.error), word


def parts(found) -> set[str]:
    return {one["part"] if isinstance(one, dict) else one.part for one in found}


def rewritten(file: bytes, **changes) -> bytes:
    """A file of ours with fields of its provenance changed."""
    said = self_description.read(file)
    buffers = {
        self_description.METADATA_BUFFER: metadata_schema.pack(said.metadata),
        self_description.PROVENANCE_BUFFER: artifact.canonical_json(said.provenance | changes).encode(),
    }
    return attachments.embed(bytes(said.graph), buffers, said.files)


# Equal


def test_our_own_file_is_equal(verified, micro_files):
    ran = verified(micro_files["float32"])
    assert ran.code == EXIT_OK
    assert "equal to the last byte" in ran.out
    assert hashing.sha256(micro_files["float32"].read_bytes()) in ran.out


def test_a_manifest_with_a_better_figure(verified, micro_files, tmp_path):
    """The file is equal, calibration and all, and so is every other field."""
    manifest = json.loads(micro_files["int8"].with_suffix(".json").read_text())
    manifest["drift"]["logits_snr_db"] += 3.0
    path = tmp_path / "elsewhere.json"
    path.write_text(json.dumps(manifest))
    path.with_suffix(".tflite").write_bytes(micro_files["int8"].read_bytes())
    ran = verified(path, "--json", "--quiet")
    document = json.loads(ran.out)
    assert (ran.code, document["equal"], document["sha256"]) == (EXIT_CHECK_FAILED, False, document["rebuilt_sha256"])
    (found,) = document["differences"]
    assert found["part"] == "manifest"
    assert found["detail"].startswith(f"drift.logits_snr_db: recorded {manifest['drift']['logits_snr_db']}, rebuilt")


@pytest.mark.slow
def test_a_manifest_without_its_file(verified, micro_files, tmp_path):
    path = tmp_path / "elsewhere.json"
    path.write_bytes(micro_files["int8"].with_suffix(".json").read_bytes())
    ran = verified(path, "--json")
    assert (ran.code, json.loads(ran.out)["differences"]) == (EXIT_OK, [])


@pytest.mark.slow
def test_weights_of_ones_own_under_another_name(verified, converted, tmp_path):
    own = tmp_path / "flowers.safetensors"
    save_file(official_tensors(build(MICRO, SEED)), own)
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(LABELS) + "\n")
    path = converted("--variant", "micro", "--weights", own, "--quant", "float32", "--labels", labels, "--output", "logits")
    digest = hashing.sha256(own.read_bytes())
    assert_refused(verified(path), EXIT_UNUSABLE, "not at hand", "--weights PATH: flowers.safetensors", digest)
    moved = own.rename(tmp_path / "renamed.safetensors")
    ran = verified(path, "--weights", moved)
    assert (ran.code, "equal to the last byte" in ran.out) == (EXIT_OK, True)
    tensors = official_tensors(build(MICRO, SEED + 1))
    save_file(tensors, moved)
    assert_refused(verified(path, "--weights", moved), EXIT_UNUSABLE, "other weights than the artifact's", digest)
    assert_refused(verified(path, "--model", moved, "--weights", moved), EXIT_USAGE, "--model does not fit")


def test_sixteen_bits_from_end_to_end(verified, converted):
    limits = ("--min-snr", "0", "--min-agreement", "0")  # four images are few to calibrate with
    ran = verified(converted("--variant", "micro", "--weights", "random:1", "--quant", "w8a16", "--input", "int16", *limits))
    assert (ran.code, "equal to the last byte" in ran.out) == (EXIT_OK, True)


@pytest.mark.slow
def test_images_of_ones_own_under_another_name(verified, converted, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(8):
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8)).save(folder / f"{index}.png")
    path = converted("--variant", "micro", "--weights", "random:1", "--quant", "int8", "--calibration", folder, "--input", "uint8")
    assert_refused(verified(path), EXIT_UNUSABLE, "not at hand", "--calibration PATH: photos")
    moved = folder.rename(tmp_path / "images")
    ran = verified(path, "--calibration", moved)
    assert (ran.code, "equal to the last byte" in ran.out) == (EXIT_OK, True)
    Image.new("RGB", (48, 40), (9, 9, 9)).save(moved / "3.png")
    assert_refused(verified(path, "--calibration", moved), EXIT_UNUSABLE, "other images than the recorded ones")


@pytest.mark.slow
def test_a_saved_model_under_another_name(verified, converted, tmp_path, micro_model):
    micro_model.save(tmp_path / "flowers.keras")
    path = converted("--model", tmp_path / "flowers.keras", "--quant", "dynamic")
    assert_refused(verified(path), EXIT_UNUSABLE, "--model PATH: flowers.keras")
    moved = (tmp_path / "flowers.keras").rename(tmp_path / "other.keras")
    assert verified(path, "--model", moved).code == EXIT_OK


@pytest.mark.slow
def test_code_in_a_model_runs_only_where_it_is_trusted(capfd, verified, converted, tmp_path, micro_model):
    """Refused without the flag by every command that reads a model, and the same file with it."""
    import keras

    from edge import validate

    path, asked = tmp_path / "coded.keras", ("--model", tmp_path / "coded.keras")
    pixels = keras.Input(micro_model.input_shape[1:])
    doubled = keras.layers.Lambda(lambda values: values * 2.0, output_shape=micro_model.input_shape[1:])(pixels)
    keras.Model(pixels, micro_model(doubled)).save(path)
    settings = ("--quant", "dynamic", "--model-input", "normalized")
    ran = run_command(convert.main, capfd, *asked, *settings, "--out", tmp_path / "out")
    assert_refused(ran, EXIT_UNUSABLE, "a lambda", "--trust-model")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    file = converted(*asked, *settings, "--trust-model")
    for command, more in (
        (verified, ()),
        (functools.partial(run_command, validate.main, capfd), ("--samples", "8", *settings[2:], "--min-snr", "0", "--min-agreement", "0")),
    ):
        assert_refused(command(file, *asked, *more), EXIT_UNUSABLE, "a lambda", "--trust-model")
        assert command(file, *asked, *more, "--trust-model", "--quiet").code == EXIT_OK
    weights = ("--variant", "nano32", *settings[:2], "--trust-model")
    assert_refused(run_command(convert.main, capfd, *weights, "--out", tmp_path / "out"), EXIT_USAGE, "nothing to trust")


# Different


@pytest.mark.slow
def test_a_file_that_was_tampered_with(verified, micro_files, tmp_path):
    path = tmp_path / "tampered.tflite"
    model = flatbuffer.read_model(micro_files["float32"].read_bytes())
    index = next(
        i
        for i in range(len(model.subgraphs[0].tensors))
        if "fc1" in flatbuffer.tensor_name(model, i) and flatbuffer.constant(model, i) is not None
    )
    constant = flatbuffer.constant(model, index)
    data = bytearray(micro_files["float32"].read_bytes())
    data[data.index(constant.tobytes())] ^= 1
    path.write_bytes(data)
    ran = verified(path)
    assert ran.code == EXIT_CHECK_FAILED
    assert "NOT what its recorded inputs give" in ran.out
    assert "weights: 1 constants differ, in 1 bytes: stage1_block" in ran.out


def _constants(model) -> list[int]:
    return [index for index in range(len(model.subgraphs[0].tensors)) if flatbuffer.constant(model, index) is not None]


def _with_scale(model) -> None:
    tensor = next(
        tensor for tensor in model.subgraphs[0].tensors if tensor.quantization is not None and tensor.quantization.scale is not None
    )
    tensor.quantization.scale = np.asarray(tensor.quantization.scale) * 2


def _with_name(model) -> None:
    model.subgraphs[0].tensors[3].name = b"other"


def _with_options(model) -> None:
    operator = next(operator for name, operator in flatbuffer.operators(model) if name == "FULLY_CONNECTED")
    operator.builtinOptions.fusedActivationFunction = 1


def _without_operation(model) -> None:
    model.subgraphs[0].operators = model.subgraphs[0].operators[:-1]


def _with_constant(model) -> None:
    tensor = model.subgraphs[0].tensors[_constants(model)[-1]]
    model.buffers[tensor.buffer].data = np.asarray(model.buffers[tensor.buffer].data) ^ 1


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (_with_scale, "quantization"),
        (_with_name, "graph"),
        (_with_options, "graph"),
        (_without_operation, "graph"),
        (_with_constant, "weights"),
        (lambda model: None, "layout"),
    ],
    ids=["scale", "name", "options", "operation", "constant", "written by another tool"],
)
def test_what_differs_is_named(micro_files, change, part):
    file = micro_files["int8"].read_bytes()
    model = flatbuffer.read_model(file)
    change(model)
    other = flatbuffer.write_model(model)
    found = difference.of_files(other, file)
    print(found)
    assert parts(found) == {part}
    assert difference.of_files(file, file) == []


def test_metadata_labels_and_provenance_are_told_apart(tiny_v1):
    file = tiny_v1.file("float32")
    said = self_description.read(file)

    def made(metadata=said.metadata, record=said.provenance, files=said.files) -> bytes:
        buffers = {
            self_description.METADATA_BUFFER: metadata_schema.pack(metadata),
            self_description.PROVENANCE_BUFFER: artifact.canonical_json(record).encode(),
        }
        return attachments.embed(bytes(said.graph), buffers, files)

    assert made() == file
    (found,) = difference.of_files(made(metadata=said.metadata | {"license": "Public domain"}), file)
    assert (found.part, found.detail) == ("metadata", 'license: recorded "Public domain", rebuilt null')
    (found,) = difference.of_files(made(files={"labels.txt": b"cat\n"}), file)
    assert found.part == "labels"
    assert "labels.txt of 4 bytes in the file" in found.detail
    (found,) = difference.of_files(made(record=said.provenance | {"weights": said.provenance["weights"] | {"source": "imagenet"}}), file)
    assert (found.part, found.detail) == ("weights", 'weights.source: recorded "imagenet", rebuilt "random:1"')
    (found,) = difference.of_files(made(record=said.provenance | {"tools": said.provenance["tools"] | {"numpy": "1.0"}}), file)
    assert found.part == "tools"
    assert parts(difference.of_files(file + b"trailing", file)) == {"layout"}
    assert parts(difference.of_files(tiny_v1.file("int8"), file)) >= {"graph", "metadata", "provenance"}


# Not to be made again


def test_other_tools(verified, micro_files, tmp_path):
    file = micro_files["float32"].read_bytes()
    tools = self_description.read(file).provenance["tools"]
    path = tmp_path / "old.tflite"
    path.write_bytes(rewritten(file, tools=tools | {"numpy": "1.0", "keras": "9.9"}))
    ran = verified(path)
    assert_refused(ran, EXIT_UNUSABLE, "numpy 1.0", "keras 9.9", f"numpy {tools['numpy']}", "--other-tools")


@pytest.mark.slow
def test_other_tools_all_the_same(verified, micro_files, tmp_path):
    """The graph and everything else is equal: only the versions are not."""
    file = micro_files["float32"].read_bytes()
    path = tmp_path / "old.tflite"
    path.write_bytes(rewritten(file, tools=self_description.read(file).provenance["tools"] | {"numpy": "1.0", "old": "1"}))
    ran = verified(path, "--other-tools", "--json")
    assert ran.code == EXIT_CHECK_FAILED
    found = json.loads(ran.out)["differences"]
    assert [(one["part"], one["detail"].split(":")[0]) for one in found] == [("tools", "tools.numpy"), ("tools", "tools.old")]


@pytest.mark.slow
def test_labels_that_are_not_at_hand(verified, converted, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(LABELS) + "\n")
    path = converted("--variant", "micro", "--weights", "random:1", "--quant", "float32", "--labels", labels)
    said = self_description.read(path.read_bytes())
    buffers = {
        self_description.METADATA_BUFFER: metadata_schema.pack(said.metadata),
        self_description.PROVENANCE_BUFFER: artifact.canonical_json(said.provenance).encode(),
    }
    path.write_bytes(attachments.embed(bytes(said.graph), buffers, {"labels.txt": b"a\nb\nc\nd\ne\n"}))
    assert_refused(verified(path), EXIT_UNUSABLE, "class names are not at hand", "--labels FILE")
    ran = verified(path, "--labels", labels)
    assert ran.code == EXIT_CHECK_FAILED
    assert "labels: labels.txt of 10 bytes in the file" in ran.out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variant": "micro2"}, ("cannot follow", "micro2")),
        ({"recipe": "int3"}, ("cannot follow", "int3")),
        ({"settings": None}, ("$.settings: None is not of type 'object'",)),
        ({"weights": {"source": "../../x", "sha256": "", "random": True}}, ("cannot follow",)),
        ({"tools": []}, ("$.tools: [] is not of type 'object'",)),
    ],
)
def test_records_that_cannot_be_followed(verified, micro_files, tmp_path, changes, words):
    path = tmp_path / "odd.tflite"
    path.write_bytes(rewritten(micro_files["float32"].read_bytes(), **changes))
    assert_refused(verified(path), EXIT_UNUSABLE, *words)


def test_a_record_of_an_input_that_the_recipe_does_not_take(verified, micro_files, tmp_path):
    content, path = micro_files["float32"].read_bytes(), tmp_path / "odd.tflite"
    settings = self_description.read(content).provenance["settings"]
    path.write_bytes(rewritten(content, settings=settings | {"input": "int16"}))
    assert_refused(verified(path), EXIT_UNUSABLE, "cannot follow", "int16")


def test_files_without_a_record(verified, micro_files, tmp_path):
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(bytes(self_description.read(micro_files["float32"].read_bytes()).graph))
    assert_refused(verified(bare), EXIT_UNUSABLE, "does not say what it was made from", "EDGE_PROVENANCE")
    manifest = json.loads(micro_files["float32"].with_suffix(".json").read_text())
    del manifest["settings"]
    (tmp_path / "old.json").write_text(json.dumps(manifest))
    assert_refused(verified(tmp_path / "old.json"), EXIT_UNUSABLE, "old.json: $.settings: missing")
    assert_refused(verified(tmp_path / "none.tflite"), EXIT_UNUSABLE, "No such file")
    (tmp_path / "text.tflite").write_text("text that is no model")
    assert_refused(verified(tmp_path / "text.tflite"), EXIT_UNUSABLE, "not a TFLite file")
    (tmp_path / "list.json").write_text("[]")
    assert_refused(verified(tmp_path / "list.json"), EXIT_UNUSABLE, "unreadable manifest")


def test_wrong_usage(verified, micro_files, tmp_path):
    assert_refused(verified(tmp_path / "model.keras"), EXIT_USAGE, "neither a file nor a manifest")
    assert_refused(verified(micro_files["float32"], "--weights", "x.safetensors"), EXIT_USAGE, "--weights does not fit")
    assert_refused(verified(micro_files["int8"], "--calibration", tmp_path), EXIT_USAGE, "it was the built-in set")
    assert_refused(verified(micro_files["float32"], "--calibration", tmp_path), EXIT_USAGE, "the file depends on no images")
