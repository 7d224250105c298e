package tfvit.edge.app

import android.app.Application
import android.os.Handler
import android.os.Looper
import com.google.ai.edge.litert.CompiledModel
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors
import tfvit.edge.core.EdgePackage
import tfvit.edge.core.EngineFactory
import tfvit.edge.core.NoPackageException
import tfvit.edge.core.PackageException
import tfvit.edge.core.PackageReader

/** Where a bundle lies. */
enum class BundlePlace {
    /** In the app's assets, where edge.bundle puts it. */
    ASSETS,
    /** In the app's folder on shared storage, where edge.device puts it. */
    PUSHED,
}

/** The bundle. */
sealed interface PackageState {
    data class Checking(val file: String) : PackageState

    data class Ready(val edgePackage: EdgePackage) : PackageState

    data class Missing(val message: String) : PackageState

    data class Broken(val message: String) : PackageState
}

/** What outlives a screen: the checked bundle, the thread that models run on, a benchmark under way. */
class EdgeApplication : Application() {
    private val main = Handler(Looper.getMainLooper())

    /** Every model is opened, run and closed here. */
    val worker: ExecutorService = Executors.newSingleThreadExecutor { Thread(it, "inference") }

    val factory: EngineFactory =
        LiteRtEngine.factory { model, options ->
            when (place) {
                BundlePlace.ASSETS -> CompiledModel.create(assets, "$ASSETS/${model.file}", options)
                BundlePlace.PUSHED -> CompiledModel.create(pushed(model.file).path, options)
            }
        }

    /** Of the bundle that [packageState] is about. */
    @Volatile private var place = BundlePlace.ASSETS

    lateinit var benchmark: BenchmarkSession
        private set

    var packageState: PackageState = PackageState.Checking(PackageReader.FILE)
        private set(value) {
            field = value
            onPackage?.invoke()
        }

    /** Called on the main thread when [packageState] has changed. */
    var onPackage: (() -> Unit)? = null

    override fun onCreate() {
        super.onCreate()
        benchmark = BenchmarkSession(this)
        check()
    }

    /** Takes the bundle at [chosen] from now on. One that was pushed is checked again: it may be another one. */
    fun use(chosen: BundlePlace) {
        if (chosen == BundlePlace.ASSETS && place == BundlePlace.ASSETS) return
        place = chosen
        check()
    }

    private fun check() {
        val checked = place
        packageState = PackageState.Checking(PackageReader.FILE)
        worker.execute {
            val state =
                try {
                    PackageState.Ready(
                        PackageReader.read({ open(checked, it) }) { file -> postAbout(checked, PackageState.Checking(file)) },
                    )
                } catch (missing: NoPackageException) {
                    PackageState.Missing(missing.message.orEmpty())
                } catch (broken: PackageException) {
                    PackageState.Broken(broken.message.orEmpty())
                }
            postAbout(checked, state)
        }
    }

    private fun postAbout(checked: BundlePlace, state: PackageState) = post { if (checked == place) packageState = state }

    /** A file of the bundle. */
    @Throws(IOException::class) fun openBundled(file: String): InputStream = open(place, file)

    @Throws(IOException::class)
    private fun open(from: BundlePlace, file: String): InputStream =
        when (from) {
            BundlePlace.ASSETS -> assets.open("$ASSETS/$file")
            BundlePlace.PUSHED ->
                pushed(file).let {
                    // a FileNotFoundException would say that nothing is there
                    if (it.exists() && !it.canRead()) throw IOException("${it.path}: permission denied")
                    it.inputStream()
                }
        }

    private fun pushed(file: String) = File(File(getExternalFilesDir(null) ?: filesDir, PUSHED), file)

    fun post(action: () -> Unit) {
        main.post(action)
    }

    companion object {
        /** The folder that edge.bundle writes, in src/main/assets. */
        const val ASSETS = "edge"

        /** The folder that edge.device pushes, in the app's folder on shared storage. */
        const val PUSHED = "edge"

        /** Of the CPU: more than four threads rarely help on a phone, whose other cores are slow. */
        val threads: Int = Runtime.getRuntime().availableProcessors().coerceIn(1, 4)
    }
}
