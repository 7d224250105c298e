package tfvit.edge.core

/** EXIF's eight orientations: where the stored pixels have to go to be upright. */
enum class Orientation(val exif: Int, private val transposed: Boolean, private val flipX: Boolean, private val flipY: Boolean) {
    UPRIGHT(1, false, false, false),
    MIRRORED(2, false, true, false),
    ROTATED_180(3, false, true, true),
    FLIPPED(4, false, false, true),
    TRANSPOSED(5, true, false, false),
    ROTATED_90(6, true, false, true),
    TRANSVERSED(7, true, true, true),
    ROTATED_270(8, true, true, false);

    /** The image upright; the same object where nothing has to be done. */
    fun apply(image: RgbImage): RgbImage {
        if (this == UPRIGHT) return image
        val width = if (transposed) image.height else image.width
        val height = if (transposed) image.width else image.height
        val pixels = ByteArray(image.pixels.size)
        var to = 0
        for (y in 0 until height) {
            for (x in 0 until width) {
                // flips are of the stored image
                val column = if (transposed) y else x
                val row = if (transposed) x else y
                val sourceX = if (flipX) image.width - 1 - column else column
                val sourceY = if (flipY) image.height - 1 - row else row
                val from = 3 * (sourceY * image.width + sourceX)
                pixels[to] = image.pixels[from]
                pixels[to + 1] = image.pixels[from + 1]
                pixels[to + 2] = image.pixels[from + 2]
                to += 3
            }
        }
        return RgbImage(width, height, pixels)
    }

    companion object {
        /** EXIF's number; anything else than 2 to 8 means upright. */
        fun ofExif(value: Int): Orientation = entries.firstOrNull { it.exif == value } ?: UPRIGHT

        /** Of a camera frame that has to be turned clockwise by [degrees], a multiple of 90. */
        fun ofClockwiseDegrees(degrees: Int): Orientation =
            when (degrees.mod(360)) {
                0 -> UPRIGHT
                90 -> ROTATED_90
                180 -> ROTATED_180
                270 -> ROTATED_270
                else -> throw IllegalArgumentException("expected a multiple of 90 degrees. Received: $degrees")
            }

        /**
         * How far a frame of the camera has to be turned clockwise to stand upright on the screen.
         *
         * @param sensorDegrees the camera's `SENSOR_ORIENTATION`.
         * @param displayDegrees how far the screen's content is turned from the device's natural position.
         * @param facesUser a front camera.
         */
        fun ofSensor(sensorDegrees: Int, displayDegrees: Int, facesUser: Boolean): Orientation =
            ofClockwiseDegrees(if (facesUser) sensorDegrees + displayDegrees else sensorDegrees - displayDegrees)
    }
}

/** The orientation that a JPEG file's EXIF block gives; upright for any other file. Other formats are turned by their decoder. */
fun jpegOrientation(file: ByteArray): Orientation {
    fun byte(at: Int): Int = if (at in file.indices) file[at].toInt() and 0xff else -1
    fun big(at: Int): Int = if (byte(at) < 0 || byte(at + 1) < 0) -1 else (byte(at) shl 8) or byte(at + 1)
    if (big(0) != 0xffd8) return Orientation.UPRIGHT
    var at = 2
    while (byte(at) == 0xff) {
        val marker = byte(at + 1)
        val length = big(at + 2)
        // the compressed pixels, or the end of what can be read
        if (marker == 0xda || length < 2) break
        if (marker == 0xe1 && String(file, at + 4, minOf(EXIF.length, file.size - at - 4), Charsets.ISO_8859_1) == EXIF) {
            return exifOrientation(file, at + 4 + EXIF.length, minOf(at + 2 + length, file.size))
        }
        at += 2 + length
    }
    return Orientation.UPRIGHT
}

private const val EXIF = "Exif\u0000\u0000"
private const val ORIENTATION_TAG = 0x0112

/** The first directory of the TIFF block between [start] and [end]. */
private fun exifOrientation(file: ByteArray, start: Int, end: Int): Orientation {
    if (start + 8 > end) return Orientation.UPRIGHT
    val little =
        when {
            file[start] == 'I'.code.toByte() && file[start + 1] == 'I'.code.toByte() -> true
            file[start] == 'M'.code.toByte() && file[start + 1] == 'M'.code.toByte() -> false
            else -> return Orientation.UPRIGHT
        }
    fun number(at: Int, bytes: Int): Long =
        (0 until bytes).fold(0L) { sum, index -> (sum shl 8) or (file[at + if (little) bytes - 1 - index else index].toLong() and 0xff) }
    val directory = start + number(start + 4, 4)
    if (directory + 2 > end) return Orientation.UPRIGHT
    for (entry in 0 until number(directory.toInt(), 2).toInt()) {
        val at = directory.toInt() + 2 + 12 * entry
        if (at + 12 > end) break
        if (number(at, 2).toInt() == ORIENTATION_TAG) return Orientation.ofExif(number(at + 8, 2).toInt())
    }
    return Orientation.UPRIGHT
}
