"""One page on a folder of artifacts: what passed, what to ship on which target and why, and every figure behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.front_door import Result, Table, make_callable, progress_on_stderr
from tfvit.errors import UsageError, no_such_folder
from tfvit.extras import require_extra

# argument (the flag's name), its default, the field of compare.Tolerances it sets, what it says
TOLERANCES = (
    ("max_growth", 2.0, "size_percent", "percent that a file may grow"),
    ("max_more_ops", 5.0, "ops_percent", "percent of operations that may be added"),
    ("max_more_partitions", 0.0, "partitions", "XNNPACK partitions that may be added"),
    ("max_snr_loss", 1.0, "snr_db", "dB of logits SNR that may be lost"),
    ("max_agreement_loss", 1.0, "agreement_points", "points of equal top-1 that may be lost"),
    ("max_top1_loss", 0.5, "top1_points", "points of validated top-1 that may be lost"),
    ("max_slowdown", 10.0, "latency_percent", "percent that a file may be slower, where both were measured on the same machine"),
)


@dataclasses.dataclass(frozen=True, repr=False)
class Report(Result):
    """What the page says. Its `repr` is the command's table.

    Attributes:
        path: of the page; NAME.json lies beside it.
    """

    path: Path = Path()

    @property
    def passed(self) -> bool:
        """Whether every check of every file passed."""
        return self.document["passed"]

    def table(self) -> Table:
        from edge.report.command import table

        return table(self.document, self.path)


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """What changed between two folders. Its `repr` is Markdown.

    Attributes:
        document: the same as JSON.
        markdown: the same as text.
    """

    document: dict[str, Any]
    markdown: str

    @property
    def passed(self) -> bool:
        """Whether nothing got worse than it may."""
        return self.document["passed"]

    def __repr__(self) -> str:
        return self.markdown.rstrip()


def report(
    directory: str | Path | None = None,
    *,
    device: str | Path | Sequence[str | Path] = (),
    output: str | Path | None = None,
    force: bool = False,
    compare: Sequence[str | Path] | None = None,
    max_growth: float = 2.0,
    max_more_ops: float = 5.0,
    max_more_partitions: float = 0.0,
    max_snr_loss: float = 1.0,
    max_agreement_loss: float = 1.0,
    max_top1_loss: float = 0.5,
    max_slowdown: float = 10.0,
    quiet: bool = False,
) -> Report | Comparison:
    """One page on a folder of artifacts, or what changed between two of them.

    >>> edge.report("artifacts")

    Args:
        directory: folder of artifacts and of what was measured of them.
        device: reports of phones.
        output: the page (`DIRECTORY/report.html`), NAME.json beside it; of a comparison a Markdown file.
        force: overwrite files that are not of ours.
        compare: two folders instead of one: what changed from the first to the second. The limits say how much worse is not worse.
        quiet: no progress on stderr.

    Raises:
        UserError: as the command prints it.
    """
    given = locals()
    if (directory is None) == (compare is None):
        raise UsageError(
            "one folder, or two to compare",
            expected="DIR, or --compare A B",
            received="neither" if compare is None else "both",
            action="python -m edge.report artifacts",
        )
    devices = [Path(device)] if isinstance(device, str | Path) else [Path(one) for one in device]
    if compare is not None:
        tolerances = {field: given[name] for name, _, field, _ in TOLERANCES}
        return _compared([Path(folder) for folder in compare], tolerances, devices, Path(output) if output else None, force)
    folder = Path(str(directory)) if not isinstance(directory, Path) else directory
    page = Path(output) if output else folder / "report.html"
    _require_ending(page, ".html")
    require_extra("report", "the page")
    for needed in (folder, page.parent):
        _require_folder(needed)
    from edge.report import command

    with progress_on_stderr(quiet):
        return Report(command.report(folder, devices, page, force), page)


def _compared(
    folders: Sequence[Path], tolerances: dict[str, float], devices: Sequence[Path], output: Path | None, force: bool
) -> Comparison:
    if len(folders) != 2:
        raise UsageError("two folders to compare", expected="A and B", received=f"{len(folders)} of them", action="name both")
    if devices:
        raise UsageError(
            "--device has no part in a comparison",
            expected="--compare A B alone",
            received="--device",
            action="put the phones' reports into the folders",
        )
    if output:
        _require_ending(output, ".md")
        _require_folder(output.parent)
    wrong = [f"--{name.replace('_', '-')}" for name, _, field, _ in TOLERANCES if not 0 <= tolerances[field] < float("inf")]
    if wrong:
        raise UsageError(
            "bad tolerance", expected="a number of at least 0", received=", ".join(wrong), action="leave it out for the default in --help"
        )
    require_extra("report", "a comparison", "jsonschema")
    from edge.report import command

    return Comparison(*command.comparison(folders[0], folders[1], tolerances, output, force))


def _require_ending(output: Path, ending: str) -> None:
    if output.suffix != ending:
        raise UsageError("another kind of file", expected=f"-o NAME{ending}", received=str(output), action=f"give it the ending {ending}")


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise no_such_folder(folder)


make_callable(__name__, report)
