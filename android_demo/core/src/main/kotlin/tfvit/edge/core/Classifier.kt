package tfvit.edge.core

/** Milliseconds of each stage between a decoded image and its answer. */
data class StageTimes(val preprocessMs: Double, val writeMs: Double, val inferenceMs: Double, val postprocessMs: Double) {
    val totalMs: Double
        get() = preprocessMs + writeMs + inferenceMs + postprocessMs
}

data class Answer(val top: List<Score>, val times: StageTimes)

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
 * @property maxAbsErr |score - golden score| of the golden image's best class; null where it is not a number.
 */
data class Parity(val passed: Boolean, val top5Same: Boolean, val maxAbsErr: Double?, val tolerance: Double, val pixelsSame: Boolean) {
    companion object {
        /** @param image the golden image, decoded. */
        fun check(open: OpenModel, image: RgbImage): Parity {
            val golden = open.model.golden
            val pixels = open.model.preprocessing.apply(image)
            open.write(pixels)
            open.run()
            val probabilities = probabilities(open.model, open.read())
            val expected = golden.top5.map { it.index }
            val received = topK(probabilities, expected.size)
            val best = golden.top5.first()
            val error = Math.abs(probabilities[best.index] - best.score)
            val tolerance = golden.tolerance.getValue(open.used.id)
            val pixelsSame = sha256(pixels) == golden.pixelsSha256
            return Parity(
                passed = pixelsSame && received.first() == best.index && error <= tolerance,
                top5Same = received == expected,
                maxAbsErr = error.takeIf { it.isFinite() },
                tolerance = tolerance,
                pixelsSame = pixelsSame,
            )
        }
    }
}
