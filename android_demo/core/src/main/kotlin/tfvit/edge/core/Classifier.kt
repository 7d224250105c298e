package tfvit.edge.core

/** Milliseconds of each stage between a decoded image and its answer. */
data class StageTimes(val preprocessMs: Double, val writeMs: Double, val inferenceMs: Double, val postprocessMs: Double) {
    val totalMs: Double
        get() = preprocessMs + writeMs + inferenceMs + postprocessMs
}

/** @property top what is worth showing. */
data class Answer(val model: PackagedModel, val top: List<Score>, val times: StageTimes)

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
        val output = open.read()
        val ran = nanoTime()
        val top = topScores(open.model, output)
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
        )
    }
}

/**
 * Whether this device answers the golden image as the machine did that packed the model.
 *
 * @property top5Same null for values and features.
 * @property maxAbsErr |score - golden score| of the golden image's best class, or the largest of all numbers; null where it is not a number.
 */
data class Parity(val passed: Boolean, val top5Same: Boolean?, val maxAbsErr: Double?, val tolerance: Double, val pixelsSame: Boolean) {
    companion object {
        /** @param image the golden image, decoded. */
        fun check(open: OpenModel, image: RgbImage): Parity {
            val golden = open.model.golden
            val pixels = open.model.preprocessing.apply(image)
            open.write(pixels)
            open.run()
            val numbers = realNumbers(open.model, open.read())
            val expected = golden.top5.map { it.index }
            val received = topK(numbers, expected.size)
            // of classes the best one's; Kotlin's max is NaN where one of them is
            val error = (golden.top5.take(1) + golden.numbers).maxOf { Math.abs(numbers[it.index] - it.score) }
            val tolerance = golden.tolerance.getValue(open.used.id)
            val pixelsSame = sha256(pixels) == golden.pixelsSha256
            return Parity(
                passed = pixelsSame && received.firstOrNull() == expected.firstOrNull() && error <= tolerance,
                top5Same = if (open.model.meaning.isScored) received == expected else null,
                maxAbsErr = error.takeIf { it.isFinite() },
                tolerance = tolerance,
                pixelsSame = pixelsSame,
            )
        }
    }
}
