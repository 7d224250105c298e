package tfvit.edge

import com.google.ai.edge.litert.CompiledModel
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import tfvit.edge.app.LiteRtEngine
import tfvit.edge.core.Backend
import tfvit.edge.core.Backends
import tfvit.edge.core.EngineException

/** The classes of the APK without a runtime, which `make apk` puts before the others. */
class OnApk {
    @Test
    fun everyModelIsRefusedForWantOfARuntime() {
        val factory = LiteRtEngine.factory { model, options -> CompiledModel.create(Files.packageFolder.resolve(model.file).path, options) }
        for (model in Files.edgePackage.models) {
            val refused = assertThrows(EngineException::class.java) { Backends.open(model, Backend.GPU, 1, factory) }
            for (backend in listOf("gpu", "cpu")) {
                assertTrue(refused.message, "$backend: compiling the model: LiteRT's library cannot be loaded on this device" in refused.message!!)
            }
        }
    }
}
