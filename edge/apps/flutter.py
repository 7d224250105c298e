"""Flutter: the lines that register a model in pubspec.yaml, and a class in Dart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.apps.model_class import Language, filled
from edge.apps.projects import FLUTTER, FOLDER
from edge.apps.runtimes import PACKAGES

PUBSPEC = f"""\
dependencies:
  {PACKAGES[FLUTTER].name}: {PACKAGES[FLUTTER].version}

flutter:
  assets:
    - assets/{FOLDER}/
"""


def dart(model: Mapping[str, Any]) -> str:
    """A class that runs one model, with its preprocessing.

    Args:
        model: an entry of `models` in `edge_package.json`.
    """
    package, has_labels = PACKAGES[FLUTTER], model["labels"] is not None
    return filled(
        _LANGUAGE,
        model,
        package=f"{package.name} {package.version}",
        folder=f"assets/{FOLDER}",
        convert="import 'dart:convert';\n" if has_labels else "",
        services="import 'package:flutter/services.dart';\n" if has_labels else "",
        labels_field=", this.labels" if has_labels else "",
        labels_read=f", const LineSplitter().convert(await rootBundle.loadString('assets/{FOLDER}/{model['labels']['file']}'))"
        if has_labels
        else "",
    )


_CODE = """\
// $name with $package, made by edge.bundle. Unchecked: never compiled, only its syntax was read by a parser.
${convert}import 'dart:math';
import 'dart:typed_data';

${services}import 'package:tflite_flutter/tflite_flutter.dart';

class $kind {
  final Interpreter _interpreter;
$labels
  $kind._(this._interpreter$labels_field);

  static Future<$kind> load({InterpreterOptions? options}) async {
    final interpreter = await Interpreter.fromAsset('$folder/$name.tflite', options: options);
    return $kind._(interpreter$labels_read);
  }

  /// $what
  ///
  /// [image] as [preprocess] takes it.
  Float32List $verb(int width, int height, Uint8List image) {
    _interpreter.getInputTensor(0).data = toInput(preprocess(width, height, image));
    _interpreter.invoke();
    return fromOutput(_interpreter.getOutputTensor(0).data);
  }

  void close() => _interpreter.close();
}

/// $size RGB: $geometry. Not normalised: the file does that.
///
/// [image] is upright, row by row: RGB or RGBA, a byte each of 0..255. Alpha is not looked at.
Uint8List preprocess(int imageWidth, int imageHeight, Uint8List image) {
$size_of_resized
  final resized = _resize(_rgb(imageWidth * imageHeight, image), imageWidth, imageHeight, width, height);
$cut
}

/// The bytes that the model takes.
Uint8List toInput(Uint8List pixels) => $input;

/// What the model's bytes say.
Float32List fromOutput(Uint8List output) {
  final numbers = $numbers;
$scores
}

Uint8List _rgb(int size, Uint8List image) {
  if (image.length == 3 * size) return image;
  if (image.length != 4 * size) throw ArgumentError.value(image.length, 'image', 'expected 3 or 4 bytes a pixel');
  final pixels = Uint8List(3 * size);
  for (var i = 0; i < pixels.length; i++) {
    pixels[i] = image[i ~/ 3 * 4 + i % 3];
  }
  return pixels;
}

/// As Pillow does it, to the last bit: the side that loses far more pixels comes first.
Uint8List _resize(Uint8List data, int width, int height, int toWidth, int toHeight) {
  if (toHeight < height && height - toHeight > 2 * (width - toWidth)) {
    return _resample(_resample(data, 1, height, toHeight, 3 * width), toHeight, width, toWidth, 3);
  }
  return _resample(_resample(data, height, width, toWidth, 3), 1, height, toHeight, 3 * toWidth);
}

