"""Any JSON document that edge.report finds in a folder: manifests, benchmarks, validations, image checks, phone reports.

Schemas say what each may hold; behind them everything is drawn from it: the checks, the recommendations, report.json, a comparison.
"""

import json
import math

from edge.report import compare, summary
from edge.report.checks import checks
from edge.report.inputs import read_inputs
from edge.report.recommend import recommendations
from fuzz.json_mutator import mutate as mutate
from fuzz.target import CORPUS, file, folder

_MANIFEST = CORPUS / "manifest" / "nano32-int8.json"


def inputs(data: bytes):
    """Of a folder that holds this document and a sound manifest with its benchmark's other half."""
    file("report_documents/sound.json", _MANIFEST.read_bytes())
    file("report_documents/found.json", data)
    return read_inputs(folder("report_documents"))


def read(data: bytes) -> None:
    found = inputs(data)
    document = summary.report_document(found, checks(found), recommendations(found), "0")
    assert _finite(json.loads(summary.to_json(document)))
    compare.markdown(compare.comparison(found, found, compare.Tolerances()))


def _finite(value) -> bool:
    if isinstance(value, dict | list):
        return all(map(_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)
