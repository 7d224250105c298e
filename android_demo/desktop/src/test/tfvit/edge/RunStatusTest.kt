package tfvit.edge

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import tfvit.edge.core.AppInfo
import tfvit.edge.core.DeviceInfo
import tfvit.edge.core.DeviceKind
import tfvit.edge.core.DeviceReport
import tfvit.edge.core.Json
import tfvit.edge.core.RunStatus
import tfvit.edge.core.StatusThrottle

class RunStatusTest {
    private val clock = Clock()
    private val throttle = StatusThrottle { clock.nanoseconds }

    @Test
    fun whatAComputerReads() {
        val status = RunStatus("7f3a", tasks = 4, finished = 1, share = 0.375, current = "nano32-int8, gpu", failures = listOf("\"it\" failed"))
        val expected =
            """
            {
             "kind": "device_status",
             "schema_version": 1,
             "run": "7f3a",
             "tasks": 4,
             "finished": 1,
             "share": 0.375,
             "current": "nano32-int8, gpu",
             "ending": null,
             "failures": [
              "\"it\" failed"
             ]
            }

            """.trimIndent()
        assertEquals(expected, status.toJson())
        assertEquals(listOf("done", "stopped", "left", "failed"), RunStatus.Ending.entries.map { it.id })
        for (ending in RunStatus.Ending.entries) assertEquals(ending.id, Json.read(status.copy(ending = ending).toJson())["ending"].string())
    }

    @Test
    fun aLargerShareIsWrittenTwiceASecond() {
        val status = RunStatus("run", tasks = 2)
        assertTrue(throttle.isDue(status))
        val written =
            (1..100).count {
                clock.passMs(20.0)
                throttle.isDue(status.copy(share = it / 100.0))
            }
        assertEquals(4, written)
    }

    @Test
    fun everythingElseIsWrittenAtOnce() {
        val status = RunStatus("run", tasks = 2)
        val changes =
            listOf(
                status,
                status.copy(current = "a"),
                status.copy(current = "b"),
                status.copy(finished = 1),
                status.copy(finished = 1, failures = listOf("no")),
                status.copy(finished = 1, failures = listOf("no"), ending = RunStatus.Ending.DONE),
                status.copy(run = "another"),
            )
        for (change in changes) assertTrue("$change", throttle.isDue(change))
        assertFalse("only the share", throttle.isDue(status.copy(run = "another", share = 0.5)))
    }

    @Test
    fun theReportNamesItsRunIfItHasOne() {
        val device = DeviceInfo("made", "up", null, null, null, "none", DeviceKind.HOST_JVM)
        val report = DeviceReport(AppInfo("app", "1"), device, "none", emptyList())
        assertFalse("run" in Json.read(report.toJson()).keys())
        assertEquals("7f3a", Json.read(report.copy(run = "7f3a").toJson())["run"].string())
    }
}
