package tfvit.edge.app

import android.Manifest
import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.content.pm.PackageManager
import android.media.Image
import android.net.Uri
import android.os.Bundle
import android.provider.Settings
import android.view.Surface
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.ImageView
import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.Spinner
import android.widget.TextView
import java.io.IOException
import tfvit.edge.core.Answer
import tfvit.edge.core.Backend
import tfvit.edge.core.EdgePackage
import tfvit.edge.core.Meaning
import tfvit.edge.core.OpenModel
import tfvit.edge.core.Orientation
import tfvit.edge.core.PackagedModel
import tfvit.edge.core.RgbImage
import tfvit.edge.core.Score

/** Live camera or a picture, classified by the chosen model on the chosen backend. */
class MainActivity : Activity() {
    private enum class Source {
        NONE,
        CAMERA,
        PICTURE,
    }

    private val edge
        get() = application as EdgeApplication

    // what survives a turned screen and the process
    private var source = Source.NONE
    private var picture: Uri? = null
    private var modelName: String? = null
    private var backend = Backend.CPU

    // of a visible screen
    @Volatile private var session: InferenceSession? = null
    private var camera: Camera? = null
    private var models: List<PackagedModel> = emptyList()

    private val status by lazy { view<TextView>(R.id.status) }
    private val scores by lazy { view<TextView>(R.id.scores) }
    private val stages by lazy { view<TextView>(R.id.stages) }
    private val image by lazy { view<ImageView>(R.id.image) }
    private val allowCamera by lazy { view<Button>(R.id.allow_camera) }
    private val modelChoice by lazy { view<Spinner>(R.id.model) }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        savedInstanceState?.let { saved ->
            source = Source.valueOf(saved.getString(SOURCE) ?: Source.NONE.name)
            picture = saved.getString(PICTURE)?.let(Uri::parse)
            modelName = saved.getString(MODEL)
            backend = Backend.valueOf(saved.getString(BACKEND) ?: Backend.CPU.name)
        }
        view<RadioButton>(if (backend == Backend.GPU) R.id.gpu else R.id.cpu).isChecked = true
        view<RadioGroup>(R.id.backend).setOnCheckedChangeListener { _, checked ->
            choose(modelName, if (checked == R.id.gpu) Backend.GPU else Backend.CPU)
        }
        view<View>(R.id.camera).setOnClickListener { show(Source.CAMERA) }
        view<View>(R.id.picture).setOnClickListener { pickPicture() }
        view<View>(R.id.benchmark).setOnClickListener { startActivity(Intent(this, BenchmarkActivity::class.java)) }
        allowCamera.setOnClickListener { askForCamera() }
        modelChoice.onItemSelectedListener =
            object : AdapterView.OnItemSelectedListener {
                override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) = choose(models[position].name, backend)

