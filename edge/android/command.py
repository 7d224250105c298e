"""From what `edge.bundle` is given to its document: artifacts become a package, and the package goes into an app, a zip or a web page."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.android import assets, kotlin, package
from edge.apps import pasting, projects, react_native, runtimes
from edge.artifacts import artifact, store
from edge.web import site
from tfvit.hashing import sha256
from tfvit.progress import step


def bundle(
    files: Sequence[Path], app: Path | None, zip_file: Path | None, web: Path | None, allow_random: bool, force: bool
) -> dict[str, Any]:
    """The JSON of docs/android.md; the arguments are those of `edge.bundle`, with one of `app`, `zip_file` and `web`."""
    project = projects.recognise(app) if app else None
    web = Path(os.path.abspath(web)) if web else None  # a name of its own, also for "."
    paths = list({path.resolve(): path for path in files}.values())
    artifacts = [artifact.load(path, verify=False) for path in paths]
    made = package.build(artifacts, allow_random)
    refused = [*made.refusals, *(runtimes.refusals(project, artifacts) if project else ())]
    if web and made.document is not None:
        refused += site.refusals(made.document)
    if web and not refused:
        made = package.Package(made.document, site.files(made.files, store.open_store()))
    if project and project.framework in (projects.REACT_NATIVE, projects.EXPO):
        named = {f"{one.name}.labels.json": react_native.labels_json(one.labels) for one in artifacts if one.labels is not None}
        made = package.with_app_files(made, named)
    changes, target, made_config = assets.Changes((), (), (), ()), zip_file or web, None
    if project:
        target = project.assets / assets.FOLDER
    if not refused:
        with step("write"):
            if project:
                changes = assets.save_in_assets(project.assets, made.files, force)
                made_config = react_native.register(project)
            elif web:
                changes = assets.save_in_folder(web.parent, web.name, made.files, force, site.SITE_FILE)
            elif zip_file:
                changes = assets.save_zip(zip_file, made.files, force)
    return {
        "kind": "bundle",
        "target": "app" if app else "web" if web else "zip",
        "path": str(target),
        "build_file": project.config.name if project and project.framework == projects.ANDROID else None,
        **({"framework": None} if project is None else _described(project, made_config)),
        "written": [{"file": name, "sha256": sha256(data), "size_bytes": len(data)} for name, data in made.files.items() if not refused],
        **{name: list(names) for name, names in dataclasses.asdict(changes).items()},
        "refused": refused,
        "edge_package": None if refused else made.document,
    }


def _described(project: projects.Project, made_config: Path | None) -> dict[str, Any]:
    return {
        "framework": project.framework,
        "platforms": list(project.platforms),
        "config": str(project.config),
        "has_config": project.config.exists(),
        "made_config": made_config is not None,
        "registered": project.registered or made_config is not None,
        "package_version": project.package_version,
    }


def shown(document: dict[str, Any]) -> tuple[list[tuple[str, ...]], list[str]]:
    """The rows of a bundle's table, and the lines below them: what was written, which model is for what, and what to paste."""
    return [_row(model) for model in document["edge_package"]["models"]], _closing(document)


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    tolerance = model["golden"]["tolerance"]
    return (
        model["name"],
        f"{model['size_bytes'] / 1e6:.2f}",
        f"{model['input']['dtype']} {'x'.join(map(str, model['input']['shape'][1:]))}",
        _golden_words(model["golden"]),
        f"{tolerance['cpu']:g}, {tolerance['gpu']:g}",
        model["gpu"]["verdict"],
        model["labels"]["file"] if model["labels"] else "none",
    )


def _golden_words(golden: dict[str, Any]) -> str:
    """The best class of the golden image, or its first numbers."""
    if "numbers" in golden:
        return " ".join(f"{one['value']:.3g}" for one in golden["numbers"][:3]) + (" …" if len(golden["numbers"]) > 3 else "")
    best = golden["top5"][0]
    label = f" {best['label']}" if best["label"] is not None else ""
    return f"class {best['index']}{label} {best['score']:.3f}"


def _closing(document: dict[str, Any]) -> list[str]:
    package, written = document["edge_package"], document["written"]
    models = {model["name"]: model for model in package["models"]}
    lines = [f"{len(written)} files, {sum(file['size_bytes'] for file in written) / 1e6:.2f} MB, in {document['path']}"]
    words = {
        "replaced": "replaced, another content",
        "removed": "removed, no longer in the bundle",
        "kept": "not ours, kept",
        "overwritten": "not ours, OVERWRITTEN",
    }
    lines += [f"{said}: {', '.join(document[name])}" for name, said in words.items() if document[name]]
    if document["unchanged"]:
        lines.append(f"unchanged: {len(document['unchanged'])} of the files")
    for name, choice in package["recommended"].items():
        lines.append(f"for the {name.upper()}: " + (f"{choice['name']} ({choice['why']})" if choice else "nothing here that fits"))
    if any(model["random_weights"] for model in models.values()):
        lines.append("RANDOM weights: to try an app out, not to ship it.")
    if document["target"] == "web":
        return [*lines, "", f"next: python -m edge.device --web {shlex.quote(document['path'])}, or any host of static files"]
    sample = models[next((choice["name"] for choice in package["recommended"].values() if choice), next(iter(models)))]
    in_app = document["target"] == "app"
    if document["framework"] not in (None, projects.ANDROID):
        return [*lines, *pasting.lines(document, sample)]
    return [
        *lines,
        "",
        f"{'' if in_app else 'unpack it into src/main/assets/edge; '}{document['build_file'] or 'build.gradle.kts'} of the module:",
        "",
        kotlin.GROOVY if (document["build_file"] or "").endswith(".gradle") else kotlin.GRADLE,
        f"{sample['name']} in Kotlin (docs/android.md has more):",
        "",
        kotlin.kotlin(sample),
    ]
