package tfvit.edge

import java.io.File
import javax.xml.parsers.DocumentBuilderFactory
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.w3c.dom.Document
import org.w3c.dom.Element
import org.w3c.dom.NodeList

/** Whether the Gradle project, the manifest, the resources and the sources fit together, as far as reading them can tell. */
class ProjectTest {
    private val catalog = text("gradle/libs.versions.toml")
    private val gradle = text("app/build.gradle.kts")
    private val manifest = xml(Files.project.resolve("app/src/main/AndroidManifest.xml"))
    private val resources = Files.project.resolve("app/src/main/res")
    private val sources = kotlin("app/src/main/java")

    private fun text(path: String) = Files.project.resolve(path).readText()

    private fun kotlin(path: String): Map<String, String> =
        Files.project.resolve(path).walk().filter { it.extension == "kt" }.associate { it.relativeTo(Files.project).path to it.readText() }

    private fun xml(file: File): Document = DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(file)

    private fun NodeList.elements(): List<Element> = (0 until length).map { item(it) as Element }

    private fun section(name: String) = Regex("(?m)^([A-Za-z-]+) = ").findAll(catalog.substringAfter("[$name]").substringBefore("\n[")).map { it.groupValues[1] }.toSet()

    @Test
    fun everyCatalogEntryIsThereAndUsed() {
        val builds = listOf("build.gradle.kts", "app/build.gradle.kts", "core/build.gradle.kts").joinToString("\n") { text(it) }
        val used = Regex("libs\\.((?:[a-zA-Z]+\\.)*[a-zA-Z]+)").findAll(builds).map { it.groupValues[1].removeSuffix(".get") }.toSet()
        val libraries = section("libraries").map { it.replace('-', '.') }
        val plugins = section("plugins").map { "plugins." + it.replace('-', '.') }
        val versions = section("versions")
        val referred = Regex("version\\.ref = \"([^\"]+)\"").findAll(catalog).map { it.groupValues[1] }.toSet()
        val direct = used.filter { it.startsWith("versions.") }.map { it.removePrefix("versions.").substringBefore(".get") }.toSet()
        assertEquals((libraries + plugins).toSet(), used.filterNot { it.startsWith("versions.") }.toSet())
        assertEquals(versions, referred + direct)
    }

    @Test
    fun versionsAreTheOnesThisProjectIsFor() {
        fun version(name: String) = Regex("(?m)^$name = \"([^\"]+)\"").find(catalog)!!.groupValues[1]
        assertEquals("36", version("compileSdk"))
        assertEquals("24", version("minSdk"))
        // from 2.3 on the GPU accelerator is an artifact of its own
        assertTrue("litert" in section("libraries") && "litert-gpu" in section("libraries"))
        assertEquals("the runtime that the tests ran on", "LiteRT ${version("litert")}", System.getProperty("litert.version"))
    }

    @Test
    fun modelsAreNotCompressed() {
        assertTrue(gradle.contains("noCompress += \"tflite\""))
    }

    @Test
    fun assetsLieWhereEdgeBundlePutsThem() {
        val folder = Regex("const val ASSETS = \"([^\"]+)\"").find(sources.getValue("app/src/main/java/tfvit/edge/app/EdgeApplication.kt"))!!.groupValues[1]
        assertEquals("app/src/main/assets/$folder", Files.packageFolder.path.substringAfter("/project/"))
        assertTrue("bundles are not for git", text(".gitignore").contains("app/src/main/assets/$folder/"))
    }

    @Test
    fun everyClassOfTheManifestExistsAndEveryActivityIsDeclared() {
        val namespace = Regex("namespace = \"([^\"]+)\"").find(gradle)!!.groupValues[1]
        val declared =
            (manifest.getElementsByTagName("activity").elements() + manifest.getElementsByTagName("application").elements())
                .map { it.getAttribute("android:name").removePrefix(".") }
        val classes = sources.values.flatMap { Regex("(?m)^class (\\w+)[^\n]*: (?:Activity|Application)\\(\\)").findAll(it).map { found -> found.groupValues[1] } }
        assertEquals(classes.toSet(), declared.toSet())
        for ((path, source) in sources) assertTrue(path, source.startsWith("package $namespace\n") && path.contains(namespace.replace('.', '/')))
        val exported = manifest.getElementsByTagName("activity").elements().map { it.getAttribute("android:exported") }
        assertTrue("every activity says whether it is exported: $exported", exported.all { it == "true" || it == "false" })
    }

