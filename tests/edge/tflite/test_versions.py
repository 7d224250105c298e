"""Which runtime runs a file: what the rules promise, against what old runtimes did (results/operator_runtimes.csv)."""

import csv
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edge.tflite import versions

ROWS = list(csv.DictReader((Path(__file__).parents[3] / "results" / "operator_runtimes.csv").open()))
TENSORFLOW, LITERT = "tensorflow-cpu-", "ai-edge-litert-"


def _model(row: dict[str, str]) -> schema.ModelT:
    """One operation with the types of a row."""
    model, graph, operator, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    code.builtinCode, code.version = getattr(schema.BuiltinOperator, row["operation"]), int(row["operator_version"])
    graph.tensors = []
    for kind in row["types"].replace(" ->", ",").split(", "):
        tensor = schema.TensorT()
        tensor.type = getattr(schema.TensorType, kind.split("[")[0].split(" ")[0])
        graph.tensors.append(tensor)
    inputs = len(graph.tensors) - 1
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, np.arange(inputs, dtype=np.int32), np.array([inputs], np.int32)
    graph.operators, model.subgraphs, model.operatorCodes = [operator], [graph], [code]
    return model


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))[:2]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['operation']} {row['types']}")
def test_no_runtime_is_promised_that_fails(row):
    needed, litert = versions.min_runtime_version(_model(row)), versions.min_litert_version(_model(row))
    assert litert is not None
    for column, status in row.items():
        if column.startswith(TENSORFLOW) and status != "runs":
            assert needed is None or _numbers(column.removeprefix(TENSORFLOW)) < _numbers(needed), column
        if column.startswith(LITERT) and status != "runs":
            assert _numbers(column.removeprefix(LITERT)) < _numbers(litert), column


def test_the_table_was_filled_by_running():
    columns = [column for column in ROWS[0] if column.startswith((TENSORFLOW, LITERT))]
    assert len(columns) >= 14
    assert {row[column] for row in ROWS for column in columns} == {"runs", "refuses", "fails", "differs"}
    assert all(row["ai-edge-litert-2.3.0"] == "runs" for row in ROWS)


def test_integers_of_16_bits_need_a_later_runtime_than_their_version_says():
    (gelu,) = (row for row in ROWS if row["operation"] == "GELU" and row["types"].startswith("INT16"))
    assert versions.min_runtime_version(_model(gelu)) == "2.20.0"
    assert versions.min_litert_version(_model(gelu)) == "1.3.0"
    (widens,) = (row for row in ROWS if (row["operation"], row["types"]) == ("QUANTIZE", "INT8 -> INT16"))
    assert (versions.min_runtime_version(_model(widens)), versions.min_litert_version(_model(widens))) == (None, "2.1.6")
    (dynamic, *_) = (row for row in ROWS if row["operation"] == "FULLY_CONNECTED" and row["types"].startswith("FLOAT32, INT8"))
    assert (versions.min_runtime_version(_model(dynamic)), versions.min_litert_version(_model(dynamic))) == ("2.17.0", "1.0.1")
