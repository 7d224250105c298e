"""Which framework a folder is of, where the assets go, and whether they are registered. What the generators make: test_react_native.py."""

import json
from pathlib import Path

import pytest

from edge.apps import projects
from tfvit.errors import InputError

# As flutter create writes it, comments and all
PUBSPEC = """\
name: my_app
environment:
  sdk: ^3.9.0
dependencies:
  flutter:
    sdk: flutter
  cupertino_icons: ^1.0.8
dev_dependencies:
  flutter_test:
    sdk: flutter
flutter:
  uses-material-design: true
  # To add assets to your application, add an assets section, like this:
  # assets:
  #   - images/a_dot_burr.jpeg
  #   - assets/edge/
"""
REGISTERED = PUBSPEC.replace("  # To add", "  assets:\n    - assets/edge/  # models\n  # To add").replace(
    "^1.0.8", "^1.0.8\n  tflite_flutter: ^0.11.0"
)
PBXPROJ = """\
/* Begin PBXFileReference section */
		A1 /* edge */ = {isa = PBXFileReference; lastKnownFileType = folder; path = edge; sourceTree = "<group>"; };
"""
METRO = "module.exports = {};\n// module.exports.resolver.assetExts.push('tflite');\n"


def _made(folder: Path, files: dict[str, str | dict | None]) -> Path:
    """Files of a project; None is a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        else:
            path.write_text(json.dumps(content) if isinstance(content, dict) else content)
    return folder


def _package(**dependencies: str) -> dict:
    return {"dependencies": {name.replace("_", "-"): version for name, version in dependencies.items()}}


BOTH = {"android/app/src/main/a": "", "android/app/build.gradle": "", "ios": None}
BARE = {"package.json": _package(react="1", react_native="0.82.1"), **BOTH}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"pubspec.yaml": PUBSPEC, **BOTH}, ("flutter", "assets", ("android", "ios"), "pubspec.yaml", False, None)),
        ({"pubspec.yaml": REGISTERED, "ios": None}, ("flutter", "assets", ("ios",), "pubspec.yaml", True, "^0.11.0")),
        (
            {"pubspec.yaml": PUBSPEC.replace("^1.0.8", "1\n  tflite_flutter:\n    path: ../x"), "android": None},
            ("flutter", "assets", ("android",), "pubspec.yaml", False, "of another source"),
        ),
        (BARE, ("react-native", "assets", ("android", "ios"), "metro.config.js", False, None)),
        (BARE | {"metro.config.js": METRO}, ("react-native", "assets", ("android", "ios"), "metro.config.js", False, None)),
        (
            BARE
            | {"metro.config.ts": METRO.replace("// ", ""), "package.json": _package(react_native="1", react_native_fast_tflite="^1.6.0")},
            ("react-native", "assets", ("android", "ios"), "metro.config.ts", True, "^1.6.0"),
        ),
        (
            {"package.json": _package(expo="~54.0.0", react_native="0.81.5")},
            ("expo", "assets", ("android", "ios"), "metro.config.js", False, None),
        ),
        (
            {"package.json": _package(expo="54") | {"type": "module"}, "app.json": {"expo": {"platforms": ["ios", "web"]}}},
            ("expo", "assets", ("ios",), "metro.config.cjs", False, None),
        ),
        (
            {"package.json": _package(expo="54"), "app.json": {"expo": {"platforms": ["ios"]}}, "android": None},
            ("expo", "assets", ("android",), "metro.config.js", False, None),
        ),
        (
            {"app/build.gradle": "", "app/src/main/a": "", "package.json": {"devDependencies": {}}},
            ("android", "app/src/main/assets", ("android",), "app/build.gradle", True, None),
        ),
        ({"My.xcodeproj/project.pbxproj": ""}, ("ios", ".", ("ios",), "My.xcodeproj", False, None)),
        (
            {"My.xcodeproj/project.pbxproj": PBXPROJ, "Podfile": "target 'My' do\n  pod 'TensorFlowLiteSwift', '~> 2.14.0'\nend"},
            ("ios", ".", ("ios",), "My.xcodeproj", True, "~> 2.14.0"),
        ),
    ],
)
def test_what_is_recognised(tmp_path, files, expected):
    found = projects.recognise(_made(tmp_path, files))
    paths = [path.relative_to(tmp_path).as_posix() for path in (found.assets, found.config)]
    assert (found.framework, paths[0], found.platforms, paths[1], found.registered, found.package_version) == expected


def test_an_xcodeproj_is_its_folder(tmp_path):
    _made(tmp_path, {"My.xcodeproj/project.pbxproj": ""})
    assert projects.recognise(tmp_path / "My.xcodeproj").assets == tmp_path


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no project of an app"),
        ({"package.json": {"dependencies": {"react-dom": "19"}}}, "no project of an app"),
        ({"pubspec.yaml": "name: a_dart_package\ndependencies:\n  path: any\n"}, "no project of an app"),
        ({"package.json": "{"}, "unreadable package.json"),
        ({"package.json": _package(expo="54"), "app.json": "["}, "unreadable app.json"),
        ({"pubspec.yaml": PUBSPEC, "linux": None}, "a Flutter project for neither Android nor iOS"),
        ({"package.json": _package(react_native="1")}, "a React Native project for neither Android nor iOS"),
        ({"package.json": _package(expo="54"), "app.json": {"expo": {"platforms": ["web"]}}}, "for neither Android nor iOS"),
    ],
)
def test_what_is_not(tmp_path, files, words):
    with pytest.raises(InputError, match=words):
        projects.recognise(_made(tmp_path, files))


def test_the_error_names_what_was_looked_for(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError) as found:
            projects.recognise(folder)
        looked_for = ("settings.gradle(.kts)", "pubspec.yaml", "package.json", "expo", ".xcodeproj")
        assert [one for one in looked_for if one not in found.value.expected] == []
        assert str(folder) in found.value.received
        assert len(str(found.value).splitlines()) == 4
