/*
 * A stand-in for the part of LiteRT's Kotlin API that the app uses, over the C API of the Python package's libLiteRt.so.
 *
 * Signatures and behaviour follow litert-api 2.3: accelerators are asked for as given, and a buffer takes whatever fits into it. It exists
 * because LiteRT's Android library is on Google's Maven repository alone and holds no code for desktop machines.
 */
package com.google.ai.edge.litert

import com.sun.jna.Callback
import com.sun.jna.Memory
import com.sun.jna.NativeLibrary
import com.sun.jna.Pointer
import com.sun.jna.ptr.PointerByReference
import java.util.concurrent.atomic.AtomicBoolean

enum class Accelerator(val value: Int) {
    NONE(0),
    CPU(1),
    GPU(2),
    NPU(3),
}

class LiteRtException(val code: Int, message: String) : Exception(message)

abstract class JniHandle internal constructor(internal val handle: Pointer) : AutoCloseable {
    private val destroyed = AtomicBoolean(false)

    protected fun assertNotDestroyed() = check(!destroyed.get()) { "The handle has been destroyed." }

    protected abstract fun destroy()

    final override fun close() {
        if (destroyed.compareAndSet(false, true)) destroy()
    }
}

/** The C API. The system property `litert.library` is the path of libLiteRt.so. */
private object Native {
    private val library = NativeLibrary.getInstance(System.getProperty("litert.library"))

    fun call(function: String, vararg arguments: Any?) {
        val status = library.getFunction(function).invokeInt(arguments)
        if (status != 0) throw LiteRtException(status, "$function failed with status $status")
    }

    fun create(function: String, vararg arguments: Any?): Pointer =
        PointerByReference().also { call(function, *arguments, it) }.value

    fun destroy(function: String, handle: Pointer) = library.getFunction(function).invokeVoid(arrayOf(handle))
}

class TensorBuffer internal constructor(handle: Pointer, private val elements: Int) : JniHandle(handle) {
    fun writeFloat(data: FloatArray) = locked(LOCK_WRITE) { it.write(0, data, 0, data.size) }

    fun writeInt8(data: ByteArray) = locked(LOCK_WRITE) { it.write(0, data, 0, data.size) }

    fun readFloat(): FloatArray = locked(LOCK_READ) { it.getFloatArray(0, elements) }

    fun readInt8(): ByteArray = locked(LOCK_READ) { it.getByteArray(0, elements) }

    private fun <T> locked(mode: Int, use: (Pointer) -> T): T {
        assertNotDestroyed()
        val address = PointerByReference()
        Native.call("LiteRtLockTensorBuffer", handle, address, mode)
        try {
            return use(address.value)
        } finally {
            Native.call("LiteRtUnlockTensorBuffer", handle)
        }
    }

    override fun destroy() = Native.destroy("LiteRtDestroyTensorBuffer", handle)

    private companion object {
        const val LOCK_READ = 0
        const val LOCK_WRITE = 1
    }
}

class CompiledModel private constructor(handle: Pointer, private val environment: Pointer, private val model: Pointer) : JniHandle(handle) {
    data class CpuOptions(val numThreads: Int? = null, val xnnPackFlags: Int? = null, val xnnPackWeightCachePath: String? = null)

    class Options(internal vararg val accelerators: Accelerator) {
        var cpuOptions: CpuOptions? = null
    }

    private val signature = Native.create("LiteRtGetModelSignature", model, 0L)

    fun createInputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = buffers("Input", signatureIndex)

    fun createOutputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = buffers("Output", signatureIndex)

    fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signatureIndex: Int = 0) {
        assertNotDestroyed()
        val (from, to) = listOf(inputs, outputs).map { buffers -> Array(buffers.size) { buffers[it].handle } }
        Native.call("LiteRtRunCompiledModel", handle, signatureIndex.toLong(), from.size.toLong(), from, to.size.toLong(), to)
    }

    private fun buffers(kind: String, signatureIndex: Int): List<TensorBuffer> {
        assertNotDestroyed()
        val count = Memory(8)
        Native.call("LiteRtGetNumSignature${kind}s", signature, count)
        return (0 until count.getLong(0)).map { index ->
            val tensor = Native.create("LiteRtGetSignature${kind}TensorByIndex", signature, index)
            val type = Memory(RANKED_TENSOR_TYPE_BYTES).also { Native.call("LiteRtGetRankedTensorType", tensor, it) }
            val needs = Native.create("LiteRtGetCompiledModel${kind}BufferRequirements", handle, signatureIndex.toLong(), index)
            val buffer = Native.create("LiteRtCreateManagedTensorBufferFromRequirements", environment, type, needs)
            val rank = type.getInt(4) and RANK_MASK
            TensorBuffer(buffer, (0 until rank).fold(1) { product, side -> product * type.getInt(8 + 4L * side) })
        }
    }

    override fun destroy() {
        Native.destroy("LiteRtDestroyCompiledModel", handle)
        Native.destroy("LiteRtDestroyModel", model)
        Native.destroy("LiteRtDestroyEnvironment", environment)
    }

    companion object {
        /** Element type, rank, eight sides and eight strides of four bytes each. */
        private const val RANKED_TENSOR_TYPE_BYTES = 72L
        private const val RANK_MASK = 0x7f

        private val keepPayload =
            object : Callback {
                @Suppress("unused") fun invoke(payload: Pointer?) = Unit
            }

        fun create(filePath: String, options: Options): CompiledModel {
            val environment = Native.create("LiteRtCreateEnvironment", 0, null)
            val model = Native.create("LiteRtCreateModelFromFile", environment, filePath)
            val compilation = Native.create("LiteRtCreateOptions")
            val set = options.accelerators.fold(0) { sum, accelerator -> sum or (1 shl (accelerator.value - 1)) }
            Native.call("LiteRtSetOptionsHardwareAccelerators", compilation, set)
            options.cpuOptions?.numThreads?.let { threads ->
                val text = "num_threads = $threads\n"
                val payload = Memory(text.length + 1L).also { it.setString(0, text) }
                Native.call("LiteRtAddOpaqueOptions", compilation, Native.create("LiteRtCreateOpaqueOptions", "xnnpack", payload, keepPayload))
            }
            try {
                return CompiledModel(Native.create("LiteRtCreateCompiledModel", environment, model, compilation), environment, model)
            } catch (refused: LiteRtException) {
                Native.destroy("LiteRtDestroyModel", model)
                Native.destroy("LiteRtDestroyEnvironment", environment)
                throw refused
            } finally {
                Native.destroy("LiteRtDestroyOptions", compilation)
            }
        }
    }
}
