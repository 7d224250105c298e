package tfvit.edge.core

/** What a model runs on. */
enum class Backend(val id: String) {
    CPU("cpu"),
    GPU("gpu"),
}

/** A backend does not take the model, or failed while running it. */
class EngineException(message: String, cause: Throwable? = null) : Exception(message, cause)

/** A model compiled for one backend. Not for several threads at once. */
interface Engine : AutoCloseable {
    /** Takes [height, width, 3] bytes of RGB. */
    @Throws(EngineException::class) fun write(pixels: ByteArray)

    @Throws(EngineException::class) fun run()

    /** The output of this index of the last run as real numbers. */
    @Throws(EngineException::class) fun read(index: Int = 0): FloatArray
}

fun interface EngineFactory {
    /**
     * Compiles [model] for [backend] alone: a runtime that is offered several may run on one and name another.
     *
     * @param threads of the CPU backend.
     */
    @Throws(EngineException::class) fun create(model: PackagedModel, backend: Backend, threads: Int): Engine
}

/**
 * A model that has answered once.
 *
 * @property used what compiled and ran; where it is not [requested], [reason] says why.
 */
class OpenModel(
    val model: PackagedModel,
    val requested: Backend,
    val used: Backend,
    val reason: String?,
    val threads: Int,
    val initMs: Double,
    val firstInferenceMs: Double,
    private val engine: Engine,
) : Engine by engine

/** All outputs of the last run as real numbers: a GPU may still be computing them. */
fun OpenModel.readAll(): List<FloatArray> = (0..model.others.size).map { read(it) }

object Backends {
    /**
     * Tries [requested] and then the CPU, one at a time. A backend counts as working when it compiled the model and ran it once.
     *
     * @param nanoTime a clock.
     * @throws EngineException none works; the message names every attempt.
     */
    fun open(
        model: PackagedModel,
        requested: Backend,
        threads: Int,
        factory: EngineFactory,
        nanoTime: () -> Long = System::nanoTime,
    ): OpenModel {
        val failures = mutableListOf<String>()
        for (backend in listOf(requested, Backend.CPU).distinct()) {
            if (backend == Backend.GPU && model.gpu.isWrong) {
                failures += "gpu: known to answer wrongly (${model.gpu.basis})"
                continue
            }
            try {
                return tried(model, requested, backend, threads, failures, factory, nanoTime)
            } catch (failed: EngineException) {
                failures += "${backend.id}: ${failed.message}"
            }
        }
        throw EngineException("${model.name} runs on no backend. ${failures.joinToString("; ")}")
    }

    private fun tried(
        model: PackagedModel,
        requested: Backend,
        backend: Backend,
        threads: Int,
        failures: List<String>,
        factory: EngineFactory,
        nanoTime: () -> Long,
    ): OpenModel {
        val start = nanoTime()
        val engine = factory.create(model, backend, threads)
        try {
            val created = nanoTime()
            engine.write(ByteArray(model.input.elements))
            engine.run()
            engine.read()
            val ran = nanoTime()
            val reason = failures.joinToString("; ").ifEmpty { null }
            return OpenModel(model, requested, backend, reason, threads, milliseconds(start, created), milliseconds(created, ran), engine)
        } catch (failed: Throwable) {
            engine.close()
            throw failed
        }
    }
}

internal fun milliseconds(start: Long, end: Long): Double = (end - start) / 1e6
