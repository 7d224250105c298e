package tfvit.edge.app

import android.util.Log
import java.io.File
import java.io.IOException
import java.util.concurrent.Executors
import tfvit.edge.core.AppInfo
import tfvit.edge.core.Backend
import tfvit.edge.core.BenchmarkResult
import tfvit.edge.core.BenchmarkRun
import tfvit.edge.core.DeviceReport
import tfvit.edge.core.EdgePackage
import tfvit.edge.core.EngineException
import tfvit.edge.core.Preset
import tfvit.edge.core.RgbImage
import tfvit.edge.core.RunStatus
import tfvit.edge.core.StatusThrottle
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
    val ending: RunStatus.Ending? = null,
) {
    val isRunning: Boolean
        get() = tasks > 0 && ending == null
}

/** Runs benchmarks one at a time; a turned screen does not end one. To be used on the main thread. */
class BenchmarkSession(private val application: EdgeApplication) {
    var state = BenchmarkState()
        private set(value) {
            field = value
            run?.let { writeStatus(value.statusOf(it)) }
            onChange?.invoke()
        }

    /** Called on the main thread when [state] has changed. */
    var onChange: (() -> Unit)? = null

    /** Where the report is written after every result: outside of the app's private folder, so that adb can pull it. */
    val reportFile: File
        get() = shared("device_report.json")

    /** Where a computer that has started a benchmark reads how far it is. */
    private val statusFile: File
        get() = shared("benchmark_status.json")

    private fun shared(name: String) = File(application.getExternalFilesDir(null) ?: application.filesDir, name)

    /** The name that a computer has given the benchmark; null for one that was started by hand. */
    private var run: String? = null
    private val throttle = StatusThrottle()
    private val writer = Executors.newSingleThreadExecutor { Thread(it, "status") }

    @Volatile private var stopAs: RunStatus.Ending? = null

    /** Says that [run], which a computer has asked for, waits for [checking] a file of the bundle. */
    fun announce(run: String, checking: String) {
        if (!state.isRunning) writeStatus(RunStatus(run, current = "checking $checking"))
    }

    /** Ends [run], which a computer has asked for, before it could start. */
    fun refuse(run: String, ending: RunStatus.Ending, why: List<String>) {
        if (state.isRunning) return
        this.run = run
        state = BenchmarkState(ending = ending, failures = why)
    }

    /** @param run the name that a computer has given it. */
    fun start(edgePackage: EdgePackage, backends: List<Backend>, preset: Preset, run: String? = null) {
        if (state.isRunning) return
        stopAs = null
        this.run = run
        // nobody should take the last run's report for this one's
        reportFile.delete()
        if (run == null) writer.execute { statusFile.delete() }
        val tasks = backends.flatMap { backend -> edgePackage.models.map { Task(it, backend, EdgeApplication.threads) } }
        state = BenchmarkState(tasks = tasks.size, current = tasks.first())
        application.worker.execute { measure(edgePackage, tasks, preset, run) }
    }

    fun stop(ending: RunStatus.Ending) {
        if (state.isRunning) stopAs = ending
    }

    private fun measure(edgePackage: EdgePackage, tasks: List<Task>, preset: Preset, run: String?) {
        val image =
            try {
                goldenImage(edgePackage)
            } catch (unreadable: IOException) {
                return post { copy(failures = listOf(unreadable.message.orEmpty()), current = null, ending = RunStatus.Ending.FAILED) }
            }
        val benchmark = BenchmarkRun(application.factory, Device(application), image, shouldStop = { stopAs != null })
        val results = mutableListOf<BenchmarkResult>()
        try {
            for ((index, task) in tasks.withIndex()) {
                post { copy(current = task) }
                try {
                    results += benchmark.run(task, preset) { share -> post { copy(share = (index + share) / tasks.size) } }
                    save(results, run)
                } catch (failed: EngineException) {
                    post { copy(failures = failures + failed.message.orEmpty()) }
                } catch (unwritable: IOException) {
                    post { copy(failures = failures + unwritable.message.orEmpty()) }
                }
                val measured = results.toList()
                post { copy(finished = index + 1, results = measured, share = (index + 1.0) / tasks.size) }
            }
            post { copy(current = null, ending = RunStatus.Ending.DONE) }
        } catch (stopped: StoppedException) {
            post { copy(current = null, ending = stopAs) }
        }
    }

    @Throws(IOException::class)
    private fun goldenImage(edgePackage: EdgePackage): RgbImage =
        decodePicture(application.openBundled(edgePackage.goldenImage.file).use { it.readBytes() })

    @Throws(IOException::class)
    private fun save(results: List<BenchmarkResult>, run: String?) {
        val report =
            DeviceReport(AppInfo("android_demo", BuildConfig.VERSION_NAME), Device.info, "LiteRT ${BuildConfig.LITERT_VERSION}", results, run)
        replace(reportFile, report.toJson())
    }

    private fun writeStatus(status: RunStatus) {
        if (!throttle.isDue(status)) return
        writer.execute {
            try {
                replace(statusFile, status.toJson())
            } catch (unwritable: IOException) {
                Log.w("tfvit.edge", "the status cannot be written", unwritable)
            }
        }
    }

    private fun BenchmarkState.statusOf(run: String) =
        RunStatus(run, tasks, finished, share, current?.let { "${it.model.name}, ${it.backend.id}" }, ending, failures)

    @Throws(IOException::class)
    private fun replace(file: File, text: String) {
        val half = File(file.path + ".part")
        half.writeText(text)
        if (!half.renameTo(file)) throw IOException("${file.path} cannot be replaced")
    }

    private fun post(change: BenchmarkState.() -> BenchmarkState) = application.post { state = state.change() }
}
