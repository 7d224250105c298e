package tfvit.edge

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import tfvit.edge.core.Benchmark
import tfvit.edge.core.Preset
import tfvit.edge.core.StoppedException
import tfvit.edge.core.Times

class BenchmarkTest {
    @Test
    fun statisticsAndReasonsEqualPythons() {
        for (case in Files.index["measured"].list()) {
            val name = case["name"].string()
            val rounds = case["rounds"].list().map { burst -> burst.list().map { it.number() }.toDoubleArray() }
            val times = Times(rounds, case["warmup_runs"].int(), case["settled"].boolean())
            val expected = case["statistics"]
            val received = Benchmark.statistics(times)
            val pairs =
                listOf(
                    "mean_ms" to received.avgMs,
                    "median_ms" to received.medianMs,
                    "p5_ms" to received.p5Ms,
                    "p90_ms" to received.p90Ms,
                    "p95_ms" to received.p95Ms,
                    "stddev_ms" to received.stddevMs,
                    "min_ms" to received.minMs,
                    "max_ms" to received.maxMs,
                    "seconds" to received.seconds,
                )
            for ((key, value) in pairs) assertEquals("$name $key", expected[key].number(), value, SUMMATION_ERROR)
            assertEquals(name, expected["num_runs"].int(), received.numRuns)
            val preset = Preset("given", case["min_runs"].int(), case["min_seconds"].number())
            assertEquals(name, case["invalid_reasons"].list().map { it.string() }, Benchmark.invalidReasons(times, preset))
        }
    }

    @Test
    fun everyReasonAppears() {
        val reasons = Files.index["measured"].list().flatMap { it["invalid_reasons"].list() }.map { it.string() }
        for (start in listOf("too few runs", "still warming up", "too noisy", "slowed down", "sped up")) {
            assertTrue("no reason starts with \"$start\": $reasons", reasons.any { it.startsWith(start) })
        }
        assertTrue(Files.index["measured"].list().first { it["name"].string() == "steady" }["invalid_reasons"].list().isEmpty())
    }

    @Test
    fun measuresUntilRunsAndSecondsAreReached() {
        for ((preset, inferenceMs) in listOf(Preset("few slow runs", 50, 1.0) to 40.0, Preset("many fast runs", 50, 2.0) to 5.0)) {
            val clock = Clock()
            val shares = mutableListOf<Double>()
            val times = Benchmark({ clock.nanoseconds }).measure(preset, { shares += it }) { clock.passMs(inferenceMs) }
            assertTrue(times.settled)
            assertTrue(times.all.size >= preset.minRuns && times.seconds >= preset.minSeconds - 1e-9)
            assertTrue("went on for too long", times.all.size < preset.minRuns + 3 || times.seconds < preset.minSeconds + 0.2)
            assertEquals(shares.sorted(), shares)
            assertEquals(1.0, shares.last(), 0.0)
            assertTrue(Benchmark.invalidReasons(times, preset).isEmpty())
        }
    }

    @Test
    fun warmUpEndsWhenItHasBeenSeenToEnd() {
        val clock = Clock()
        var run = 0
        // faster and faster up to the fifteenth run
        val times = Benchmark({ clock.nanoseconds }).measure(Preset.QUICK) { clock.passMs(if (++run < 15) 300.0 / run else 20.0) }
        assertTrue("${times.warmupRuns} runs", times.warmupRuns >= 15)
        assertTrue(times.settled && times.all.all { it == 20.0 })
    }

    @Test
    fun warmUpThatNeverEndsIsGivenUpAndReported() {
        val clock = Clock()
        var burst = 0
        val times = Benchmark({ clock.nanoseconds }).measure(Preset.QUICK) { clock.passMs(if (burst++ / 3 % 2 == 0) 20.0 else 60.0) }
        assertTrue(!times.settled)
        assertTrue(Benchmark.invalidReasons(times, Preset.QUICK).contains("still warming up after 10 s"))
    }

    @Test
    fun settlingAsInPython() {
        assertTrue(!Benchmark.hasSettled(listOf(10.0, 10.0)))
        assertTrue(Benchmark.hasSettled(listOf(10.0, 10.9, 10.0)))
        assertTrue(!Benchmark.hasSettled(listOf(10.0, 11.1, 10.0)))
        assertTrue(!Benchmark.hasSettled(listOf(9.0, 10.0, 10.0)))
    }

    @Test
    fun stopsWhenAsked() {
        val clock = Clock()
        var runs = 0
        val benchmark = Benchmark({ clock.nanoseconds }) { runs > 20 }
        assertThrows(StoppedException::class.java) { benchmark.measure(Preset.MLPERF) { clock.passMs(20.0).also { runs++ } } }
        assertTrue(runs < 30)
    }

    private companion object {
        // NumPy adds in another order
        const val SUMMATION_ERROR = 1e-9
    }
}
