"""`python -m edge.convert --variant small224 --quant int8`: Keras models to TFLite files, checked before they are written."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import flags
from edge.conversion import usage
from edge.drift.meanings import AUTO, OUTPUTS
from edge.front_door import Result, Table, called, make_callable, progress_on_stderr
from edge.quantization.recipes import RECIPES, find_recipe
from tfvit.errors import UsageError
from tfvit.extras import require_extra, require_matplotlib
from tfvit.preprocessing import ModelInput, Size
from tfvit.terminal import Parser, Terminal, run
from tfvit.variants import VARIANTS, find_variant

if TYPE_CHECKING:
    from edge.artifacts.artifact import Artifact

_SAVED = ".keras"

_EPILOG = """examples:
  python -m edge.convert --variant nano32 --quant int8
  python -m edge.convert --variant small224,base224 --quant float16,int8 --calibration photos
  python -m edge.convert --model my_finetuned.keras --quant int8 --labels labels.txt
  python -m edge.convert --checkpoint runs/best --quant int8

recipes:
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
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="a checkpoint as its maker left it, folder or file: Hugging Face transformers, timm, the original release, KerasHub, our own; "
        "or hf://OWNER/NAME. Architecture, head, labels and preprocessing are taken from it; --variant is then checked",
    )
    parser.add_argument(
        "--ema",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="of a --checkpoint with a moving average of its weights, take the average",
    )
    parser.add_argument("--quant", required=True, help=f"recipe, comma list, or all: {', '.join(RECIPES)}")
    parser.add_argument(
        "--weights",
        help="auto, imagenet, imagenet21k, cifar10, random[:SEED], or a .safetensors, .pth, .npz, .weights.h5 or .keras file "
        "(default: auto)",
    )
    parser.add_argument("--calibration", default="builtin", help="folder or zip of images, or builtin (default: %(default)s)")
    parser.add_argument("--calibration-samples", type=int, default=128, help="how many images (default: %(default)s)")
    parser.add_argument(
        "--drift-samples",
        type=int,
        default=None,
        help="how many other images the drift is measured on, where there are as many (default: 32)",
    )
    parser.add_argument(
        "--agreement-samples",
        type=int,
        default=None,
        help="how many further images changed answers are counted on, against the float graph (default: eight times --drift-samples; "
        "0: none)",
    )
    parser.add_argument("--seed", type=int, default=0, help="which images (default: %(default)s)")
    parser.add_argument(
        "--labels", type=Path, help="text file with one label per line, embedded in the file (default: the model's own, where it has some)"
    )
    parser.add_argument(
        "--input",
        choices=usage.INPUTS,
        default="float32",
        help="input type, pixels 0..255 either way; int16, of w8a16 alone: integers in and logits out, for NPUs (default: %(default)s)",
    )
    flags.add_preprocessing_flags(parser)
    parser.add_argument(
        "--image-size",
        type=flags.image_size,
        metavar="N|HxW",
        help="side in pixels, or height x width, instead of the variant's, or of a --model that is open to any (default: its own)",
    )
    parser.add_argument(
        "--window",
        type=int,
        metavar="N",
        help="side of the windows in tokens: the weights' position biases are adapted (default: the model's own)",
    )
    parser.add_argument("--trust-model", action="store_true", help="run Python code in --model (lambdas): only where you trust the file")
    flags.add_import_flag(parser)
    parser.add_argument(
        "--output",
        metavar="|".join(OUTPUTS),
        default=AUTO,
        help="what the file gives: probabilities or logits of classes, of labels that apply or not (multilabel), or numbers as they are "
        "(values, features); auto: what the model's end and its saved loss say, of scores their probabilities; of several outputs a word "
        "each, with commas between them (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="directory (default: %(default)s)")
    parser.add_argument("--gate", action=argparse.BooleanOptionalAction, default=True, help="refuse files that miss their drift limits")
    parser.add_argument("--max-top1-drop", type=flags.finite, help="limit in percentage points (default: per recipe)")
    parser.add_argument("--min-agreement", type=flags.finite, help="limit, fraction of images with the same top-1 (default: per recipe)")
    parser.add_argument("--min-snr", type=flags.finite, help="limit in dB (default: per recipe)")
    parser.add_argument(
        "--max-size",
        type=flags.finite,
        metavar="MB",
        help="smallest: not the smallest file but the most exact one of this many megabytes (10^6 bytes), as it is saved (default: none)",
    )
    parser.add_argument(
        "--repair",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="int8, int4, smallest: where the gate fails, demote the worst layers (static to dynamic to float; 4 to 8 bits to float) until "
        "it passes",
    )
    parser.add_argument(
        "--explain", action="store_true", help="measure what each layer alone does to the logits; table here, picture NAME.sensitivity.png"
    )
    parser.add_argument(
        "--position-tables",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="position biases and masks of large windows (V2 at 256 and 384 px) as small tables; without, larger files, and nothing for a "
        "GPU to look up at every inference",
    )
    parser.add_argument(
        "--portable",
        action="store_true",
        help="files for readers other than LiteRT (MNN, TFLite Micro, tf2onnx, OpenVINO, TVM): GELU as other operations, constants as they "
        "are computed with; more operations",
    )
    parser.add_argument(
        "--min-runtime",
        type=_version,
        metavar="VERSION",
        help="refuse files that need a newer TensorFlow Lite than this, for example 2.14 (default: none)",
    )
    flags.add_cache_flags(parser)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="models side by side, each in a process (default: %(default)s)")
    parser.add_argument(
        "--cluster", metavar="ADDRESS", help="convert on the workers of this dask scheduler, with the extra cluster (default: here)"
    )
    parser.add_argument(
        "--memory-check", action=argparse.BooleanOptionalAction, default=True, help="refuse models that need more memory than there is"
    )
    parser.add_argument("--save", type=Path, metavar="FILE.json", help="keep the table there, cell by cell (default: nowhere)")
    parser.add_argument("--force", action="store_true", help="rebuild what is there and current")
    parser.group(
        "what to convert, one of the first three",
        "--variant",
        "--model",
        "--checkpoint",
        "--weights",
        "--ema",
        "--image-size",
        "--window",
        "--trust-model",
        "--import",
    )
    parser.group(
        "into what",
        "--quant",
        "--input",
        "--output",
        "--labels",
        "--out",
        "--position-tables",
        "--portable",
        "--min-runtime",
        "--max-size",
        "--force",
    )
    parser.group("how an image becomes the model's input", *flags.PREPROCESSING_FLAGS)
    parser.group("images to calibrate with", "--calibration", "--calibration-samples", "--seed")
    parser.group(
        "the check before a file is written",
        "--gate",
        "--max-top1-drop",
        "--min-agreement",
        "--min-snr",
        "--drift-samples",
        "--agreement-samples",
        "--repair",
        "--explain",
    )
    parser.group("many files", "--jobs", "--cluster", "--memory-check", "--save", "--cache", "--no-cache")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _command, argv)


