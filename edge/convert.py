"""`python -m edge.convert --variant small224 --quant int8`: Keras models to TFLite files, checked before they are written."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.drawing import require_matplotlib
from edge.extras import require_extra
from edge.recipes import RECIPES, find_recipe
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, UsageError
from tfvit.labels import read_labels
from tfvit.terminal import Parser, Terminal, run
from tfvit.variants import VARIANTS, Variant, find_variant

_EPILOG = """recipes:
{recipes}

exit codes: 0 done and all checks passed, 1 a drift check failed (that file is not written), 2 wrong usage, 3 unusable environment or input
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
    parser.add_argument("--output", choices=("probabilities", "logits"), default="probabilities", help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="directory (%(default)s)")
    parser.add_argument("--gate", action=argparse.BooleanOptionalAction, default=True, help="refuse files that miss their drift limits")
    parser.add_argument("--max-top1-drop", type=_finite, help="limit in percentage points (per recipe)")
    parser.add_argument("--min-agreement", type=_finite, help="limit, fraction of images with the same top-1 (per recipe)")
    parser.add_argument("--min-snr", type=_finite, help="limit in dB (per recipe)")
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
        "--min-runtime", type=_version, metavar="VERSION", help="refuse files that need a newer TensorFlow Lite than this, for example 2.14"
    )
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

    require_extra("edge", "converting")
    if arguments.explain:
        require_matplotlib("--explain")

    from edge import conversion, repair, saving, sources

    limits = {"min_snr_db": arguments.min_snr, "min_agreement": arguments.min_agreement, "max_top1_drop": arguments.max_top1_drop}
    settings = conversion.Settings(
        calibration=arguments.calibration,
        calibration_samples=arguments.calibration_samples,
        drift_samples=conversion.DRIFT_SAMPLES if arguments.drift_samples is None else arguments.drift_samples,
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
        **limits,
    )
    if arguments.model:
        takes_pixels = {"auto": None, "normalized": False, "pixels": True}[arguments.model_input]
        chosen = [sources.resolve_model(arguments.model, takes_pixels)]
    else:
        chosen = _resolve_variants(variants, arguments.weights or "auto", terminal)
    saving.prepare_folder(arguments.out)
    outcomes = [outcome for source in chosen for outcome in conversion.convert(source, recipes, settings, terminal.progress)]
    for outcome in outcomes:
        if arguments.explain and outcome.sensitivities:
            picture = repair.drawing(outcome.sensitivities, f"{outcome.name}: each layer quantized alone")
            saving.save_picture(arguments.out, f"{outcome.name}.sensitivity", picture, arguments.force)
    return _report(outcomes, terminal)


def _resolve_variants(variants: Sequence[Variant], text: str, terminal: Terminal) -> list[Any]:
    """Each variant with its weights. Where the network was silent once, the next ones wait only a moment for it."""
    from edge import sources
    from tfvit.weights_choice import NETWORK_TIMEOUT_S, resolve_weights

    chosen, warned = [], False
    for variant in variants:
        weights = resolve_weights(text, variant, timeout_s=1.0 if warned else NETWORK_TIMEOUT_S)
        if weights.warning and not warned:
            terminal.progress.warn(weights.warning)
            warned = True
        chosen.append(sources.Source(variant.id, variant, weights))
    return chosen


