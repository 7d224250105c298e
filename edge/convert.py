"""`python -m edge.convert --variant small224 --quant int8`: Keras models to TFLite files, checked before they are written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge import flags
from edge.quantization.recipes import RECIPES, find_recipe
from tfvit.errors import UsageError, UserError
from tfvit.extras import require_extra, require_matplotlib
from tfvit.labels import read_labels
from tfvit.terminal import Parser, Terminal, run
from tfvit.variants import VARIANTS, Variant, find_variant

_EPILOG = """recipes:
{recipes}

exit codes: 0 done and all checks passed, 1 a drift check failed (that file is not written) or some of several files came to nothing,
2 wrong usage, 3 unusable environment or input
"""


def parser() -> Parser:
    """The command line of CONTRACT."""
    recipes = "\n".join(f"  {recipe.name:<10} {recipe.summary}" for recipe in RECIPES.values())
    parser = Parser(prog="python -m edge.convert", description=__doc__, epilog=_EPILOG.format(recipes=recipes))
    parser.add_argument("--variant", help=f"id, comma list, or all: {', '.join(VARIANTS)}")
    parser.add_argument("--model", type=Path, help="a saved .keras model with a tfvit backbone, instead of --variant")
    parser.add_argument("--quant", required=True, help=f"recipe, comma list, or all: {', '.join(RECIPES)}")
    parser.add_argument(
        "--weights", help="auto, imagenet, imagenet21k, cifar10, random[:SEED], or a .safetensors, .pth, .weights.h5 or .keras file (auto)"
    )
    parser.add_argument("--calibration", default="builtin", help="folder or zip of images, or builtin (%(default)s)")
    parser.add_argument("--calibration-samples", type=int, default=128, help="how many images (%(default)s)")
    parser.add_argument(
        "--drift-samples", type=int, default=None, help="how many other images the drift is measured on, where there are as many (32)"
    )
    parser.add_argument("--seed", type=int, default=0, help="which images (%(default)s)")
    parser.add_argument("--labels", type=Path, help="text file with one label per line, embedded in the file")
    parser.add_argument(
        "--input", choices=("float32", "uint8"), default="float32", help="input type, pixels 0..255 either way (%(default)s)"
    )
    parser.add_argument(
        "--model-input",
        choices=("auto", "normalized", "pixels"),
        default="auto",
        help="what --model takes: ImageNet-normalized floats, or pixels it normalizes itself (found from its graph)",
    )
    parser.add_argument("--trust-model", action="store_true", help="run Python code in --model (lambdas): only where you trust the file")
    parser.add_argument("--output", choices=("probabilities", "logits"), default="probabilities", help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="directory (%(default)s)")
    parser.add_argument("--gate", action=argparse.BooleanOptionalAction, default=True, help="refuse files that miss their drift limits")
    parser.add_argument("--max-top1-drop", type=flags.finite, help="limit in percentage points (per recipe)")
    parser.add_argument("--min-agreement", type=flags.finite, help="limit, fraction of images with the same top-1 (per recipe)")
    parser.add_argument("--min-snr", type=flags.finite, help="limit in dB (per recipe)")
    parser.add_argument(
        "--repair",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="int8: where the gate fails, demote the worst layers (static to dynamic to float) until it passes",
    )
    parser.add_argument(
        "--explain", action="store_true", help="measure what each layer alone does to the logits; table here, picture NAME.sensitivity.png"
    )
    parser.add_argument(
        "--position-tables",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="position biases of large windows (V2 at 256 and 384 px) as small tables; without, larger files, and nothing for a GPU to "
        "look up at every inference",
    )
    parser.add_argument(
        "--min-runtime", type=_version, metavar="VERSION", help="refuse files that need a newer TensorFlow Lite than this, for example 2.14"
    )
    flags.add_cache_flags(parser)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="models side by side, each in a process (%(default)s)")
    parser.add_argument("--cluster", metavar="ADDRESS", help="convert on the workers of this dask scheduler (tfvit[cluster])")
    parser.add_argument(
        "--memory-check", action=argparse.BooleanOptionalAction, default=True, help="refuse models that need more memory than there is"
    )
    parser.add_argument("--save", type=Path, metavar="FILE.json", help="keep the table there, cell by cell")
    parser.add_argument("--force", action="store_true", help="rebuild what is there and current")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _convert, argv)


def _convert(arguments: argparse.Namespace, terminal: Terminal) -> int:
    recipes = _listed(arguments.quant, RECIPES, find_recipe)
    if (arguments.variant is None) == (arguments.model is None):
        raise UsageError(
            "nothing, or too much, to convert",
            expected="--variant or --model, one of them",
            received="neither" if arguments.variant is None else "both",
            action="for example --variant small224",
        )
    variants = _listed(arguments.variant, VARIANTS, find_variant) if arguments.variant is not None else []
    if arguments.model and arguments.weights:
        raise UsageError(
            "a saved model has its own weights",
            expected="--weights only with --variant",
            received=f"--weights {arguments.weights} --model {arguments.model}",
            action="leave --weights out",
        )
    if arguments.trust_model and not arguments.model:
        raise UsageError(
            "nothing to trust", expected="--trust-model with --model FILE", received="no --model", action="leave --trust-model out"
        )
    if arguments.jobs < 1:
        raise UsageError("nothing to do", expected="--jobs of at least 1", received=str(arguments.jobs), action="leave --jobs out")
    require_extra("edge", "converting")
    if arguments.explain:
        require_matplotlib("--explain")
    if arguments.cluster:
        require_extra("cluster", "--cluster")
    store = flags.chosen_store(arguments)

    from edge.artifacts import atomic_files
    from edge.conversion import cells, plan, scheduler, table

    if arguments.save:
        atomic_files.require_replaceable(arguments.save, table.KIND)
    limits = {"min_snr_db": arguments.min_snr, "min_agreement": arguments.min_agreement, "max_top1_drop": arguments.max_top1_drop}
    settings = plan.Settings(
        calibration=arguments.calibration,
        calibration_samples=arguments.calibration_samples,
        drift_samples=plan.DRIFT_SAMPLES if arguments.drift_samples is None else arguments.drift_samples,
        seed=arguments.seed,
        labels=read_labels(arguments.labels) if arguments.labels else None,
        input_dtype=arguments.input,
        output=arguments.output,
        gate=arguments.gate,
        folder=arguments.out,
        force=arguments.force,
        repair=arguments.repair,
        explain=arguments.explain,
        min_runtime=arguments.min_runtime,
        position_tables=arguments.position_tables,
        **limits,
    )
    found: dict[tuple[str, str], cells.Cell] = {}
    groups = []
    for name, source in _sources(variants, arguments, terminal):
        if isinstance(source, UserError):
            found |= {(name, recipe.name): cells.Cell(name, recipe.name, f"{name}-{recipe.name}", error=source) for recipe in recipes}
        else:
            groups.append(cells.Group(source, tuple(recipes), settings, store, check_memory=arguments.memory_check))
    report = table.Report(arguments.save)
    if groups:
        with atomic_files.prepared_folder(arguments.out):
            for cell in scheduler.run(groups, arguments.jobs, arguments.cluster, terminal.progress, report.add):
                found[cell.model, cell.recipe] = cell
                if arguments.explain and cell.outcome and cell.outcome.sensitivities:
                    picture = table.drawing(cell.outcome.sensitivities, f"{cell.name}: each layer quantized alone")
                    atomic_files.save_picture(arguments.out, f"{cell.name}.sensitivity", picture, arguments.force)
    order = [variant.id for variant in variants] or [group.source.name for group in groups]
    return report.show([found[name, recipe.name] for name in order for recipe in recipes], terminal)


def _sources(variants: Sequence[Variant], arguments: argparse.Namespace, terminal: Terminal) -> list[tuple[str, Any]]:
    """Name and source of each model, or what is wrong with its weights. Where the network was silent once, the next ones wait only a moment
    for it."""
    from edge.export import source as sources
    from tfvit.weights_choice import NETWORK_TIMEOUT_S, resolve_weights

    if arguments.model:
        takes_pixels = {"auto": None, "normalized": False, "pixels": True}[arguments.model_input]
        source = sources.resolve_model(arguments.model, takes_pixels, arguments.trust_model)
        return [(source.name, source)]
    chosen, warned = [], False
    for variant in variants:
        try:
            weights = resolve_weights(arguments.weights or "auto", variant, 1.0 if warned else NETWORK_TIMEOUT_S)
        except UserError as error:
            chosen.append((variant.id, error))
            continue
        if weights.warning and not warned:
            terminal.progress.warn(weights.warning)
            warned = True
        chosen.append((variant.id, sources.Source(variant.id, variant, weights)))
    return chosen


def _listed(text: str, known: dict[str, Any], find: Any) -> list[Any]:
    """A comma list or "all" as rows of a table, each once, in the order given."""
    if text.strip() == "all":
        return list(known.values())
    return list(dict.fromkeys(find(name) for name in text.split(",")))


def _version(text: str) -> tuple[int, ...]:
    """A TensorFlow Lite version: 2.14 or 2.14.0."""
    parts = text.split(".")
    if not 2 <= len(parts) <= 3 or not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"must be a version like 2.14. Received: {text}")
    return tuple(int(part) for part in parts)


if __name__ == "__main__":
    sys.exit(main())
