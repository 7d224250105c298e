"""The report's plots, as SVG by matplotlib.

They are drawn in place-holder colours, which the page's style sheet replaces: one drawing is right in light, dark and print. Every plot is
as wide as a phone's column, and its text is 12 px.
"""

from __future__ import annotations

import dataclasses
import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

_WIDTH_PT, _FONT_PT = 240, 9
_ROW_PT, _FRAME_PT, _LETTER_PT = 19, 54, 5.4
_MOST_LETTERS = 22
LIMIT_NOTE = "Upright line: the least allowed."
# Beyond this ratio the axis is logarithmic: fast files would be dots on a linear one
_LOG_FROM = 8
# Place-holder colours, and what the page shows instead
_INK, _LINE, _FIRST, _SECOND, _BAD = "#010101", "#020202", "#030303", "#040404", "#050505"
_SHOWN = {_INK: "currentColor", _LINE: "var(--line)", _FIRST: "var(--first)", _SECOND: "var(--second)", _BAD: "var(--bad)"}


@dataclasses.dataclass(frozen=True)
class Plot:
    """A drawing, its title, and how to read it."""

    title: str
    note: str
    svg: str


@dataclasses.dataclass(frozen=True)
class Bar:
    """One row of bars. `text` is written behind the bar; `strong` bars are in colour."""

    label: str
    value: float | None
    text: str
    bad: bool = False
    limit: float | None = None
    strong: bool = True


@dataclasses.dataclass(frozen=True)
class Point:
    """One row of dots: a share in per cent, with its interval and limit where it has them."""

    label: str
    value: float | None
    text: str
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    bad: bool = False
    strong: bool = True


@dataclasses.dataclass(frozen=True)
class Spread:
    """A latency distribution in milliseconds, and whether the measurement is valid."""

    label: str
    p5: float
    median: float
    p90: float
    p95: float
    least: float
    valid: bool = True


