"""edge.bundle --app in every framework: what is written, refused, and left to paste; in fresh projects of the generators, that it works."""

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest

from edge.android import kotlin
from edge.apps import flutter, ios, pasting, projects, react_native
from edge.shipping import summary
from edge.shipping.steps import Request, Shipped
from tests.edge.apps import javascript
from tests.edge.apps.entries import entry
from tests.edge.test_bundle import SCHEMA, _file, _listing, bundled, made  # noqa: F401
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNUSABLE

ROOT = Path(__file__).parents[3]
PUBSPEC = "name: my_app\ndependencies:\n  flutter:\n    sdk: flutter\n"
FRAMEWORKS = {
    "flutter": {"pubspec.yaml": PUBSPEC},
    "react-native": {"package.json": '{"dependencies": {"react-native": "0.82.1"}}', "metro.config.js": "module.exports = {};\n"},
    "expo": {"package.json": '{"dependencies": {"expo": "~54.0.0", "react-native": "0.81.5"}}'},
    "ios": {"My.xcodeproj/project.pbxproj": ""},
}
FOLDERS = {"flutter": "assets/edge", "react-native": "assets/edge", "expo": "assets/edge", "ios": "edge"}


@pytest.fixture
def project(tmp_path):
    """Makes the least there is of a project."""

    def make(framework, platforms=("android", "ios")):
        folder = tmp_path / framework
        for name, text in FRAMEWORKS[framework].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        for platform in platforms if framework in ("flutter", "react-native") else ():
            (folder / platform).mkdir()
        return folder

    return make


def _document(framework, config, **more):
    described = {"platforms": ["android", "ios"], "has_config": True, "made_config": False, "registered": False, "package_version": None}
    return {"framework": framework, "config": config} | described | more


def test_the_guides_show_what_the_command_prints():
    """Block for block; make guides runs the command and holds its lines against the pages."""
    shown = entry(preprocessing={"resize_px": 32})
    printed = {
        "flutter": [flutter.PUBSPEC, flutter.dart(shown)],
        "react-native": [react_native.METRO, react_native.metro_file("expo"), react_native.typescript(shown)],
        "ios": [ios.PODFILE, ios.XCODE, ios.swift(shown)],
    }
    printed["react-native"] += [react_native.install(framework) for framework in ("react-native", "expo")]
    for page, blocks in printed.items():
        text = (ROOT / "docs" / "guides" / f"{page}.md").read_text(encoding="utf-8")
        assert [block for block in blocks if f"\n{block}```" not in text] == [], page
        assert "never run on a device" in " ".join(text.split()), page


@pytest.mark.parametrize(
    ("document", "there", "not_there"),
    [
        (
            _document("flutter", "pubspec.yaml"),
            ["pubspec.yaml:", flutter.PUBSPEC, "LiteRT 1.4.0 on Android, TensorFlow Lite 2.12.0 on iOS"],
            [],
        ),
        (_document("flutter", "pubspec.yaml", registered=True), ["pubspec.yaml registers assets/edge/ already"], [flutter.PUBSPEC]),
        (_document("flutter", "pubspec.yaml", platforms=["android"]), ["brings LiteRT 1.4.0 on Android"], ["2.12.0"]),
        (
            _document("flutter", "pubspec.yaml", package_version="^0.11.0"),
            ["the project has tflite_flutter ^0.11.0: which files run on it was looked up for 0.12.1 alone"],
            [],
        ),
        (_document("flutter", "pubspec.yaml", package_version="^0.12.1"), [], ["looked up"]),
        (
            _document("react-native", "metro.config.js"),
            ["metro.config.js, at its end:", react_native.METRO, "npx pod-install"],
            ["require('expo"],
        ),
        (_document("react-native", "metro.config.js", has_config=False), ["a new file:", "require('@react-native/metro-config')"], []),
        (
            _document("expo", "metro.config.js", registered=True, made_config=True),
            ["metro.config.js was made", "npx expo prebuild"],
            ["at its end"],
        ),
        (_document("expo", "metro.config.ts", registered=True), ["metro.config.ts registers tflite already"], [react_native.METRO]),
        (_document("ios", "My.xcodeproj", platforms=["ios"]), [ios.PODFILE, ios.XCODE, "My.xcodeproj in Xcode:"], ["Android"]),
        (_document("ios", "My.xcodeproj", platforms=["ios"], registered=True), ["My.xcodeproj has the folder edge already"], [ios.XCODE]),
    ],
)
def test_what_is_left_to_paste(document, there, not_there):
    text = "\n".join(pasting.lines(document, entry()))
    print(text[:1500])
    assert [words for words in there if words not in text] == []
    assert [words for words in not_there if words in text] == []
    assert any(code in text for code in (flutter.dart(entry()), react_native.typescript(entry()), ios.swift(entry())))


