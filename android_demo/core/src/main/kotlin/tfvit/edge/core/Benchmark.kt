package tfvit.edge.core

import java.util.Locale
import kotlin.math.abs
import kotlin.math.sqrt

/** How long to measure: until both are reached. */
data class Preset(val id: String, val minRuns: Int, val minSeconds: Double) {
    companion object {
        val QUICK = Preset("quick", 10, 1.0)
        val DEFAULT = Preset("default", 50, 5.0)
        /** MLPerf Mobile's single stream. */
        val MLPERF = Preset("mlperf", 1024, 60.0)
        val ALL = listOf(QUICK, DEFAULT, MLPERF)
    }
}

/** The measurement was stopped before its end. */
class StoppedException : Exception("stopped")

/**
 * What was measured.
 *
 * @property rounds milliseconds of every inference, by round.
 * @property settled whether warming up was seen to end.
 */
class Times(val rounds: List<DoubleArray>, val warmupRuns: Int, val settled: Boolean) {
    val all: DoubleArray = rounds.flatMap { it.asList() }.toDoubleArray()
    val seconds: Double = all.sum() / 1e3
}

data class Statistics(
    val avgMs: Double,
    val medianMs: Double,
    val p5Ms: Double,
    val p90Ms: Double,
    val p95Ms: Double,
    val stddevMs: Double,
    val minMs: Double,
    val maxMs: Double,
    val numRuns: Int,
    val seconds: Double,
)

/**
 * The protocol of `edge.benchmark`, one model at a time: bursts until they are seen to get no faster, then rounds until the preset is met.
 *
 * @param nanoTime a clock.
 * @param shouldStop asked between rounds; true ends with [StoppedException].
 */
class Benchmark(private val nanoTime: () -> Long = System::nanoTime, private val shouldStop: () -> Boolean = { false }) {
    /**
     * @param infer one inference with its output read back.
     * @param onShare called after each round with the share that is done, 0 to 1.
     */
    fun measure(preset: Preset, onShare: (Double) -> Unit = {}, infer: () -> Unit): Times {
        val start = nanoTime()
        val medians = mutableListOf<Double>()
        var warmupRuns = 0
        var settled = false
        while (!settled) {
            val burst = burst(BURST_SECONDS / 2, infer)
            warmupRuns += burst.size
            medians += percentile(burst.sortedArray(), 50)
            settled = hasSettled(medians)
            if (!settled && (nanoTime() - start) / 1e9 > MOST_WARMUP_SECONDS) break
        }
        val rounds = mutableListOf<DoubleArray>()
        var runs = 0
        var seconds = 0.0
        while (runs < preset.minRuns || seconds < preset.minSeconds) {
            val burst = burst(BURST_SECONDS, infer)
            rounds += burst
            runs += burst.size
            seconds += burst.sum() / 1e3
            onShare(minOf(runs.toDouble() / preset.minRuns, seconds / maxOf(preset.minSeconds, 1e-9), 1.0))
        }
        return Times(rounds, warmupRuns, settled)
    }

    private fun burst(minSeconds: Double, infer: () -> Unit): DoubleArray {
        if (shouldStop()) throw StoppedException()
        val found = mutableListOf<Double>()
        var sum = 0.0
        while (found.size < BURST_RUNS || sum < 1e3 * minSeconds) {
            val start = nanoTime()
            infer()
            found += milliseconds(start, nanoTime())
            sum += found.last()
        }
        return found.toDoubleArray()
    }

    companion object {
        // a burst is long enough that a timer's resolution and a process switch weigh nothing
        const val BURST_SECONDS = 0.1
        const val BURST_RUNS = 3
        private const val WARMUP_BURSTS = 3
        private const val MOST_WARMUP_SECONDS = 10.0
        private const val SETTLED = 0.1
        private const val MOST_SPREAD = 0.4
        private const val MOST_DRIFT = 0.1

        /** Whether the last two bursts' medians agree and are about as fast as any before. */
        fun hasSettled(medians: List<Double>): Boolean =
            medians.size >= WARMUP_BURSTS && medians.takeLast(2).max() <= medians.min() * (1.0 + SETTLED)

        fun statistics(times: Times): Statistics {
            val sorted = times.all.sortedArray()
            val mean = sorted.average()
            return Statistics(
                avgMs = mean,
                medianMs = percentile(sorted, 50),
                p5Ms = percentile(sorted, 5),
                p90Ms = percentile(sorted, 90),
                p95Ms = percentile(sorted, 95),
                stddevMs = sqrt(sorted.sumOf { (it - mean) * (it - mean) } / sorted.size),
                minMs = sorted.first(),
                maxMs = sorted.last(),
                numRuns = sorted.size,
                seconds = times.seconds,
            )
        }

        /** Why a measurement should not be relied on; empty where it may be. */
        fun invalidReasons(times: Times, preset: Preset): List<String> {
            val reasons = mutableListOf<String>()
            if (times.all.size < preset.minRuns || times.seconds < preset.minSeconds) {
                reasons +=
                    format("too few runs: %d in %.1f s, asked for %d in ", times.all.size, times.seconds, preset.minRuns) +
                        "${plain(preset.minSeconds)} s"
            }
            if (times.all.isEmpty()) return reasons
            if (!times.settled) reasons += "still warming up after ${plain(MOST_WARMUP_SECONDS)} s"
            val sorted = times.all.sortedArray()
            val spread = (percentile(sorted, 90) - percentile(sorted, 5)) / percentile(sorted, 50)
            if (spread > MOST_SPREAD) {
                reasons += "too noisy: p5 to p90 spread over ${percent(spread)} of the median, at most ${percent(MOST_SPREAD)}"
            }
            val drift = drift(times)
            if (abs(drift) > MOST_DRIFT) {
                val what = if (drift > 0) "slowed down (throttled?)" else "sped up"
                reasons += "$what by ${percent(abs(drift))} while measured, at most ${percent(MOST_DRIFT)}"
            }
            return reasons
        }

        /** Median of the last third of the rounds over that of the first third, minus 1; 0 with fewer than six rounds. */
        fun drift(times: Times): Double {
            if (times.rounds.size < 6) return 0.0
            val third = times.rounds.size / 3
            fun median(rounds: List<DoubleArray>) = percentile(rounds.flatMap { it.asList() }.toDoubleArray().sortedArray(), 50)
            return median(times.rounds.takeLast(third)) / median(times.rounds.take(third)) - 1.0
        }

        /** Between the two nearest values, as NumPy's `percentile` does. */
        private fun percentile(sorted: DoubleArray, percent: Int): Double {
            val place = (sorted.size - 1) * (percent / 100.0)
            val below = place.toInt()
            val above = minOf(below + 1, sorted.size - 1)
            return sorted[below] + (sorted[above] - sorted[below]) * (place - below)
        }

        private fun percent(share: Double): String = format("%.0f%%", 100 * share)

        private fun plain(number: Double): String = if (number == Math.rint(number)) number.toLong().toString() else number.toString()

        private fun format(pattern: String, vararg values: Any): String = String.format(Locale.ROOT, pattern, *values)
    }
}
