package tfvit.edge.app

import android.content.Context
import android.os.Build
import android.os.PowerManager
import tfvit.edge.core.DeviceInfo
import tfvit.edge.core.DeviceKind
import tfvit.edge.core.DeviceProbe
import tfvit.edge.core.Thermal
import tfvit.edge.core.peakMemoryMb

/** What Android says of this device; null where the version of Android does not say. */
class Device(context: Context) : DeviceProbe {
    private val power = context.getSystemService(Context.POWER_SERVICE) as PowerManager

    override fun thermalStatus(): String? =
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) Thermal.name(power.currentThermalStatus) else null

    override fun peakMemMb(): Double? = peakMemoryMb()

    companion object {
        private val EMULATOR_HARDWARE = setOf("goldfish", "ranchu", "cutf_cvm", "vbox86")

        val info: DeviceInfo =
            DeviceInfo(
                manufacturer = Build.MANUFACTURER,
                model = Build.MODEL,
                soc = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) "${Build.SOC_MANUFACTURER} ${Build.SOC_MODEL}" else null,
                androidVersion = Build.VERSION.RELEASE,
                apiLevel = Build.VERSION.SDK_INT,
                abi = Build.SUPPORTED_ABIS.first(),
                kind = if (Build.HARDWARE in EMULATOR_HARDWARE || Build.PRODUCT.startsWith("sdk")) DeviceKind.EMULATOR else DeviceKind.PHONE,
            )
    }
}
