"""Whether edge.report shows the JVM run beside what was measured on this side: labelled as a computer's, and never mixed with it.

python android_demo/desktop/check_report.py --device device_report.json --benchmark benchmark.json --report report.json

The page is beside `report.json`. Whatever is wrong is named, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema

LABEL = "this is a computer's JVM, not a phone"
_SCHEMA = Path(__file__).parents[2] / "edge" / "report" / "device_report.schema.json"


def problems(device: dict[str, Any], benchmark: dict[str, Any], report: dict[str, Any], page: str) -> list[str]:
    """What is wrong with a report and its page, given the two documents that they were made from."""
    jsonschema.Draft202012Validator(json.loads(_SCHEMA.read_text(encoding="utf-8"))).validate(device)
    found = []
    of_device, of_host = _medians(device["results"], "name"), _medians(benchmark["results"], "file")
    if device["device"]["kind"] != "host_jvm" or not of_device or not of_host:
        found.append("expected a report of kind host_jvm with results, and a benchmark with results")
    shown = {Path(file["file"]).stem: file for file in report["files"]}
    for name, medians in of_device.items():
        rows = shown[name]["devices"] if name in shown else []
        if sorted(row["median_ms"] for row in rows) != medians:
            found.append(f"{name}: the JVM's rows are not those of its report")
        found += [f"{name}: shown as {row['device']}" for row in rows if row["is_phone"] or LABEL not in row["device"]]
    for name, file in shown.items():
        if sorted(row["median_ms"] for row in file["host"]) != of_host.get(name, []):
            found.append(f"{name}: the rows of this side are not those of the benchmark")
    if not any(LABEL in warning for warning in report["warnings"]):
        found.append("no warning names what is not a phone")
    if "JVM" in json.dumps([report["recommendations"], report["verdict"]]):
        found.append("a recommendation rests on the JVM's milliseconds")
    sections = dict(re.findall(r'<section id="(\w+)".*?>(.*?)</section>', page, re.DOTALL))
    label = LABEL.replace("'", "&#39;")
    if label not in sections.get("devices", ""):
        found.append("the page's section of devices does not say what it shows")
    found += [f"the page's section {name} has the JVM's figures" for name in ("latency", "overview", "ship") if label in sections[name]]
    return found


def _medians(rows: list[dict[str, Any]], key: str) -> dict[str, list[float]]:
    medians: dict[str, list[float]] = {}
    for row in rows:
        name = row[key].removesuffix(".tflite").rpartition("/")[2]
        medians[name] = sorted([*medians.get(name, []), round(row["median_ms"], 4)])
    return medians


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("device", "benchmark", "report"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in (arguments.device, arguments.benchmark, arguments.report)]
    page = arguments.report.with_suffix(".html")
    found = problems(*documents, page.read_text(encoding="utf-8"))
    for problem in found:
        print(f"error: {page}: {problem}", file=sys.stderr)
    if not found:
        results = len(documents[0]["results"]), len(documents[1]["results"])
        print(f"{page}: {results[0]} results of the JVM beside {results[1]} of this side, labelled, not mixed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