class Plots:
    """Draws the plots of one page, and numbers them so that no two share an id."""

    def __init__(self) -> None:
        self._drawn = 0

    def bars(self, title: str, unit: str, bars: Sequence[Bar], note: str = "") -> Plot:
        """Horizontal bars from zero with their figures, from top to bottom. A limit is a short upright line."""
        with self._axes(len(bars)) as (figure, axes):
            values = [bar.value for bar in bars if bar.value is not None] + [bar.limit for bar in bars if bar.limit is not None]
            most, least = max(values, default=1.0), min(0.0, *values, 0.0)
            for position, bar in enumerate(bars):
                if bar.value is not None:
                    axes.barh(position, bar.value, height=0.62, color=_color(bar.bad, bar.strong))
                if bar.limit is not None:
                    _limit(axes, bar.limit, position)
                _write(axes, bar.text, max(bar.value or 0.0, bar.limit or 0.0), position)
            axes.set_xlim(least, most + (most - least or 1.0) * _room(bars))
            _rows(axes, [bar.label for bar in bars])
            axes.set_xlabel(unit)
            return self._plot(figure, title, note, [f"{bar.label} {bar.text}" for bar in bars])

    def points(self, title: str, unit: str, points: Sequence[Point], note: str, reference: float | None = None) -> Plot:
        """Dots with their intervals, on an axis that shows their differences. `reference` is a broken line through all rows."""
        with self._axes(len(points)) as (figure, axes):
            known = [value for one in points for value in (one.value, one.low, one.high, one.limit) if value is not None]
            known += [] if reference is None else [reference]
            most, least = max(known, default=100.0), min(known, default=0.0)
            span = most - least or 1.0
            if reference is not None:
                axes.axvline(reference, color=_SECOND, linewidth=1.2, linestyle=(0, (4, 3)))
            for position, one in enumerate(points):
                color = _color(one.bad, one.strong)
                if one.low is not None and one.high is not None:
                    axes.plot([one.low, one.high], [position, position], color=color, linewidth=2, solid_capstyle="butt")
                if one.value is not None:
                    axes.plot(one.value, position, "o", color=color, markersize=6)
                if one.limit is not None:
                    _limit(axes, one.limit, position)
                ends = [value for value in (one.value, one.high, one.limit) if value is not None]
                _write(axes, one.text, max(ends, default=least), position)
            axes.set_xlim(least - 0.08 * span, most + span * _room(points))
            _rows(axes, [one.label for one in points])
            axes.set_xlabel(unit)
            return self._plot(figure, title, note, [f"{one.label} {one.text}" for one in points])

    def spreads(self, title: str, spreads: Sequence[Spread]) -> Plot:
        """Latency: a thin line from the least to p95, a thick one from p5 to p90, a dot at the median, hollow where not valid."""
        with self._axes(len(spreads)) as (figure, axes):
            for position, one in enumerate(spreads):
                color = _FIRST if one.valid else _SECOND
                axes.plot([one.least, one.p95], [position, position], color=color, linewidth=1.2, solid_capstyle="butt")
                axes.plot([one.p5, one.p90], [position, position], color=color, linewidth=7, alpha=0.45, solid_capstyle="butt")
                axes.plot(one.median, position, "o", color=color, markersize=6, markerfacecolor=color if one.valid else "none")
            most, least = max((one.p95 for one in spreads), default=1.0), min((one.least for one in spreads), default=0.0)
            _rows(axes, [one.label for one in spreads])
            wide = least > 0 and most > _LOG_FROM * least
            if wide:
                _logarithmic(axes, least, most)
            else:
                axes.set_xlim(0, 1.05 * most)
            axes.set_xlabel(f"ms{', logarithmic' if wide else ''}")
            words = [
                f"{one.label} median {one.median:.2f} ms, p5 {one.p5:.2f}, p90 {one.p90:.2f}{'' if one.valid else ', not valid'}"
                for one in spreads
            ]
            return self._plot(figure, title, "Dot: median; thick: p5 to p90; thin: least to p95; hollow: not valid.", words)

    def coverage(self, title: str, rows: Sequence[tuple[str, int, int]]) -> Plot:
        """How many of a file's operations a delegate takes: (label, taken, all)."""
        with self._axes(len(rows)) as (figure, axes):
            for position, (_, taken, total) in enumerate(rows):
                part = 100 * taken / max(total, 1)
                axes.barh(position, part, height=0.62, color=_FIRST)
                axes.barh(position, 100 - part, left=part, height=0.62, color=_LINE)
                axes.annotate(f"{taken}/{total}", (100, position), xytext=(4, 0), textcoords="offset points", va="center", color=_INK)
            axes.set_xlim(0, 152)
            axes.set_xticks([0, 50, 100])
            _rows(axes, [label for label, _, _ in rows])
            axes.set_xlabel("% of operations")
            return self._plot(figure, title, "", [f"{label} {taken} of {total}" for label, taken, total in rows])

    def reliability(self, title: str, reference: Sequence[Mapping[str, Any]], target: Sequence[Mapping[str, Any]]) -> Plot:
        """Confidence against accuracy of both sides. On the diagonal a model is as sure as it is right."""
        with self._axes(9) as (figure, axes):
            axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1)
            words = []
            for bins, name, color, style in ((reference, "Keras", _SECOND, "s--"), (target, "file", _FIRST, "o-")):
                points = [
                    (one["confidence"], one["accuracy"])
                    for one in bins
                    if one["count"] and None not in (one["confidence"], one["accuracy"])
                ]
                axes.plot([x for x, _ in points], [y for _, y in points], style, color=color, label=name, markersize=4, linewidth=1.4)
                words += [f"{name} {x:.2f} sure, {y:.2f} right" for x, y in points]
            axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="share right")
            axes.grid(color=_LINE, linewidth=0.6)
            axes.legend(frameon=False, labelcolor=_INK, loc="upper left", fontsize=_FONT_PT)
            return self._plot(figure, title, "", words)

    def pairs(self, title: str, unit: str, rows: Sequence[tuple[str, float, float]]) -> Plot:
        """Reference and target of each row on one line: (label, reference, target)."""
        with self._axes(len(rows), extra_pt=16) as (figure, axes):
            for position, (_, reference, target) in enumerate(rows):
                axes.plot([reference, target], [position, position], color=_BAD if target < reference else _FIRST, linewidth=2)
            axes.plot([one for _, one, _ in rows], range(len(rows)), "s", color=_SECOND, markersize=5, label="Keras", linestyle="none")
            axes.plot([one for _, _, one in rows], range(len(rows)), "o", color=_FIRST, markersize=5, label="file", linestyle="none")
            _rows(axes, [label for label, _, _ in rows])
            axes.set_xlabel(unit)
            axes.legend(frameon=False, labelcolor=_INK, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=_FONT_PT)
            return self._plot(figure, title, "", [f"{label}: Keras {one:.1f}, file {other:.1f}" for label, one, other in rows])

    @contextmanager
    def _axes(self, rows: int, extra_pt: float = 0.0) -> Iterator[tuple[Any, Any]]:
        import matplotlib
        from matplotlib.figure import Figure

        settings = {
            "svg.fonttype": "none",
            "svg.hashsalt": "tfvit edge.report",
            "text.parse_math": False,  # names are text: a dollar sign in one starts no formula
            "text.usetex": False,
            "font.family": "DejaVu Sans",
            "font.size": _FONT_PT,
            "axes.edgecolor": _LINE,
            "axes.labelcolor": _INK,
            "axes.labelsize": _FONT_PT,
            "xtick.color": _LINE,
            "ytick.color": _LINE,
            "xtick.labelcolor": _INK,
            "ytick.labelcolor": _INK,
            "xtick.labelsize": _FONT_PT,
            "ytick.labelsize": _FONT_PT,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
        with matplotlib.rc_context(settings), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # letters DejaVu lacks: the browser has its own fonts
            height = _FRAME_PT + _ROW_PT * max(rows, 1) + extra_pt
            figure = Figure(figsize=(_WIDTH_PT / 72, height / 72), dpi=72, layout="constrained")
            axes = figure.subplots()
            axes.patch.set_visible(False)
            axes.locator_params(axis="x", nbins=4)
            yield figure, axes

    def _plot(self, figure: Any, title: str, note: str, words: Sequence[str]) -> Plot:
        self._drawn += 1
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        return Plot(title, note, _inline(buffer.getvalue(), f"plot{self._drawn}", f"{title}: {'; '.join(words)}"))


def _color(bad: bool, strong: bool) -> str:
    return _BAD if bad else _FIRST if strong else _SECOND


def _limit(axes: Any, value: float, position: int) -> None:
    axes.plot([value, value], [position - 0.42, position + 0.42], color=_INK, linewidth=1.8, solid_capstyle="butt")


def _write(axes: Any, text: str, behind: float, position: int) -> None:
    axes.annotate(text, (behind, position), xytext=(6, 0), textcoords="offset points", va="center", ha="left", color=_INK)


def _room(rows: Sequence[Bar | Point]) -> float:
    """The space for the longest text behind the longest row, as a share of that row."""
    letters = max((len(_short(row.label)) for row in rows), default=0)
    width = _WIDTH_PT - 14 - _LETTER_PT * letters
    part = min((10 + _LETTER_PT * max((len(row.text) for row in rows), default=0)) / width, 0.6)
    return part / (1 - part)


def _logarithmic(axes: Any, least: float, most: float) -> None:
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(0.8 * least, 1.25 * most)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if most > 30 * least else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(NullLocator())


def _rows(axes: Any, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), [_short(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)


def _short(label: str) -> str:
    """A long name without its middle; the table beside the plot has it in full."""
    label = " ".join(label.split())
    return label if len(label) <= _MOST_LETTERS else f"{label[: _MOST_LETTERS // 2 - 1]}…{label[-(_MOST_LETTERS // 2) :]}"


def _inline(svg: str, prefix: str, words: str) -> str:
    """An SVG to put into a page: with ids of its own, the page's fonts and colours, and `words` for screen readers."""
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r"<[^>]+>", lambda tag: _inline_tag(tag[0], prefix), svg)  # tags alone: what stands between them is names
    svg = "\n".join(line.strip() for line in svg.splitlines() if line.strip())
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(words, quote=True)}"', 1)


def _inline_tag(tag: str, prefix: str) -> str:
    tag = re.sub(r'\s+(?:xmlns(?::\w+)?|version)="[^"]*"', "", tag).replace("xlink:href=", "href=")
    for before in ('id="', 'href="#', "url(#"):
        tag = tag.replace(before, f"{before}{prefix}-")
    tag = re.sub(r"font: ([\d.]+px) [^;\"]*|font-family: [^;\"]*;?", lambda found: f"font-size: {found[1]}" if found[1] else "", tag)
    for drawn, shown in _SHOWN.items():
        tag = tag.replace(drawn, shown)
    return tag
