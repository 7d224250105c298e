package tfvit.edge.core

import kotlin.math.abs
import kotlin.math.exp

/** Probabilities of logits, computed in doubles. */
fun softmax(logits: FloatArray): DoubleArray {
    val largest = logits.max().toDouble()
    val powers = DoubleArray(logits.size) { exp(logits[it] - largest) }
    val sum = powers.sum()
    return DoubleArray(powers.size) { powers[it] / sum }
}

/** Probabilities of logits, each by itself, computed in doubles. */
fun sigmoid(logits: FloatArray): DoubleArray = DoubleArray(logits.size) { 1 / (1 + exp(-logits[it].toDouble())) }

/** Indices of the [count] largest, best first; of equal ones the lower index comes first. NaN is never among the best of numbers. */
fun topK(scores: DoubleArray, count: Int): List<Int> =
    scores.indices.sortedByDescending { if (scores[it].isNaN()) Double.NEGATIVE_INFINITY else scores[it] }.take(count)

/** A model's output: of classes and labels as probabilities, values and features as they are. */
fun realNumbers(model: PackagedModel, output: FloatArray): DoubleArray =
    when {
        model.outputIsProbabilities || !model.meaning.isScored -> DoubleArray(output.size) { output[it].toDouble() }
        model.meaning == Meaning.LABELS -> sigmoid(output)
        else -> softmax(output)
    }

/** What is worth showing of a model's output: the best classes or labels, the first values, or the features furthest from zero. */
fun topScores(model: PackagedModel, output: FloatArray, count: Int = 5): List<Score> {
    val numbers = realNumbers(model, output)
    val shown =
        when (model.meaning) {
            Meaning.CLASSES, Meaning.LABELS -> topK(numbers, count)
            Meaning.VALUES -> numbers.indices.take(count)
            Meaning.FEATURES -> topK(DoubleArray(numbers.size) { abs(numbers[it]) }, count)
        }
    return shown.map { Score(it, model.label(it), numbers[it]) }
}
