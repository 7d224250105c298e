package tfvit.edge.core

/**
 * How far a benchmark is that a computer has started and waits for: JSON of kind "device_status".
 *
 * @property run the name that the computer gave it.
 * @property share of all tasks that is done, 0 to 1.
 * @property current what is done now, in words.
 * @property ending null until it has ended.
 * @property failures models that run on no backend, and why; and what else went wrong.
 */
data class RunStatus(
    val run: String,
    val tasks: Int = 0,
    val finished: Int = 0,
    val share: Double = 0.0,
    val current: String? = null,
    val ending: Ending? = null,
    val failures: List<String> = emptyList(),
) {
    enum class Ending(val id: String) {
        DONE("done"),
        STOPPED("stopped"),
        /** Another app was in front, or the screen was off. */
        LEFT("left"),
        /** It could not start. */
        FAILED("failed"),
    }

    fun toJson(): String = Json.write(document(), indent = 1) + "\n"

    private fun document(): Map<String, Any?> =
        mapOf(
            "kind" to "device_status",
            "schema_version" to SCHEMA_VERSION,
            "run" to run,
            "tasks" to tasks,
            "finished" to finished,
            "share" to share,
            "current" to current,
            "ending" to ending?.id,
            "failures" to failures,
        )

    companion object {
        const val SCHEMA_VERSION = 1
    }
}

/**
 * Which statuses are worth a write: of those that differ in their share alone, two a second.
 *
 * @param nanoTime a clock.
 */
class StatusThrottle(private val nanoTime: () -> Long = System::nanoTime) {
    private var last: RunStatus? = null
    private var lastTime = 0L

    /** Whether [status] is to be written now; true counts as written. */
    fun isDue(status: RunStatus): Boolean {
        val before = last
        val isDue = before == null || status.copy(share = before.share) != before || nanoTime() - lastTime >= INTERVAL_NANOSECONDS
        if (isDue) {
            last = status
            lastTime = nanoTime()
        }
        return isDue
    }

    private companion object {
        const val INTERVAL_NANOSECONDS = 500_000_000L
    }
}
