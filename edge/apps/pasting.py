"""What is left to do by hand in a Flutter, React Native, Expo or Xcode project: the lines to paste."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.apps import flutter, ios, react_native
from edge.apps.projects import FLUTTER, FOLDER, IOS
from edge.apps.runtimes import PACKAGES, PLATFORMS


def lines(document: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    """The runtime in a line, what to paste where, and a class.

    Args:
        document: of a bundle in an app that is not Android's own.
        model: an entry of `models` in its `edge_package.json`, to make the class for.
    """
    framework, config = document["framework"], Path(document["config"]).name
    package = PACKAGES[framework]
    brought = [f"{' '.join(package.brings[platform])} on {PLATFORMS[platform]}" for platform in document["platforms"]]
    said = [f"runtime: {package.name} {package.version} brings {', '.join(brought)}"]
    version = document["package_version"]
    if version and package.version not in version:
        said.append(f"the project has {package.name} {version}: which files run on it was looked up for {package.version} alone")
    if framework == FLUTTER:
        said += _registration(document, f"{config}:", f"{config} registers assets/{FOLDER}/ already", flutter.PUBSPEC)
        return [*said, f"{model['name']} in Dart, for lib/ (docs/guides/flutter.md has more):", "", flutter.dart(model)]
    if framework == IOS:
        said += ["Podfile, in the app's target:", "", ios.PODFILE]
        said += _registration(document, f"{config} in Xcode:", f"{config} has the folder {FOLDER} already", ios.XCODE)
        return [*said, f"{model['name']} in Swift (docs/guides/ios.md has more):", "", ios.swift(model)]
    said += ["in the project's folder:", "", react_native.install(framework, document["platforms"])]
    metro = react_native.METRO if document["has_config"] else react_native.metro_file(framework)
    made = f"{config} was made" if document["made_config"] else f"{config} registers tflite already"
    where = "at its end:" if document["has_config"] else "a new file:"
    said += _registration(document, f"{config}, {where}", made, metro)
    name = f"{model['name']} in TypeScript, beside package.json (docs/guides/react-native.md has more):"
    return [*said, name, "", react_native.typescript(model)]


def _registration(document: Mapping[str, Any], where: str, already: str, text: str) -> list[str]:
    return [already, ""] if document["registered"] else [where, "", text]
