"""Gradle projects: the modules that `settings.gradle(.kts)` includes, where each lies, and how its build file is called.

The settings are a program, which nobody runs here: read are the forms that people write, `include`, `project(":x").projectDir` and
`buildFileName`. A module that is found in none of them can still be named by its folder.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from tfvit.errors import InputError, reading

BUILD_FILES = ("build.gradle.kts", "build.gradle")  # Kotlin's DSL where there are both
_SETTINGS = ("settings.gradle.kts", "settings.gradle")
_PLUGIN = re.compile(r"android[._-]?application(?!.*apply\(?\s*false)", re.IGNORECASE)
_COMMENT = re.compile(r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|//[^\n]*|/\*.*?\*/""", re.DOTALL)
_INCLUDE = re.compile(r"""\binclude\b\s*\(?\s*((?:["'][^"']+["']\s*,?\s*)+)""")
_FOLDER = re.compile(r"""project\(\s*["'](:[^"']+)["']\s*\)\.projectDir\s*=\s*(?:new\s+)?[Ff]ile\(\s*(?:[\w.]+\s*,\s*)?["']([^"']+)["']""")
_BUILD_FILE = re.compile(r"""(?:project\(\s*["'](:[^"']+)["']\s*\)|(?!rootProject\.build)[\w.]+?)\.buildFileName\s*=\s*["']([^"']+)["']""")
_ROOT = re.compile(r"^\$\{?(?:rootDir|settingsDir|rootProject\.projectDir)\}?/")
_NAME = re.compile(r"\$\{(?:\w+\.)?name\}|\$name\b")


@dataclasses.dataclass(frozen=True)
class Module:
    """A folder with a build file.

    Attributes:
        path: Gradle's name for it, ":feature:camera"; "" where no settings name it.
        build_file: the file, which is there.
    """

    path: str
    build_file: Path
    folder: Path

    @property
    def is_app(self) -> bool:
        """Whether its build file applies the plugin of Android applications, by its id or an alias of a version catalog."""
        return any(_PLUGIN.search(line) for line in _code(self.build_file).splitlines())


def android_module(project: Path) -> Module | None:
    """The module that an Android app's assets go to; None where there is none.

    Args:
        project: a project (its application module, else its module `app`), or a module.

    Raises:
        InputError: several application modules, none of them `app`.
    """
    included = [module for module in modules(project) if _has_sources(module)]
    apps = [module for module in included if module.is_app]
    if len(apps) > 1 and ":app" not in {module.path for module in apps}:
        raise InputError(
            "several apps in one project",
            expected="one module with Android's application plugin, or one of them called app",
            received=", ".join(module.path for module in apps),
            action=f"name the module's folder, for example --app {apps[0].folder}",
        )
    named = [module for module in (*apps, *included) if module.path == ":app"]
    found = [*named, *apps, _alone(project / "app"), _by_settings_above(project), _alone(project)]
    return next((module for module in found if module and _has_sources(module)), None)


def modules(project: Path) -> list[Module]:
    """The modules that the project's settings include and that have a build file; none where it has no settings."""
    settings = next((project / name for name in _SETTINGS if (project / name).is_file()), None)
    if settings is None:
        return []
    text = _code(settings)
    folders = {path: _ROOT.sub("", folder) for path, folder in _FOLDER.findall(text)}
    names = _BUILD_FILE.findall(text)
    paths = [path for listed in _INCLUDE.findall(text) for path in re.findall(r"""["']([^"']+)["']""", listed)]
    found = []
    for path in dict.fromkeys(path if path.startswith(":") else f":{path}" for path in paths):
        folder = _folder(project, path, folders)
        own = [name for of, name in names if of == path] + [name for of, name in names if not of]
        called = [_NAME.sub(path.rpartition(":")[2], name) for name in own]
        build_file = next((folder / name for name in (*called, *BUILD_FILES) if (folder / name).is_file()), None)
        if build_file:
            found.append(Module(path, build_file, folder))
    return found


def _folder(project: Path, path: str, folders: dict[str, str]) -> Path:
    """A module lies in its parent's folder, unless it is put elsewhere."""
    if path in folders:
        return project / folders[path]
    parent, _, name = path.rpartition(":")
    return (_folder(project, parent, folders) if parent else project) / name


def _alone(folder: Path) -> Module | None:
    build_file = next((folder / name for name in BUILD_FILES if (folder / name).is_file()), None)
    return Module("", build_file, folder) if build_file else None


def _by_settings_above(folder: Path) -> Module | None:
    """A module named by its folder, whose build file the project's settings may call otherwise."""
    found = (module for parent in folder.resolve().parents for module in modules(parent) if module.folder.resolve() == folder.resolve())
    module = next(found, None)
    return module and Module(module.path, folder / module.build_file.name, folder)


def _has_sources(module: Module) -> bool:
    return (module.folder / "src" / "main").is_dir()


def without_comments(code: str) -> str:
    """Kotlin, Groovy or JavaScript without its comments; those within quotes stay."""
    return _COMMENT.sub(lambda found: found[1] or "", code)


def _code(file: Path) -> str:
    with reading(file, "a Gradle file in UTF-8", what="Gradle file"):
        return without_comments(file.read_text(encoding="utf-8"))