@pytest.mark.whole
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_bundle_in_each_framework(bundled, made, project, framework):  # noqa: F811
    folder = project(framework)
    before = _listing(folder)
    code, out, _ = bundled(_file(made, "float16"), "--app", folder)
    assert code == EXIT_OK
    files = {path.relative_to(folder / FOLDERS[framework]).as_posix() for path in (folder / FOLDERS[framework]).rglob("*")}
    labels = {"micro-float16.labels.json"} if framework in ("react-native", "expo") else set()
    assert files == {"micro-float16.tflite", "micro-float16.labels.txt", "edge_package.json", "golden.png"} | labels
    document = json.loads((folder / FOLDERS[framework] / "edge_package.json").read_text())
    jsonschema.validate(document, SCHEMA)
    write = {"flutter": flutter.dart, "react-native": react_native.typescript, "expo": react_native.typescript, "ios": ios.swift}
    assert write[framework](document["models"][0]) in out
    assert "androidResources" not in out
    if labels:
        assert json.loads((folder / "assets/edge/micro-float16.labels.json").read_text()) == ["ant", "bee", "cat", "dog", "eel"]
    changed = {name for name, data in _listing(folder).items() if before.get(name) != data and not name.startswith(FOLDERS[framework])}
    assert changed == ({"metro.config.js"} if framework == "expo" else set())
    again = json.loads(bundled(_file(made, "float16"), "--app", folder, "--json")[1])
    assert (again["added"], again["replaced"], again["removed"], len(again["unchanged"])) == ([], [], [], len(files))
    assert (again["framework"], again["registered"]) == (framework, framework == "expo")


@pytest.mark.whole
def test_labels_of_react_native_are_ours(bundled, made, project):  # noqa: F811
    folder = project("react-native")
    assert bundled(_file(made, "float16"), "--app", folder)[0] == EXIT_OK
    document = json.loads(bundled(_file(made, "float32"), "--app", folder, "--json")[1])
    assert document["removed"] == ["micro-float16.labels.json", "micro-float16.labels.txt", "micro-float16.tflite"]
    (folder / "assets/edge/micro-float32.labels.json").write_text('["mine"]')
    code, _, err = bundled(_file(made, "float32"), "--app", folder)
    assert (code, "received: micro-float32.labels.json" in err) == (EXIT_UNUSABLE, True)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("framework", "platforms", "recipe", "words"),
    [
        ("flutter", ("android", "ios"), "int8", "needs TensorFlow Lite 2.17.0, and tflite_flutter 0.12.1 brings 2.12.0 on iOS"),
        ("flutter", ("android",), "int8", None),
        ("react-native", ("android", "ios"), "int8", None),
        ("ios", ("ios",), "int8", None),
        ("ios", ("ios",), "int8_full", "its input and output are int8, which TensorFlowLiteSwift 2.17.0 neither reads nor writes"),
    ],
)
def test_a_file_that_cannot_run_there_is_refused(bundled, made, project, framework, platforms, recipe, words):  # noqa: F811
    folder = project(framework, platforms)
    before = _listing(folder)
    code, out, _ = bundled(_file(made, recipe), _file(made, "float16"), "--app", folder)
    if words is None:
        assert code == EXIT_OK
        return
    assert (code, out.count("REFUSED"), words in out, "nothing was written" in out) == (EXIT_CHECK_FAILED, 1, True, True), out
    assert _listing(folder) == before
    document = json.loads(bundled(_file(made, recipe), "--app", folder, "--json")[1])
    assert (document["written"], document["edge_package"], len(document["refused"])) == ([], None, 1)


