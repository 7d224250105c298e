package tfvit.edge.app

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.media.Image
import android.net.Uri
import java.io.IOException
import tfvit.edge.core.Orientation
import tfvit.edge.core.Plane
import tfvit.edge.core.RgbImage
import tfvit.edge.core.argbToRgb
import tfvit.edge.core.jpegOrientation
import tfvit.edge.core.yuv420ToRgb

/** Beyond this many pixels a picture is decoded at half the size, or less: its pixels would not fit into memory. */
private const val MOST_PIXELS = 24_000_000L

/** An upright image from a picture's bytes; BitmapFactory itself turns HEIF files. */
@Throws(IOException::class)
fun decodePicture(bytes: ByteArray): RgbImage {
    val options = BitmapFactory.Options()
    options.inJustDecodeBounds = true
    BitmapFactory.decodeByteArray(bytes, 0, bytes.size, options)
    if (options.outWidth <= 0 || options.outHeight <= 0) throw IOException("not an image that Android can decode")
    options.inJustDecodeBounds = false
    options.inPremultiplied = false
    options.inSampleSize = 1
    while (options.outWidth.toLong() * options.outHeight / (options.inSampleSize * options.inSampleSize) > MOST_PIXELS) options.inSampleSize *= 2
    val bitmap =
        try {
            BitmapFactory.decodeByteArray(bytes, 0, bytes.size, options)
        } catch (large: OutOfMemoryError) {
            throw IOException("too large for this device", large)
        } ?: throw IOException("damaged, or not an image that Android can decode")
    val colours = IntArray(bitmap.width * bitmap.height)
    bitmap.getPixels(colours, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
    val image = argbToRgb(bitmap.width, bitmap.height, colours)
    bitmap.recycle()
    return jpegOrientation(bytes).apply(image)
}

@Throws(IOException::class)
fun readPicture(resolver: ContentResolver, uri: Uri): ByteArray =
    try {
        resolver.openInputStream(uri)?.use { it.readBytes() } ?: throw IOException("nothing there")
    } catch (refused: SecurityException) {
        throw IOException("the app may no longer read it; pick it again", refused)
    }

/** A camera frame of YUV_420_888, upright. */
fun rgbOf(frame: Image, orientation: Orientation): RgbImage {
    val (y, u, v) = frame.planes.map { Plane(it.buffer, it.rowStride, it.pixelStride) }
    return orientation.apply(yuv420ToRgb(frame.width, frame.height, y, u, v))
}

/** For the screen, at most [mostPx] pixels wide and high. */
fun bitmapOf(image: RgbImage, mostPx: Int): Bitmap {
    val step = maxOf(1, (maxOf(image.width, image.height) + mostPx - 1) / mostPx)
    val width = (image.width + step - 1) / step
    val height = (image.height + step - 1) / step
    fun byte(at: Int) = image.pixels[at].toInt() and 0xff
    val colours = IntArray(width * height) { index ->
        val at = 3 * (index / width * step * image.width + index % width * step)
        (0xff shl 24) or (byte(at) shl 16) or (byte(at + 1) shl 8) or byte(at + 2)
    }
    return Bitmap.createBitmap(colours, width, height, Bitmap.Config.ARGB_8888)
}
