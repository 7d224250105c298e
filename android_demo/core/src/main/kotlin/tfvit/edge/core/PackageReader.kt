package tfvit.edge.core

import java.io.FileNotFoundException
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest

/** Where the files of a package lie: an app's assets, a folder. */
fun interface PackageSource {
    /**
     * Opens the file at [path], relative to the package's folder.
     *
     * @throws FileNotFoundException there is none.
     */
    @Throws(IOException::class) fun open(path: String): InputStream
}

/** The package cannot be used; the message says what is wrong and what to do. */
open class PackageException(message: String, cause: Throwable? = null) : Exception(message, cause)

/** There is no package at all: nothing has been bundled yet. */
class NoPackageException : PackageException("no model is bundled: run python -m edge.bundle FILE... --app android_demo and build the app again")

/** Reads `edge_package.json` and checks every file that it names. */
object PackageReader {
    const val FILE = "edge_package.json"
    const val SCHEMA_VERSION = 1

    private const val CHUNK_BYTES = 1 shl 16
    private const val MAX_TEXT_BYTES = Json.MAX_CHARS
    private val NAME = Regex("[A-Za-z0-9._-]+")
    private val SHA256 = Regex("[0-9a-f]{64}")
    private val VERDICTS = setOf("whole", "refused", "wrong")
    private const val TOP = 5
    private const val MOST_NUMBERS = 1 shl 24

    /**
     * @param onFile called with each file's path before it is hashed.
     * @throws NoPackageException nothing is bundled.
     * @throws PackageException what is there cannot be trusted or understood.
     */
    fun read(source: PackageSource, onFile: (String) -> Unit = {}): EdgePackage {
        val text =
            try {
                text(source, FILE)
            } catch (missing: FileNotFoundException) {
                throw NoPackageException()
            } catch (unreadable: IOException) {
                throw PackageException("$FILE cannot be read: ${unreadable.message}", unreadable)
            }
        return try {
            read(Json.read(text), source, onFile)
        } catch (wrong: JsonException) {
            throw PackageException("$FILE: ${wrong.message}; bundle again with this project's edge.bundle", wrong)
        }
    }

    private fun read(document: JsonValue, source: PackageSource, onFile: (String) -> Unit): EdgePackage {
        val kind = document["kind"].string()
        if (kind != "edge_package") document["kind"].fail("expected \"edge_package\". Received: \"$kind\"")
        val version = document["schema_version"].int()
        if (version != SCHEMA_VERSION) {
            document["schema_version"].fail("this app reads version $SCHEMA_VERSION. Received: $version")
        }
        val models = document["models"].list().map { model(it, source, onFile) }
        if (models.isEmpty()) document["models"].fail("expected at least one model")
        models.groupBy { it.name }.forEach { (name, same) -> if (same.size > 1) document["models"].fail("two models are called $name") }
        val golden = document["golden_image"]
        val goldenImage =
            GoldenImage(path(golden["file"]), sha256(golden["sha256"]), golden["width"].int(), golden["height"].int())
        verify(source, goldenImage.file, goldenImage.sha256, null, onFile)
        val recommended =
            document["recommended"].keys().mapNotNull { backend -> document["recommended"].optional(backend)?.let { backend to it } }
                .associate { (backend, value) ->
                    val name = value["name"].string()
                    if (models.none { it.name == name }) value["name"].fail("there is no model $name")
                    backend to Recommendation(name, value["why"].string())
                }
        val tools = document["tools"].keys().associateWith { document["tools"][it].string() }
        return EdgePackage(models, goldenImage, recommended, tools)
    }

