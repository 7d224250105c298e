/* Signatures of litert-api 2.3 that the app calls, to compile it against. Nothing here can run; src/standin can. */
package com.google.ai.edge.litert

import android.content.res.AssetManager

enum class Accelerator {
    CPU,
    GPU,
}

class LiteRtException(message: String) : Exception(message)

class TensorBuffer private constructor() : AutoCloseable {
    external fun writeFloat(data: FloatArray)

    external fun writeInt8(data: ByteArray)

    external fun readFloat(): FloatArray

    external fun readInt8(): ByteArray

    external override fun close()
}

@Suppress("unused", "UNUSED_PARAMETER")
class CompiledModel private constructor() : AutoCloseable {
    data class CpuOptions(val numThreads: Int? = null, val xnnPackFlags: Int? = null, val xnnPackWeightCachePath: String? = null)

    class Options(vararg val accelerators: Accelerator) {
        var cpuOptions: CpuOptions? = null
    }

    external fun createInputBuffers(): List<TensorBuffer>

    external fun createOutputBuffers(): List<TensorBuffer>

    external fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>)

    external override fun close()

    companion object {
        external fun create(filePath: String, options: Options): CompiledModel

        external fun create(assetManager: AssetManager, assetName: String, options: Options): CompiledModel
    }
}
