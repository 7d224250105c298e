package tfvit.edge.core

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

/** A model's output as probabilities. */
fun probabilities(model: PackagedModel, output: FloatArray): DoubleArray =
    when {
        model.outputIsProbabilities -> DoubleArray(output.size) { output[it].toDouble() }
        model.outputIsLabels -> sigmoid(output)
        else -> softmax(output)
    }

/** The best classes of a model's output with labels and probabilities. */
fun topScores(model: PackagedModel, output: FloatArray, count: Int = 5): List<Score> {
    val probabilities = probabilities(model, output)
    return topK(probabilities, count).map { Score(it, model.label(it), probabilities[it]) }
}
