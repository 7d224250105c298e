package tfvit.edge

import java.io.File
import java.io.FileInputStream
import javax.imageio.ImageIO
import tfvit.edge.core.Json
import tfvit.edge.core.JsonValue
import tfvit.edge.core.PackageReader
import tfvit.edge.core.PackageSource
import tfvit.edge.core.RgbImage
import tfvit.edge.core.argbToRgb

/** Folders that the test script made, and android_demo itself. */
object Files {
    val packageFolder = File(System.getProperty("android.package"))
    val golden = File(System.getProperty("android.golden"))
    val project = File(System.getProperty("android.project"))
    val fineTuned by lazy { File(System.getProperty("android.fine_tuned")) }
    val others by lazy { File(System.getProperty("android.others")) }
    val report = File(System.getProperty("android.report"))

    val index: JsonValue by lazy { Json.read(golden.resolve("index.json").readText()) }
    val edgePackage by lazy { PackageReader.read(source(packageFolder)) }
    val goldenImage by lazy { decoded(packageFolder.resolve(edgePackage.goldenImage.file)) }

    fun source(folder: File) = PackageSource { FileInputStream(folder.resolve(it)) }

    fun bytes(name: JsonValue): ByteArray = golden.resolve(name.string()).readBytes()

    fun decoded(file: File): RgbImage {
        val image = ImageIO.read(file)
        return argbToRgb(image.width, image.height, image.getRGB(0, 0, image.width, image.height, null, 0, image.width))
    }
}
