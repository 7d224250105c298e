package tfvit.edge.app

import android.content.Context
import android.graphics.ImageFormat
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.media.Image
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import android.util.Size
import tfvit.edge.core.Orientation

/**
 * Frames of the back camera, or of the first there is. All of it happens on a thread of its own.
 *
 * @param displayDegrees how far the screen's content is turned from the device's natural position.
 * @param onFrame is given a frame and how it has to be turned; the frame is closed after it.
 * @param onFailure why there are no more frames; null: there is no camera.
 */
class Camera(
    context: Context,
    private val displayDegrees: () -> Int,
    private val onFrame: (Image, Orientation) -> Unit,
    private val onFailure: (String?) -> Unit,
) {
    private val manager = context.getSystemService(Context.CAMERA_SERVICE) as CameraManager
    private val thread = HandlerThread("camera").apply { start() }
    private val handler = Handler(thread.looper)

    // of the camera thread
    private var device: CameraDevice? = null
    private var reader: ImageReader? = null
    private var isOpening = false
    private var isClosed = false

    fun start() {
        handler.post {
            try {
                open()
            } catch (failed: CameraAccessException) {
                isOpening = false
                onFailure(failed.message.orEmpty())
            } catch (refused: SecurityException) {
                isOpening = false
                onFailure(refused.message.orEmpty())
            }
        }
    }

    fun close() {
        handler.post {
            isClosed = true
            device?.close()
            device = null
            reader?.close()
            reader = null
            // a camera that is being opened comes to the thread, and is closed there
            if (!isOpening) thread.quitSafely()
        }
    }

    @Throws(CameraAccessException::class, SecurityException::class)
    private fun open() {
        val ids = manager.cameraIdList
        val id = ids.firstOrNull { facing(it) == CameraCharacteristics.LENS_FACING_BACK } ?: ids.firstOrNull() ?: return onFailure(null)
        val characteristics = manager.getCameraCharacteristics(id)
        val sizes =
            characteristics.get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP)?.getOutputSizes(ImageFormat.YUV_420_888)
                ?: return onFailure(null)
        val size = frameSize(sizes.toList())
        val sensorDegrees = characteristics.get(CameraCharacteristics.SENSOR_ORIENTATION) ?: 0
        val facesUser = facing(id) == CameraCharacteristics.LENS_FACING_FRONT
        val frames = ImageReader.newInstance(size.width, size.height, ImageFormat.YUV_420_888, 2)
        reader = frames
        frames.setOnImageAvailableListener(
            { source ->
                if (!isClosed) source.acquireLatestImage()?.use { onFrame(it, Orientation.ofSensor(sensorDegrees, displayDegrees(), facesUser)) }
            },
            handler,
        )
        if (isClosed) return
        isOpening = true
        manager.openCamera(
            id,
            object : CameraDevice.StateCallback() {
                override fun onOpened(camera: CameraDevice) {
                    isOpening = false
                    if (isClosed) return end(camera)
                    device = camera
                    try {
                        stream(camera, frames)
                    } catch (failed: CameraAccessException) {
                        onFailure(failed.message.orEmpty())
                    }
                }

                override fun onDisconnected(camera: CameraDevice) = fail(camera, "another app took it")

                override fun onError(camera: CameraDevice, error: Int) = fail(camera, "error $error")
            },
            handler,
        )
    }

    private fun fail(camera: CameraDevice, reason: String) {
        isOpening = false
        if (isClosed) return end(camera)
        camera.close()
        device = null
        onFailure(reason)
    }

    /** Closed while it was being opened. */
    private fun end(camera: CameraDevice) {
        camera.close()
        thread.quitSafely()
    }

    @Throws(CameraAccessException::class)
    private fun stream(camera: CameraDevice, frames: ImageReader) {
        val request = camera.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW).apply { addTarget(frames.surface) }.build()
        // the successor of this call needs API 28
        @Suppress("DEPRECATION")
        camera.createCaptureSession(
            listOf(frames.surface),
            object : CameraCaptureSession.StateCallback() {
                override fun onConfigured(session: CameraCaptureSession) {
                    if (isClosed || device !== camera) return
                    try {
                        session.setRepeatingRequest(request, null, handler)
                    } catch (failed: CameraAccessException) {
                        onFailure(failed.message.orEmpty())
                    }
                }

                override fun onConfigureFailed(session: CameraCaptureSession) = onFailure("it takes no stream of this size")
            },
            handler,
        )
    }

    @Throws(CameraAccessException::class)
    private fun facing(id: String): Int? = manager.getCameraCharacteristics(id).get(CameraCharacteristics.LENS_FACING)

    /** The smallest whose short side is enough for every published model, or else the largest. */
    private fun frameSize(sizes: List<Size>): Size =
        sizes.filter { minOf(it.width, it.height) >= LEAST_SIDE_PX }.minByOrNull { it.width * it.height }
            ?: sizes.maxByOrNull { it.width * it.height }!!

    private companion object {
        const val LEAST_SIDE_PX = 440
    }
}
