package tfvit.edge.app

import java.util.concurrent.atomic.AtomicBoolean
import tfvit.edge.core.Answer
import tfvit.edge.core.Backend
import tfvit.edge.core.Backends
import tfvit.edge.core.Classifier
import tfvit.edge.core.EngineException
import tfvit.edge.core.OpenModel
import tfvit.edge.core.PackagedModel
import tfvit.edge.core.RgbImage

/** The model that a screen has chosen. Results come on the main thread, and none after [close]. */
class InferenceSession(private val application: EdgeApplication) {
    // of the worker thread
    private var open: OpenModel? = null

    private val isBusy = AtomicBoolean(false)

    @Volatile private var isClosed = false

    /** Closes the model that is open and opens another. */
    fun open(model: PackagedModel, backend: Backend, onOpened: (OpenModel) -> Unit, onFailure: (String) -> Unit) = work {
        closeModel()
        try {
            val opened = Backends.open(model, backend, EdgeApplication.threads, application.factory)
            open = opened
            post { onOpened(opened) }
        } catch (failed: EngineException) {
            post { onFailure(failed.message.orEmpty()) }
        }
    }

    /** Whether the last image of [classifyIfIdle] is answered. */
    val isIdle: Boolean
        get() = !isBusy.get()

    /** Frames that come while one is being answered are not queued. */
    fun classifyIfIdle(image: RgbImage, onAnswer: (Answer) -> Unit, onFailure: (String) -> Unit) {
        if (!isBusy.compareAndSet(false, true)) return
        application.worker.execute {
            try {
                if (!isClosed) answer(image, onAnswer, onFailure)
            } finally {
                isBusy.set(false)
            }
        }
    }

    /** Waits for its turn. */
    fun classify(image: RgbImage, onAnswer: (Answer) -> Unit, onFailure: (String) -> Unit) = work { answer(image, onAnswer, onFailure) }

    /** Closes the model; the session is of no more use. */
    fun close() {
        isClosed = true
        application.worker.execute { closeModel() }
    }

    private fun answer(image: RgbImage, onAnswer: (Answer) -> Unit, onFailure: (String) -> Unit) {
        val opened = open ?: return
        try {
            val answer = Classifier(opened).classify(image)
            post { onAnswer(answer) }
        } catch (failed: EngineException) {
            post { onFailure(failed.message.orEmpty()) }
        }
    }

    private fun closeModel() {
        open?.close()
        open = null
    }

    private fun work(action: () -> Unit) = application.worker.execute { if (!isClosed) action() }

    private fun post(action: () -> Unit) = application.post { if (!isClosed) action() }
}
