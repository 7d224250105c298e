package tfvit.edge.core

/** What a device says of itself while it is measured; null where it cannot. */
interface DeviceProbe {
    /** Status names of [Thermal]. */
    fun thermalStatus(): String?

    /** The most memory that the process has held. */
    fun peakMemMb(): Double?
}

/** A model to be measured on a backend. */
data class Task(val model: PackagedModel, val backend: Backend, val threads: Int)

/** A whole benchmark: each task opened, compared with its golden answer, measured and closed, one after another. */
class BenchmarkRun(
    private val factory: EngineFactory,
    private val probe: DeviceProbe,
    private val goldenImage: RgbImage,
    private val nanoTime: () -> Long = System::nanoTime,
    private val shouldStop: () -> Boolean = { false },
) {
    /**
     * @param onShare the share of this task that is done, 0 to 1.
     * @throws EngineException the model runs on no backend.
     * @throws StoppedException stopped.
     */
    fun run(task: Task, preset: Preset, onShare: (Double) -> Unit = {}): BenchmarkResult =
        Backends.open(task.model, task.backend, task.threads, factory, nanoTime).use { open ->
            val parity = Parity.check(open, goldenImage)
            val statusStart = probe.thermalStatus()
            val times =
                Benchmark(nanoTime, shouldStop).measure(preset, onShare) {
                    open.run()
                    open.readAll()
                }
            val statusEnd = probe.thermalStatus()
            val thermal = if (statusStart != null && statusEnd != null) Thermal(statusStart, statusEnd) else null
            BenchmarkResult(
                name = task.model.name,
                sha256 = task.model.sha256,
                requested = open.requested,
                used = open.used,
                reason = open.reason,
                threads = task.threads,
                initMs = open.initMs,
                firstInferenceMs = open.firstInferenceMs,
                statistics = Benchmark.statistics(times),
                warmupRuns = times.warmupRuns,
                peakMemMb = probe.peakMemMb(),
                invalidReasons = Benchmark.invalidReasons(times, preset) + hot(thermal),
                thermal = thermal,
                parity = parity,
            )
        }

    private fun hot(thermal: Thermal?): List<String> =
        if (thermal != null && Thermal.isHot(thermal.statusEnd)) listOf("the device was hot: thermal status ${thermal.statusEnd}") else emptyList()
}