def _command(arguments: argparse.Namespace, terminal: Terminal) -> int:
    found = called(_converted, arguments, terminal)
    seconds = [f"{line}; peak memory {found.document['peak_memory_mb']} MB" for line in terminal.progress.seconds_line()]
    columns, rows, closing = found.table()
    terminal.result(found.document, columns, rows, [*closing, *seconds, *found.counts, *_next(found.document)])
    return found.exit_code


def _next(document: dict[str, Any]) -> list[str]:
    """Where the files are, and what one does with them."""
    there = [one["name"] for one in document["artifacts"] if one["status"] in ("written", "current")]
    if not there:
        return []
    folder = Path(document["folder"])
    return [f"in {folder.resolve()}", f"next: python -m edge.validate {shlex.quote(f'{folder / there[-1]}.tflite')} --images DIR"]


@dataclasses.dataclass(frozen=True, repr=False)
class Conversions(Result):
    """What became of every recipe of every model.

    Attributes:
        cells: each of them.
        counts: lines that say how many files there are not.
        exit_code: the command's.
    """

    cells: Sequence[Any]
    shown: Table
    counts: Sequence[str]
    exit_code: int

    def table(self) -> Table:
        return self.shown


def convert(
    model: Any = None,
    quant: str | Sequence[str] = (),
    *,
    checkpoint: str | Path | None = None,
    ema: bool = True,
    weights: str | Path | None = None,
    calibration: str | Path = "builtin",
    calibration_samples: int = 128,
    drift_samples: int | None = None,
    agreement_samples: int | None = None,
    seed: int = 0,
    labels: str | Path | Sequence[str] | None = None,
    input: str = "float32",
    model_input: str = "auto",
    resize: Size | str | None = None,
    crop: float | None = None,
    interpolation: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels: str | None = None,
    image_size: Size | None = None,
    window: int | None = None,
    trust_model: bool = False,
    imports: Sequence[str] = (),
    output: str = AUTO,
    out: str | Path = "artifacts",
    gate: bool = True,
    max_top1_drop: float | None = None,
    min_agreement: float | None = None,
    min_snr: float | None = None,
    max_size: float | None = None,
    repair: bool = True,
    explain: bool = False,
    position_tables: bool = True,
    portable: bool = False,
    min_runtime: tuple[int, ...] | None = None,
    cache: str | Path | None = None,
    no_cache: bool = False,
    jobs: int = 1,
    cluster: str | None = None,
    memory_check: bool = True,
    save: str | Path | None = None,
    force: bool = False,
    name: str | None = None,
    quiet: bool = False,
) -> Artifact | list[Artifact]:
    """A Keras model to TFLite files, checked before they are written.

    >>> artifact = edge.convert("nano32", "int8")
    >>> artifact = edge.convert(model, "int8", calibration="photos")
    >>> artifact = edge.convert(checkpoint="runs/best", quant="int8")

    Args:
        model: a variant's id, a comma list of them or "all"; the path of a saved `.keras`; or a Keras model in memory. With a checkpoint:
            the id of the variant that it should be, or None.
        checkpoint: a folder or file of anyone's, or "hf://OWNER/NAME", instead of a model.
        ema: of a checkpoint with a moving average of its weights, take the average.
        quant: a recipe, a comma list or sequence of them, or "all".
        labels: class names in the model's order, or a text file of them.
        name: what the files of a model in memory are called; the model's own name by default.
        quiet: no progress on stderr.

    The other arguments are the command's flags (`python -m edge.convert --help`).

    Returns:
        The artifact; a list where several were asked for. One that missed its limits is not written: its `passed` is False, its `path`
        None and its `file` empty (`gate=False` writes it).

    Raises:
        UserError: as the command prints it. Of several files, those that came before it are written.
    """
    given = {name: value for name, value in locals().items() if name not in ("model", "quant", "quiet")}
    own = model is not None and (not isinstance(model, str) or model.endswith(_SAVED))
    recipes = quant if isinstance(quant, str) else ",".join(quant)
    with progress_on_stderr(quiet):
        found = _converted(variant=None if own else model, model=model if own else None, quant=recipes, **given)
    for error in (cell.error for cell in found.cells if cell.error is not None):
        raise error
    from edge.conversion import command

    artifacts = [command.artifact_of(cell) for cell in found.cells]
    return artifacts[0] if len(artifacts) == 1 and isinstance(quant, str) and "," not in quant else artifacts


