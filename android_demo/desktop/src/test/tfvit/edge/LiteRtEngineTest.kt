package tfvit.edge

import com.google.ai.edge.litert.CompiledModel
import java.io.File
import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import tfvit.edge.app.LiteRtEngine
import tfvit.edge.core.AppInfo
import tfvit.edge.core.Backend
import tfvit.edge.core.Backends
import tfvit.edge.core.Classifier
import tfvit.edge.core.BenchmarkRun
import tfvit.edge.core.DeviceInfo
import tfvit.edge.core.DeviceKind
import tfvit.edge.core.DeviceProbe
import tfvit.edge.core.DeviceReport
import tfvit.edge.core.EngineException
import tfvit.edge.core.Meaning
import tfvit.edge.core.PackageReader
import tfvit.edge.core.PackagedModel
import tfvit.edge.core.Parity
import tfvit.edge.core.Preset
import tfvit.edge.core.RgbImage
import tfvit.edge.core.Task
import tfvit.edge.core.peakMemoryMb
import tfvit.edge.core.realNumbers
import tfvit.edge.core.sha256
import tfvit.edge.core.topK

/** The app's own inference class on real LiteRT, against what Python's LiteRT answered. */
class LiteRtEngineTest {
    private val factory = LiteRtEngine.factory { model, options -> CompiledModel.create(path(model), options) }

    private fun path(model: PackagedModel) = Files.packageFolder.resolve(model.file).path

    @Test
    fun sameTop5AndScoresAsPython() {
        for (case in Files.index["answered"].list()) {
            val model = Files.edgePackage.models.first { it.name == case["name"].string() }
            Backends.open(model, Backend.CPU, 1, factory).use { open ->
                assertEquals(Backend.CPU, open.used)
                assertNull(open.reason)
                var largest = 0.0
                for (picture in case["pictures"].list()) {
                    open.write(Files.bytes(picture["pixels"]))
                    open.run()
                    val received = realNumbers(model, open.read())
                    val expected = picture["numbers"].list().map { it.number() }
                    assertEquals("${model.name}: top-5", picture["top5"].list().map { it.int() }, topK(received, 5))
                    largest = maxOf(largest, expected.indices.maxOf { abs(expected[it] - received[it]) })
                }
                println("${model.name}: ${case["pictures"].list().size} pictures, largest difference of a probability to Python's $largest")
                assertTrue("${model.name}: differs by $largest", largest <= SAME_RUNTIME)
            }
        }
    }

    /** Keras itself, edge.validate (golden.py holds its accuracies together) and the app: one answer to each picture. */
    @Test
    fun sameAnswersAsTheFineTunedKerasModel() {
        val pictures = Files.index["fine_tuned"].list()
        val models = PackageReader.read(Files.source(Files.fineTuned)).models
        assertEquals(listOf("sides-float32", "sides-int8"), models.map { it.name })
        val itsFactory = LiteRtEngine.factory { model, options -> CompiledModel.create(Files.fineTuned.resolve(model.file).path, options) }
        for (model in models) {
            Backends.open(model, Backend.CPU, 1, itsFactory).use { open ->
                for (picture in pictures) {
                    val image = RgbImage(picture["width"].int(), picture["height"].int(), Files.bytes(picture["rgb"]))
                    open.write(model.preprocessing.apply(image))
                    open.run()
                    val answer = topK(realNumbers(model, open.read()), 1).single()
                    assertEquals("${model.name}: ${picture["path"].string()}", picture["top1"].int(), answer)
                }
            }
            println("${model.name}: ${pictures.size} wide pictures, each as Keras answers it")
        }
        assertEquals("classes among the answers", 3, pictures.map { it["top1"].int() }.distinct().size)
    }

    /** Values, an embedding, a map of features; classes with further outputs. */
    @Test
    fun sameNumbersAsPython() {
        val bundle = PackageReader.read(Files.source(Files.others))
        val itsFactory = LiteRtEngine.factory { model, options -> CompiledModel.create(Files.others.resolve(model.file).path, options) }
        assertEquals(setOf(Meaning.VALUES, Meaning.FEATURES, Meaning.CLASSES), bundle.models.map { it.meaning }.toSet())
        for (case in Files.index["others"].list()) {
            val model = bundle.models.first { it.name == case["name"].string() }
            Backends.open(model, Backend.CPU, 1, itsFactory).use { open ->
                val parity = Parity.check(open, Files.goldenImage)
                assertTrue("${model.name}: $parity", parity.passed && parity.top5Same == (if (model.meaning.isScored) true else null))
                var largest = 0.0
                for (picture in case["pictures"].list()) {
                    val image = RgbImage(picture["width"].int(), picture["height"].int(), Files.bytes(picture["rgb"]))
                    val pixels = model.preprocessing.apply(image)
                    assertEquals("${model.name}: pixels", sha256(Files.bytes(picture["pixels"])), sha256(pixels))
                    open.write(pixels)
                    open.run()
                    val expectations = listOf(picture["numbers"]) + picture["others"].list()
                    val outputs = listOf(model) + model.others
                    assertEquals(expectations.size, outputs.size)
                    for ((index, one) in expectations.withIndex()) {
                        val received = realNumbers(outputs[index], open.read(index))
                        val expected = one.list().map { it.number() }
                        assertEquals(expected.size, received.size)
                        val scale = expected.maxOf { abs(it) }
                        largest = maxOf(largest, expected.indices.maxOf { abs(expected[it] - received[it]) } / scale)
                    }
                }
                println("${model.name}: ${model.output.shape} ${model.meaning.id}, largest difference of the scale to Python's $largest")
                assertTrue("${model.name}: differs by $largest", largest <= SAME_RUNTIME)
            }
        }
    }

