package tfvit.edge.core

/** Milliseconds of each stage between a decoded image and its answer. */
data class StageTimes(val preprocessMs: Double, val writeMs: Double, val inferenceMs: Double, val postprocessMs: Double) {
    val totalMs: Double
        get() = preprocessMs + writeMs + inferenceMs + postprocessMs
}

/**
 * @property top what is worth showing.
 * @property others the same of each further output.
 */
data class Answer(val model: PackagedModel, val top: List<Score>, val times: StageTimes, val others: List<List<Score>> = emptyList())

/** An image through an open model. [nanoTime] is a clock. */
class Classifier(private val open: OpenModel, private val nanoTime: () -> Long = System::nanoTime) {
    /** @param image upright. */
    fun classify(image: RgbImage): Answer {
        val start = nanoTime()
        val pixels = open.model.preprocessing.apply(image)
        val preprocessed = nanoTime()
        open.write(pixels)
        val written = nanoTime()
        // a GPU may still be computing when run returns: what an app waits for is the output
        open.run()
        val outputs = open.readAll()
        val ran = nanoTime()
        val top = topScores(open.model, outputs.first())
        val others = open.model.others.zip(outputs.drop(1)) { other, output -> topScores(other, output) }
        val end = nanoTime()
        return Answer(
            open.model,
            top,
            StageTimes(
                milliseconds(start, preprocessed),
                milliseconds(preprocessed, written),
                milliseconds(written, ran),
                milliseconds(ran, end),
            ),
            others,
        )
    }
}

/**
 * Whether this device answers the golden image as the machine did that packed the model.
 *
 * @property top5Same of the first output; null for values and features.
 * @property maxAbsErr |score - golden score| of the golden image's best class, or the largest of all numbers; null where it is not a number.
 *     Of several outputs that which is furthest off, measured by its tolerance.
 */
data class Parity(val passed: Boolean, val top5Same: Boolean?, val maxAbsErr: Double?, val tolerance: Double, val pixelsSame: Boolean) {
    companion object {
        /** @param image the golden image, decoded. */
        fun check(open: OpenModel, image: RgbImage): Parity {
            val pixels = open.model.preprocessing.apply(image)
            open.write(pixels)
            open.run()
            val pixelsSame = sha256(pixels) == open.model.golden.pixelsSha256
            val outputs = (listOf(open.model) + open.model.others).zip(open.readAll()) { model, output -> of(model, output, open.used, pixelsSame) }
            val worst = outputs.maxByOrNull { it.maxAbsErr?.div(it.tolerance) ?: Double.POSITIVE_INFINITY }!!
            return worst.copy(passed = outputs.all { it.passed }, top5Same = outputs.first().top5Same)
        }

        private fun of(model: PackagedModel, output: FloatArray, used: Backend, pixelsSame: Boolean): Parity {
            val golden = model.golden
            val numbers = realNumbers(model, output)
            val expected = golden.top5.map { it.index }
            val received = topK(numbers, expected.size)
            // of classes the best one's; Kotlin's max is NaN where one of them is
            val error = (golden.top5.take(1) + golden.numbers).maxOf { Math.abs(numbers[it.index] - it.score) }
            val tolerance = golden.tolerance.getValue(used.id)
            return Parity(
                passed = pixelsSame && received.firstOrNull() == expected.firstOrNull() && error <= tolerance,
                top5Same = if (model.meaning.isScored) received == expected else null,
                maxAbsErr = error.takeIf { it.isFinite() },
                tolerance = tolerance,
                pixelsSame = pixelsSame,
            )
        }
    }
}