@pytest.mark.whole
def test_a_build_file_of_another_name(bundled, made, tmp_path):  # noqa: F811
    (tmp_path / "project" / "phone" / "src" / "main").mkdir(parents=True)
    (tmp_path / "project" / "settings.gradle").write_text("include ':phone'\nproject(':phone').buildFileName = 'phone.gradle'")
    (tmp_path / "project" / "phone" / "phone.gradle").write_text("plugins { id 'com.android.application' }")
    code, out, _ = bundled(_file(made, "float16"), "--app", tmp_path / "project")
    assert (code, "\nphone.gradle of the module:\n" in out, kotlin.GROOVY in out) == (EXIT_OK, True, True)
    assert (tmp_path / "project/phone/src/main/assets/edge/golden.png").is_file()


@pytest.mark.parametrize(("framework", "line"), [("flutter", "edge.bundle"), ("android", "implementation(")])
def test_shipping_names_the_command_that_prints_the_lines(framework, line):
    """Its few lines have no room for a class."""
    request = Request(None, None, ("int8",), None, Path("my_app"), Path("out"), {}, None, "fast")
    shipped = Shipped([], bundle={"framework": framework, "build_file": "build.gradle.kts"})
    lines = summary._paste(request, shipped, ["nano32-int8.tflite"])
    assert (line in lines[0], "out/nano32-int8.tflite --app my_app" in lines[0]) == (True, framework == "flutter")


def _fresh(bundled, made, folder):  # noqa: F811
    """Does what edge.bundle prints: installs, registers, saves the class, and uses it."""
    code, out, _ = bundled(_file(made, "int8"), "--app", folder)
    assert code == EXIT_OK
    install = next(line for line in out.splitlines() if line.startswith("npm install"))
    javascript.run(*install.split(), "--ignore-scripts", cwd=folder)
    if react_native.METRO in out:
        assert "metro.config.js, at its end:" in out
        with open(folder / "metro.config.js", "a") as file:
            file.write(react_native.METRO)
    (folder / "classifier.ts").write_text(out[out.index("// micro-int8 with") :])
    app = (folder / "App.tsx").read_text().replace("function App() {", "function App() {\n  Classifier.load().then(console.log);", 1)
    (folder / "App.tsx").write_text(f"import {{ Classifier }} from './classifier';\n{app}")
    javascript.run("npx", "tsc", "--noEmit", "-p", ".", cwd=folder)
    asked = "Promise.resolve(require('./metro.config.js')).then(c => console.log(c.resolver.assetExts.includes('tflite')))"
    assert javascript.run("node", "-e", asked, cwd=folder).strip() == "true"
    assert projects.recognise(folder).registered
    wrong = (folder / "classifier.ts").read_text().replace("this.model.run([", "this.model.run(").replace("image))])", "image)))")
    (folder / "wrong.ts").write_text(wrong)
    done = subprocess.run(["npx", "tsc", "--noEmit", "-p", "."], cwd=folder, capture_output=True, text=True)
    (folder / "wrong.ts").unlink()
    assert (done.returncode, "wrong.ts" in done.stdout, "ArrayBuffer[]" in done.stdout) == (2, True, True), done.stdout


@pytest.mark.slow
def test_a_fresh_react_native_project(bundled, made, tmp_path):  # noqa: F811
    """Made by its generator: type-checked against the package, and Metro packs the very file for both platforms."""
    javascript.run(*javascript.REACT_NATIVE, cwd=tmp_path)
    folder = tmp_path / "Bare"
    _fresh(bundled, made, folder)
    bundle = ("npx", "react-native", "bundle", "--platform", "android", "--entry-file", "index.js", "--dev", "false")
    javascript.run(*bundle, "--bundle-output", "out.js", "--assets-dest", "out", cwd=folder)
    assert (folder / "out" / "raw" / "assets_edge_microint8.tflite").read_bytes() == _file(made, "int8").read_bytes()
    assert "elk" not in (folder / "out.js").read_text()
    assert '"eel"' in (folder / "out.js").read_text()


@pytest.mark.slow
def test_a_fresh_expo_project(bundled, made, tmp_path):  # noqa: F811
    """Made by its generator: type-checked against the package, and its Metro knows the ending."""
    javascript.run(*javascript.EXPO, cwd=tmp_path)
    _fresh(bundled, made, tmp_path / "my-expo")
