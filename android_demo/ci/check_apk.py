"""Whether the APK without a runtime is the app: its manifest, versions, label, classes and assets, and no code of LiteRT's.

python android_demo/ci/check_apk.py --apk FILE --app android_demo/app --bundle ASSETS/edge --dumps DIR

DIR holds what Android's tools say: `badging.txt` and `manifest.txt` (`aapt2 dump badging` and `xmltree`), and `proguard.log`.
"""

from __future__ import annotations

import argparse
import re
import struct
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

_ANDROID = "{http://schemas.android.com/apk/res/android}"
_NO_ID = 0xFFFFFFFF

# What the app calls and Android 6, whose stubs it is compiled against, has not; every other reference that cannot be resolved is an error
NEWER_THAN_ANDROID_6 = {
    "static hashCode of boxed numbers": (
        "android 24",
        r"method 'int hashCode\((int|long|float|double|boolean)\)' in library class java\.lang\.\w+",
    ),
    "Device.thermalStatus": (
        "android 29, asked before",
        r"method 'int getCurrentThermalStatus\(\)' in library class android\.os\.PowerManager",
    ),
    "Device.info": ("android 31, asked before", r"field 'java\.lang\.String SOC_(MANUFACTURER|MODEL)' in library class android\.os\.Build"),
}


def gradle_values(app: Path) -> dict[str, str]:
    """`applicationId`, `versionCode`, `versionName`, `minSdk`, `targetSdk` and `namespace` as the Gradle files set them."""
    gradle = (app / "build.gradle.kts").read_text(encoding="utf-8")
    catalog = (app.parent / "gradle" / "libs.versions.toml").read_text(encoding="utf-8")
    found = {name: re.search(rf'{name} = "?([\w.]+)', gradle)[1] for name in ("namespace", "applicationId", "versionCode", "versionName")}
    return found | {name: re.search(rf'(?m)^{name} = "(\d+)"', catalog)[1] for name in ("minSdk", "targetSdk")}


def badging_problems(badging: str, gradle: dict[str, str]) -> list[str]:
    """Where `aapt2 dump badging` is not what Gradle would package, with a label and a version that say what is missing."""
    expected = [
        f"package: name='{gradle['applicationId']}' versionCode='{gradle['versionCode']}' versionName='{gradle['versionName']}-no-runtime'",
        f"sdkVersion:'{gradle['minSdk']}'",
        f"targetSdkVersion:'{gradle['targetSdk']}'",
        f"launchable-activity: name='{gradle['namespace']}.MainActivity'",
    ]
    lines = badging.splitlines()
    problems = [f"badging has no line {one}" for one in expected if not any(line.startswith(one) for line in lines)]
    if not re.search(r"(?m)^application-label:'[^']*no runtime", badging):
        problems.append("the label does not say that there is no runtime")
    implied = re.findall(r"uses-implied-feature: name='(android\.hardware\.camera[^']*)'", badging)
    return problems + [f"{name} is needed to install it, by implication: the manifest says that no camera is" for name in implied]


def source_manifest(path: Path, namespace: str) -> list[tuple[str, ...]]:
    """Tag and the attributes that matter of every element, in order; classes with their package."""
    return [
        (element.tag, *(re.sub(r"^\.", f"{namespace}.", element.get(_ANDROID + name, "")) for name in ("name", "exported", "required")))
        for element in ElementTree.parse(path).iter()
        if element.tag != "manifest"
    ]


def packed_manifest(dump: str) -> list[tuple[str, ...]]:
    """The same of `aapt2 dump xmltree`, less what Gradle adds."""
    elements: list[tuple[str, dict[str, str]]] = []
    for line in dump.splitlines():
        if tag := re.match(r" *E: ([\w-]+) ", line):
            elements.append((tag[1], {}))
        elif attribute := re.match(r' *A: (?:http\S*/android:)?(\w+)(?:\(0x\w+\))?="?([^"\s]*)', line):
            elements[-1][1][attribute[1]] = attribute[2]
    return [
        (tag, *(attributes.get(name, "") for name in ("name", "exported", "required")))
        for tag, attributes in elements
        if tag not in ("manifest", "uses-sdk")
    ]