    @Test
    fun thePermissionThatIsAskedForIsDeclared() {
        val declared = manifest.getElementsByTagName("uses-permission").elements().map { it.getAttribute("android:name").substringAfterLast('.') }
        val asked = sources.values.flatMap { Regex("Manifest\\.permission\\.(\\w+)").findAll(it).map { found -> found.groupValues[1] } }
        assertEquals(asked.toSet(), declared.toSet())
        val camera = manifest.getElementsByTagName("uses-feature").elements().single()
        assertEquals("a device without a camera can still show pictures", "false", camera.getAttribute("android:required"))
    }

    @Test
    fun everyResourceThatIsNamedExistsAndIsNamed() {
        val files = resources.walk().filter { it.extension == "xml" }.toList()
        val values = files.filter { it.parentFile.name.startsWith("values") }.flatMap { xml(it).documentElement.childNodes.elementsOnly() }
        val defined =
            values.map { it.tagName to it.getAttribute("name") }.toSet() +
                files.filter { !it.parentFile.name.startsWith("values") }.map { it.parentFile.name to it.nameWithoutExtension }
        val inXml = (files + Files.project.resolve("app/src/main/AndroidManifest.xml")).flatMap { file ->
            Regex("\"@(string|style|color|drawable)/([\\w.]+)\"|>@(color)/(\\w+)<").findAll(file.readText()).map { found ->
                found.groupValues.drop(1).filter { it.isNotEmpty() }.let { (type, name) -> type to name }
            }
        }
        val inSources =
            sources.values.flatMap { Regex("(?<!android\\.)R\\.(string|layout|drawable|color)\\.(\\w+)").findAll(it).map { found -> found.groupValues[1] to found.groupValues[2] } }
        assertEquals(defined, (inXml + inSources).toSet())
    }

    @Test
    fun theDarkThemeNamesWhatTheLightOneNames() {
        for (file in listOf("colors.xml", "styles.xml")) {
            val names = listOf("values", "values-night").map { folder ->
                val root = xml(resources.resolve("$folder/$file")).documentElement
                (listOf(root) + root.childNodes.elementsOnly()).flatMap { it.childNodes.elementsOnly() }.map { it.getAttribute("name") }
            }
            assertEquals(file, names[0], names[1])
        }
    }

    private fun NodeList.elementsOnly(): List<Element> = (0 until length).map { item(it) }.filterIsInstance<Element>()

    @Test
    fun everyTextIsGivenWhatItsPlaceholdersTake() {
        val texts = xml(resources.resolve("values/strings.xml")).getElementsByTagName("string").elements().associate { it.getAttribute("name") to it.textContent }
        val all = sources.values.joinToString("\n")
        for ((name, text) in texts) {
            val placeholders = Regex("%([0-9])\\$").findAll(text).map { it.groupValues[1].toInt() }.toSet()
            assertEquals("$name numbers its placeholders from 1", (1..placeholders.size).toSet(), placeholders)
            for (call in Regex("getString\\(R\\.string\\.$name\\b").findAll(all)) {
                assertEquals("$name in a call", placeholders.size, arguments(all, call.range.first + "getString".length) - 1)
            }
        }
    }

    /** How many arguments stand in the parentheses that open at [start]. */
    private fun arguments(text: String, start: Int): Int {
        var depth = 0
        var commas = 0
        for (at in start until text.length) {
            when (text[at]) {
                '(', '[', '{' -> depth++
                ')', ']', '}' -> if (--depth == 0) return commas + 1
                ',' -> if (depth == 1) commas++
            }
        }
        throw AssertionError("no closing parenthesis")
    }

    @Test
    fun coreKnowsNothingOfAndroid() {
        for ((path, source) in kotlin("core/src/main/kotlin")) {
            val imports = Regex("(?m)^import (.*)$").findAll(source).map { it.groupValues[1] }.filterNot { it.startsWith("java.") || it.startsWith("kotlin.") }.toList()
            assertEquals(path, emptyList<String>(), imports)
        }
    }
}
