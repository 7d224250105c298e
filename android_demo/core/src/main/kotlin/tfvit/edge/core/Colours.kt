package tfvit.edge.core

import java.nio.ByteBuffer

/** One plane of a camera frame; the last row may end after its last pixel. */
class Plane(val bytes: ByteBuffer, val rowStride: Int, val pixelStride: Int) {
    internal fun at(x: Int, y: Int): Int = bytes.get(y * rowStride + x * pixelStride).toInt() and 0xff
}

/**
 * A YUV_420_888 frame as RGB: BT.601 over the full range, as JPEG has it, in Pillow's fixed point. One chroma sample stands for its
 * 2 x 2 pixels.
 */
fun yuv420ToRgb(width: Int, height: Int, y: Plane, u: Plane, v: Plane): RgbImage {
    val pixels = ByteArray(3 * width * height)
    var to = 0
    for (row in 0 until height) {
        for (column in 0 until width) {
            val luma = y.at(column, row)
            val blue = u.at(column / 2, row / 2)
            val red = v.at(column / 2, row / 2)
            pixels[to] = clip(luma + (RED_OF_V[red] shr CHROMA_BITS))
            pixels[to + 1] = clip(luma + ((GREEN_OF_U[blue] + GREEN_OF_V[red]) shr CHROMA_BITS))
            pixels[to + 2] = clip(luma + (BLUE_OF_U[blue] shr CHROMA_BITS))
            to += 3
        }
    }
    return RgbImage(width, height, pixels)
}

private const val CHROMA_BITS = 6
private val RED_OF_V = chroma(1.40200)
private val GREEN_OF_U = chroma(-0.34414)
private val GREEN_OF_V = chroma(-0.71414)
private val BLUE_OF_U = chroma(1.77200)

private fun chroma(factor: Double): IntArray = IntArray(256) { (factor * (it - 128) * (1 shl CHROMA_BITS) + 0.5).toInt() }

/** Packed colours 0xAARRGGBB, not premultiplied, as RGB; what is transparent is laid over white, as Pillow's `alpha_composite` does. */
fun argbToRgb(width: Int, height: Int, colours: IntArray): RgbImage {
    val pixels = ByteArray(3 * width * height)
    var to = 0
    for (colour in colours) {
        val alpha = colour ushr 24
        for (shift in intArrayOf(16, 8, 0)) {
            pixels[to++] = overWhite((colour shr shift) and 0xff, alpha).toByte()
        }
    }
    return RgbImage(width, height, pixels)
}

private fun overWhite(value: Int, alpha: Int): Int {
    if (alpha == 0) return 255
    val own = alpha shl ALPHA_BITS
    val sum = value * own + 255 * ((255 shl ALPHA_BITS) - own) + (0x80 shl ALPHA_BITS)
    return (((sum shr 8) + sum) shr 8) shr ALPHA_BITS
}

private const val ALPHA_BITS = 7
