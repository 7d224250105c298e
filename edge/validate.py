"""`python -m edge.validate FILE --images DIR`: a file against the float Keras model it was made from, on images of yours.

The reference is rebuilt from the manifest beside FILE. Three differences are printed apart: preprocessing (what the app does to an image
against what the model was made for), export (Keras against its float32 file) and quantization (the float32 file against FILE).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge import flags
from edge.front_door import Result, Table, called, make_callable, progress_on_stderr
from edge.runtime.machine import usable_cores
from tfvit.errors import EXIT_CHECK_FAILED, EXIT_OK, UsageError
from tfvit.extras import require_extra
from tfvit.preprocessing import MODEL_INPUTS, ModelInput
from tfvit.terminal import Parser, Terminal, run

# --app-preprocessing -> in words
APP_PREPROCESSING = {
    "manifest": "as the manifest says",
    "bilinear": "bilinear instead of bicubic",
    "squash": "both sides straight to the input's size, aspect not kept",
    "squash-bilinear": "both, as plain bitmap scaling does",
}
BUILTIN_SAMPLES = 256
# The float32 file's answers are Keras's to six digits or more; that takes no more images to see
FLOAT32_SAMPLES = 1024

_EPILOG = """examples:
  python -m edge.validate artifacts/nano32-int8.tflite --images photos
  python -m edge.validate artifacts/my_finetuned-int8.tflite --model my_finetuned.keras --images photos --layers

exit codes: 0 within the limits, 1 a limit missed or not the file its manifest describes, 2 wrong usage, 3 unusable input
Answers are kept (--cache), so that a run that was stopped goes on where it was, and the next recipe of a model costs only its own run.
"""


def parser() -> Parser:
    """The command line of CONTRACT, and more."""
    parser = Parser(prog="python -m edge.validate", description=__doc__, epilog=_EPILOG)
    parser.add_argument("file", type=Path, metavar="FILE", help="a .tflite with its manifest beside it")
    parser.add_argument(
        "--images",
        default="builtin",
        help="folder or zip; LABEL/NAME in it gives accuracies; or builtin, generated ones (default: %(default)s)",
    )
    parser.add_argument("--samples", type=int, help=f"how many of the images (default: all; of builtin {BUILTIN_SAMPLES})")
    parser.add_argument("--seed", type=int, default=0, help="which, where not all (default: %(default)s)")
    parser.add_argument("--labels", type=Path, help="text file with the class names in the model's order (default: those of the artifact)")
    parser.add_argument("--weights", type=Path, help="the checkpoint FILE was made from, where the manifest names a file of yours")
    parser.add_argument("--model", type=Path, help="the saved .keras model FILE was made from, where the manifest names one")
    parser.add_argument("--checkpoint", metavar="PATH", help="the checkpoint FILE was made from with --checkpoint, or hf://OWNER/NAME")
    parser.add_argument("--trust-model", action="store_true", help="run Python code in --model (lambdas): only where you trust the file")
    flags.add_import_flag(parser)
    parser.add_argument("--model-input", choices=MODEL_INPUTS, default="auto", help="instead of what the manifest recorded (default: auto)")
    parser.add_argument(
        "--app-preprocessing",
        choices=APP_PREPROCESSING,
        default="manifest",
        help="; ".join(f"{name}: {words}" for name, words in APP_PREPROCESSING.items()) + " (default: %(default)s)",
    )
    parser.add_argument(
        "--float32-samples",
        type=_number_or_all,
        default=FLOAT32_SAMPLES,
        metavar="N|all",
        help="on how many of the images, spread over all, the float32 file runs too, to tell export from quantization; the gate and the "
        "total difference are of all images (default: %(default)s)",
    )
    parser.add_argument("--layers", action="store_true", help="where the error comes from: every dense layer beside its float one")
    parser.add_argument("--layer-samples", type=int, default=8, help="on how many of the images (default: %(default)s)")
    parser.add_argument("--max-top1-drop", type=flags.finite, help="limit in percentage points (default: the manifest's)")
    parser.add_argument(
        "--min-agreement", type=flags.finite, help="limit, fraction of images with the same top-1 (default: the manifest's)"
    )
    parser.add_argument("--min-snr", type=flags.finite, help="limit in dB (default: the manifest's)")
    parser.add_argument("--jobs", "--threads", dest="jobs", type=int, metavar="N", help="images side by side (default: as many as cores)")
    flags.add_cache_flags(parser)
    parser.add_argument(
        "--thumbnails",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="small pictures of the images with another answer, in JSON",
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE.json", help="write the JSON document there as well; edge.report reads it (default: nowhere)"
    )
    parser.group("on what", "file", "--images", "--samples", "--seed", "--labels", "--app-preprocessing")
    parser.group("what it was made from", "--weights", "--model", "--checkpoint", "--trust-model", "--import", "--model-input")
    parser.group("limits", "--max-top1-drop", "--min-agreement", "--min-snr")
    parser.group("more", "--layers", "--layer-samples", "--float32-samples", "--jobs", "--cache", "--no-cache", "--thumbnails", "--save")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _command, argv)


def _command(arguments: argparse.Namespace, terminal: Terminal) -> int:
    found = called(validate, arguments, terminal)
    columns, rows, closing = found.table()
    terminal.result(found.document, columns, rows, [*closing, *terminal.progress.seconds_line()])
    return EXIT_OK if found.passed else EXIT_CHECK_FAILED


class Validation(Result):
    """How far a file is from its model on images: the document of docs/validation.md. Its `repr` is the command's table."""

    @property
    def passed(self) -> bool:
        """Whether the file is within its limits."""
        return self.document["gate"]["passed"]

    @property
    def failures(self) -> list[str]:
        """What missed its limit, as sentences."""
        return self.document["gate"]["failures"]

    def table(self) -> Table:
        from edge.validation import command

        return command.table(self.document)


