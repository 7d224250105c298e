package tfvit.edge

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import tfvit.edge.core.Backend
import tfvit.edge.core.Backends
import tfvit.edge.core.Classifier
import tfvit.edge.core.EngineException
import tfvit.edge.core.GpuVerdict
import tfvit.edge.core.Parity

class BackendsTest {
    private val model = Files.edgePackage.models.first { it.name == "nano32-float32" }
    private val output = FloatArray(10) { if (it == 3) 0.91f else 0.01f }

    @Test
    fun theRequestedBackendIsTriedFirstAndAlone() {
        val factory = FakeFactory(mapOf(Backend.CPU to FakeEngine(output), Backend.GPU to FakeEngine(output)))
        val open = Backends.open(model, Backend.GPU, 4, factory)
        assertEquals(Backend.GPU, open.used)
        assertNull(open.reason)
        assertEquals(listOf(Backend.GPU), factory.attempts)
    }

    @Test
    fun whatCompiledIsWhatIsReported() {
        val factory = FakeFactory(mapOf(Backend.CPU to FakeEngine(output)))
        val open = Backends.open(model, Backend.GPU, 4, factory)
        assertEquals(Backend.GPU, open.requested)
        assertEquals(Backend.CPU, open.used)
        assertEquals("gpu: no gpu here", open.reason)
        assertEquals(listOf(Backend.GPU, Backend.CPU), factory.attempts)
    }

    @Test
    fun aBackendThatCompilesAndCannotRunIsClosedAndLeft() {
        val gpu = FakeEngine(output) { throw EngineException("out of memory") }
        val open = Backends.open(model, Backend.GPU, 4, FakeFactory(mapOf(Backend.CPU to FakeEngine(output), Backend.GPU to gpu)))
        assertEquals(Backend.CPU, open.used)
        assertEquals("gpu: out of memory", open.reason)
        assertTrue(gpu.closed)
    }

    @Test
    fun aGpuKnownToAnswerWronglyIsNotTried() {
        val factory = FakeFactory(mapOf(Backend.CPU to FakeEngine(output), Backend.GPU to FakeEngine(output)))
        val open = Backends.open(model.copy(gpu = GpuVerdict("wrong", "seen on LiteRT 2.3")), Backend.GPU, 4, factory)
        assertEquals(Backend.CPU, open.used)
        assertEquals("gpu: known to answer wrongly (seen on LiteRT 2.3)", open.reason)
        assertEquals(listOf(Backend.CPU), factory.attempts)
    }

    @Test
    fun noBackendAtAllNamesEveryAttempt() {
        val wrong = assertThrows(EngineException::class.java) { Backends.open(model, Backend.GPU, 4, FakeFactory(emptyMap())) }
        assertEquals("nano32-float32 runs on no backend. gpu: no gpu here; cpu: no cpu here", wrong.message)
    }

    @Test
    fun timesOfOpeningAndOfEachStage() {
        val clock = Clock()
        val engine = FakeEngine(output) { clock.passMs(3.0) }
        val open = Backends.open(model, Backend.CPU, 1, { _, _, _ -> engine.also { clock.passMs(20.0) } }) { clock.nanoseconds }
        assertEquals(20.0, open.initMs, 0.0)
        assertEquals(3.0, open.firstInferenceMs, 0.0)
        val answer = Classifier(open) { clock.nanoseconds }.classify(Files.goldenImage)
        assertEquals(3.0, answer.times.inferenceMs, 0.0)
        assertEquals(3.0, answer.times.totalMs, 0.0)
        assertEquals(3, answer.top.first().index)
        assertEquals("cat", answer.top.first().label)
        assertEquals(5, answer.top.size)
    }

    @Test
    fun parityFailsWhereItMust() {
        val golden = model.golden
        val right = FloatArray(10).also { scores -> golden.top5.forEach { scores[it.index] = it.score.toFloat() } }
        fun check(scores: FloatArray) = Parity.check(Backends.open(model, Backend.CPU, 1, FakeFactory(mapOf(Backend.CPU to FakeEngine(scores)))), Files.goldenImage)
        val same = check(right)
        assertTrue(same.passed && same.top5Same == true && same.pixelsSame)
        val off = check(right.copyOf().also { it[golden.top5[0].index] += 0.002f })
        assertTrue(!off.passed && off.top5Same == true)
        assertEquals(0.002, off.maxAbsErr!!, 1e-6)
        val nan = check(FloatArray(10) { Float.NaN })
        assertTrue(!nan.passed && nan.top5Same == false)
        assertNull(nan.maxAbsErr)
        assertTrue(!check(FloatArray(10) { if (it == (golden.top5[0].index + 1) % 10) 1f else 0f }).passed)
        val otherPixels = Parity.check(
            Backends.open(model.copy(golden = golden.copy(pixelsSha256 = "0".repeat(64))), Backend.CPU, 1, FakeFactory(mapOf(Backend.CPU to FakeEngine(right)))),
            Files.goldenImage,
        )
        assertTrue(!otherPixels.passed && !otherPixels.pixelsSame)
    }
}
