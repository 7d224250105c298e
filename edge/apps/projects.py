"""Which framework a project is of: where its assets go, which platforms it has, and whether it knows of the assets already."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from edge.apps import gradle
from tfvit.errors import InputError, reading

ANDROID, FLUTTER, REACT_NATIVE, EXPO, IOS = "android", "flutter", "react-native", "expo", "ios"
FOLDER = "edge"
METRO_FILES = tuple(f"metro.config.{ending}" for ending in ("js", "cjs", "mjs", "ts", "json"))
_LOOKED_FOR = (
    "one of: Android (settings.gradle(.kts) with a module that has src/main, app/build.gradle(.kts) with app/src/main, or such a module); "
    "Flutter (pubspec.yaml with sdk: flutter); React Native or Expo (package.json with react-native or expo); iOS (a .xcodeproj)"
)


@dataclasses.dataclass(frozen=True)
class Project:
    """A project that an app is built from.

    Attributes:
        framework: `ANDROID`, `FLUTTER`, `REACT_NATIVE`, `EXPO` or `IOS`.
        assets: the folder that gets a folder `edge`; it need not exist yet.
        platforms: of "android" and "ios", those that the project is built for.
        config: where assets and packages are registered: the module's build file, pubspec.yaml, metro.config.js, or the .xcodeproj.
        registered: whether `config` names the assets already; True where nothing has to.
        package_version: what the project says of the runtime's package, such as "^3.0.0"; None where it does not have it.
    """

    framework: str
    assets: Path
    platforms: tuple[str, ...]
    config: Path
    registered: bool = True
    package_version: str | None = None


def recognise(folder: Path) -> Project:
    """What lies in a folder. Where it is of several frameworks: Flutter, React Native, Android, iOS.

    Raises:
        InputError: nothing that is known here; or a project without a platform, or with several apps.
    """
    if folder.suffix == ".xcodeproj":
        folder = folder.parent
    if folder.is_dir():
        for recognised in (_flutter, _react_native, _android, _ios):
            project = recognised(folder)
            if project:
                return project
    raise InputError(
        "no project of an app",
        expected=_LOOKED_FOR,
        received=str(folder) if folder.is_dir() else f"no folder {folder}",
        action="name the project's folder, or use --zip",
    )


def _android(folder: Path) -> Project | None:
    module = gradle.android_module(folder)
    return Project(ANDROID, module.folder / "src" / "main" / "assets", (ANDROID,), module.build_file) if module else None


def _flutter(folder: Path) -> Project | None:
    pubspec = _text(folder / "pubspec.yaml")
    if not re.search(r"^\s+sdk:\s*flutter\b", pubspec, re.MULTILINE):
        return None
    registered = re.search(rf"""^\s+-\s+["']?assets/{FOLDER}/["']?\s*(?:#.*)?$""", pubspec, re.MULTILINE)
    version = re.search(r"""^\s+tflite_flutter:[ \t]*["']?([^\s"'#]*)""", pubspec, re.MULTILINE)
    return Project(
        FLUTTER,
        folder / "assets",
        _platforms(folder, "Flutter project", "flutter create --platforms=android,ios ."),
        folder / "pubspec.yaml",
        registered is not None,
        version and (version[1] or "of another source"),
    )


def _react_native(folder: Path) -> Project | None:
    with reading(folder / "package.json", "a package.json", what="package.json"):
        package = json.loads(_text(folder / "package.json") or "{}")
    dependencies = package.get("dependencies") if isinstance(package, dict) else None
    if not isinstance(dependencies, dict) or not {"react-native", "expo"} & set(dependencies):
        return None
    framework = EXPO if "expo" in dependencies else REACT_NATIVE
    new = METRO_FILES[package.get("type") == "module"]  # it is CommonJS
    metro = next((folder / name for name in METRO_FILES if (folder / name).is_file()), folder / new)
    registered = re.search(r"""["']tflite["']""", gradle.without_comments(_text(metro)))
    made_by_expo = _platforms_of_expo(folder) if framework == EXPO else ()
    platforms = _platforms(folder, "React Native project", "make it with both, or at least one", made_by_expo)
    version = dependencies.get("react-native-fast-tflite")
    return Project(framework, folder / "assets", platforms, metro, registered is not None, version)


def _ios(folder: Path) -> Project | None:
    found = sorted(folder.glob("*.xcodeproj"))
    if not found:
        return None
    reference = re.search(rf"lastKnownFileType = folder;[^}}]*path = {FOLDER};", _text(found[0] / "project.pbxproj"))
    version = re.search(r"""^\s*pod\s+["']TensorFlowLiteSwift["']\s*(?:,\s*["']([^"']*))?""", _text(folder / "Podfile"), re.MULTILINE)
    return Project(IOS, folder, (IOS,), found[0], reference is not None, version and (version[1] or "the newest"))


def _platforms(folder: Path, what: str, action: str, otherwise: tuple[str, ...] = ()) -> tuple[str, ...]:
    found = tuple(platform for platform in (ANDROID, IOS) if (folder / platform).is_dir()) or otherwise
    if not found:
        raise InputError(
            f"a {what} for neither Android nor iOS", expected="a folder android, a folder ios, or both", received=str(folder), action=action
        )
    return found


def _platforms_of_expo(folder: Path) -> tuple[str, ...]:
    """Those that app.json lists, else both: Expo makes their folders when it builds."""
    with reading(folder / "app.json", "an app.json", what="app.json"):
        app: Any = json.loads(_text(folder / "app.json") or "{}")
    listed = app.get("expo", {}).get("platforms", [ANDROID, IOS]) if isinstance(app, dict) else [ANDROID, IOS]
    return tuple(platform for platform in (ANDROID, IOS) if platform in listed)


def _text(file: Path) -> str:
    """The text of a file; "" where there is none."""
    with reading(file, "text in UTF-8"):
        return file.read_text(encoding="utf-8") if file.is_file() else ""
