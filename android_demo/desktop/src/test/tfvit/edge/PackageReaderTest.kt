package tfvit.edge

import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import tfvit.edge.core.NoPackageException
import tfvit.edge.core.PackageException
import tfvit.edge.core.PackageReader
import tfvit.edge.core.Preprocessing
import tfvit.edge.core.Size
import tfvit.edge.core.Interpolation

class PackageReaderTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var folder: File

    @Before
    fun copyPackage() {
        folder = temporary.root.resolve("edge")
        Files.packageFolder.copyRecursively(folder)
    }

    private fun read() = PackageReader.read(Files.source(folder))

    private fun refusal(): String = assertThrows(PackageException::class.java) { read() }.message!!

    /** Replaces [old], which must be there, once or everywhere. */
    private fun change(old: Regex, new: String) {
        val file = folder.resolve(PackageReader.FILE)
        val text = file.readText()
        assertTrue("$old is not in ${PackageReader.FILE}", old.containsMatchIn(text))
        file.writeText(old.replaceFirst(text, new))
    }

    @Test
    fun readsWhatPythonWrote() {
        val read = read()
        assertTrue(read.models.map { it.name }.containsAll(listOf("nano32-float32", "nano32-float16", "nano32-int8")))
        val model = read.models.first { it.name == "nano32-int8" }
        assertEquals(Preprocessing(Size(32), Size(32), Interpolation.BICUBIC, true), model.preprocessing)
        assertEquals(listOf(1, 32, 32, 3), model.input.shape)
        assertEquals(10, model.labels!!.size)
        assertEquals("cat", model.labels!![3])
        assertEquals(5, model.golden.top5.size)
        assertEquals(folder.resolve(model.file).length(), model.sizeBytes)
    }

    @Test
    fun aChangedModelIsRefused() {
        val file = folder.resolve("nano32-int8.tflite")
        val bytes = file.readBytes()
        bytes[bytes.size / 2] = (bytes[bytes.size / 2] + 1).toByte()
        file.writeBytes(bytes)
        val message = refusal()
        assertTrue(message, message.startsWith("nano32-int8.tflite was changed after it was bundled: expected SHA-256 "))
        assertTrue(message, message.endsWith("; bundle again"))
    }

    @Test
    fun changedLabelsAndGoldenImageAreRefused() {
        for (name in listOf("nano32-int8.labels.txt", "golden.png")) {
            val file = folder.resolve(name)
            val bytes = file.readBytes()
            file.appendText("x")
            assertTrue(refusal().startsWith("$name was changed after it was bundled"))
            file.writeBytes(bytes)
        }
        read()
    }

    @Test
    fun aMissingFileIsNamed() {
        folder.resolve("nano32-float16.tflite").delete()
        assertEquals("nano32-float16.tflite is missing from the package; bundle again", refusal())
    }

    @Test
    fun nothingBundledIsItsOwnCase() {
        folder.resolve(PackageReader.FILE).delete()
        val message = assertThrows(NoPackageException::class.java) { read() }.message!!
        assertTrue(message, "edge.bundle" in message)
    }

    @Test
    fun whatItCannotReadIsRefusedByPath() {
        val wrong =
            listOf(
                Triple("\"schema_version\": 1", "\"schema_version\": 2", "$.schema_version: this app reads version 1. Received: 2"),
                Triple("\"kind\": \"edge_package\"", "\"kind\": \"other\"", "$.kind: expected \"edge_package\""),
                Triple("\"file\": \"nano32-[a-z0-9_]+\\.tflite\"", "\"file\": \"../x.tflite\"", "$.models[0].file: expected a relative path"),
                Triple("\"file\": \"nano32-[a-z0-9_]+\\.tflite\"", "\"file\": \"/etc/hosts\"", "$.models[0].file: expected a relative path"),
                Triple("\"dtype\": \"float32\"", "\"dtype\": \"float64\"", "$.models[0].input.dtype: expected one of [float32, uint8, int8]"),
                Triple("\"interpolation\": \"bicubic\"", "\"interpolation\": \"nearest\"", "$.models[0].preprocessing.interpolation: expected one of"),
                Triple("\"crop_px\": 32", "\"crop_px\": 64", "$.models[0].preprocessing.resize_px: expected 64 (crop_px) to"),
                Triple("\"resize_px\": 32", "\"resize_px\": 99999", "$.models[0].preprocessing.resize_px: expected"),
                Triple("\"resize_px\": 32", "\"resize_px\": [64, 31]", "$.models[0].preprocessing.resize_px: expected 32 (crop_px) to"),
                Triple("\"resize_px\": 32", "\"resize_px\": [64, 32, 3]", "$.models[0].preprocessing.resize_px: expected one number or two"),
                Triple("\"crop_px\": 32", "\"crop_px\": [32, 24]", "$.models[0].input.shape: expected [1, 32, 24, 3]"),
                Triple("\"keep_aspect\": true", "\"pad\": 256, \"keep_aspect\": true", "$.models[0].preprocessing.pad: expected 0 to 255"),
                Triple("\"keep_aspect\": true", "\"pad\": 0, \"keep_aspect\": false", "$.models[0].preprocessing.pad: expected it with keep_aspect"),
                Triple("\"activation\": \"softmax\"", "\"meaning\": \"values\", \"activation\": \"softmax\"", "$.models[0].output.activation: expected null"),
                Triple("\"activation\": \"softmax\"", "\"meaning\": \"values\", \"activation\": null", "$.models[0].golden.numbers: missing"),
                Triple("\"activation\": \"softmax\"", "\"meaning\": \"other\", \"activation\": null", "$.models[0].output.meaning: expected one of"),
                Triple("\"classes\": 10", "\"classes\": 11", "$.models[0].output.shape: expected [1, 11]. Received: [1, 10]"),
                Triple("\"layout\": \"NHWC\"", "\"layout\": \"NCHW\"", "$.models[0].input: expected NHWC and RGB"),
                Triple("\"activation\": \"softmax\"", "\"activation\": \"sigmoid\"", "$.models[0].output.activation: expected \"softmax\" or null"),
                Triple("\"verdict\": \"[a-z]+\"", "\"verdict\": \"maybe\"", "$.models[0].gpu.verdict: expected one of"),
                Triple("\"size_bytes\": [0-9]+", "\"size_bytes\": 7", "edge_package.json says 7 bytes"),
                Triple("\"sha256\": \"[0-9a-f]+\"", "\"sha256\": \"12\"", "$.models[0].sha256: expected 64"),
                Triple("\"pixels_sha256\": \"[0-9a-f]+\"", "\"pixels_sha256\": null", "$.models[0].golden.pixels_sha256: expected a string"),
                Triple("\"models\": \\[", "\"models\": [], \"unused\": [", "$.models: expected at least one model"),
                Triple("\"random_weights\": false", "\"random\": false", "$.models[0].random_weights: missing"),
            )
        for ((old, new, message) in wrong) {
            copyAgain()
            change(Regex(old), Regex.escapeReplacement(new))
            val received = refusal()
            assertTrue("expected \"$message\". Received: \"$received\"", message in received)
        }
    }

    private fun copyAgain() = Files.packageFolder.resolve(PackageReader.FILE).copyTo(folder.resolve(PackageReader.FILE), overwrite = true)

    @Test
    fun twoModelsOfOneNameAreRefused() {
        change(Regex("\"name\": \"nano32-float32\""), "\"name\": \"nano32-float16\"")
        assertTrue(refusal().contains("two models are called nano32-float16"))
    }

    @Test
    fun aRecommendedModelMustBeThere() {
        change(Regex("\"recommended\": \\{"), "\"recommended\": {\"tpu\": {\"name\": \"other\", \"why\": \"\"}, ")
        assertTrue(refusal().contains("$.recommended.tpu.name: there is no model other"))
    }
}
