"""`python -m edge.bundle FILE... (--app DIR | --zip FILE)`: models, labels and `edge_package.json` into an Android app.

`edge_package.json` says what to feed each model and what it must answer on a golden image, so that an app can check itself on its device.
Random weights, a failed drift check and a file that is not the one its manifest describes are refused.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, UsageError
from tfvit.extras import require_extra
from tfvit.terminal import Parser, Terminal, run

_EPILOG = """exit codes: 0 written, 1 something must not ship (nothing is written), 2 wrong usage, 3 unusable project, file or disk
"""


def parser() -> Parser:
    parser = Parser(prog="python -m edge.bundle", description=__doc__, epilog=_EPILOG)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help=".tflite with its manifest beside it")
    parser.add_argument("--app", type=Path, metavar="DIR", help="Android project, or one of its modules: goes to src/main/assets/edge")
    parser.add_argument("--zip", type=Path, metavar="FILE", help="the same files as a zip, its bytes equal for equal artifacts")
    parser.add_argument("--allow-random", action="store_true", help="bundle random weights: to try an app out, not to ship it")
    parser.add_argument("--force", action="store_true", help="go on where there are files of others; those in the way are overwritten")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _bundle, argv)


def _bundle(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if (arguments.app is None) == (arguments.zip is None):
        raise UsageError(
            "nowhere, or too many places, to write to",
            expected="--app or --zip, one of them",
            received="neither" if arguments.app is None else "both",
            action="for example --zip package.zip",
        )

    require_extra("edge", "making a bundle", "ai_edge_litert")

    from edge.android import assets, package
    from edge.artifacts import artifact

    app_assets = assets.assets_folder(arguments.app) if arguments.app else None
    paths = list({path.resolve(): path for path in arguments.files}.values())
    made = package.build([artifact.load(path, verify=False) for path in paths], arguments.allow_random, terminal.progress)
    changes = assets.Changes((), (), (), ())
    if not made.refusals:
        with terminal.progress.stage("write"):
            if app_assets:
                changes = assets.save_in_assets(app_assets, made.files, arguments.force)
            else:
                changes = assets.save_zip(arguments.zip, made.files, arguments.force)
    target = "app" if app_assets else "zip"
    return _report(made, changes, target, app_assets / assets.FOLDER if app_assets else arguments.zip, terminal)


def _report(made: Any, changes: Any, target: str, path: Path, terminal: Terminal) -> int:
    from tfvit import hashing

    written = [{"file": name, "sha256": hashing.sha256(data), "size_bytes": len(data)} for name, data in made.files.items()]
    document = {
        "kind": "bundle",
        "target": target,
        "path": str(path),
        "written": written,
        **{name: list(names) for name, names in dataclasses.asdict(changes).items()},
        "refused": list(made.refusals),
        "edge_package": made.document,
    }
    if made.refusals:
        terminal.text(document, "\n".join([*(f"REFUSED: {refusal}" for refusal in made.refusals), "nothing was written"]))
        return EXIT_CHECK_FAILED
    columns = ("model", "MB", "input", "golden answer", "tolerance CPU, GPU", "GPU by rule", "labels")
    terminal.result(document, columns, [_row(model) for model in made.document["models"]], _closing(made, changes, target, path))
    return EXIT_OK


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    best, tolerance = model["golden"]["top5"][0], model["golden"]["tolerance"]
    label = f" {best['label']}" if best["label"] is not None else ""
    return (
        model["name"],
        f"{model['size_bytes'] / 1e6:.2f}",
        f"{model['input']['dtype']} {'x'.join(map(str, model['input']['shape'][1:]))}",
        f"class {best['index']}{label} {best['score']:.3f}",
        f"{tolerance['cpu']:g}, {tolerance['gpu']:g}",
        model["gpu"]["verdict"],
        model["labels"]["file"] if model["labels"] else "none",
    )


def _closing(made: Any, changes: Any, target: str, path: Path) -> list[str]:
    from edge.android import kotlin

    models = {model["name"]: model for model in made.document["models"]}
    total = sum(len(data) for data in made.files.values())
    lines = [f"{len(made.files)} files, {total / 1e6:.2f} MB, in {path}"]
    words = {
        "replaced": "replaced, another content",
        "removed": "removed, no longer in the bundle",
        "kept": "not ours, kept",
        "overwritten": "not ours, OVERWRITTEN",
    }
    lines += [f"{words[name]}: {', '.join(names)}" for name, names in dataclasses.asdict(changes).items() if name in words and names]
    if changes.unchanged:
        lines.append(f"unchanged: {len(changes.unchanged)} of the files")
    for name, choice in made.document["recommended"].items():
        lines.append(f"for the {name.upper()}: " + (f"{choice['name']} ({choice['why']})" if choice else "nothing here that fits"))
    if any(model["random_weights"] for model in models.values()):
        lines.append("RANDOM weights: to try an app out, not to ship it.")
    sample = models[next((choice["name"] for choice in made.document["recommended"].values() if choice), next(iter(models)))]
    place = "build.gradle.kts of the module" if target == "app" else "unpack it into src/main/assets/edge; build.gradle.kts of the module"
    return [
        *lines,
        "",
        f"{place}:",
        "",
        kotlin.GRADLE,
        f"{sample['name']} in Kotlin (docs/android.md has more):",
        "",
        kotlin.kotlin(sample),
    ]


if __name__ == "__main__":
    sys.exit(main())
