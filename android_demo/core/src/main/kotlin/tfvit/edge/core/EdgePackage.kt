package tfvit.edge.core

/** What `python -m edge.bundle` wrote, read and checked by [PackageReader]. */
data class EdgePackage(
    val models: List<PackagedModel>,
    val goldenImage: GoldenImage,
    /** Backend id ("cpu", "gpu", "npu") to the model that is recommended for it. */
    val recommended: Map<String, Recommendation>,
    val tools: Map<String, String>,
)

data class PackagedModel(
    val name: String,
    val file: String,
    val sha256: String,
    val sizeBytes: Long,
    val variant: String?,
    val recipe: String,
    val randomWeights: Boolean,
    val classes: Int,
    val input: TensorSpec,
    val preprocessing: Preprocessing,
    val output: TensorSpec,
    /** Whether the file itself ends in a softmax or sigmoid. */
    val outputIsProbabilities: Boolean,
    val meaning: Meaning,
    /** One for each entry of the output's last axis; null where the model has none. */
    val labels: List<String>?,
    val minRuntimeVersion: String?,
    val gpu: GpuVerdict,
    val golden: Golden,
    /** The same model as its further outputs have it, in the file's order: with another [output], [meaning] and [golden]. */
    val others: List<PackagedModel> = emptyList(),
) {
    /** Of an entry of the output, counted through all its axes. */
    fun label(index: Int): String = labels?.get(index % classes) ?: "${meaning.one} $index"
}

/** What the numbers of an output are; [one] names one of them. */
enum class Meaning(val id: String, val one: String, internal val activation: String?) {
    /** Of which one applies. */
    CLASSES("classes", "class", "softmax"),
    /** Each of which applies or not. */
    LABELS("labels", "label", "sigmoid"),
    VALUES("values", "value", null),
    /** An embedding or a map. */
    FEATURES("features", "feature", null);

    /** Whether they are probabilities, or become such by a softmax or sigmoid. */
    val isScored: Boolean
        get() = activation != null
}

enum class ElementType(val id: String) {
    FLOAT32("float32"),
    UINT8("uint8"),
    INT8("int8"),
}

/** Real value = scale * (integer - zeroPoint). */
data class Quantization(val scale: Float, val zeroPoint: Int)

data class TensorSpec(val name: String, val shape: List<Int>, val type: ElementType, val quantization: Quantization?) {
    val elements: Int
        get() = shape.fold(1) { product, side -> product * side }
}

/** What the converter's rules say of the GPU: "whole", "refused" or "wrong", and on what grounds. */
data class GpuVerdict(val verdict: String, val basis: String) {
    val isWrong: Boolean
        get() = verdict == "wrong"
}

data class GoldenImage(val file: String, val sha256: String, val width: Int, val height: Int)

/** What this model makes of the golden image on the machine that packed it. */
data class Golden(
    val pixelsSha256: String,
    /** The best classes or labels; empty for values and features. */
    val top5: List<Score>,
    /** Some of the values or features; empty for classes and labels. */
    val numbers: List<Score>,
    /** Backend id to the largest difference of the best class's score, or of a number, that still passes. */
    val tolerance: Map<String, Double>,
)

/** A class or label and its probability, or a value or feature itself. */
data class Score(val index: Int, val label: String, val score: Double)

data class Recommendation(val name: String, val why: String)