                override fun onNothingSelected(parent: AdapterView<*>?) = Unit
            }
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putString(SOURCE, source.name)
        outState.putString(PICTURE, picture?.toString())
        outState.putString(MODEL, modelName)
        outState.putString(BACKEND, backend.name)
    }

    override fun onStart() {
        super.onStart()
        edge.onPackage = ::showPackage
        showPackage()
    }

    override fun onStop() {
        edge.onPackage = null
        stopCamera()
        session?.close()
        session = null
        super.onStop()
    }

    private fun showPackage() {
        when (val state = edge.packageState) {
            is PackageState.Checking -> showMessage(null, getString(R.string.checking_package, state.file))
            is PackageState.Missing -> showMessage(getString(R.string.no_package_title), state.message)
            is PackageState.Broken -> showMessage(getString(R.string.broken_package_title), state.message)
            is PackageState.Ready -> showContent(state.edgePackage)
        }
    }

    private fun showMessage(title: String?, message: String) {
        val titleView = view<TextView>(R.id.message_title)
        val messageView = view<TextView>(R.id.message)
        titleView.text = title
        titleView.visibility = if (title == null) View.GONE else View.VISIBLE
        messageView.text = message
        messageView.visibility = View.VISIBLE
        view<View>(R.id.content).visibility = View.GONE
    }

    private fun showContent(edgePackage: EdgePackage) {
        view<View>(R.id.message_title).visibility = View.GONE
        view<View>(R.id.message).visibility = View.GONE
        view<View>(R.id.content).visibility = View.VISIBLE
        models = edgePackage.models
        val chosen = models.firstOrNull { it.name == modelName } ?: models.firstOrNull { it.name == edgePackage.recommended["cpu"]?.name } ?: models.first()
        modelChoice.adapter = ArrayAdapter(this, android.R.layout.simple_spinner_dropdown_item, models.map { it.name })
        modelChoice.setSelection(models.indexOf(chosen))
        modelName = chosen.name
        openModel()
        show(source)
    }

    private fun choose(name: String?, chosen: Backend) {
        if (name == modelName && chosen == backend) return
        modelName = name
        backend = chosen
        if (session == null) return
        openModel()
        if (source == Source.PICTURE) showPicture()
    }

    private fun openModel() {
        val model = models.first { it.name == modelName }
        val requested = backend
        status.text = getString(R.string.opening, model.name, label(requested))
        clearAnswer()
        val current = session ?: InferenceSession(edge).also { session = it }
        current.open(model, requested, onOpened = { if (model.name == modelName && requested == backend) showOpened(it) }, onFailure = { status.text = it })
    }

    private fun showOpened(open: OpenModel) {
        val lines = mutableListOf<String>()
        if (open.used == open.requested) {
            lines += getString(R.string.opened, label(open.used), open.initMs, open.firstInferenceMs)
        } else {
            lines += getString(R.string.opened_instead, label(open.used), label(open.requested), open.reason)
        }
        if (open.model.randomWeights) lines += getString(R.string.random_weights)
        val shape = open.model.output.shape.drop(1).joinToString(" × ")
        if (open.model.meaning == Meaning.VALUES) lines += getString(R.string.gives_values, shape)
        if (open.model.meaning == Meaning.FEATURES) lines += getString(R.string.gives_features, shape)
        status.text = lines.joinToString("\n")
    }

    private fun show(chosen: Source) {
        source = chosen
        view<View>(R.id.first_steps).visibility = if (chosen == Source.NONE) View.VISIBLE else View.GONE
        image.visibility = if (chosen == Source.NONE) View.GONE else View.VISIBLE
        scores.visibility = image.visibility
        allowCamera.visibility = View.GONE
        if (chosen != Source.CAMERA) stopCamera()
        when (chosen) {
            Source.NONE -> Unit
            Source.PICTURE -> showPicture()
            Source.CAMERA ->
                if (checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED) {
                    startCamera()
                } else {
                    requestPermissions(arrayOf(Manifest.permission.CAMERA), CAMERA_REQUEST)
                }
        }
    }

    // camera

    override fun onRequestPermissionsResult(requestCode: Int, permissions: Array<String>, grantResults: IntArray) {
        if (requestCode != CAMERA_REQUEST) return
        // a turned screen cancels the question: without an answer nothing is refused
        if (grantResults.isEmpty()) return
        if (grantResults[0] == PackageManager.PERMISSION_GRANTED) {
            show(Source.CAMERA)
        } else {
            show(Source.NONE)
            status.text = getString(R.string.camera_refused)
            allowCamera.visibility = View.VISIBLE
        }
    }

    /** After a refusal for good Android no longer asks: then the app's settings are the way. */
    private fun askForCamera() {
        if (shouldShowRequestPermissionRationale(Manifest.permission.CAMERA)) {
            show(Source.CAMERA)
        } else {
            allowCamera.visibility = View.GONE
            startActivity(Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, Uri.fromParts("package", packageName, null)))
        }
    }

    private fun startCamera() {
        if (camera != null || session == null) return
        lateinit var started: Camera
        started =
            Camera(this, ::displayDegrees, ::onFrame) { reason ->
                runOnUiThread {
                    if (camera !== started) return@runOnUiThread
                    stopCamera()
                    status.text = if (reason == null) getString(R.string.no_camera) else getString(R.string.camera_failed, reason)
                }
            }
        camera = started
        started.start()
    }

    /** Asked for every frame: turned upside down, a screen is not made anew. */
    private fun displayDegrees(): Int =
        when (windowManager.defaultDisplay.rotation) {
            Surface.ROTATION_90 -> 90
            Surface.ROTATION_180 -> 180
            Surface.ROTATION_270 -> 270
            else -> 0
        }

    private fun stopCamera() {
        camera?.close()
        camera = null
    }

    /** On the camera's thread. */
    private fun onFrame(frame: Image, orientation: Orientation) {
        val current = session ?: return
        if (!current.isIdle) return
        val start = System.nanoTime()
        val upright = rgbOf(frame, orientation)
        val imageMs = (System.nanoTime() - start) / 1e6
        current.classifyIfIdle(upright, onAnswer = { if (source == Source.CAMERA) showAnswer(upright, imageMs, it) }, onFailure = { status.text = it })
    }

    // picture

    private fun pickPicture() {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("image/*")
        try {
            startActivityForResult(intent, PICTURE_REQUEST)
        } catch (none: ActivityNotFoundException) {
            status.text = getString(R.string.no_picture_app)
        }
    }

    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        val uri = data?.data
        if (requestCode != PICTURE_REQUEST || resultCode != RESULT_OK || uri == null) return
        try {
            // so that it can still be read after the process has ended
            contentResolver.takePersistableUriPermission(uri, Intent.FLAG_GRANT_READ_URI_PERMISSION)
        } catch (notOffered: SecurityException) {
            // readable until the process ends; readPicture says so afterwards
        }
        picture = uri
        // the screen is not visible yet: onStart shows it
        source = Source.PICTURE
        if (session != null) show(Source.PICTURE)
    }

    private fun showPicture() {
        val uri = picture ?: return
        val current = session ?: return
        val resolver = contentResolver
        edge.worker.execute {
            try {
                val start = System.nanoTime()
                val upright = decodePicture(readPicture(resolver, uri))
                val imageMs = (System.nanoTime() - start) / 1e6
                current.classify(
                    upright,
                    onAnswer = { if (source == Source.PICTURE && uri == picture) showAnswer(upright, imageMs, it) },
                    onFailure = { status.text = it },
                )
            } catch (unreadable: IOException) {
                runOnUiThread { status.text = getString(R.string.picture_unreadable, unreadable.message) }
            }
        }
    }

    // answers

    private fun clearAnswer() {
        scores.text = ""
        stages.text = ""
    }

    private fun showAnswer(shown: RgbImage, imageMs: Double, answer: Answer) {
        image.setImageBitmap(bitmapOf(shown, SHOWN_PX))
        val others = answer.model.others.zip(answer.others) { model, top -> "${model.output.name}\n${lines(model, top)}" }
        scores.text = (listOf(lines(answer.model, answer.top)) + others).joinToString("\n\n")
        val times = answer.times
        stages.text = getString(R.string.stages, imageMs, times.preprocessMs, times.writeMs, times.inferenceMs, times.postprocessMs)
    }

    private fun lines(model: PackagedModel, top: List<Score>): String =
        top.joinToString("\n") { getString(if (model.meaning.isScored) R.string.score else R.string.number, it.label, it.score) }

    private fun label(which: Backend) = getString(if (which == Backend.GPU) R.string.gpu else R.string.cpu)

    private companion object {
        const val SOURCE = "source"
        const val PICTURE = "picture"
        const val MODEL = "model"
        const val BACKEND = "backend"
        const val CAMERA_REQUEST = 1
        const val PICTURE_REQUEST = 2
        const val SHOWN_PX = 720
    }
}