/// [outer, size, inner] bytes to [outer, target, inner], antialiased, in fixed point of 22 bits.
Uint8List _resample(Uint8List data, int outer, int size, int target, int inner) {
  if (size == target) return data;
  final result = Uint8List(outer * target * inner);
  final scale = size / target;
  final stretch = max(scale, 1.0);
  for (var to = 0; to < target; to++) {
    final center = (to + 0.5) * scale;
    final start = max((center - $support * stretch + 0.5).truncate(), 0);
    final end = min((center + $support * stretch + 0.5).truncate(), size);
    final shares = [for (var k = start; k < end; k++) _weight(((k - center + 0.5) * (1 / stretch)).abs())];
    final sum = shares.reduce((one, other) => one + other);
    final weights = [for (final share in shares) (share / sum * 4194304).round()];
    for (var o = 0; o < outer; o++) {
      for (var i = 0; i < inner; i++) {
        var value = 2097152;
        for (var k = 0; k < weights.length; k++) {
          value += data[(o * size + start + k) * inner + i] * weights[k];
        }
        result[(o * target + to) * inner + i] = max(0, min(255, value >> 22));
      }
    }
  }
  return result;
}

double _weight(double distance) {
$weight
}
"""

_RESIZED = """\
  final width = heightFits ? max(1, $high * imageWidth ~/ imageHeight) : $wide;
  final height = heightFits ? $high : max(1, $wide * imageHeight ~/ imageWidth);"""

_LANGUAGE = Language(
    code=_CODE,
    labels="  final List<String> labels;\n",
    squash="  const width = $wide, height = $high;",
    cover="  final heightFits = imageWidth * $high > imageHeight * $wide;\n" + _RESIZED,
    fit="  final heightFits = imageWidth * $high <= imageHeight * $wide;\n" + _RESIZED,
    whole="  return resized;",
    crop="""\
  int half(int margin) => margin ~/ 2 + (margin & 1 & margin ~/ 2); // to even
  final left = half(width - $crop_wide), top = half(height - $crop_high);
  final pixels = Uint8List(3 * $crop_wide * $crop_high);
  for (var y = 0; y < $crop_high; y++) {
    pixels.setRange(3 * $crop_wide * y, 3 * $crop_wide * (y + 1), resized, 3 * ((top + y) * width + left));
  }
  return pixels;""",
    pad="""\
  final left = ($crop_wide - width) ~/ 2, top = ($crop_high - height) ~/ 2;
  final pixels = Uint8List(3 * $crop_wide * $crop_high)..fillRange(0, 3 * $crop_wide * $crop_high, $pad);
  for (var y = 0; y < height; y++) {
    final to = 3 * ((top + y) * $crop_wide + left);
    pixels.setRange(to, to + 3 * width, resized, 3 * width * y);
  }
  return pixels;""",
    weights={
        "bilinear": "  return distance < 1 ? 1 - distance : 0;",
        "bicubic": """\
  if (distance < 1) return (1.5 * distance - 2.5) * distance * distance + 1;
  return distance < 2 ? (((distance - 5) * distance + 8) * distance - 4) * -0.5 : 0;""",
    },
    inputs={
        "float32": "Float32List.fromList([for (final value in pixels) value.toDouble()]).buffer.asUint8List()",
        "uint8": "pixels",
        "int8": "Int8List.fromList([for (final value in pixels) (value / $input_scale + ($input_zero_point)).round().clamp(-128, 127)])"
        ".buffer.asUint8List()",
    },
    numbers={
        "float32": "Uint8List.fromList(output).buffer.asFloat32List()",
        "int8": "Float32List.fromList([for (final stored in Uint8List.fromList(output).buffer.asInt8List()) "
        "(stored - ($output_zero_point)) * $output_scale])",
    },
    none="  return numbers;",
    softmax="""\
  final highest = numbers.reduce(max);
  final exponentials = [for (final number in numbers) exp(number - highest)];
  final sum = exponentials.reduce((one, other) => one + other);
  return Float32List.fromList([for (final exponential in exponentials) exponential / sum]);""",
    sigmoid="  return Float32List.fromList([for (final number in numbers) 1 / (1 + exp(-number))]);",
)