    private fun model(value: JsonValue, source: PackageSource, onFile: (String) -> Unit): PackagedModel {
        val name = value["name"].string()
        val file = path(value["file"])
        val sha256 = sha256(value["sha256"])
        val sizeBytes = value["size_bytes"].long()
        val classes = value["classes"].int()
        val input = value["input"]
        val layout = input["layout"].string() to input["channels"].string()
        if (layout != ("NHWC" to "RGB")) input.fail("expected NHWC and RGB. Received: ${layout.first}, ${layout.second}")
        val range = input["range"].list().map { it.number() }
        if (range != listOf(0.0, 255.0)) input["range"].fail("expected [0, 255]. Received: $range")
        val inputSpec = tensor(input)
        val preprocessing = preprocessing(value["preprocessing"])
        val shape = listOf(1, preprocessing.cropPx.height, preprocessing.cropPx.width, 3)
        if (inputSpec.shape != shape) input["shape"].fail("expected $shape, as the preprocessing makes it. Received: ${inputSpec.shape}")
        val output = output(value["output"], classes)
        verify(source, file, sha256, sizeBytes, onFile)
        val labels = value.optional("labels")?.let { labels(it, classes, source, onFile) }
        val gpu = value["gpu"]
        val verdict = gpu["verdict"].string()
        if (verdict !in VERDICTS) gpu["verdict"].fail("expected one of $VERDICTS. Received: \"$verdict\"")
        val model = PackagedModel(
            name = name,
            file = file,
            sha256 = sha256,
            sizeBytes = sizeBytes,
            variant = value.optional("variant")?.string(),
            recipe = value["recipe"].string(),
            randomWeights = value["random_weights"].boolean(),
            classes = classes,
            input = inputSpec,
            preprocessing = preprocessing,
            output = output.tensor,
            outputIsProbabilities = output.isProbabilities,
            meaning = output.meaning,
            labels = labels,
            minRuntimeVersion = value.optional("min_runtime_version")?.string(),
            gpu = GpuVerdict(verdict, gpu["basis"].string()),
            golden = golden(value["golden"], output.tensor.elements, output.meaning, labels),
        )
        return model.copy(others = value.optional("other_outputs")?.list().orEmpty().map { other(it, model) })
    }

    private class Output(val tensor: TensorSpec, val meaning: Meaning, val isProbabilities: Boolean)

    /** @param classes entries of the last axis, where they are known. */
    private fun output(value: JsonValue, classes: Int?): Output {
        val tensor = tensor(value)
        val meaning = value.optional("meaning")?.let { meaning(it) } ?: Meaning.CLASSES
        val shape = tensor.shape
        val last = classes ?: shape.lastOrNull()
        val asSaid = if (meaning.isScored) shape == listOf(1, last) else shape.size > 1 && shape.last() == last
        if (!asSaid || shape.first() != 1 || shape.fold(1L) { product, side -> product * side } > MOST_NUMBERS) {
            val expected = if (meaning.isScored) "[1, $last]" else "[1, ..., $last], at most $MOST_NUMBERS numbers"
            value["shape"].fail("expected $expected. Received: $shape")
        }
        val activation = value.optional("activation")
        if (activation != null && activation.string() != meaning.activation) {
            val expected = meaning.activation?.let { "\"$it\" or " }.orEmpty()
            activation.fail("expected ${expected}null. Received: \"${activation.string()}\"")
        }
        return Output(tensor, meaning, activation != null)
    }

    private fun other(value: JsonValue, model: PackagedModel): PackagedModel {
        val output = output(value, null)
        return model.copy(
            classes = output.tensor.shape.last(),
            output = output.tensor,
            outputIsProbabilities = output.isProbabilities,
            meaning = output.meaning,
            labels = null,
            golden = golden(value["golden"], output.tensor.elements, output.meaning, null),
        )
    }

    private fun meaning(value: JsonValue): Meaning {
        val name = value.string()
        return Meaning.entries.firstOrNull { it.id == name } ?: value.fail("expected one of ${Meaning.entries.map { it.id }}. Received: \"$name\"")
    }

    private fun tensor(value: JsonValue): TensorSpec {
        val dtype = value["dtype"].string()
        val type =
            ElementType.entries.firstOrNull { it.id == dtype }
                ?: value["dtype"].fail("expected one of ${ElementType.entries.map { it.id }}. Received: \"$dtype\"")
        val quantization =
            value.optional("quantization")?.let {
                val scale = it["scale"].number().toFloat()
                if (!(scale > 0 && scale.isFinite())) it["scale"].fail("expected a number above 0. Received: $scale")
                Quantization(scale, it["zero_point"].int())
            }
        if (type == ElementType.INT8 && quantization == null) value.fail("an int8 tensor needs its quantization")
        val shape = value["shape"].list().map { side -> side.int().also { if (it !in 1..MAX_SIDE) side.fail("expected 1 to $MAX_SIDE. Received: $it") } }
        return TensorSpec(value["name"].string(), shape, type, quantization)
    }

    private fun preprocessing(value: JsonValue): Preprocessing {
        val name = value["interpolation"].string()
        val interpolation =
            Interpolation.entries.firstOrNull { it.id == name }
                ?: value["interpolation"].fail("expected one of ${Interpolation.entries.map { it.id }}. Received: \"$name\"")
        val resizePx = size(value["resize_px"])
        val cropPx = size(value["crop_px"])
        if (!resizePx.covers(cropPx)) value["resize_px"].fail("expected $cropPx (crop_px) to $MAX_SIDE. Received: $resizePx")
        val pad = value.optional("pad")?.let { pad -> pad.int().also { if (it !in 0..255) pad.fail("expected 0 to 255. Received: $it") } }
        val keepAspect = value["keep_aspect"].boolean()
        if (pad != null && (resizePx != cropPx || !keepAspect)) value["pad"].fail("expected it with keep_aspect, and resize_px as crop_px")
        return Preprocessing(resizePx, cropPx, interpolation, keepAspect, pad)
    }

