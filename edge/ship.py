"""`python -m edge.ship (MODEL | --variant | --checkpoint)`: from a model to an app: convert, validate, benchmark, report, bundle.

What is current is not made again. A step that fails stops what needs its result, and nothing else: run the command again to go on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge import flags
from edge.front_door import Result, Table, called, make_callable, progress_on_stderr
from tfvit.errors import UsageError
from tfvit.terminal import Parser, Terminal, run

_QUANT = "float32,float16,int8"
_EPILOG = """examples:
  python -m edge.ship --variant nano32
  python -m edge.ship my_finetuned.keras --labels labels.txt --images photos --app MyApp
  python -m edge.ship --checkpoint runs/best --images photos --app MyApp

exit codes: the worst of the steps: 0 done, 1 a check failed, 2 wrong usage, 3 unusable environment or input
"""


def parser() -> Parser:
    parser = Parser(prog="python -m edge.ship", description=__doc__, epilog=_EPILOG)
    what = parser.add_argument_group("what to ship, one of them")
    what.add_argument("model", nargs="?", metavar="MODEL", help="a saved .keras with one of our backbones inside")
    what.add_argument("--variant", help="the id of a variant, for example nano32")
    what.add_argument("--checkpoint", help="a checkpoint as its maker left it, or hf://OWNER/NAME")
    ways = parser.add_argument_group("how")
    ways.add_argument("--quant", default=_QUANT, metavar="LIST", help="recipes (default: %(default)s)")
    ways.add_argument(
        "--images", type=Path, metavar="DIR", help="validate on them; DIR/LABEL/NAME gives accuracies (default: no validation)"
    )
    ways.add_argument("--samples", type=int, metavar="N", help="how many of the images (default: all)")
    ways.add_argument("--app", type=Path, metavar="DIR", help="an app's project, as edge.bundle takes it (default: no bundle)")
    ways.add_argument("--out", type=Path, default=Path("artifacts"), metavar="DIR", help="where everything goes (default: %(default)s)")
    ways.add_argument(
        "--preset", default="quick", choices=("quick", "default", "mlperf"), help="how long to measure (default: %(default)s)"
    )
    ways.add_argument("--weights", help="of --variant, as edge.convert takes them (default: auto)")
    ways.add_argument("--labels", type=Path, metavar="FILE", help="one class name a line (default: the model's own)")
    ways.add_argument("--calibration", default="builtin", metavar="DIR", help="images to calibrate with (default: %(default)s)")
    ways.add_argument("--output", default="auto", help="what the file gives, as edge.convert takes it (default: %(default)s)")
    ways.add_argument("--trust-model", action="store_true", help="MODEL may run code of its own while it is loaded")
    flags.add_preprocessing_flags(parser)
    parser.group("how an image becomes the model's input", *flags.PREPROCESSING_FLAGS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(parser(), _command, argv)


def _command(arguments: argparse.Namespace, terminal: Terminal) -> int:
    found = called(ship, arguments, terminal)
    terminal.result(found.document, *found.table())
    return found.exit_code


class Shipment(Result):
    """What was made and where it is. Its `repr` is what the command prints."""

    @property
    def exit_code(self) -> int:
        """The worst of the steps."""
        return self.document["exit_code"]

    @property
    def passed(self) -> bool:
        """Whether every step that was asked for is done."""
        return self.exit_code == 0

    def table(self) -> Table:
        from edge.shipping import command

        return command.table(self.document)


def ship(
    model: Any = None,
    *,
    variant: str | None = None,
    checkpoint: str | Path | None = None,
    quant: str | Sequence[str] = _QUANT,
    images: str | Path | None = None,
    samples: int | None = None,
    app: str | Path | None = None,
    out: str | Path = "artifacts",
    preset: str = "quick",
    weights: str | Path | None = None,
    labels: str | Path | Sequence[str] | None = None,
    calibration: str | Path = "builtin",
    output: str = "auto",
    trust_model: bool = False,
    model_input: str = "auto",
    resize: int | str | None = None,
    crop: float | None = None,
    interpolation: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels: str | None = None,
    quiet: bool = False,
) -> Shipment:
    """From a model to an app: convert, validate, benchmark, report, bundle.

    >>> edge.ship("nano32", app="MyApp")

    Args:
        model: the id of a variant, the path of a saved `.keras`, or a Keras model in memory.
        variant: the id of a variant, as the command's flag.
        images: validate on them.
        app: an app's project, as `edge.bundle` takes it.
        out: the folder of everything that is made.
        quiet: no progress on stderr.

    The other arguments are the command's flags (`python -m edge.ship --help`).

    Raises:
        UserError: wrong usage. An error of a step is in the result: the others went on.
    """
    chosen = [one for one in (model, variant, checkpoint) if one is not None]
    if len(chosen) != 1:
        raise UsageError(
            "nothing, or too much, to ship",
            expected="MODEL, --variant or --checkpoint, one of them",
            received=" and ".join(map(str, chosen)) or "none of them",
            action="for example python -m edge.ship --variant nano32",
        )
    conversion = {
        "weights": weights, "labels": labels, "calibration": calibration, "output": output, "trust_model": trust_model,
        "model_input": model_input, "resize": resize, "crop": crop, "interpolation": interpolation, "mean": mean, "std": std,
        "channels": channels,
    }  # fmt: skip
    recipes = tuple(dict.fromkeys(quant.split(",") if isinstance(quant, str) else quant))
    from edge.shipping import command

    with progress_on_stderr(quiet):
        return Shipment(
            command.ship(
                model=model if model is not None else variant,
                checkpoint=checkpoint,
                recipes=recipes,
                images=Path(images) if images else None,
                app=Path(app) if app else None,
                out=Path(out),
                conversion=conversion,
                samples=samples,
                preset=preset,
            )
        )


make_callable(__name__, ship)

if __name__ == "__main__":
    sys.exit(main())
