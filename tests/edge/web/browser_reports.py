"""What a browser sends."""

import copy
import json

from tests.edge import report_documents
from tests.edge.web.conftest import MODEL

RUN = "0123456789abcdef"


def report(run: str = RUN, **changes) -> dict:
    """A right one; `changes` are of the top level."""
    row = report_documents.device_row(report_documents.manifest("int8"))
    row |= {"name": MODEL["name"], "sha256": MODEL["sha256"], "thermal": None}
    document = report_documents.device_report([row], "browser", "A phone")
    document["device"] |= {"manufacturer": "", "soc": None, "android_version": None, "api_level": None}
    document["browser"] = {
        "name": "Chrome", "version": "156.0", "system": "Android 15", "user_agent": "Mozilla/5.0", "gpu": None,
        "cross_origin_isolated": True,
    }  # fmt: skip
    return copy.deepcopy(document | {"failures": ["GPU: this browser has no WebGPU"], "run": run} | changes)


def body(document: dict) -> bytes:
    return json.dumps(document).encode()
