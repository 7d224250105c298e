package tfvit.edge.core

import kotlin.math.abs
import kotlin.math.ceil

/** 8-bit RGB pixels, row by row, three bytes each. */
class RgbImage(val width: Int, val height: Int, val pixels: ByteArray) {
    init {
        require(width > 0 && height > 0) { "an image needs at least one pixel. Received: $width x $height" }
        require(pixels.size.toLong() == 3L * width * height) { "$width x $height pixels need ${3L * width * height} bytes. Received: ${pixels.size}" }
    }
}

/** [support] is how many source pixels to each side a pixel draws from, before shrinking widens it. */
enum class Interpolation(val id: String, internal val support: Double) {
    BILINEAR("bilinear", 1.0) {
        override fun weight(distance: Double): Double = if (distance < 1.0) 1.0 - distance else 0.0
    },
    BICUBIC("bicubic", 2.0) {
        override fun weight(distance: Double): Double =
            when {
                distance < 1.0 -> ((A + 2.0) * distance - (A + 3.0)) * distance * distance + 1
                distance < 2.0 -> (((distance - 5) * distance + 8) * distance - 4) * A
                else -> 0.0
            }
    };

    internal abstract fun weight(distance: Double): Double

    private companion object {
        const val A = -0.5
    }
}

data class Size(val height: Int, val width: Int) {
    constructor(side: Int) : this(side, side)

    fun covers(other: Size): Boolean = height >= other.height && width >= other.width

    override fun toString(): String = if (height == width) "$height" else "[$height, $width]"
}

/**
 * Geometry of a model's input, equal to `tfvit.preprocessing` pixel for pixel: resize the image until it covers [resizePx] (to exactly that
 * without [keepAspect]), then cut out the centre of [cropPx]. With [pad], instead: resize it until it fits into [resizePx], which is then
 * [cropPx], and fill the rest with that value.
 */
data class Preprocessing(
    val resizePx: Size,
    val cropPx: Size,
    val interpolation: Interpolation,
    val keepAspect: Boolean,
    val pad: Int? = null,
) {
    /** Bytes of RGB, [cropPx] of them times 3. [image] is upright. */
    fun apply(image: RgbImage): ByteArray {
        val size = if (keepAspect) withAspect(image) else resizePx
        val resized = resize(image, size.width, size.height, interpolation)
        return if (pad == null) crop(resized, cropPx) else padded(resized, cropPx, pad.toByte())
    }

    private fun withAspect(image: RgbImage): Size {
        val isWider = image.width.toLong() * resizePx.height > image.height.toLong() * resizePx.width
        // the side that is left free is rounded down
        return if (isWider == (pad == null)) {
            Size(resizePx.height, maxOf(1, (resizePx.height.toLong() * image.width / image.height).toInt()))
        } else {
            Size(maxOf(1, (resizePx.width.toLong() * image.height / image.width).toInt()), resizePx.width)
        }
    }
}

/**
 * Pillow's `Image.resize`: antialiased, in 8-bit fixed point, along one side and then along the other, rounded in between.
 *
 * Which side comes first shows in the pixels. It is the width, unless the height loses more than twice as many pixels: so Pillow 13 has it.
 * Before that it was always the width; with the aspect kept, that is another result for images more than twice as tall as wide.
 */
fun resize(image: RgbImage, width: Int, height: Int, interpolation: Interpolation): RgbImage {
    val heightFirst = height < image.height && image.height - height > 2 * (image.width - width)
    return if (heightFirst) {
        resizeWidth(resizeHeight(image, height, interpolation), width, interpolation)
    } else {
        resizeHeight(resizeWidth(image, width, interpolation), height, interpolation)
    }
}

/** Bits after the point: 8 are the pixel's, 2 are left for weights that overshoot. */
private const val PRECISION_BITS = 32 - 8 - 2

/** For each target pixel where its source pixels start, how many there are, and their weights in fixed point. */
private class Weights(sourceSize: Int, targetSize: Int, interpolation: Interpolation) {
    val starts = IntArray(targetSize)
    val counts = IntArray(targetSize)
    val stride: Int
    val values: IntArray

