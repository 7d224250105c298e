"""The runtime that each framework's package brings, and which files do not run on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from edge.apps.projects import ANDROID, EXPO, FLUTTER, IOS, REACT_NATIVE, Project
from edge.artifacts.artifact import Artifact
from edge.tflite import flatbuffer, versions

LITERT, TENSORFLOW = "LiteRT", "TensorFlow Lite"
PLATFORMS = {ANDROID: "Android", IOS: "iOS"}


@dataclasses.dataclass(frozen=True)
class Package:
    """What an app takes its runtime from.

    Attributes:
        name, version: of the package, as these lines know it.
        brings: platform -> (`LITERT` or `TENSORFLOW`, version) of the runtime that comes with it.
        reads_int8: whether tensors of int8 can be read and written through it.
    """

    name: str
    version: str
    brings: dict[str, tuple[str, str]]
    reads_int8: bool = True


_FAST_TFLITE = Package("react-native-fast-tflite", "3.0.1", {ANDROID: (LITERT, "1.4.0"), IOS: (TENSORFLOW, "2.17.0")})
PACKAGES = {
    ANDROID: Package("com.google.ai.edge.litert:litert", "2.3.0", {ANDROID: (LITERT, "2.3.0")}),
    FLUTTER: Package("tflite_flutter", "0.12.1", {ANDROID: (LITERT, "1.4.0"), IOS: (TENSORFLOW, "2.12.0")}),
    REACT_NATIVE: _FAST_TFLITE,
    EXPO: _FAST_TFLITE,
    # its Tensor.DataType has no int8, and a tensor of another type cannot be had
    IOS: Package("TensorFlowLiteSwift", "2.17.0", {IOS: (TENSORFLOW, "2.17.0")}, reads_int8=False),
}
"""Framework -> package. docs/decisions/0048 says where each line was read."""


def refusals(project: Project, artifacts: Iterable[Artifact]) -> list[str]:
    """Why files cannot run in an app of this framework, on the platforms that the project has; a sentence each, with the way out."""
    package = PACKAGES[project.framework]
    found = []
    for artifact in artifacts:
        for platform in project.platforms:
            runtime, brought = package.brings[platform]
            needed = _needed(artifact, runtime)
            if needed is None or _numbers(needed) > _numbers(brought):
                needs = f"needs {runtime} {needed}" if needed else f"runs on no {runtime}"
                found.append(
                    f"{artifact.name}: {needs}, and {package.name} {package.version} brings {brought} on {PLATFORMS[platform]}: "
                    f"{_way_out(runtime, brought)}"
                )
        eight_bit = [side for side in ("input", "output") if artifact.manifest[side]["dtype"] == "int8"]
        if eight_bit and not package.reads_int8:
            found.append(
                f"{artifact.name}: its {' and '.join(eight_bit)} {'are' if len(eight_bit) > 1 else 'is'} int8, which {package.name} "
                f"{package.version} neither reads nor writes: bundle --quant int8, which takes and gives float32"
            )
    return found


def _needed(artifact: Artifact, runtime: str) -> str | None:
    """The oldest runtime that the manifest names; read from the file where an older manifest names no LiteRT."""
    file = artifact.manifest["file"]
    if runtime == TENSORFLOW:
        return file["min_runtime_version"]
    if "min_litert_version" in file:
        return file["min_litert_version"]
    return versions.min_litert_version(flatbuffer.read_model(artifact.file))


def _way_out(runtime: str, brought: str) -> str:
    if runtime == TENSORFLOW:
        return f"convert again with --min-runtime {brought.removesuffix('.0')}: int8 can, and float16"
    return "bundle another recipe: int8, or float16"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
