package tfvit.edge.app

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.os.Bundle
import android.view.View
import android.view.WindowManager
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.CheckBox
import android.widget.ProgressBar
import android.widget.Spinner
import android.widget.TableLayout
import android.widget.TextView
import java.io.IOException
import tfvit.edge.core.Backend
import tfvit.edge.core.BenchmarkResult
import tfvit.edge.core.Parity
import tfvit.edge.core.Preset
import tfvit.edge.core.RunStatus

/**
 * Measures every model of the bundle, and shares or saves the report.
 *
 * From a computer: `adb shell am start -n tfvit.edge.app/.BenchmarkActivity --es preset quick` starts at once, on the CPU and the GPU.
 * With `--es run NAME` it also says how far it is, and `--es bundle pushed` takes the bundle that edge.device has pushed (docs/device.md).
 */
class BenchmarkActivity : Activity() {
    private val edge
        get() = application as EdgeApplication

    private val session
        get() = edge.benchmark

    /** A benchmark was under way when the state was saved, and the process that ran it has ended since. */
    private var isInterrupted = false

    /** What an intent has asked for, until the bundle is checked. */
    private var requested: Request? = null

    /** @property run the name that a computer has given it. */
    private class Request(val preset: Preset, val run: String?)

    private val start by lazy { view<Button>(R.id.start) }
    private val status by lazy { view<TextView>(R.id.status) }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.benchmark)
        view<View>(R.id.back).setOnClickListener { finish() }
        val presets = Preset.ALL.map { getString(R.string.preset_item, it.id, it.minRuns, it.minSeconds) }
        val choice = view<Spinner>(R.id.preset)
        choice.adapter = ArrayAdapter(this, android.R.layout.simple_spinner_dropdown_item, presets)
        if (savedInstanceState == null) {
            choice.setSelection(Preset.ALL.indexOf(Preset.DEFAULT))
            take(intent)
        } else {
            isInterrupted = savedInstanceState.getBoolean(RUNNING) && !session.state.isRunning
            if (savedInstanceState.getBoolean(REQUESTED)) take(intent)
        }
        start.setOnClickListener {
            if (session.state.isRunning) session.stop(RunStatus.Ending.STOPPED) else startBenchmark(Preset.ALL[choice.selectedItemPosition])
        }
        view<View>(R.id.share).setOnClickListener { share() }
        view<View>(R.id.save).setOnClickListener { save() }
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        setIntent(intent)
        take(intent)
        show()
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putBoolean(RUNNING, session.state.isRunning)
        outState.putBoolean(REQUESTED, requested != null)
    }

    override fun onStart() {
        super.onStart()
        edge.onPackage = ::show
        session.onChange = ::show
        show()
    }

    override fun onStop() {
        edge.onPackage = null
        session.onChange = null
        if (!isChangingConfigurations) {
            session.stop(RunStatus.Ending.LEFT)
            requested?.run?.let { session.refuse(it, RunStatus.Ending.LEFT, emptyList()) }
            requested = null
        }
        super.onStop()
    }

    private fun take(intent: Intent) {
        val id = intent.getStringExtra(PRESET) ?: return
        val run = intent.getStringExtra(RUN)
        val preset = Preset.ALL.firstOrNull { it.id == id }
        if (preset == null) {
            run?.let { session.refuse(it, RunStatus.Ending.FAILED, listOf("this app knows no preset $id")) }
            return
        }
        requested = Request(preset, run)
        if (!session.state.isRunning) edge.use(if (intent.getStringExtra(BUNDLE) == PUSHED) BundlePlace.PUSHED else BundlePlace.ASSETS)
    }

    private fun startRequested(request: Request) {
        when (val checked = edge.packageState) {
            is PackageState.Checking -> request.run?.let { session.announce(it, checked.file) }
            is PackageState.Missing -> refuse(request, checked.message)
            is PackageState.Broken -> refuse(request, checked.message)
            is PackageState.Ready -> {
                requested = null
                startBenchmark(request.preset, request.run)
            }
        }
    }

    private fun refuse(request: Request, why: String) {
        requested = null
        request.run?.let { session.refuse(it, RunStatus.Ending.FAILED, listOf(why)) }
    }

    private fun startBenchmark(preset: Preset, run: String? = null) {
        val ready = edge.packageState as? PackageState.Ready ?: return
        val backends =
            listOf(Backend.CPU to R.id.cpu, Backend.GPU to R.id.gpu).filter { (_, id) -> view<CheckBox>(id).isChecked }.map { it.first }
        if (backends.isEmpty()) {
            status.text = getString(R.string.benchmark_nothing_chosen)
            run?.let { session.refuse(it, RunStatus.Ending.FAILED, listOf("neither CPU nor GPU is chosen in the app")) }
            return
        }
        isInterrupted = false
        session.start(ready.edgePackage, backends, preset, run)
    }

    private fun show() {
        val ready = edge.packageState is PackageState.Ready
        requested?.takeIf { !session.state.isRunning }?.let(::startRequested)
        val state = session.state
        start.isEnabled = ready
        start.text = getString(if (state.isRunning) R.string.stop else R.string.start)
        view<ProgressBar>(R.id.progress).progress = (1000 * state.share).toInt()
        val hasReport = !state.isRunning && session.reportFile.exists()
        view<View>(R.id.report_buttons).visibility = if (hasReport) View.VISIBLE else View.GONE
        status.text = statusOf(state)
        showResults(state.results)
        val failures = view<TextView>(R.id.failures)
        failures.text = state.failures.joinToString("\n\n")
        failures.visibility = if (state.failures.isEmpty()) View.GONE else View.VISIBLE
        if (state.isRunning) {
            window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        } else {
            window.clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        }
    }

    private fun statusOf(state: BenchmarkState): String {
        val current = state.current
        return when (val checked = edge.packageState) {
            is PackageState.Checking -> getString(R.string.checking_package, checked.file)
            is PackageState.Missing -> checked.message
            is PackageState.Broken -> checked.message
            is PackageState.Ready ->
                when {
                    current != null -> getString(R.string.benchmark_running, state.finished + 1, state.tasks, current.model.name, label(current.backend))
                    state.ending == RunStatus.Ending.DONE -> getString(R.string.benchmark_done, state.results.size)
                    state.ending == RunStatus.Ending.STOPPED -> getString(R.string.benchmark_stopped, state.results.size)
                    state.ending == RunStatus.Ending.LEFT -> getString(R.string.benchmark_left)
                    isInterrupted -> getString(R.string.benchmark_interrupted)
                    else -> ""
                }
        }
    }

    /** A row for each result and its details below it; a screen reader reads both as one sentence. */
    private fun showResults(results: List<BenchmarkResult>) {
        val table = view<TableLayout>(R.id.results)
        table.removeAllViews()
        table.visibility = if (results.isEmpty()) View.GONE else View.VISIBLE
        if (results.isEmpty()) return
        addRow(table, R.string.column_model, R.string.column_backend, R.string.column_median, R.string.column_p90)
        for (result in results) {
            val times = result.statistics
            val (median, p90) = listOf(times.medianMs, times.p90Ms).map { getString(R.string.milliseconds, it) }
            val row = addRow(table, result.name, label(result.used), median, p90)
            val described = describe(result)
            row.contentDescription = getString(R.string.result_spoken, result.name, label(result.used), times.medianMs, times.p90Ms, described)
            val details = layoutInflater.inflate(R.layout.result_details, table, false) as TextView
            details.text = described
            val right = result.invalidReasons.isEmpty() && result.parity?.passed != false
            details.setTextColor(resources.getColor(if (right) R.color.passed else R.color.failed, theme))
            table.addView(details)
        }
    }

    private fun addRow(table: TableLayout, vararg texts: Int): View = addRow(table, *texts.map { getString(it) }.toTypedArray())

    private fun addRow(table: TableLayout, vararg texts: String): View {
        val row = layoutInflater.inflate(R.layout.result, table, false)
        for ((id, text) in CELLS.zip(texts)) row.view<TextView>(id).text = text
        table.addView(row)
        return row
    }

    private fun describe(result: BenchmarkResult): String {
        val lines = mutableListOf<String>()
        if (result.used != result.requested) lines += getString(R.string.result_instead, label(result.requested), result.reason)
        val times = result.statistics
        lines += getString(R.string.result_times, result.firstInferenceMs, result.initMs, times.numRuns)
        if (result.invalidReasons.isNotEmpty()) lines += getString(R.string.result_not_valid, result.invalidReasons.joinToString("; "))
        result.parity?.let { lines += describe(it) }
        return lines.joinToString("\n")
    }

    private fun describe(parity: Parity): String {
        val error = parity.maxAbsErr?.let { "%.1e".format(it) } ?: "NaN"
        val pixels = getString(if (parity.pixelsSame) R.string.pixels_same else R.string.pixels_differ)
        return if (parity.passed) getString(R.string.parity_passed, error) else getString(R.string.parity_failed, error, parity.tolerance.toString(), pixels)
    }

    private fun share() {
        try {
            val intent =
                Intent(Intent.ACTION_SEND)
                    .setType("text/plain")
                    .putExtra(Intent.EXTRA_SUBJECT, session.reportFile.name)
                    .putExtra(Intent.EXTRA_TEXT, session.reportFile.readText())
            startActivity(Intent.createChooser(intent, getString(R.string.share)))
        } catch (unreadable: IOException) {
            status.text = getString(R.string.save_failed, unreadable.message)
        }
    }

    private fun save() {
        val intent =
            Intent(Intent.ACTION_CREATE_DOCUMENT)
                .addCategory(Intent.CATEGORY_OPENABLE)
                .setType("application/json")
                .putExtra(Intent.EXTRA_TITLE, session.reportFile.name)
        try {
            startActivityForResult(intent, SAVE_REQUEST)
        } catch (none: ActivityNotFoundException) {
            status.text = getString(R.string.no_save_app)
        }
    }

    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        val uri = data?.data
        if (requestCode != SAVE_REQUEST || resultCode != RESULT_OK || uri == null) return
        status.text =
            try {
                val written = contentResolver.openOutputStream(uri)?.use { it.write(session.reportFile.readBytes()) }
                if (written == null) getString(R.string.save_failed, uri.toString()) else getString(R.string.saved)
            } catch (unwritable: IOException) {
                getString(R.string.save_failed, unwritable.message)
            }
    }

    private fun label(which: Backend) = getString(if (which == Backend.GPU) R.string.gpu else R.string.cpu)

    private companion object {
        const val RUNNING = "running"
        const val REQUESTED = "requested"
        const val PRESET = "preset"
        const val RUN = "run"
        const val BUNDLE = "bundle"
        const val PUSHED = "pushed"
        const val SAVE_REQUEST = 1
        val CELLS = listOf(R.id.result_model, R.id.result_backend, R.id.result_median, R.id.result_p90)
    }
}
