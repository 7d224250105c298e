package tfvit.edge

import com.google.ai.edge.litert.CompiledModel
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import tfvit.edge.app.LiteRtEngine
import tfvit.edge.core.Backend
import tfvit.edge.core.Backends
import tfvit.edge.core.Parity

/** The app's inference class on LiteRT's GPU delegate, over Vulkan; a software Vulkan will do. In a process of its own. */
class OnGpu {
    private val factory =
        LiteRtEngine.factory { model, options -> CompiledModel.create(Files.packageFolder.resolve(model.file).path, options) }

    private fun model(name: String) = Files.edgePackage.models.first { it.name == name }

    @Test
    fun whatTheGpuTakesIsReportedAsGpuAndAnswersTheSame() {
        for (name in listOf("nano32-float16", "nano32-int8")) {
            Backends.open(model(name), Backend.GPU, 1, factory).use { open ->
                assertEquals("${open.reason}", Backend.GPU, open.used)
                assertNull(open.reason)
                val parity = Parity.check(open, Files.goldenImage)
                println("$name on the GPU delegate: off by ${parity.maxAbsErr}, allowed ${parity.tolerance}")
                assertTrue("$parity", parity.passed && parity.top5Same != false)
            }
        }
    }

    @Test
    fun whatTheGpuRefusesRunsOnTheCpuAndIsReportedAsCpu() {
        // int16 activations
        val refused = model("nano32-w8a16")
        assertEquals("refused", refused.gpu.verdict)
        Backends.open(refused, Backend.GPU, 1, factory).use { open ->
            assertEquals(Backend.CPU, open.used)
            assertTrue(open.reason, open.reason!!.startsWith("gpu: compiling the model: "))
            assertTrue(Parity.check(open, Files.goldenImage).passed)
        }
    }
}