    @Test
    fun otherNumbersThanTheGoldenOnesAreSeen() {
        val model = PackageReader.read(Files.source(Files.others)).models.first { it.meaning == Meaning.FEATURES }
        val itsFactory = LiteRtEngine.factory { one, options -> CompiledModel.create(Files.others.resolve(one.file).path, options) }
        val off = model.golden.numbers.map { it.copy(score = it.score + 1.1 * model.golden.tolerance.getValue("cpu")) }
        Backends.open(model.copy(golden = model.golden.copy(numbers = off)), Backend.CPU, 1, itsFactory).use {
            assertTrue(!Parity.check(it, Files.goldenImage).passed)
        }
    }

    /** The other outputs are checked as the first one is, and shown. */
    @Test
    fun furtherOutputsCount() {
        val model = PackageReader.read(Files.source(Files.others)).models.first { it.name == "several-int8" }
        val itsFactory = LiteRtEngine.factory { one, options -> CompiledModel.create(Files.others.resolve(one.file).path, options) }
        assertEquals(listOf(Meaning.FEATURES, Meaning.LABELS), model.others.map { it.meaning })
        val (embedding, labels) = model.others
        val off = embedding.golden.numbers.map { it.copy(score = it.score + 1.1 * embedding.golden.tolerance.getValue("cpu")) }
        val wrong = embedding.copy(golden = embedding.golden.copy(numbers = off))
        Backends.open(model.copy(others = listOf(wrong, labels)), Backend.CPU, 1, itsFactory).use {
            val parity = Parity.check(it, Files.goldenImage)
            assertTrue("$parity", !parity.passed && parity.top5Same == true)
        }
        Backends.open(model, Backend.CPU, 1, itsFactory).use {
            val answer = Classifier(it).classify(Files.goldenImage)
            assertEquals(listOf(5, 3), answer.others.map { top -> top.size })
            assertEquals("label", answer.others[1][0].label.substringBefore(" "))
        }
    }

    @Test
    fun severalThreadsAnswerTheSame() {
        val model = Files.edgePackage.models.first { it.name == "nano32-float32" }
        Backends.open(model, Backend.CPU, 2, factory).use { assertTrue(Parity.check(it, Files.goldenImage).passed) }
    }

    @Test
    fun threadsReachTheRuntime() {
        val model = Files.edgePackage.models.first { it.name == "nano32-float32" }
        fun started(threads: Int): Int {
            val before = File("/proc/self/task").list()!!.size
            return Backends.open(model, Backend.CPU, threads, factory).use { File("/proc/self/task").list()!!.size - before }
        }
        started(1)
        // the JVM may start or end one of its own meanwhile
        assertTrue("one thread asked for", started(1) < 4)
        assertTrue("eight threads asked for", started(8) >= 6)
    }

    @Test
    fun aGpuThatIsRefusedIsReportedAsCpu() {
        for (model in Files.edgePackage.models) {
            Backends.open(model, Backend.GPU, 1, factory).use { open ->
                assertEquals(Backend.GPU, open.requested)
                assertEquals(Backend.CPU, open.used)
                assertTrue(open.reason, open.reason!!.startsWith("gpu: "))
                assertTrue(Parity.check(open, Files.goldenImage).passed)
            }
        }
    }

    @Test
    fun anInputOfTheWrongSizeIsRefused() {
        val model = Files.edgePackage.models.first()
        factory.create(model, Backend.CPU, 1).use { engine ->
            assertThrows(IllegalArgumentException::class.java) { engine.write(ByteArray(model.input.elements - 1)) }
        }
    }

    @Test
    fun aFileThatIsNoModelIsAnEngineException() {
        val broken = LiteRtEngine.factory { _, options -> CompiledModel.create(Files.packageFolder.resolve("golden.png").path, options) }
        val wrong = assertThrows(EngineException::class.java) { Backends.open(Files.edgePackage.models.first(), Backend.GPU, 1, broken) }
        assertTrue(wrong.message, "gpu: compiling the model" in wrong.message!! && "cpu: compiling the model" in wrong.message!!)
    }

    /** Writes the report that Python's side is tested with. */
    @Test
    fun reportOfThisMachine() {
        val probe =
            object : DeviceProbe {
                override fun thermalStatus(): String? = null

                override fun peakMemMb(): Double? = peakMemoryMb()
            }
        val run = BenchmarkRun(factory, probe, Files.goldenImage)
        val shares = mutableListOf<Double>()
        val models = Files.edgePackage.models
        val tasks = models.map { Task(it, Backend.CPU, 1) } + Task(models.first(), Backend.GPU, 1)
        val results = tasks.map { run.run(it, Preset.QUICK, shares::add) }
        assertEquals(tasks.size, shares.count { it == 1.0 })
        for ((task, result) in tasks.zip(results)) {
            assertEquals(task.backend, result.requested)
            assertEquals(Backend.CPU, result.used)
            assertTrue("${result.name}: ${result.parity}", result.parity!!.passed)
            assertTrue(result.statistics.numRuns >= Preset.QUICK.minRuns)
            assertTrue(result.peakMemMb!! > 10)
            assertTrue(result.initMs > 0 && result.firstInferenceMs > 0 && result.warmupRuns > 0)
        }
        val device = DeviceInfo("host", System.getProperty("os.name"), null, null, null, System.getProperty("os.arch"), DeviceKind.HOST_JVM)
        val report = DeviceReport(AppInfo("android_demo on the JVM", "0.1.0"), device, System.getProperty("litert.version"), results)
        Files.report.writeText(report.toJson())
    }

    private companion object {
        // the same library and kernels: only the softmax of logits is computed elsewhere
        const val SAME_RUNTIME = 1e-6
    }
}
