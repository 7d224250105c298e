package tfvit.edge

import com.google.ai.edge.litert.CompiledModel
import java.io.File
import tfvit.edge.app.LiteRtEngine
import tfvit.edge.core.Backend
import tfvit.edge.core.Backends
import tfvit.edge.core.Classifier
import tfvit.edge.core.Json

/** What the app's screen would have to show of a picture, for the drawing of it: `Screen.kt PICTURE JSON`. */
fun main(arguments: Array<String>) {
    val start = System.nanoTime()
    val image = Files.decoded(File(arguments[0]))
    val imageMs = (System.nanoTime() - start) / 1e6
    val factory = LiteRtEngine.factory { model, options -> CompiledModel.create(Files.packageFolder.resolve(model.file).path, options) }
    val model = Files.edgePackage.models.first { it.name == Files.edgePackage.recommended["cpu"]?.name }
    Backends.open(model, Backend.CPU, 1, factory).use { open ->
        // the camera's or the second picture's: the first answer is slower, and the screen has it in another line
        val answer = Classifier(open).run { classify(image); classify(image) }
        val times = answer.times
        File(arguments[1]).writeText(
            Json.write(
                mapOf(
                    "model" to model.name,
                    "opened" to listOf(open.used.id, open.initMs, open.firstInferenceMs),
                    "scores" to answer.top.map { listOf(it.label, it.score) },
                    "stages" to listOf(imageMs, times.preprocessMs, times.writeMs, times.inferenceMs, times.postprocessMs),
                ),
                indent = 1,
            ),
        )
    }
}
