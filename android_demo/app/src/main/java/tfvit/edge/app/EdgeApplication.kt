package tfvit.edge.app

import android.app.Application
import android.os.Handler
import android.os.Looper
import com.google.ai.edge.litert.CompiledModel
import java.io.IOException
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors
import tfvit.edge.core.EdgePackage
import tfvit.edge.core.EngineFactory
import tfvit.edge.core.NoPackageException
import tfvit.edge.core.PackageException
import tfvit.edge.core.PackageReader

/** The bundle in the app's assets. */
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
        LiteRtEngine.factory { model, options -> CompiledModel.create(assets, "$ASSETS/${model.file}", options) }

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
        worker.execute {
            val state =
                try {
                    PackageState.Ready(PackageReader.read({ openAsset(it) }) { file -> post { packageState = PackageState.Checking(file) } })
                } catch (missing: NoPackageException) {
                    PackageState.Missing(missing.message.orEmpty())
                } catch (broken: PackageException) {
                    PackageState.Broken(broken.message.orEmpty())
                }
            post { packageState = state }
        }
    }

    @Throws(IOException::class) fun openAsset(file: String) = assets.open("$ASSETS/$file")

    fun post(action: () -> Unit) {
        main.post(action)
    }

    companion object {
        /** The folder that edge.bundle writes, in src/main/assets. */
        const val ASSETS = "edge"

        /** Of the CPU: more than four threads rarely help on a phone, whose other cores are slow. */
        val threads: Int = Runtime.getRuntime().availableProcessors().coerceIn(1, 4)
    }
}