    /** The side of a square, or height and width. */
    private fun size(value: JsonValue): Size {
        val sides = if (value.isList) value.list().map { it.int() } else listOf(value.int(), value.int())
        if (sides.size != 2) value.fail("expected one number or two. Received: ${sides.size}")
        for (side in sides) if (side !in 1..MAX_SIDE) value.fail("expected 1 to $MAX_SIDE. Received: $side")
        return Size(sides[0], sides[1])
    }

    private fun labels(value: JsonValue, classes: Int, source: PackageSource, onFile: (String) -> Unit): List<String> {
        val file = path(value["file"])
        verify(source, file, sha256(value["sha256"]), null, onFile)
        val lines = text(source, file).trimEnd('\n').split("\n").map { it.trimEnd('\r') }
        if (lines.size != classes) value["file"].fail("expected $classes labels in $file, one a line. Received: ${lines.size}")
        return lines
    }

    private fun golden(value: JsonValue, elements: Int, meaning: Meaning, labels: List<String>?): Golden {
        fun scores(list: String, number: String) =
            value[list].list().map { item ->
                val index = item["index"].int()
                if (index !in 0 until elements) item["index"].fail("expected 0 to ${elements - 1}. Received: $index")
                Score(index, labels?.getOrNull(index) ?: "${meaning.one} $index", item[number].number())
            }
        val top5 = if (meaning.isScored) scores("top5", "score") else emptyList()
        val numbers = if (meaning.isScored) emptyList() else scores("numbers", "value")
        if (meaning.isScored && top5.size != minOf(TOP, elements)) value["top5"].fail("expected ${minOf(TOP, elements)} classes. Received: ${top5.size}")
        if (!meaning.isScored && numbers.isEmpty()) value["numbers"].fail("expected at least one number")
        val tolerance = value["tolerance"].keys().associateWith { value["tolerance"][it].number() }
        if ("cpu" !in tolerance || "gpu" !in tolerance) value["tolerance"].fail("expected cpu and gpu. Received: ${tolerance.keys}")
        return Golden(sha256(value["pixels_sha256"]), top5, numbers, tolerance)
    }

    /** A path that stays inside the package's folder. */
    private fun path(value: JsonValue): String {
        val path = value.string()
        if (path.split("/").any { !NAME.matches(it) || it == "." || it == ".." }) {
            value.fail("expected a relative path of letters, digits, dots, dashes and underscores, without \"..\". Received: \"$path\"")
        }
        return path
    }

    private fun sha256(value: JsonValue): String =
        value.string().also { if (!SHA256.matches(it)) value.fail("expected 64 lower-case hexadecimal digits. Received: \"${it.take(80)}\"") }

    private fun verify(source: PackageSource, file: String, sha256: String, sizeBytes: Long?, onFile: (String) -> Unit) {
        onFile(file)
        val digest = MessageDigest.getInstance("SHA-256")
        var length = 0L
        try {
            source.open(file).use { stream ->
                val chunk = ByteArray(CHUNK_BYTES)
                while (true) {
                    val count = stream.read(chunk)
                    if (count < 0) break
                    digest.update(chunk, 0, count)
                    length += count
                }
            }
        } catch (missing: FileNotFoundException) {
            throw PackageException("$file is missing from the package; bundle again", missing)
        } catch (unreadable: IOException) {
            throw PackageException("$file cannot be read: ${unreadable.message}", unreadable)
        }
        val received = digest.digest().toHex()
        if (received != sha256) {
            throw PackageException("$file was changed after it was bundled: expected SHA-256 $sha256. Received: $received; bundle again")
        }
        if (sizeBytes != null && length != sizeBytes) {
            throw PackageException("$file: $FILE says $sizeBytes bytes. Received: $length; bundle again")
        }
    }

    private fun text(source: PackageSource, file: String): String {
        val bytes = source.open(file).use { it.readBytes() }
        if (bytes.size > MAX_TEXT_BYTES) throw PackageException("$file: at most $MAX_TEXT_BYTES bytes. Received: ${bytes.size}")
        return String(bytes, Charsets.UTF_8)
    }

    private const val MAX_SIDE = 4096
}

/** SHA-256 in lower-case hexadecimal. */
fun sha256(bytes: ByteArray): String = MessageDigest.getInstance("SHA-256").digest(bytes).toHex()

private fun ByteArray.toHex(): String = joinToString("") { byte -> (byte.toInt() and 0xff).toString(16).padStart(2, '0') }
