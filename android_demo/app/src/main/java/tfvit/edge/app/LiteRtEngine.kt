package tfvit.edge.app

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
import tfvit.edge.core.Backend
import tfvit.edge.core.ElementType
import tfvit.edge.core.Engine
import tfvit.edge.core.EngineException
import tfvit.edge.core.EngineFactory
import tfvit.edge.core.PackagedModel
import tfvit.edge.core.byteInput
import tfvit.edge.core.floatInput
import tfvit.edge.core.realOutput

/** A packaged model in LiteRT's CompiledModel, on one accelerator. */
class LiteRtEngine private constructor(
    private val model: PackagedModel,
    private val compiled: CompiledModel,
    private val inputs: List<TensorBuffer>,
    private val outputs: List<TensorBuffer>,
) : Engine {
    override fun write(pixels: ByteArray) {
        // LiteRT only logs a write that does not fit, and goes on with the old input
        require(pixels.size == model.input.elements) { "expected ${model.input.elements} bytes of pixels. Received: ${pixels.size}" }
        wrapped("writing the input") {
            if (model.input.type == ElementType.FLOAT32) {
                inputs[0].writeFloat(floatInput(pixels))
            } else {
                inputs[0].writeInt8(byteInput(pixels, model.input))
            }
        }
    }

    override fun run() = wrapped("running the model") { compiled.run(inputs, outputs) }

    override fun read(index: Int): FloatArray =
        wrapped("reading the output") {
            val output = if (index == 0) model.output else model.others[index - 1].output
            if (output.type == ElementType.FLOAT32) outputs[index].readFloat() else realOutput(outputs[index].readInt8(), output)
        }

    override fun close() {
        (inputs + outputs).forEach { it.close() }
        compiled.close()
    }

    companion object {
        /** @param compile makes a CompiledModel of the model's file with these options. */
        fun factory(compile: (PackagedModel, CompiledModel.Options) -> CompiledModel) =
            EngineFactory { model, backend, threads ->
                // one accelerator alone: offered GPU and CPU, LiteRT runs on the CPU and calls it GPU
                val options =
                    when (backend) {
                        Backend.CPU -> CompiledModel.Options(Accelerator.CPU).apply { cpuOptions = CompiledModel.CpuOptions(numThreads = threads) }
                        Backend.GPU -> CompiledModel.Options(Accelerator.GPU)
                    }
                wrapped("compiling the model") {
                    val compiled = compile(model, options)
                    try {
                        LiteRtEngine(model, compiled, compiled.createInputBuffers(), compiled.createOutputBuffers()).also { it.requireTensors() }
                    } catch (failed: Exception) {
                        compiled.close()
                        throw failed
                    }
                }
            }

        private fun <T> wrapped(doing: String, action: () -> T): T =
            try {
                action()
            } catch (failed: LiteRtException) {
                throw EngineException("$doing: ${failed.message}", failed)
            } catch (missing: LinkageError) {
                throw EngineException("$doing: LiteRT's library cannot be loaded on this device: ${missing.message}", missing)
            }
    }

    private fun requireTensors() {
        val expected = 1 + model.others.size
        if (inputs.size != 1 || outputs.size != expected) {
            throw EngineException("expected 1 input and $expected outputs. Received: ${inputs.size} and ${outputs.size}")
        }
    }
}