def _report(outcomes: Sequence[Any], terminal: Terminal) -> int:
    columns = ("file", "MB", "SNR dB", "same top-1", "max abs err", "XNNPACK ops", "partitions", "GPU by rule", "status")
    rows, closing = [], []
    for outcome in outcomes:
        manifest = outcome.manifest
        drift, xnnpack = manifest["drift"], manifest["delegates"]["xnnpack"]
        rows.append(
            (
                outcome.path.name,
                f"{manifest['file']['size_bytes'] / 1e6:.1f}",
                _shown(drift["logits_snr_db"], "{:.1f}"),
                _shown(drift["top1_agreement"], "{:.1%}"),
                _shown(drift["max_abs_err"], "{:.1e}"),
                f"{xnnpack['delegated_ops']}/{xnnpack['total_ops']}",
                str(xnnpack["partitions"]),
                manifest["delegates"]["gpu"]["verdict"],
                outcome.status if not outcome.failures or outcome.status == "refused" else f"{outcome.status}, drift check failed",
            )
        )
        closing += [f"{outcome.path.name}: {failure}" for failure in outcome.failures]
        closing += _repair_lines(outcome)
        closing += _sensitivity_lines(outcome)
    folders = sorted({str(outcome.path.parent) for outcome in outcomes})
    if any(outcome.manifest["weights"]["random"] for outcome in outcomes):
        closing.append("RANDOM weights: size, latency and drift mean something, the answers do not.")
    seconds = terminal.progress.seconds()
    peak_memory_mb = _peak_memory_mb()
    if seconds:
        closing.append(f"seconds: {', '.join(f'{name} {value:.1f}' for name, value in seconds.items())}; peak memory {peak_memory_mb} MB")
    refused = [outcome for outcome in outcomes if outcome.status == "refused"]
    if refused:
        closing.append(f"{len(refused)} of {len(outcomes)} files were NOT written: they missed their limits (--no-gate writes them anyway)")
    document = {
        "folder": folders[0] if folders else None,
        "artifacts": [
            {
                "name": outcome.name,
                "status": outcome.status,
                "failures": list(outcome.failures),
                "seconds": terminal.progress.seconds(outcome.name),
                "sensitivities": [dataclasses.asdict(sensitivity) for sensitivity in outcome.sensitivities],
                "repair_ms": outcome.repair_ms,
                "manifest": outcome.manifest,
            }
            for outcome in outcomes
        ],
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb,
    }
    terminal.result(document, columns, rows, closing)
    return EXIT_CHECK_FAILED if any(outcome.failures for outcome in outcomes) else EXIT_OK


def _repair_lines(outcome: Any) -> list[str]:
    block = outcome.manifest["repair"]
    if not block:
        return []
    lines = [f"{outcome.path.name}: repaired ({'; '.join(block['why'])}), {len(block['demoted'])} layers demoted:"]
    lines += [f"  {step['layer']}: {step['before']} to {step['after']}, alone {step['alone_snr_db']} dB" for step in block["demoted"]]
    cost = f"  cost: {block['cost_bytes'] / 1e6:+.2f} MB"
    if outcome.repair_ms:
        before, after = outcome.repair_ms
        cost += f", {before:.2f} to {after:.2f} ms an image (LiteRT CPU, 1 thread, this machine, interleaved)"
    return [*lines, cost]


def _sensitivity_lines(outcome: Any) -> list[str]:
    if not outcome.sensitivities:
        return []
    worst = sorted(outcome.sensitivities, key=lambda sensitivity: sensitivity.snr_db)
    lines = [f"{outcome.path.name}: logits with one layer quantized and the rest in float, worst first"]
    width = max(len(sensitivity.layer) for sensitivity in worst)
    lines += [
        f"  {sensitivity.layer:<{width}}  {sensitivity.mode:<7}  {sensitivity.snr_db:6.1f} dB  KL {sensitivity.kl:.2e}  "
        f"{sensitivity.multiplications / 1e6:8.2f} M multiplications"
        for sensitivity in worst
    ]
    return lines


def _peak_memory_mb() -> int | None:
    """Of this process so far; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kilobytes / (1024 * 1024 if sys.platform == "darwin" else 1024))


def _listed(text: str, known: dict[str, Any], find: Any) -> list[Any]:
    """A comma list or "all" as rows of a table, each once, in the order given."""
    if text.strip() == "all":
        return list(known.values())
    return list(dict.fromkeys(find(name) for name in text.split(",")))


def _finite(text: str) -> float:
    """A limit: NaN would fail every file, infinity is nothing JSON can say."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number. Received: {text}")
    return value


def _version(text: str) -> tuple[int, ...]:
    """A TensorFlow Lite version: 2.14 or 2.14.0."""
    parts = text.split(".")
    if not 2 <= len(parts) <= 3 or not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"must be a version like 2.14. Received: {text}")
    return tuple(int(part) for part in parts)


def _shown(value: float | None, form: str) -> str:
    return "NaN" if value is None else form.format(value)


if __name__ == "__main__":
    sys.exit(main())
