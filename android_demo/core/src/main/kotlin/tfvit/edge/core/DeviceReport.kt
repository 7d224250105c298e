package tfvit.edge.core

/**
 * What `python -m edge.report` reads of a device: JSON of kind "device_report".
 *
 * @property run the name that a computer gave the benchmark that it started.
 */
data class DeviceReport(
    val app: AppInfo,
    val device: DeviceInfo,
    val runtime: String,
    val results: List<BenchmarkResult>,
    val run: String? = null,
) {
    fun toJson(): String = Json.write(document(), indent = 1) + "\n"

    private fun document(): Map<String, Any?> =
        mapOf(
            "kind" to "device_report",
            "schema_version" to SCHEMA_VERSION,
            "app" to mapOf("name" to app.name, "version" to app.version),
            "device" to
                mapOf(
                    "manufacturer" to device.manufacturer,
                    "model" to device.model,
                    "soc" to device.soc,
                    "android_version" to device.androidVersion,
                    "api_level" to device.apiLevel,
                    "abi" to device.abi,
                    "kind" to device.kind.id,
                ),
            "runtime" to runtime,
            "results" to results.map { it.document() },
        ) + (run?.let { mapOf("run" to it) } ?: emptyMap())

    companion object {
        const val SCHEMA_VERSION = 1
    }
}

data class AppInfo(val name: String, val version: String)

enum class DeviceKind(val id: String) {
    PHONE("phone"),
    EMULATOR("emulator"),
    HOST_JVM("host_jvm"),
    BOARD("board"),
}

data class DeviceInfo(
    val manufacturer: String,
    val model: String,
    val soc: String?,
    val androidVersion: String?,
    val apiLevel: Int?,
    val abi: String,
    val kind: DeviceKind,
)

/** Android's thermal statuses, from "none" to "shutdown". */
data class Thermal(val statusStart: String, val statusEnd: String) {
    companion object {
        /** `PowerManager.getCurrentThermalStatus`'s numbers, in order. */
        private val STATUSES = listOf("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")

        fun name(status: Int): String = STATUSES.getOrElse(status) { "unknown" }

        /** From here on a phone may have slowed down. */
        internal fun isHot(name: String): Boolean = STATUSES.indexOf(name) >= STATUSES.indexOf("moderate")
    }
}

data class BenchmarkResult(
    val name: String,
    val sha256: String,
    val requested: Backend,
    val used: Backend,
    val reason: String?,
    val threads: Int,
    val initMs: Double,
    val firstInferenceMs: Double,
    val statistics: Statistics,
    val warmupRuns: Int,
    val peakMemMb: Double?,
    val invalidReasons: List<String>,
    val thermal: Thermal?,
    val parity: Parity?,
) {
    internal fun document(): Map<String, Any?> =
        mapOf(
            "name" to name,
            "sha256" to sha256,
            "backend_requested" to requested.id,
            "backend_used" to used.id,
            "backend_reason" to reason,
            // the GPU has none to choose
            "threads" to threads.takeIf { used == Backend.CPU },
            "avg_ms" to rounded(statistics.avgMs),
            "median_ms" to rounded(statistics.medianMs),
            "p5_ms" to rounded(statistics.p5Ms),
            "p90_ms" to rounded(statistics.p90Ms),
            "p95_ms" to rounded(statistics.p95Ms),
            "stddev_ms" to rounded(statistics.stddevMs),
            "min_ms" to rounded(statistics.minMs),
            "max_ms" to rounded(statistics.maxMs),
            "init_ms" to rounded(initMs),
            "first_inference_ms" to rounded(firstInferenceMs),
            "num_runs" to statistics.numRuns,
            "num_warmup_runs" to warmupRuns,
            "seconds" to rounded(statistics.seconds),
            "peak_mem_mb" to peakMemMb?.let { rounded(it) },
            "valid" to invalidReasons.isEmpty(),
            "invalid_reasons" to invalidReasons,
            "thermal" to thermal?.let { mapOf("status_start" to it.statusStart, "status_end" to it.statusEnd) },
            "parity" to
                parity?.let {
                    mapOf(
                        "passed" to it.passed,
                        "top5_same" to it.top5Same,
                        "max_abs_err" to it.maxAbsErr,
                        "tolerance" to it.tolerance,
                        "pixels_same" to it.pixelsSame,
                    )
                },
        )

    private fun rounded(value: Double): Double = Math.rint(value * 1e4) / 1e4
}
