package tfvit.edge.core

/** Pixels as a float32 input takes them. */
fun floatInput(pixels: ByteArray): FloatArray = FloatArray(pixels.size) { (pixels[it].toInt() and 0xff).toFloat() }

/** Pixels as an 8-bit input takes them: the byte of the nearest step, half to even. */
fun byteInput(pixels: ByteArray, spec: TensorSpec): ByteArray {
    val quantization = spec.quantization ?: return pixels
    val (least, most) = if (spec.type == ElementType.INT8) -128 to 127 else 0 to 255
    val stored = ByteArray(256) { value ->
        (Math.rint((value / quantization.scale).toDouble()).toInt() + quantization.zeroPoint).coerceIn(least, most).toByte()
    }
    return ByteArray(pixels.size) { stored[pixels[it].toInt() and 0xff] }
}

/** The real numbers that an 8-bit output stands for. */
fun realOutput(bytes: ByteArray, spec: TensorSpec): FloatArray {
    val quantization = spec.quantization ?: Quantization(1f, 0)
    return FloatArray(bytes.size) {
        val stored = if (spec.type == ElementType.INT8) bytes[it].toInt() else bytes[it].toInt() and 0xff
        (stored - quantization.zeroPoint) * quantization.scale
    }
}