def validate(
    file: Any,
    images: str | Path = "builtin",
    *,
    samples: int | None = None,
    seed: int = 0,
    labels: Path | str | Sequence[str] | None = None,
    weights: Path | str | None = None,
    model: Any = None,
    checkpoint: Path | str | None = None,
    trust_model: bool = False,
    imports: Sequence[str] = (),
    model_input: str = "auto",
    app_preprocessing: str = "manifest",
    float32_samples: int | None = FLOAT32_SAMPLES,
    layers: bool = False,
    layer_samples: int = 8,
    max_top1_drop: float | None = None,
    min_agreement: float | None = None,
    min_snr: float | None = None,
    jobs: int | None = None,
    cache: Path | str | None = None,
    no_cache: bool = False,
    thumbnails: bool = True,
    save: Path | str | None = None,
    quiet: bool = False,
) -> Validation:
    """A file against the float Keras model it was made from, on images of yours.

    >>> edge.validate("artifacts/nano32-int8.tflite", "photos").passed

    Args:
        file: a `.tflite` with its manifest beside it, or an `Artifact`.
        images: a folder or zip, `LABEL/NAME` in it gives accuracies; or "builtin".
        model: the model it was made from, where that is one of yours: a saved `.keras`, or the model in memory.
        labels: the class names in the model's order, or a text file of them.
        float32_samples: None for all images.
        quiet: no progress on stderr.

    The other arguments are the command's flags (`python -m edge.validate --help`).

    Raises:
        UserError: as the command prints it.
    """
    _check_numbers(samples, layer_samples, jobs, seed)
    require_extra("edge", "validating", "ai_edge_litert", "scipy", "platformdirs")
    store = flags.chosen_store(cache, no_cache)
    from edge.validation import command

    with progress_on_stderr(quiet):
        return Validation(
            command.validate(
                file=file,
                images=images,
                samples=samples,
                seed=seed,
                labels=labels,
                weights=weights,
                model=model,
                checkpoint=checkpoint,
                trust_model=trust_model,
                imports=imports,
                model_input=ModelInput(model_input),
                app_preprocessing=app_preprocessing,
                float32_samples=float32_samples,
                layer_samples=layer_samples if layers else 0,
                limits={"min_snr_db": min_snr, "min_agreement": min_agreement, "max_top1_drop": max_top1_drop},
                threads=jobs or usable_cores(),
                store=store,
                thumbnails=thumbnails,
                save=save,
            )
        )


def _check_numbers(samples: int | None, layer_samples: int, jobs: int | None, seed: int) -> None:
    for flag, value in (("--samples", samples), ("--layer-samples", layer_samples), ("--jobs", jobs)):
        if value is not None and value < 1:
            raise UsageError("nothing to do", expected=f"{flag} of at least 1", received=str(value), action=f"leave {flag} out")
    if seed < 0:
        raise UsageError("unusable seed", expected="--seed of at least 0", received=str(seed), action="leave it out")


def _number_or_all(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number of at least 1, or all. Received: {text}")
    return int(text)


make_callable(__name__, validate)

if __name__ == "__main__":
    sys.exit(main())
