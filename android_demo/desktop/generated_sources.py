"""The classes that the Android build generates, R and BuildConfig, so that the app's sources compile without it.

python android_demo/desktop/generated_sources.py --app android_demo/app --out DIR
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

_ANDROID = "{http://schemas.android.com/apk/res/android}"


def names(resources: Path) -> dict[str, set[str]]:
    """Type of resource -> names, from files, values and `@+id/`."""
    found: dict[str, set[str]] = {"id": set(), "layout": set(), "drawable": set()}
    for path in sorted(resources.rglob("*.xml")):
        tree = ElementTree.parse(path)
        if path.parent.name.startswith("values"):
            for element in tree.getroot():
                found.setdefault(element.tag, set()).add(element.attrib["name"].replace(".", "_"))
            continue
        found[path.parent.name].add(path.stem)
        ids = (element.attrib.get(f"{_ANDROID}id", "") for element in tree.iter())
        found["id"].update(name.removeprefix("@+id/") for name in ids if name)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--app", type=Path, required=True)
    parser.add_argument("--version-suffix", default="")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    gradle = (arguments.app / "build.gradle.kts").read_text()
    package = re.search(r'namespace = "([^"]+)"', gradle)[1]
    classes, number = [], 0
    for kind, found in sorted(names(arguments.app / "src/main/res").items()):
        fields = []
        for name in sorted(found):
            number += 1
            fields.append(f"        public static final int {name} = {number};")
        classes.append(f"    public static final class {kind} {{\n" + "\n".join(fields) + "\n    }")
    fields = [("VERSION_NAME", re.search(r'versionName = "([^"]+)"', gradle)[1] + arguments.version_suffix)]
    fields += [(name, "none") for name in re.findall(r'buildConfigField\("String", "(\w+)"', gradle)]
    constants = "\n".join(f'    public static final String {name} = "{value}";' for name, value in fields)
    folder = arguments.out / package.replace(".", "/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "R.java").write_text(f"package {package};\n\npublic final class R {{\n" + "\n\n".join(classes) + "\n}\n")
    (folder / "BuildConfig.java").write_text(f"package {package};\n\npublic final class BuildConfig {{\n{constants}\n}}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
