"""What to paste into an Android app: the Gradle lines, and a Kotlin class for one model of a package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edge.apps.model_class import KINDS, sentence
from edge.apps.projects import ANDROID, FOLDER
from edge.apps.runtimes import PACKAGES
from edge.drift.meanings import CLASSES, LABELS, SCORED
from tfvit.preprocessing import Preprocessing, size_words

LITERT_VERSION = PACKAGES[ANDROID].version

GRADLE = f"""\
android {{
    defaultConfig {{ minSdk = 24 }}
    androidResources {{ noCompress += "tflite" }}  // so that the file can be mapped as it is
}}

dependencies {{
    implementation("com.google.ai.edge.litert:litert:{LITERT_VERSION}")
    implementation("com.google.ai.edge.litert:litert-gpu:{LITERT_VERSION}")  // for Accelerator.GPU
}}
"""

_KOTLIN = """\
import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
{imports}
/**
 * {name}: on one accelerator, Accelerator.CPU or Accelerator.GPU, which throws where it cannot.
 * Options(Accelerator.GPU, Accelerator.CPU) may run on the CPU and not say so.
 */
class {kind}(context: Context, accelerator: Accelerator) : AutoCloseable {{
    private val model = CompiledModel.create(context.assets, "{folder}/{file}", CompiledModel.Options(accelerator))
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()
{labels}
    /**
     * {what}
     *
     * @param pixels {size} RGB, row by row, a byte each of 0..255: the image upright,
     *     {geometry}. Not normalised: the file does that.
     */
    fun {verb}(pixels: ByteArray): FloatArray {{
        {write}
        model.run(inputs, outputs)
{read}
    }}
{others}
    override fun close() {{
        inputs.forEach {{ it.close() }}
        outputs.forEach {{ it.close() }}
        model.close()
    }}
}}
"""

_OTHER = """
    /** {what} Of the pixels that {verb} was given last. */
    fun {function}(): FloatArray {{
{read}
    }}
"""

_SOFTMAX = """\
        val highest = logits.max()
        val exponentials = FloatArray(logits.size) {{ exp(logits[it] - highest) }}
        val sum = exponentials.sum()
        return FloatArray(logits.size) {{ exponentials[it] / sum }}"""

_SIGMOID = """\
        return FloatArray(logits.size) {{ 1f / (1f + exp(-logits[it])) }}"""


# The same for a module whose build file is in Groovy
GROOVY = f"""\
android {{
    defaultConfig {{ minSdk 24 }}
    androidResources {{ noCompress 'tflite' }}  // so that the file can be mapped as it is
}}

dependencies {{
    implementation 'com.google.ai.edge.litert:litert:{LITERT_VERSION}'
    implementation 'com.google.ai.edge.litert:litert-gpu:{LITERT_VERSION}'  // for Accelerator.GPU
}}
"""


def kotlin(model: Mapping[str, Any]) -> str:
    """A class that runs one model.

    Args:
        model: an entry of `models` in `edge_package.json`.
    """
    preprocessing = Preprocessing(**model["preprocessing"])
    meaning, others = model["output"].get("meaning", CLASSES), model.get("other_outputs", ())
    kind, verb = KINDS[meaning]
    logits = any(_gives_logits(output) for output in (model["output"], *others))
    labels = model["labels"]
    quantized = model["input"]["dtype"] == "int8"
    imports = ["import kotlin.math.exp"] * logits + ["import kotlin.math.roundToInt"] * quantized
    return _KOTLIN.format(
        imports="\n".join([*imports, ""]) if imports else "",
        name=model["name"],
        folder=FOLDER,
        file=model["file"],
        labels=f'    val labels = context.assets.open("{FOLDER}/{labels["file"]}").bufferedReader().readLines()\n' if labels else "",
        kind=kind,
        verb=verb,
        what=sentence(meaning, model["output"]["shape"][1:]),
        size=size_words(preprocessing.crop_px),
        geometry=preprocessing.words(),
        write=_write(model["input"]),
        read=_read(model["output"], 0),
        others="".join(
            _OTHER.format(
                what=sentence(output.get("meaning", CLASSES), output["shape"][1:]),
                verb=verb,
                function=_function(output["name"]),
                read=_read(output, index),
            )
            for index, output in enumerate(others, 1)
        ),
    )


def _gives_logits(output: Mapping[str, Any]) -> bool:
    return output["activation"] is None and output.get("meaning", CLASSES) in SCORED


def _function(name: str) -> str:
    """A name of Kotlin's for the output of a name: "image_embedding" -> "readImageEmbedding"."""
    first, *others = re.split(r"[^A-Za-z0-9]+", name.strip("_.-"))
    return f"read{''.join(word[:1].upper() + word[1:] for word in (first, *others))}"


def _read(output: Mapping[str, Any], index: int) -> str:
    """The lines that give an output as real numbers, scores as probabilities."""
    logits = _gives_logits(output)
    scores = "val logits =" if logits else "return"
    read = [f"        {scores} outputs[{index}].readFloat()"]
    if output["dtype"] == "int8":
        zero_point, scale = output["quantization"]["zero_point"], output["quantization"]["scale"]
        read = [
            f"        val stored = outputs[{index}].readInt8()",
            f"        {scores} FloatArray(stored.size) {{ (stored[it] - ({zero_point})) * {scale!r}f }}  // {output['name']}",
        ]
    if logits:
        read.append((_SIGMOID if output.get("meaning", CLASSES) == LABELS else _SOFTMAX).format())
    return "\n".join(read)


def _write(tensor: Mapping[str, Any]) -> str:
    if tensor["dtype"] == "uint8":
        return "inputs[0].writeInt8(pixels)  // the same bytes: the file reads them as 0..255"
    value = "(pixels[it].toInt() and 0xFF)"
    if tensor["dtype"] == "int8":
        scale, zero_point = tensor["quantization"]["scale"], tensor["quantization"]["zero_point"]
        stored = f"({value} / {scale!r}f + ({zero_point})).roundToInt().coerceIn(-128, 127).toByte()"
        return f"inputs[0].writeInt8(ByteArray(pixels.size) {{ {stored} }})"
    return f"inputs[0].writeFloat(FloatArray(pixels.size) {{ {value}.toFloat() }})"
