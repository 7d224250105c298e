"""React Native and Expo: the lines that register a model with Metro, and a class in TypeScript."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.apps.model_class import Language, filled
from edge.apps.projects import ANDROID, EXPO, FOLDER, IOS, METRO_FILES, REACT_NATIVE, Project
from edge.apps.runtimes import PACKAGES
from edge.artifacts import atomic_files

# Nitro Modules that the type check was made with
NITRO = "0.37.1"
METRO = "module.exports.resolver.assetExts.push('tflite');\n"

_METRO_CONFIG = {EXPO: "expo/metro-config", REACT_NATIVE: "@react-native/metro-config"}


def metro_file(framework: str) -> str:
    """A whole metro.config.js, for a project that has none."""
    required = f"const {{ getDefaultConfig }} = require('{_METRO_CONFIG[framework]}');"
    return f"{required}\n\nmodule.exports = getDefaultConfig(__dirname);\n{METRO}"


def install(framework: str, platforms: Sequence[str] = (ANDROID, IOS)) -> str:
    """The commands that add the runtime to a project."""
    package = PACKAGES[framework]
    after = "npx pod-install\n" if IOS in platforms else ""
    if framework == EXPO:
        after = "npx expo prebuild  # or a development build: Expo Go has no native packages\n"
    return f"npm install {package.name}@{package.version} react-native-nitro-modules@{NITRO}\n{after}"


def labels_json(labels: Sequence[str]) -> bytes:
    """A model's labels as Metro bundles them: it has no way to text files."""
    return (json.dumps(list(labels), ensure_ascii=False, indent=0) + "\n").encode()


def register(project: Project) -> Path | None:
    """Writes a metro.config.js that knows `.tflite`, where Expo's own defaults hold so far; None where anything says otherwise.

    Raises:
        EnvironmentUnusableError: the disk refuses.
    """
    if project.framework != EXPO:
        return None
    folder = project.config.parent
    package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    if "metro" in package or any((folder / name).exists() for name in METRO_FILES):
        return None
    atomic_files.save_bytes(project.config, metro_file(EXPO).encode(), project.config.name)
    return project.config


def typescript(model: Mapping[str, Any]) -> str:
    """A class that runs one model, with its preprocessing.

    Args:
        model: an entry of `models` in `edge_package.json`.
    """
    package = PACKAGES[EXPO]
    return filled(_LANGUAGE, model, package=f"{package.name} {package.version}", folder=f"./assets/{FOLDER}")


_CODE = """\
// $name with $package, made by edge.bundle. Type-checked against that package, never run on a device.
import { loadTensorflowModel, type TensorflowModelDelegate, type TfliteModel } from 'react-native-fast-tflite'

export class $kind {
$labels  private readonly model: TfliteModel

  private constructor(model: TfliteModel) {
    this.model = model
  }

  /** @param delegates none: the CPU. Others need the set-up that the package describes. */
  static async load(delegates: TensorflowModelDelegate[] = []): Promise<$kind> {
    return new $kind(await loadTensorflowModel(require('$folder/$name.tflite'), delegates))
  }

  /** $what */
  async $verb(image: Pixels): Promise<Float32Array> {
    const outputs = await this.model.run([toInput(preprocess(image))])
    return fromOutput(outputs[0]!)
  }
}

/** An upright image, row by row: RGB or RGBA, a byte each of 0..255. Alpha is not looked at. */
export type Pixels = { width: number; height: number; data: Uint8Array }

/** $size RGB: $geometry. Not normalised: the file does that. */
export function preprocess(image: Pixels): Uint8Array {
$size_of_resized
  const resized = resize(rgb(image), image.width, image.height, width, height)
$cut
}

/** The bytes that the model takes. */
export function toInput(pixels: Uint8Array): ArrayBuffer {
  return $input
}

/** What the model's bytes say. */
export function fromOutput(output: ArrayBuffer): Float32Array {
  const numbers = $numbers
$scores
}

function rgb(image: Pixels): Uint8Array {
  const channels = image.data.length / (image.width * image.height)
  if (channels !== 3 && channels !== 4) throw new Error('expected 3 or 4 bytes a pixel. Received: ' + channels)
  return channels === 3 ? image.data : image.data.filter((_, index) => index % 4 !== 3)
}

/** As Pillow does it, to the last bit: the side that loses far more pixels comes first. */
function resize(data: Uint8Array, width: number, height: number, toWidth: number, toHeight: number): Uint8Array {
  if (toHeight < height && height - toHeight > 2 * (width - toWidth)) {
    return resample(resample(data, 1, height, toHeight, 3 * width), toHeight, width, toWidth, 3)
  }
  return resample(resample(data, height, width, toWidth, 3), 1, height, toHeight, 3 * toWidth)
}

/** [outer, size, inner] bytes to [outer, target, inner], antialiased, in fixed point of 22 bits. */
function resample(data: Uint8Array, outer: number, size: number, target: number, inner: number): Uint8Array {
  if (size === target) return data
  const result = new Uint8Array(outer * target * inner)
  const scale = size / target
  const stretch = Math.max(scale, 1)
  for (let to = 0; to < target; to++) {
    const center = (to + 0.5) * scale
    const start = Math.max(Math.trunc(center - $support * stretch + 0.5), 0)
    const end = Math.min(Math.trunc(center + $support * stretch + 0.5), size)
    const shares = Array.from({ length: end - start }, (_, k) => weight(Math.abs((k + start - center + 0.5) * (1 / stretch))))
    const sum = shares.reduce((one, other) => one + other, 0)
    const weights = shares.map((share) => Math.trunc((share / sum) * 4194304 + (share < 0 ? -0.5 : 0.5)))
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        let value = 2097152
        for (let k = 0; k < weights.length; k++) value += data[(o * size + start + k) * inner + i]! * weights[k]!
        result[(o * target + to) * inner + i] = Math.max(0, Math.min(255, value >> 22))
      }
    }
  }
  return result
}

function weight(distance: number): number {
$weight
}
"""

