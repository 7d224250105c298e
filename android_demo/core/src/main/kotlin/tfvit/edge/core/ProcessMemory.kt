package tfvit.edge.core

import java.io.File
import java.io.IOException

/** The most memory that this process has held, in MB of 2^20 bytes; null where the system does not say. */
fun peakMemoryMb(): Double? =
    try {
        File("/proc/self/status").useLines { lines -> lines.firstOrNull { it.startsWith("VmHWM:") } }
            ?.let { Regex("[0-9]+").find(it) }
            ?.let { it.value.toLong() / 1024.0 }
    } catch (unreadable: IOException) {
        null
    }
