package tfvit.edge

import com.google.ai.edge.litert.CompiledModel
import java.io.File
import tfvit.edge.app.LiteRtEngine
import tfvit.edge.core.Backend
import tfvit.edge.core.Backends
import tfvit.edge.core.Classifier
import tfvit.edge.core.Json

/** What the app's screen shows of a picture, for the drawing of it: `ScreenKt PICTURE JSON`. */
fun main(arguments: Array<String>) {
    val factory = LiteRtEngine.factory { model, options -> CompiledModel.create(Files.packageFolder.resolve(model.file).path, options) }
    val model = Files.edgePackage.models.first { it.name == Files.edgePackage.recommended["cpu"]?.name }
    lateinit var shown: Map<String, Any?>
    // a JVM's first times are those of loading its classes
    repeat(20) {
        val start = System.nanoTime()
        val image = Files.decoded(File(arguments[0]))
        val imageMs = (System.nanoTime() - start) / 1e6
        Backends.open(model, Backend.CPU, 1, factory).use { open ->
            val answer = Classifier(open).classify(image)
            val times = answer.times
            shown =
                mapOf(
                    "model" to model.name,
                    "opened" to listOf(open.used.id, open.initMs, open.firstInferenceMs),
                    "scores" to answer.top.map { listOf(it.label, it.score) },
                    "stages" to listOf(imageMs, times.preprocessMs, times.writeMs, times.inferenceMs, times.postprocessMs),
                )
        }
    }
    File(arguments[1]).writeText(Json.write(shown, indent = 1))
}
