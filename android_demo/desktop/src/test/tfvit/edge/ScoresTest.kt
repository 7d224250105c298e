package tfvit.edge

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test
import tfvit.edge.core.ElementType
import tfvit.edge.core.Quantization
import tfvit.edge.core.TensorSpec
import tfvit.edge.core.byteInput
import tfvit.edge.core.floatInput
import tfvit.edge.core.realOutput
import tfvit.edge.core.softmax
import tfvit.edge.core.topK

class ScoresTest {
    @Test
    fun softmaxOfLargeAndEqualLogits() {
        assertArrayEquals(doubleArrayOf(0.5, 0.5), softmax(floatArrayOf(1000f, 1000f)), 0.0)
        assertArrayEquals(doubleArrayOf(0.09003057317038046, 0.24472847105479767, 0.6652409557748219), softmax(floatArrayOf(1f, 2f, 3f)), 1e-15)
        assertArrayEquals(doubleArrayOf(0.0, 1.0), softmax(floatArrayOf(-1e30f, 1e30f)), 0.0)
    }

    @Test
    fun equalScoresKeepTheirOrder() {
        assertEquals(listOf(1, 3, 0, 2), topK(doubleArrayOf(0.1, 0.4, 0.1, 0.4), 4))
        assertEquals(listOf(0, 1), topK(doubleArrayOf(0.5, 0.5, 0.0), 2))
        assertEquals(listOf(1, 0), topK(doubleArrayOf(Double.NaN, 0.0), 5))
    }

    @Test
    fun inputsOfEveryType() {
        val pixels = byteArrayOf(0, 1, 127, -128, -1)
        assertArrayEquals(floatArrayOf(0f, 1f, 127f, 128f, 255f), floatInput(pixels), 0f)
        fun spec(type: ElementType, quantization: Quantization?) = TensorSpec("pixels", listOf(1, 5), type, quantization)
        assertArrayEquals(pixels, byteInput(pixels, spec(ElementType.UINT8, null)))
        assertArrayEquals(byteArrayOf(-128, -127, -1, 0, 127), byteInput(pixels, spec(ElementType.INT8, Quantization(1f, -128))))
        // 0.5 and 63.5 go to the even neighbour, 64 and more are beyond the type
        assertArrayEquals(byteArrayOf(0, 0, 64, 64, 127), byteInput(pixels, spec(ElementType.INT8, Quantization(2f, 0))))
        assertArrayEquals(byteArrayOf(0, 4, -1, -1, -1), byteInput(pixels, spec(ElementType.UINT8, Quantization(0.25f, 0))))
    }

    @Test
    fun outputsOfEveryType() {
        fun spec(type: ElementType) = TensorSpec("logits", listOf(1, 2), type, Quantization(0.5f, 10))
        assertArrayEquals(floatArrayOf(-5.5f, 58.5f), realOutput(byteArrayOf(-1, 127), spec(ElementType.INT8)), 0f)
        assertArrayEquals(floatArrayOf(122.5f, 58.5f), realOutput(byteArrayOf(-1, 127), spec(ElementType.UINT8)), 0f)
    }
}