def defined_classes(dex: bytes) -> list[str]:
    """Names of the classes that a dex file defines (header_item, class_def_item, type_id_item and string_data_item of the format)."""
    strings, types, (number, classes) = (
        struct.unpack_from("<I", dex, 60)[0],
        struct.unpack_from("<I", dex, 68)[0],
        struct.unpack_from("<II", dex, 96),
    )
    names = []
    for index in range(number):
        (type_index,) = struct.unpack_from("<I", dex, classes + 32 * index)
        (string_index,) = struct.unpack_from("<I", dex, types + 4 * type_index)
        (at,) = struct.unpack_from("<I", dex, strings + 4 * string_index)
        while dex[at] & 0x80:  # the length, as ULEB128
            at += 1
        names.append(dex[at + 2 : dex.index(b"\0", at + 1) - 1].decode().replace("/", "."))
    return names


def class_problems(classes: Iterable[str], manifest: list[tuple[str, ...]]) -> list[str]:
    """Classes of the manifest that are not there, and classes that must not be."""
    classes = set(classes)
    needed = {name for tag, name, *_ in manifest if tag in ("application", "activity")}
    problems = [f"the manifest names {name}, which no dex file defines" for name in sorted(needed - classes)]
    stubs = sorted(name for name in classes if re.match(r"(android|java|javax)\.", name))
    return problems + [f"{name} is a class of Android's own: a stub that was packed" for name in stubs]


def reference_problems(log: str) -> list[str]:
    """What ProGuard could not resolve, but for what is known to be newer than the stubs."""
    missing = re.findall(r"Warning: (tfvit\S+|com\.google\S+): can't find (.*)", log)
    known = [re.compile(pattern) for _, pattern in NEWER_THAN_ANDROID_6.values()]
    return [f"{where}: neither Android 6 nor the app has {what}" for where, what in missing if not any(one.search(what) for one in known)]


def asset_problems(apk: zipfile.ZipFile, bundle: Path) -> list[str]:
    """Where the assets differ from the bundle; models that are compressed; native code, of which there must be none."""
    packed = {name.removeprefix("assets/edge/"): apk.read(name) for name in apk.namelist() if name.startswith("assets/edge/")}
    expected = {path.name: path.read_bytes() for path in bundle.iterdir()}
    problems = [
        f"{name} is not in the APK as it is in the bundle"
        for name in sorted(packed.keys() | expected)
        if packed.get(name) != expected.get(name)
    ]
    infos = apk.infolist()
    problems += [
        f"{one.filename} is compressed" for one in infos if one.filename.endswith(".tflite") and one.compress_type != zipfile.ZIP_STORED
    ]
    return problems + [
        f"{one.filename} is native code, and the label says that there is no runtime" for one in infos if one.filename.endswith(".so")
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("apk", "app", "bundle", "dumps"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    gradle = gradle_values(arguments.app)
    manifest = source_manifest(arguments.app / "src" / "main" / "AndroidManifest.xml", gradle["namespace"])
    packed = packed_manifest((arguments.dumps / "manifest.txt").read_text(encoding="utf-8"))
    problems = badging_problems((arguments.dumps / "badging.txt").read_text(encoding="utf-8"), gradle)
    problems += [f"manifest: {one} is packed as {other}" for one, other in zip(manifest, packed, strict=False) if one != other]
    if len(manifest) != len(packed):
        problems.append(f"manifest: {len(manifest)} elements, {len(packed)} packed")
    problems += reference_problems((arguments.dumps / "proguard.log").read_text(encoding="utf-8"))
    with zipfile.ZipFile(arguments.apk) as apk:
        classes = [name for dex in apk.namelist() if dex.endswith(".dex") for name in defined_classes(apk.read(dex))]
        problems += class_problems(classes, manifest)
        problems += asset_problems(apk, arguments.bundle)
    for problem in problems:
        print(f"error: {arguments.apk.name}: {problem}", file=sys.stderr)
    if not problems:
        size_mb = arguments.apk.stat().st_size / 1e6
        print(f"{arguments.apk}: {size_mb:.1f} MB, signed, {len(classes)} classes, Android {gradle['minSdk']} and newer; NO RUNTIME inside")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