_RESIZED = """\
  const width = {} ? Math.max(1, Math.trunc(($high * image.width) / image.height)) : $wide
  const height = {} ? $high : Math.max(1, Math.trunc(($wide * image.height) / image.width))"""
_SOFTMAX = """\
  const highest = numbers.reduce((one, other) => Math.max(one, other))
  const exponentials = numbers.map((number) => Math.exp(number - highest))
  const sum = exponentials.reduce((one, other) => one + other)
  return exponentials.map((exponential) => exponential / sum)"""

_LANGUAGE = Language(
    code=_CODE,
    labels="  readonly labels: string[] = require('$folder/$name.labels.json')\n",
    squash="  const width = $wide\n  const height = $high",
    cover="  const heightFits = image.width * $high > image.height * $wide\n" + _RESIZED.format("heightFits", "heightFits"),
    fit="  const heightFits = image.width * $high <= image.height * $wide\n" + _RESIZED.format("heightFits", "heightFits"),
    whole="  return resized",
    crop="""\
  const half = (margin: number) => Math.floor(margin / 2) + (margin & 1 & Math.floor(margin / 2)) // to even
  const left = half(width - $crop_wide)
  const top = half(height - $crop_high)
  const pixels = new Uint8Array(3 * $crop_wide * $crop_high)
  for (let y = 0; y < $crop_high; y++) {
    const from = 3 * ((top + y) * width + left)
    pixels.set(resized.subarray(from, from + 3 * $crop_wide), 3 * $crop_wide * y)
  }
  return pixels""",
    pad="""\
  const left = Math.floor(($crop_wide - width) / 2)
  const top = Math.floor(($crop_high - height) / 2)
  const pixels = new Uint8Array(3 * $crop_wide * $crop_high).fill($pad)
  for (let y = 0; y < height; y++) {
    pixels.set(resized.subarray(3 * width * y, 3 * width * (y + 1)), 3 * ((top + y) * $crop_wide + left))
  }
  return pixels""",
    weights={
        "bilinear": "  return distance < 1 ? 1 - distance : 0",
        "bicubic": """\
  if (distance < 1) return (1.5 * distance - 2.5) * distance * distance + 1
  return distance < 2 ? (((distance - 5) * distance + 8) * distance - 4) * -0.5 : 0""",
    },
    inputs={
        "float32": "new Float32Array(pixels).buffer",
        "uint8": "new Uint8Array(pixels).buffer",
        "int8": "Int8Array.from(pixels, (pixel) => "
        "Math.max(-128, Math.min(127, Math.round(pixel / $input_scale + ($input_zero_point))))).buffer",
    },
    numbers={
        "float32": "new Float32Array(output)",
        "int8": "Float32Array.from(new Int8Array(output), (stored) => (stored - ($output_zero_point)) * $output_scale)",
    },
    none="  return numbers",
    softmax=_SOFTMAX,
    sigmoid="  return numbers.map((number) => 1 / (1 + Math.exp(-number)))",
)
