"""Modules of Gradle projects: where assets go in projects of several modules and with build files of other names."""

from pathlib import Path

import pytest

from edge.apps import gradle
from tfvit.errors import InputError

APP = 'plugins { id("com.android.application") }'
ALIAS = "plugins {\n    alias(libs.plugins.android.application)\n}"
LIBRARY = '// not id("com.android.application")\nplugins {\n    id("com.android.library")\n    id("com.android.application") apply false\n}'
GROOVY = "apply plugin: 'com.android.application'"


def _made(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        if name.count("/") and not name.endswith("settings.gradle"):
            (folder / name).parent.joinpath("src", "main").mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"app/build.gradle.kts": ""}, "app/build.gradle.kts"),
        ({"app/build.gradle": "", "app/build.gradle.kts": ""}, "app/build.gradle.kts"),
        (
            {"settings.gradle.kts": 'include(":app", ":core")', "app/build.gradle.kts": APP, "core/build.gradle.kts": LIBRARY},
            "app/build.gradle.kts",
        ),
        (
            {
                "settings.gradle.kts": 'include(\n    ":core",\n    ":mobile",\n)',
                "core/build.gradle.kts": LIBRARY,
                "mobile/build.gradle.kts": ALIAS,
            },
            "mobile/build.gradle.kts",
        ),
        (
            {"settings.gradle": "include ':core', ':mobile'", "core/build.gradle": LIBRARY, "mobile/build.gradle": GROOVY},
            "mobile/build.gradle",
        ),
        ({"settings.gradle.kts": 'include(":apps:phone")', "apps/phone/build.gradle.kts": APP}, "apps/phone/build.gradle.kts"),
        (
            {
                "settings.gradle": "include ':phone'\nproject(':phone').projectDir = new File(rootDir, 'sources/phone')",
                "sources/phone/build.gradle": GROOVY,
            },
            "sources/phone/build.gradle",
        ),
        (
            {
                "settings.gradle.kts": 'include(":all:phone")\nproject(":all").projectDir = file("$rootDir/sources")',
                "sources/phone/build.gradle.kts": APP,
            },
            "sources/phone/build.gradle.kts",
        ),
        (
            {"settings.gradle.kts": 'include(":phone")\nproject(":phone").buildFileName = "phone.kts"', "phone/phone.kts": ALIAS},
            "phone/phone.kts",
        ),
        (
            {
                "settings.gradle": "rootProject.buildFileName = 'root.gradle'\ninclude ':lib', ':phone'\n"
                'rootProject.children.each { it.buildFileName = "${it.name}.gradle" }',
                "lib/lib.gradle": LIBRARY,
                "phone/phone.gradle": GROOVY,
            },
            "phone/phone.gradle",
        ),
        (
            {
                "settings.gradle.kts": '// include(":old")\n/* include(":older") */ include(":app", ":wear") // https://example.com',
                **{f"{name}/build.gradle.kts": APP for name in ("old", "older", "app", "wear")},
            },
            "app/build.gradle.kts",
        ),
    ],
)
def test_the_module_of_a_project(tmp_path, files, expected):
    found = gradle.android_module(_made(tmp_path, files))
    assert found is not None
    assert found.build_file.relative_to(tmp_path).as_posix() == expected
    assert found.folder == found.build_file.parent


@pytest.mark.parametrize("name", ["build.gradle", "build.gradle.kts", "wear.gradle.kts"])
def test_a_module_is_named_by_its_folder(tmp_path, monkeypatch, name):
    settings = 'include(":app", ":wear")\nproject(":wear").buildFileName = "wear.gradle.kts"'
    _made(tmp_path, {"settings.gradle.kts": settings, "app/build.gradle.kts": APP, f"wear/{name}": APP})
    monkeypatch.chdir(tmp_path)
    for folder in (Path("wear"), tmp_path / "wear"):
        found = gradle.android_module(folder)
        assert found is not None
        assert (found.build_file, found.folder) == (folder / name, folder)


def test_several_apps_are_named(tmp_path):
    _made(tmp_path, {"settings.gradle": "include ':phone', ':wear'", "phone/build.gradle": GROOVY, "wear/build.gradle": GROOVY})
    with pytest.raises(InputError, match="several apps in one project") as found:
        gradle.android_module(tmp_path)
    assert (found.value.received, f"--app {tmp_path / 'phone'}" in found.value.action) == (":phone, :wear", True)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"settings.gradle": "include ':lib'", "lib/build.gradle": LIBRARY},
        {"settings.gradle": "include ':phone'", "phone/other.gradle": GROOVY},
        {"build.gradle": GROOVY},
    ],
)
def test_no_app(tmp_path, files):
    assert gradle.android_module(_made(tmp_path, files)) is None


def test_a_build_file_that_is_no_text(tmp_path):
    _made(tmp_path, {"settings.gradle": "include ':app'", "app/build.gradle": ""})
    (tmp_path / "settings.gradle").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="unreadable Gradle file"):
        gradle.android_module(tmp_path)