def _converted(
    *, variant: str | None, model: Any, checkpoint: str | Path | None, ema: bool, quant: str, weights: str | Path | None,
    calibration: str | Path, calibration_samples: int,
    drift_samples: int | None, agreement_samples: int | None, seed: int, labels: Any, input: str, model_input: str,
    resize: Size | str | None, crop: float | None, interpolation: str | None, mean: Sequence[float] | None, std: Sequence[float] | None,
    channels: str | None, image_size: Size | None, window: int | None, trust_model: bool, imports: Sequence[str], output: str,
    out: str | Path,
    gate: bool, max_top1_drop: float | None, min_agreement: float | None, min_snr: float | None, max_size: float | None, repair: bool,
    explain: bool,
    position_tables: bool, portable: bool, min_runtime: tuple[int, ...] | None, cache: str | Path | None, no_cache: bool, jobs: int,
    cluster: str | None, memory_check: bool, save: str | Path | None, force: bool, name: str | None = None,
) -> Conversions:  # fmt: skip
    """What the command and the function do; the arguments are the command's."""
    recipes = _listed(quant, RECIPES, find_recipe)
    usage.require_one_model(variant, model, checkpoint)
    variants = _listed(variant, VARIANTS, find_variant) if variant is not None else []
    usage.require_fitting_model(
        variant=variant, count=len(variants), model=model, checkpoint=checkpoint, weights=weights, trust_model=trust_model,
        model_input=model_input, channels=channels, output=output, imports=imports, image_size=image_size, window=window,
    )  # fmt: skip
    usage.require_fitting_recipes(recipes, max_size=max_size, portable=portable, input=input)
    if jobs < 1:
        raise UsageError("nothing to do", expected="--jobs of at least 1", received=str(jobs), action="leave --jobs out")
    given = (tuple(mean) if mean is not None else None, tuple(std) if std is not None else None)
    said = ModelInput(model_input, resize, crop, interpolation, *given, channels)
    require_extra("edge", "converting")
    if explain:
        require_matplotlib("--explain")
    if cluster:
        require_extra("cluster", "--cluster")
    store = flags.chosen_store(cache, no_cache)
    from edge.conversion import command

    settings = {
        "calibration": str(calibration), "calibration_samples": calibration_samples, "agreement_samples": agreement_samples,
        "seed": seed, "input_dtype": input, "output": output,
        "gate": gate, "min_snr_db": min_snr, "min_agreement": min_agreement, "max_top1_drop": max_top1_drop, "folder": Path(out),
        "max_size_bytes": None if max_size is None else round(max_size * 1e6),
        "force": force, "repair": repair, "explain": explain, "min_runtime": min_runtime, "position_tables": position_tables,
        "portable": portable,
    }  # fmt: skip
    cells = command.convert(
        variants=variants, weights=str(weights or "auto"), model=model, model_name=name, checkpoint=checkpoint, ema=ema, model_input=said,
        trusted=trust_model,
        imports=imports, recipes=recipes, labels=labels, drift_samples=drift_samples, settings=settings, store=store, jobs=jobs,
        cluster=cluster, check_memory=memory_check, save=Path(save) if save else None, image_size=image_size, window=window,
    )  # fmt: skip
    return Conversions(*command.summary(cells, explain))


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


make_callable(__name__, convert)

if __name__ == "__main__":
    sys.exit(main())
