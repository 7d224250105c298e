"""The HTML page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources

from edge.artifacts.artifact import assumed
from edge.report import tables
from edge.report.checks import Check, failures
from edge.report.inputs import Inputs
from edge.report.recommend import MEASURED, Recommendation
from edge.report.sections import sections
from edge.report.summary import verdict, warnings


def render(inputs: Inputs, found: Sequence[Check], recommended: Sequence[Recommendation], version: str) -> str:
    """The text of the page. Equal inputs give equal text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    script, style = _text("page.js"), _text("page.css")
    sentences = verdict(found, recommended)
    return environment.from_string(_text("page.html.jinja")).render(
        title=f"Report on {inputs.title}",
        version=version,
        passed=not failures(found),
        any_files=bool(inputs.files),
        unsure=any(assumed(facts.manifest) for facts in inputs.files),
        sentences=sentences,
        failed=failures(found),
        warnings=warnings(inputs),
        models={model: [one for one in recommended if one.model == model] for model in dict.fromkeys(one.model for one in recommended)},
        anchors={facts.label: tables.anchor(inputs, facts.label) for facts in inputs.files},
        MEASURED=MEASURED,
        sections=sections(inputs, found, recommended),
        script=Markup(script),
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup(style),
        svg=Markup,
    )


def _text(name: str) -> str:
    return resources.files("edge.report").joinpath(name).read_text(encoding="utf-8")
