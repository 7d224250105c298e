package tfvit.edge

import com.google.ai.edge.litert.CompiledModel
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test
import tfvit.edge.app.LiteRtEngine
import tfvit.edge.core.Backend
import tfvit.edge.core.Backends
import tfvit.edge.core.PackageReader
import tfvit.edge.core.Parity

/** The bundle that `edge.bundle --app android_demo` has put into the app, where it did. */
class AppBundleTest {
    @Test
    fun everyModelAnswersAsOnTheMachineThatPackedIt() {
        val folder = Files.project.resolve("app/src/main/assets/edge")
        assumeTrue("no bundle in the app", folder.exists())
        val bundle = PackageReader.read(Files.source(folder))
        val image = Files.decoded(folder.resolve(bundle.goldenImage.file))
        val factory = LiteRtEngine.factory { model, options -> CompiledModel.create(folder.resolve(model.file).path, options) }
        for (model in bundle.models) {
            Backends.open(model, Backend.CPU, 1, factory).use { open ->
                val parity = Parity.check(open, image)
                assertTrue("${model.name}: $parity", parity.passed && parity.top5Same != false)
                println("the app's own ${model.name}: same answer as packed, off by ${parity.maxAbsErr}")
            }
        }
    }
}
