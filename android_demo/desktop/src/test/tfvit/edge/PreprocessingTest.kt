package tfvit.edge

import java.nio.ByteBuffer
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertSame
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import tfvit.edge.core.Interpolation
import tfvit.edge.core.JsonValue
import tfvit.edge.core.Orientation
import tfvit.edge.core.Plane
import tfvit.edge.core.Preprocessing
import tfvit.edge.core.RgbImage
import tfvit.edge.core.Size
import tfvit.edge.core.argbToRgb
import tfvit.edge.core.jpegOrientation
import tfvit.edge.core.sha256
import tfvit.edge.core.yuv420ToRgb

/** Every comparison is with Python's bytes, and exact. */
class PreprocessingTest {
    @Test
    fun equalsPythonPixelForPixel() {
        var compared = 0
        for (case in Files.index["resized"].list()) {
            val image = RgbImage(case["width"].int(), case["height"].int(), Files.bytes(case["rgb"]))
            for (setting in case["settings"].list()) {
                val interpolation = Interpolation.entries.first { it.id == setting["interpolation"].string() }
                fun size(name: String) = setting[name].let { if (it.isList) Size(it.list()[0].int(), it.list()[1].int()) else Size(it.int()) }
                val preprocessing =
                    Preprocessing(size("resize_px"), size("crop_px"), interpolation, setting["keep_aspect"].boolean(), setting.optional("pad")?.int())
                assertSamePixels("${case["name"].string()} $preprocessing", Files.bytes(setting["pixels"]), preprocessing.apply(image))
                compared++
            }
        }
        assertTrue("only $compared comparisons", compared >= 200)
        println("preprocessing: $compared results equal Python's, ${Files.index["photos"].int()} images of them photos")
    }

    @Test
    fun oneChangedPixelIsSeen() {
        val case = Files.index["resized"].list().first()
        val setting = case["settings"].list().first()
        val pixels = Files.bytes(case["rgb"])
        val middle = pixels.size / 2
        pixels[middle] = (pixels[middle].toInt() xor 0xff).toByte()
        val image = RgbImage(case["width"].int(), case["height"].int(), pixels)
        val preprocessing = Preprocessing(Size(setting["resize_px"].int()), Size(setting["crop_px"].int()), Interpolation.BICUBIC, true)
        assertTrue(!preprocessing.apply(image).contentEquals(Files.bytes(setting["pixels"])))
    }

    @Test
    fun theGoldenImageGivesThePackagesPixels() {
        for (model in Files.edgePackage.models) {
            assertEquals(model.golden.pixelsSha256, sha256(model.preprocessing.apply(Files.goldenImage)))
        }
    }

    @Test
    fun exifOrientationsAsPillowHasThem() {
        for (case in Files.index["oriented"].list()) {
            val name = case["name"].string()
            val stored = RgbImage(case["width"].int(), case["height"].int(), Files.bytes(case["stored"]))
            val upright = jpegOrientation(Files.bytes(case["jpeg"])).apply(stored)
            assertEquals(name, case["upright_width"].int() to case["upright_height"].int(), upright.width to upright.height)
            assertSamePixels(name, Files.bytes(case["upright"]), upright.pixels)
        }
    }

    @Test
    fun brokenExifBlocksMeanUpright() {
        val jpeg = Files.index["oriented"].list().first { it["name"].string() == "orientation6little" }
        val bytes = Files.bytes(jpeg["jpeg"])
        assertEquals(Orientation.ROTATED_90, jpegOrientation(bytes))
        for (length in 0 until 120) jpegOrientation(bytes.copyOf(length))
        for (at in 0 until 60) {
            for (value in listOf(0, 0x7f, 0xff)) jpegOrientation(bytes.copyOf().also { it[at] = value.toByte() })
        }
        assertEquals(Orientation.UPRIGHT, jpegOrientation(Files.packageFolder.resolve("golden.png").readBytes()))
    }

    @Test
    fun sensorOrientations() {
        val image = RgbImage(2, 1, byteArrayOf(1, 1, 1, 2, 2, 2))
        assertSame(image, Orientation.ofSensor(90, 90, facesUser = false).apply(image))
        // turned clockwise, the left pixel comes to the top
        val turned = Orientation.ofSensor(90, 0, facesUser = false).apply(image)
        assertEquals(1 to 2, turned.width to turned.height)
        assertArrayEquals(byteArrayOf(1, 1, 1, 2, 2, 2), turned.pixels)
        assertArrayEquals(byteArrayOf(2, 2, 2, 1, 1, 1), Orientation.ofSensor(0, 90, facesUser = false).apply(image).pixels)
        assertArrayEquals(byteArrayOf(2, 2, 2, 1, 1, 1), Orientation.ofSensor(90, 270, facesUser = false).apply(image).pixels)
        assertSame(Orientation.UPRIGHT, Orientation.ofSensor(270, 90, facesUser = true))
        assertSame(Orientation.ROTATED_270, Orientation.ofSensor(270, 0, facesUser = true))
        assertThrows(IllegalArgumentException::class.java) { Orientation.ofSensor(45, 0, facesUser = false) }
    }

    @Test
    fun cameraFramesAsPillowConvertsThem() {
        for (case in Files.index["yuv"].list()) {
            fun plane(key: JsonValue) = Plane(ByteBuffer.wrap(Files.bytes(key["bytes"])), key["row_stride"].int(), key["pixel_stride"].int())
            val image = yuv420ToRgb(case["width"].int(), case["height"].int(), plane(case["y"]), plane(case["u"]), plane(case["v"]))
            assertSamePixels(case["name"].string(), Files.bytes(case["rgb"]), image.pixels)
        }
    }

    @Test
    fun transparencyLiesOverWhite() {
        val case = Files.index["over_white"]
        val rgba = Files.bytes(case["rgba"])
        fun byte(at: Int) = rgba[at].toInt() and 0xff
        val colours = IntArray(rgba.size / 4) { (byte(4 * it + 3) shl 24) or (byte(4 * it) shl 16) or (byte(4 * it + 1) shl 8) or byte(4 * it + 2) }
        assertSamePixels("alpha", Files.bytes(case["rgb"]), argbToRgb(case["width"].int(), case["height"].int(), colours).pixels)
    }

    private fun assertSamePixels(name: String, expected: ByteArray, received: ByteArray) {
        assertEquals("$name: size", expected.size, received.size)
        val different = expected.indices.count { expected[it] != received[it] }
        val largest = expected.indices.maxOf { Math.abs((expected[it].toInt() and 0xff) - (received[it].toInt() and 0xff)) }
        assertEquals("$name: $different of ${expected.size} values differ, by up to $largest", 0, different)
    }
}