    init {
        val scale = sourceSize.toDouble() / targetSize
        val filterScale = maxOf(scale, 1.0)
        val support = interpolation.support * filterScale
        val inverse = 1.0 / filterScale
        stride = ceil(support).toInt() * 2 + 1
        values = IntArray(targetSize * stride)
        val weights = DoubleArray(stride)
        for (target in 0 until targetSize) {
            val center = (target + 0.5) * scale
            val start = maxOf((center - support + 0.5).toInt(), 0)
            val count = minOf((center + support + 0.5).toInt(), sourceSize) - start
            var sum = 0.0
            for (index in 0 until count) {
                weights[index] = interpolation.weight(abs((index + start - center + 0.5) * inverse))
                sum += weights[index]
            }
            for (index in 0 until count) {
                val weight = (if (sum != 0.0) weights[index] / sum else weights[index]) * (1 shl PRECISION_BITS)
                values[target * stride + index] = (if (weight < 0) weight - 0.5 else weight + 0.5).toInt()
            }
            starts[target] = start
            counts[target] = count
        }
    }
}

private fun resizeWidth(image: RgbImage, width: Int, interpolation: Interpolation): RgbImage {
    if (width == image.width) return image
    val weights = Weights(image.width, width, interpolation)
    val pixels = ByteArray(3 * width * image.height)
    var to = 0
    for (y in 0 until image.height) {
        val row = 3 * y * image.width
        for (x in 0 until width) {
            to = weighted(image.pixels, row + 3 * weights.starts[x], 3, weights, x, pixels, to)
        }
    }
    return RgbImage(width, image.height, pixels)
}

private fun resizeHeight(image: RgbImage, height: Int, interpolation: Interpolation): RgbImage {
    if (height == image.height) return image
    val weights = Weights(image.height, height, interpolation)
    val rowBytes = 3 * image.width
    val pixels = ByteArray(rowBytes * height)
    var to = 0
    for (y in 0 until height) {
        for (x in 0 until image.width) {
            to = weighted(image.pixels, weights.starts[y] * rowBytes + 3 * x, rowBytes, weights, y, pixels, to)
        }
    }
    return RgbImage(image.width, height, pixels)
}

/** One target pixel from source pixels [step] bytes apart, the first at [from]; returns where the next target pixel goes. */
private fun weighted(source: ByteArray, from: Int, step: Int, weights: Weights, target: Int, pixels: ByteArray, to: Int): Int {
    var red = 1 shl (PRECISION_BITS - 1)
    var green = red
    var blue = red
    var at = from
    val first = target * weights.stride
    for (index in first until first + weights.counts[target]) {
        val weight = weights.values[index]
        red += (source[at].toInt() and 0xff) * weight
        green += (source[at + 1].toInt() and 0xff) * weight
        blue += (source[at + 2].toInt() and 0xff) * weight
        at += step
    }
    pixels[to] = clip(red shr PRECISION_BITS)
    pixels[to + 1] = clip(green shr PRECISION_BITS)
    pixels[to + 2] = clip(blue shr PRECISION_BITS)
    return to + 3
}

internal fun clip(value: Int): Byte = value.coerceIn(0, 255).toByte()

/** The centre; an odd margin is split half to even, as Python's `round` does. */
private fun crop(image: RgbImage, size: Size): ByteArray {
    val left = halfToEven(image.width - size.width)
    val top = halfToEven(image.height - size.height)
    val pixels = ByteArray(3 * size.width * size.height)
    for (y in 0 until size.height) {
        val from = (top + y) * image.width + left
        image.pixels.copyInto(pixels, 3 * size.width * y, 3 * from, 3 * (from + size.width))
    }
    return pixels
}

/** In the middle of pixels of one value, an odd margin's larger half at the right and at the bottom. */
private fun padded(image: RgbImage, size: Size, value: Byte): ByteArray {
    val left = (size.width - image.width) / 2
    val top = (size.height - image.height) / 2
    val pixels = ByteArray(3 * size.width * size.height) { value }
    for (y in 0 until image.height) {
        image.pixels.copyInto(pixels, 3 * ((top + y) * size.width + left), 3 * y * image.width, 3 * (y + 1) * image.width)
    }
    return pixels
}

private fun halfToEven(margin: Int): Int = Math.rint(margin / 2.0).toInt()
