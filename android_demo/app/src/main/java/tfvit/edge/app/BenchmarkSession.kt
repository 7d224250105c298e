package tfvit.edge.app

import java.io.File
import java.io.IOException
import tfvit.edge.core.AppInfo
import tfvit.edge.core.Backend
import tfvit.edge.core.BenchmarkResult
import tfvit.edge.core.BenchmarkRun
import tfvit.edge.core.DeviceReport
import tfvit.edge.core.EdgePackage
import tfvit.edge.core.EngineException
import tfvit.edge.core.Preset
import tfvit.edge.core.RgbImage
import tfvit.edge.core.StoppedException
import tfvit.edge.core.Task

/**
 * A benchmark under way, or the last one.
 *
 * @property current what is measured now; null where none is.
 * @property share of all tasks that is done, 0 to 1.
 * @property failures models that run on no backend, and why; and what else went wrong.
 */
data class BenchmarkState(
    val tasks: Int = 0,
    val finished: Int = 0,
    val current: Task? = null,
    val share: Double = 0.0,
    val results: List<BenchmarkResult> = emptyList(),
    val failures: List<String> = emptyList(),
    val ending: Ending? = null,
) {
    enum class Ending {
        DONE,
        STOPPED,
        LEFT,
    }

    val isRunning: Boolean
        get() = tasks > 0 && ending == null
}

/** Runs benchmarks one at a time; a turned screen does not end one. To be used on the main thread. */
class BenchmarkSession(private val application: EdgeApplication) {
    var state = BenchmarkState()
        private set(value) {
            field = value
            onChange?.invoke()
        }

    /** Called on the main thread when [state] has changed. */
    var onChange: (() -> Unit)? = null

    /** Where the report is written after every result: outside of the app's private folder, so that adb can pull it. */
    val reportFile: File
        get() = File(application.getExternalFilesDir(null) ?: application.filesDir, "device_report.json")

    @Volatile private var stopAs: BenchmarkState.Ending? = null

    fun start(edgePackage: EdgePackage, backends: List<Backend>, preset: Preset) {
        if (state.isRunning) return
        stopAs = null
        // nobody should take the last run's report for this one's
        reportFile.delete()
        val tasks = backends.flatMap { backend -> edgePackage.models.map { Task(it, backend, EdgeApplication.threads) } }
        state = BenchmarkState(tasks = tasks.size, current = tasks.first())
        application.worker.execute { run(edgePackage, tasks, preset) }
    }

    fun stop(ending: BenchmarkState.Ending) {
        if (state.isRunning) stopAs = ending
    }

    private fun run(edgePackage: EdgePackage, tasks: List<Task>, preset: Preset) {
        val image =
            try {
                goldenImage(edgePackage)
            } catch (unreadable: IOException) {
                return post { copy(failures = listOf(unreadable.message.orEmpty()), current = null, ending = BenchmarkState.Ending.DONE) }
            }
        val benchmark = BenchmarkRun(application.factory, Device(application), image, shouldStop = { stopAs != null })
        val results = mutableListOf<BenchmarkResult>()
        try {
            for ((index, task) in tasks.withIndex()) {
                post { copy(current = task) }
                try {
                    results += benchmark.run(task, preset) { share -> post { copy(share = (index + share) / tasks.size) } }
                    save(results)
                } catch (failed: EngineException) {
                    post { copy(failures = failures + failed.message.orEmpty()) }
                } catch (unwritable: IOException) {
                    post { copy(failures = failures + unwritable.message.orEmpty()) }
                }
                val measured = results.toList()
                post { copy(finished = index + 1, results = measured, share = (index + 1.0) / tasks.size) }
            }
            post { copy(current = null, ending = BenchmarkState.Ending.DONE) }
        } catch (stopped: StoppedException) {
            post { copy(current = null, ending = stopAs) }
        }
    }

    @Throws(IOException::class)
    private fun goldenImage(edgePackage: EdgePackage): RgbImage =
        decodePicture(application.openAsset(edgePackage.goldenImage.file).use { it.readBytes() })

    @Throws(IOException::class)
    private fun save(results: List<BenchmarkResult>) {
        val report =
            DeviceReport(AppInfo("android_demo", BuildConfig.VERSION_NAME), Device.info, "LiteRT ${BuildConfig.LITERT_VERSION}", results)
        val half = File(reportFile.path + ".part")
        half.writeText(report.toJson())
        if (!half.renameTo(reportFile)) throw IOException("${reportFile.path} cannot be replaced")
    }

    private fun post(change: BenchmarkState.() -> BenchmarkState) = application.post { state = state.change() }
}
