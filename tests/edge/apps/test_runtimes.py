"""Which files a framework's runtime does not run, and what the refusal says."""

from pathlib import Path

import pytest

from edge.apps import runtimes
from edge.apps.projects import ANDROID, EXPO, FLUTTER, IOS, REACT_NATIVE, Project
from edge.artifacts.artifact import Artifact

BOTH = (ANDROID, IOS)


def _artifact(runtime, litert, dtype="float32"):
    file = {"min_runtime_version": runtime, "min_litert_version": litert}
    return Artifact("m", b"", {"file": file, "input": {"dtype": dtype}, "output": {"dtype": dtype}})


def _refusals(framework, platforms, artifact):
    return runtimes.refusals(Project(framework, Path(), platforms, Path()), [artifact])


@pytest.mark.parametrize(
    ("framework", "platforms", "needs", "words"),
    [
        (FLUTTER, BOTH, ("2.9.0", "1.0.1"), []),
        (FLUTTER, BOTH, ("2.12.0", "1.0.1"), []),
        (
            FLUTTER,
            BOTH,
            ("2.17.0", "1.0.1"),
            ["m: needs TensorFlow Lite 2.17.0, and tflite_flutter 0.12.1 brings 2.12.0 on iOS: convert again with --min-runtime 2.12"],
        ),
        (FLUTTER, (ANDROID,), ("2.17.0", "1.0.1"), []),
        (
            FLUTTER,
            (ANDROID,),
            (None, "2.1.6"),
            ["needs LiteRT 2.1.6, and tflite_flutter 0.12.1 brings 1.4.0 on Android: bundle another recipe"],
        ),
        (REACT_NATIVE, BOTH, ("2.17.0", "1.0.1"), []),
        (
            REACT_NATIVE,
            BOTH,
            ("2.20.0", "1.3.0"),
            ["needs TensorFlow Lite 2.20.0, and react-native-fast-tflite 3.0.1 brings 2.17.0 on iOS"],
        ),
        (REACT_NATIVE, (ANDROID,), ("2.20.0", "1.3.0"), []),
        (EXPO, BOTH, (None, "2.1.6"), ["needs LiteRT 2.1.6", "runs on no TensorFlow Lite, and"]),
        (IOS, (IOS,), ("2.17.0", "1.0.1"), []),
        (IOS, (IOS,), ("2.18.0", "1.1.2"), ["TensorFlowLiteSwift 2.17.0 brings 2.17.0 on iOS"]),
        (ANDROID, (ANDROID,), (None, "2.1.6"), []),
        (ANDROID, (ANDROID,), (None, None), ["runs on no LiteRT, and com.google.ai.edge.litert:litert 2.3.0"]),
    ],
)
def test_a_file_that_is_too_new(framework, platforms, needs, words):
    found = _refusals(framework, platforms, _artifact(*needs))
    print(found)
    assert len(found) == len(words)
    assert [expected for expected, said in zip(words, found, strict=True) if expected not in said] == []


@pytest.mark.parametrize(("framework", "count"), [(IOS, 1), (FLUTTER, 0), (REACT_NATIVE, 0)])
def test_tensors_of_int8(framework, count):
    found = _refusals(framework, (IOS,), _artifact("2.9.0", "1.0.1", "int8"))
    assert len(found) == count
    assert all("its input and output are int8, which TensorFlowLiteSwift 2.17.0 neither reads nor writes" in said for said in found)


@pytest.mark.whole
def test_an_older_manifest_is_read_off_its_file(micro_float):
    artifact = Artifact("m", micro_float, {"file": {"min_runtime_version": "2.9.0"}, "input": {"dtype": "x"}, "output": {"dtype": "x"}})
    assert _refusals(FLUTTER, (ANDROID,), artifact) == []
