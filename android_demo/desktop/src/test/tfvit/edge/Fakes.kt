package tfvit.edge

import tfvit.edge.core.Backend
import tfvit.edge.core.Engine
import tfvit.edge.core.EngineException
import tfvit.edge.core.EngineFactory
import tfvit.edge.core.PackagedModel

/** A clock that moves only when told to. */
class Clock {
    var nanoseconds = 0L

    fun passMs(milliseconds: Double) {
        nanoseconds += (milliseconds * 1e6).toLong()
    }
}

/** An engine without a model: [runs] is called for every inference. */
class FakeEngine(private val output: FloatArray, private val runs: () -> Unit = {}) : Engine {
    var closed = false

    override fun write(pixels: ByteArray) = Unit

    override fun run() = runs()

    override fun read(index: Int): FloatArray = output

    override fun close() {
        closed = true
    }
}

/** Backends that compile are in [engines]; every attempt is noted in [attempts]. */
class FakeFactory(private val engines: Map<Backend, FakeEngine>) : EngineFactory {
    val attempts = mutableListOf<Backend>()

    override fun create(model: PackagedModel, backend: Backend, threads: Int): Engine {
        attempts += backend
        return engines[backend] ?: throw EngineException("no ${backend.id} here")
    }
}
