"""iOS: the lines that bring runtime and model into an Xcode project, and a class in Swift."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Any

from edge.apps.model_class import Language, filled
from edge.apps.projects import FOLDER, IOS
from edge.apps.runtimes import PACKAGES

PODFILE = f"pod '{PACKAGES[IOS].name}', '{PACKAGES[IOS].version}'\n"
XCODE = f'File > Add Files: choose the folder {FOLDER}, "Create folder references" (the folder turns blue), and tick the app.\n'


def swift(model: Mapping[str, Any]) -> str:
    """A class that runs one model, with its preprocessing.

    Args:
        model: an entry of `models` in `edge_package.json`, without tensors of int8: TensorFlowLiteSwift has none.
    """
    package = PACKAGES[IOS]
    return filled(
        _LANGUAGE,
        model,
        package=f"{package.name} {package.version}",
        folder=FOLDER,
        labels_read=Template(_LABELS_READ).substitute(name=model["name"], folder=FOLDER) if model["labels"] else "",
    )


_LABELS_READ = """
    guard let names = bundle.path(forResource: "$name.labels", ofType: "txt", inDirectory: "$folder") else {
      throw CocoaError(.fileNoSuchFile)
    }
    labels = Array(try String(contentsOfFile: names, encoding: .utf8).components(separatedBy: "\\n").dropLast())"""

_CODE = """\
// $name with $package, made by edge.bundle. Unchecked: never compiled, only its syntax was read by a parser.
import Foundation
import TensorFlowLite

final class $kind {
  private let interpreter: Interpreter
$labels
  init(bundle: Bundle = .main) throws {
    guard let path = bundle.path(forResource: "$name", ofType: "tflite", inDirectory: "$folder") else {
      throw CocoaError(.fileNoSuchFile)
    }
    var options = Interpreter.Options()
    options.isXNNPackEnabled = true
    interpreter = try Interpreter(modelPath: path, options: options)
    try interpreter.allocateTensors()$labels_read
  }

  /// $what
  ///
  /// - Parameter image: as `preprocess` takes it.
  func $verb(width: Int, height: Int, image: [UInt8]) throws -> [Float] {
    let pixels = preprocess(imageWidth: width, imageHeight: height, image: image)
    try interpreter.copy(toInput(pixels), toInputAt: 0)
    try interpreter.invoke()
    return fromOutput(try interpreter.output(at: 0).data)
  }
}

/// $size RGB: $geometry. Not normalised: the file does that.
///
/// - Parameter image: upright, row by row: RGB or RGBA, a byte each of 0..255. Alpha is not looked at.
func preprocess(imageWidth: Int, imageHeight: Int, image: [UInt8]) -> [UInt8] {
$size_of_resized
  let resized = resize(rgb(imageWidth * imageHeight, image), imageWidth, imageHeight, width, height)
$cut
}

/// The bytes that the model takes.
func toInput(_ pixels: [UInt8]) -> Data {
  return $input
}

/// What the model's bytes say.
func fromOutput(_ output: Data) -> [Float] {
  let numbers: [Float] = $numbers
$scores
}

private func rgb(_ size: Int, _ image: [UInt8]) -> [UInt8] {
  precondition(image.count == 3 * size || image.count == 4 * size, "expected 3 or 4 bytes a pixel")
  if image.count == 3 * size { return image }
  return (0..<3 * size).map { index in image[index / 3 * 4 + index % 3] }
}

/// As Pillow does it, to the last bit: the side that loses far more pixels comes first.
private func resize(_ data: [UInt8], _ width: Int, _ height: Int, _ toWidth: Int, _ toHeight: Int) -> [UInt8] {
  if toHeight < height && height - toHeight > 2 * (width - toWidth) {
    return resample(resample(data, 1, height, toHeight, 3 * width), toHeight, width, toWidth, 3)
  }
  return resample(resample(data, height, width, toWidth, 3), 1, height, toHeight, 3 * toWidth)
}

/// [outer, size, inner] bytes to [outer, target, inner], antialiased, in fixed point of 22 bits.
private func resample(_ data: [UInt8], _ outer: Int, _ size: Int, _ target: Int, _ inner: Int) -> [UInt8] {
  if size == target { return data }
  var result = [UInt8](repeating: 0, count: outer * target * inner)
  let scale = Double(size) / Double(target)
  let stretch = max(scale, 1)
  for to in 0..<target {
    let center = (Double(to) + 0.5) * scale
    let start = max(Int(center - $support * stretch + 0.5), 0)
    let end = min(Int(center + $support * stretch + 0.5), size)
    let shares = (start..<end).map { k in weight(abs((Double(k) - center + 0.5) * (1 / stretch))) }
    let sum = shares.reduce(0, +)
    let weights = shares.map { share in Int((share / sum * 4194304).rounded()) }
    for o in 0..<outer {
      for i in 0..<inner {
        var value = 2097152
        for k in 0..<weights.count { value += Int(data[(o * size + start + k) * inner + i]) * weights[k] }
        result[(o * target + to) * inner + i] = UInt8(max(0, min(255, value >> 22)))
      }
    }
  }
  return result
}

private func weight(_ distance: Double) -> Double {
$weight
}
"""

_RESIZED = """\
  let width = heightFits ? max(1, $high * imageWidth / imageHeight) : $wide
  let height = heightFits ? $high : max(1, $wide * imageHeight / imageWidth)"""

_LANGUAGE = Language(
    code=_CODE,
    labels="  let labels: [String]\n",
    squash="  let width = $wide, height = $high",
    cover="  let heightFits = imageWidth * $high > imageHeight * $wide\n" + _RESIZED,
    fit="  let heightFits = imageWidth * $high <= imageHeight * $wide\n" + _RESIZED,
    whole="  return resized",
    crop="""\
  func half(_ margin: Int) -> Int { return margin / 2 + (margin & 1 & (margin / 2)) }  // to even
  let left = half(width - $crop_wide), top = half(height - $crop_high)
  var pixels = [UInt8]()
  for y in top..<top + $crop_high {
    pixels += resized[3 * (y * width + left)..<3 * (y * width + left + $crop_wide)]
  }
  return pixels""",
    pad="""\
  let left = ($crop_wide - width) / 2, top = ($crop_high - height) / 2
  var pixels = [UInt8](repeating: $pad, count: 3 * $crop_wide * $crop_high)
  for y in 0..<height {
    let to = 3 * ((top + y) * $crop_wide + left)
    pixels.replaceSubrange(to..<to + 3 * width, with: resized[3 * width * y..<3 * width * (y + 1)])
  }
  return pixels""",
    weights={
        "bilinear": "  return distance < 1 ? 1 - distance : 0",
        "bicubic": """\
  if distance < 1 { return (1.5 * distance - 2.5) * distance * distance + 1 }
  return distance < 2 ? (((distance - 5) * distance + 8) * distance - 4) * -0.5 : 0""",
    },
    inputs={
        "float32": "pixels.map { pixel in Float(pixel) }.withUnsafeBufferPointer { values in Data(buffer: values) }",
        "uint8": "Data(pixels)",
    },
    numbers={"float32": "output.withUnsafeBytes { bytes in Array(bytes.bindMemory(to: Float.self)) }"},
    none="  return numbers",
    softmax="""\
  let highest = numbers.max() ?? 0
  let exponentials = numbers.map { number in exp(number - highest) }
  let sum = exponentials.reduce(0, +)
  return exponentials.map { exponential in exponential / sum }""",
    sigmoid="  return numbers.map { number in 1 / (1 + exp(-number)) }",
)
