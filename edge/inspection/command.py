"""From a `.tflite` to what `edge.inspect` says of it: a document, and its page of text."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.artifacts import self_description
from edge.inspection import float16_arithmetic, vela
from edge.latency.agreement import Judgement, judged
from edge.latency.command import input_shapes as input_shapes
from edge.latency.command import regular
from edge.latency.subject import Subject, shown, subject
from edge.runtime import cpu, sandbox
from edge.runtime.process import OK, UNAVAILABLE, LatencyProcess
from edge.tflite import delegate_rules, flatbuffer, npu_rules, versions
from edge.tflite.contents import contents
from tfvit import hashing
from tfvit.errors import EnvironmentUnusableError, InputError, reading
from tfvit.extras import install_command
from tfvit.progress import step

NOT_TESTED = "not tested"
# Constants listed one by one
_LARGEST = 12
# Lines shown of the delegate's own list of refusals, which names every tensor
_MOST_REFUSALS = 8
_MOST_LABELS = 10


def inspect(
    path: Path,
    gpu: bool,
    npu: str | None = None,
    signature: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    input_data: Path | None = None,
    float16: str | None = None,
) -> dict[str, Any]:
    """The document that `--json` prints; the arguments are those of `edge.inspect`."""
    if gpu:
        path = regular(path)
    with reading(path, "a .tflite file"):
        data = path.read_bytes()
    with step("read", subject=path.name):
        document: dict[str, Any] = {"file": str(path), **description(data)}
    if gpu:
        with step("compile and run on the GPU", subject=path.name), tempfile.TemporaryDirectory(prefix="edge-inputs-") as folder:
            document["delegates"]["gpu"]["measured"] = measured_on_gpu(subject(path, Path(folder), signature, shapes, input_data))
    if npu:
        with step(f"compile for {npu}", subject=path.name):
            document["delegates"]["npu"]["compiled"] = compiled_for_npu(data, npu)
    if float16:
        document["float16"] = float16_arithmetic.on_images(data, float16)
    return document


def description(data: bytes, ask_runtime: bool = True) -> dict[str, Any]:
    """The document that `--json` prints, without the path.

    Args:
        data: the bytes of a `.tflite`.
        ask_runtime: whether to ask the installed runtime, in a process of its own, what XNNPACK takes. The rules are given anyway.

    Raises:
        InputError: the file is damaged, or no TFLite file.
    """
    model = flatbuffer.read_model(data)
    graph = model.subgraphs[0]
    indices = range(len(graph.tensors))
    sizes = {index: len(found) for index in indices if (found := flatbuffer.constant(model, index)) is not None}
    computed = [index for index in indices if index not in sizes]
    by_type: Counter[str] = Counter()
    buffers: dict[int, int] = {}
    for index in sizes:
        buffers.setdefault(graph.tensors[index].buffer, index)  # equal constants share one
    for index in buffers.values():
        by_type[flatbuffer.tensor_type(model, index)] += sizes[index]
    largest = sorted(buffers.values(), key=lambda index: (-sizes[index], index))[:_LARGEST]
    return {
        "sha256": hashing.sha256(data),
        "size_bytes": len(data),
        "subgraphs": len(model.subgraphs),
        "signatures": [
            {"name": name, "subgraph": graph, **_ends(flatbuffer.graph(model, graph), name)}
            for name, graph in flatbuffer.signatures(model).items()
        ],
        "inputs": [{**_tensor(model, index), "name": name} for name, index in flatbuffer.signature_inputs(model).items()],
        "outputs": [{**_tensor(model, index), "name": name} for name, index in flatbuffer.signature_outputs(model).items()],
        "ops": flatbuffer.operator_counts(model),
        "max_rank": flatbuffer.max_rank(model),
        "ranks": dict(sorted(Counter(str(len(flatbuffer.tensor_shape(model, index))) for index in computed).items())),
        "activation_types": dict(Counter(flatbuffer.tensor_type(model, index) for index in computed).most_common()),
        "contents": contents(data),
        "constant_bytes": dict(by_type.most_common()),
        "largest_constants": [{**_tensor(model, index), "bytes": sizes[index]} for index in largest],
        "min_runtime_version": versions.min_runtime_version(model),
        "min_litert_version": versions.min_litert_version(model),
        "builtin_runtime_version": versions.builtin_runtime_version(model),
        "custom_ops": sorted({flatbuffer.text_of(code.customCode) for code in model.operatorCodes if code.customCode}),
        "self_description": _self_description(data),
        "delegates": {
            "xnnpack": {
                **(_xnnpack(data) if ask_runtime else {"runtime": None, "reason": "not asked"}),
                "by_rule": _xnnpack_by_rule(model),
            },
            "gpu": {**delegate_rules.gpu_summary(model), "cautions": _cautions(model), "measured": None},
            "npu": {**npu_rules.npu_summary(model), "compiled": None},
        },
    }


def _tensor(model: Any, index: int) -> dict[str, Any]:
    return {
        "name": flatbuffer.tensor_name(model, index),
        "layer": flatbuffer.keras_layer(flatbuffer.tensor_name(model, index)),
        "shape": list(flatbuffer.dynamic_shape(model, index)),
        "dtype": flatbuffer.tensor_type(model, index).lower(),
        "quantization": flatbuffer.quantization(model, index),
    }


def _ends(view: Any, signature: str) -> dict[str, list[str]]:
    """The names of a signature's inputs and outputs."""
    (own,) = (one for one in view.signatureDefs if flatbuffer.text_of(one.signatureKey) == signature)
    return {kind: [flatbuffer.text_of(entry.name) for entry in getattr(own, kind)] for kind in ("inputs", "outputs")}


def _self_description(data: bytes) -> dict[str, Any]:
    """The metadata, labels and provenance in a file, and whether they belong to its graph."""
    said = self_description.read(data)
    return {
        "metadata": said.metadata,
        "labels": list(said.labels) if said.labels is not None else None,
        "files": {name: len(content) for name, content in said.files.items()},
        "provenance": said.provenance,
        "ultralytics": said.ultralytics,
        "graph_matches": said.graph_matches,
        "problems": list(said.problems),
    }


def _cautions(model: Any) -> list[dict[str, str]]:
    return [dataclasses.asdict(found) for found in delegate_rules.gpu_findings(model) if found.outcome == delegate_rules.CAUTION]


def _xnnpack(data: bytes) -> dict[str, Any]:
    """What the installed runtime says."""
    try:
        found = sandbox.partitions(data)
    except (EnvironmentUnusableError, InputError) as error:
        return {"runtime": None, "reason": error.received}
    return {"runtime": cpu.runtime_version(), **dataclasses.asdict(found)}


def _xnnpack_by_rule(model: Any) -> dict[str, Any]:
    left_over = delegate_rules.xnnpack_left_over(model)
    tried = all(found.outcome != delegate_rules.UNKNOWN for found in left_over)
    return {
        "partitions": delegate_rules.partitions(model, left_over) if tried else None,
        "left_over": [dataclasses.asdict(found) for found in left_over],
    }


def measured_on_gpu(file: Path | Subject) -> dict[str, Any]:
    """Runs a file on the GPU delegate in float32, in a process of its own, and compares the outputs with the CPU's."""
    if isinstance(file, Path):
        with tempfile.TemporaryDirectory(prefix="edge-inputs-") as folder:
            return measured_on_gpu(subject(file, Path(folder)))
    with LatencyProcess(file.path, "gpu_f32", 1, run=file.run) as gpu:
        loaded = gpu.loaded
        judgement = judged(gpu, "gpu_f32", file) if loaded.status == OK else Judgement()
    difference = judgement.difference if judgement.difference is not None and math.isfinite(judgement.difference) else None
    status = {OK: "whole", UNAVAILABLE: NOT_TESTED}.get(loaded.status, loaded.status)
    return {
        "status": "wrong" if judgement.wrong else status,
        "reason": judgement.wrong or loaded.reason,
        "signature": file.run.signature,
        "inputs": file.inputs,
        "refused": [{"op": operation, "reason": reason} for operation, reason in loaded.refused],
        "ran_on": loaded.ran_on,
        "software_gpu": loaded.software_gpu,
        "difference_from_cpu": difference,
    }


def compiled_for_npu(data: bytes, accelerator: str) -> dict[str, Any]:
    """What the compiler for an Ethos-U makes of a file, or why it was not asked."""
    if not vela.is_installed():
        return {"status": NOT_TESTED, "accelerator": vela.known(accelerator), "reason": f"no compiler here: {install_command('npu')}"}
    return {"status": "compiled", **dataclasses.asdict(vela.compiled(data, accelerator))}


def page(document: dict[str, Any]) -> str:
    """The document as text."""
    lines = [f"{document['file']}: {document['size_bytes'] / 1e6:.2f} MB, needs {needs(document)}"]
    for kind in ("inputs", "outputs"):
        lines += [
            f"  {kind[:-1]:<7} {tensor['name']}  {shown(tensor['shape'])}  {tensor['dtype']}{_scale(tensor)}" for tensor in document[kind]
        ]
    if any(side < 0 for tensor in document["inputs"] for side in tensor["shape"][1:]):
        lines.append("  any: a dynamic dimension, of which nothing is known before the file is run (edge.benchmark --input-shape)")
    if len(document["signatures"]) > 1:
        lines += [
            f"  signature {one['name']}: {', '.join(one['inputs'])} -> {', '.join(one['outputs'])}" + _where(one)
            for one in document["signatures"]
        ]
    lines += ["", *_self_description_lines(document["self_description"])]
    lines += ["", f"operations ({sum(document['ops'].values())}), tensors of rank {', '.join(document['ranks'])}"]
    for name, count in sorted(document["ops"].items(), key=lambda item: -item[1]):
        lines.append(f"  {count:>6}  {name}")
    lines += ["", "what takes the bytes:"]
    lines += [f"  {size / 1e6:8.2f} MB  {size / document['size_bytes']:6.1%}  {name}" for name, size in document["contents"].items()]
    stored = ", ".join(f"{name.lower()} {size / 1e6:.2f} MB" for name, size in document["constant_bytes"].items())
    lines += ["", f"constants: {stored or 'none'}; the largest:"]
    lines += [
        f"  {tensor['bytes'] / 1e6:8.2f} MB  {tensor['dtype']:<8} {tensor['shape']}  {tensor['layer']}"
        for tensor in document["largest_constants"]
    ]
    lines += ["", *_xnnpack_lines(document["delegates"]["xnnpack"]), "", *_gpu_lines(document["delegates"]["gpu"])]
    lines += ["", *float16_arithmetic.lines(document["float16"])] if "float16" in document else []
    lines += ["", *_npu_lines(document["delegates"]["npu"])]
    return "\n".join(lines)


def needs(document: dict[str, Any]) -> str:
    """The oldest runtime, and what no runtime brings by itself."""
    version, litert, custom = document["builtin_runtime_version"], document["min_litert_version"], document["custom_ops"]
    words = f"TensorFlow Lite {version or '(unknown)'}{f', LiteRT {litert}' if litert else ''}"
    return f"{words} and {', '.join(custom)}" if custom else words


def _where(signature: dict[str, Any]) -> str:
    return f"  (graph {signature['subgraph']})" if signature["subgraph"] else "  (graph 0, the one shown here)"


def _self_description_lines(said: dict[str, Any]) -> list[str]:
    metadata, made, labels = said["metadata"], said["provenance"], said["labels"]
    nothing = metadata is None and made is None and said["ultralytics"] is None
    lines = [f"says of itself: {'nothing' if nothing else ''}".rstrip()]
    if said["ultralytics"] is not None:
        facts = {
            name: said["ultralytics"][name]
            for name in ("description", "task", "imgsz", "version", "license")
            if name in said["ultralytics"]
        }
        lines.append(f"  Ultralytics: {', '.join(f'{name} {value}' for name, value in facts.items())}")
    if metadata is not None:
        lines.append(f"  {metadata.get('name', '(no name)')}: {metadata.get('description', '(no description)')}")
        lines.append(f"  licence of the weights: {metadata.get('license', 'not known')}")
        for part in metadata.get("subgraph_metadata", []):
            for kind in ("input", "output"):
                tensors = part.get(f"{kind}_tensor_metadata", [])
                lines += [f"  {kind:<7} {tensor.get('name', '')}: {tensor.get('description', '')}" for tensor in tensors]
    if labels is not None:
        shown = labels if len(labels) <= _MOST_LABELS else [*labels[: _MOST_LABELS - 2], "…", labels[-1]]
        lines.append(f"  {len(labels)} labels: {', '.join(shown)}")
    if made is not None:
        lines += [f"  {line}" for line in _provenance_lines(made)]
        lines.append(f"  graph: {'the one this was written for' if said['graph_matches'] else 'NOT the one this was written for'}")
    return lines + [f"  unreadable: {problem}" for problem in said["problems"]]


def _provenance_lines(made: dict[str, Any]) -> list[str]:
    """Weights, images and tools in the provenance. Fields of another form are left out: the file may be anyone's."""
    parts = {name: content for name, content in made.items() if isinstance(content, dict)}
    weights, images, tools = (parts.get(name, {}) for name in ("weights", "calibration", "tools"))
    lines = [f"weights: {weights.get('source')}, SHA-256 {weights.get('sha256')}"]
    if images:
        lines.append(f"calibration: {images.get('samples')} images of {images.get('source')}, SHA-256 {images.get('sha256')}")
    return [*lines, f"tools: {', '.join(f'{name} {version}' for name, version in tools.items())}"]


def _xnnpack_lines(xnnpack: dict[str, Any]) -> list[str]:
    rule = xnnpack["by_rule"]
    by_rule = "not known by rule" if rule["partitions"] is None else f"by rule {rule['partitions']}"
    if xnnpack["runtime"] is None:
        return [f"XNNPACK: the runtime cannot load the file: {xnnpack['reason']}; {by_rule} partition(s)", *_grouped(rule["left_over"])]
    taken = f"{xnnpack['delegated_ops']} of {xnnpack['total_ops']} operations in {xnnpack['partitions']} partition(s)"
    lines = [f"XNNPACK ({xnnpack['runtime']}): {taken}; {by_rule}"]
    if rule["partitions"] is not None:
        return lines + _grouped(rule["left_over"])
    return lines + [f"  {count:>4} x {name}" for name, count in sorted(xnnpack["left_over"].items())]


def _gpu_lines(gpu: dict[str, Any]) -> list[str]:
    lines = [f"GPU delegate: {gpu['verdict']}{_never_tried(gpu)} ({gpu['basis']})", *_grouped(gpu["refused"])]
    if gpu["cautions"]:
        lines += ["  cautions:", *_grouped(gpu["cautions"])]
    measured = gpu["measured"]
    if measured is None:
        lines.append(f"  on a real delegate: {NOT_TESTED} (--gpu)")
    else:
        where = measured["ran_on"] or measured["reason"]
        difference = measured["difference_from_cpu"]
        lines.append(
            f"  on the delegate itself: {measured['status']}, {where}"
            + (f", outputs within {difference:.1e} of the CPU's on {measured['inputs']}" if difference is not None else "")
        )
        if measured["ran_on"] and measured["reason"]:
            lines.append(f"    {measured['reason']}")
        lines += [f"    {refused['op']}: {refused['reason']}" for refused in measured["refused"][:_MOST_REFUSALS]]
        if len(measured["refused"]) > _MOST_REFUSALS:
            lines.append(f"    and {len(measured['refused']) - _MOST_REFUSALS} more (--json has them all)")
    return lines


def _never_tried(gpu: dict[str, Any]) -> str:
    """Of an unknown verdict, how many operations nobody has tried."""
    unknown = [found["op"] for found in gpu["refused"] if found["outcome"] == delegate_rules.UNKNOWN]
    counts = ", ".join(f"{count} x {name}" for name, count in Counter(unknown).items())
    return f", {counts} never tried" if gpu["verdict"] == delegate_rules.UNKNOWN else ""


def _npu_lines(npu: dict[str, Any]) -> list[str]:
    lines = [f"Ethos-U NPU: {npu['verdict']} ({npu['basis']})"]
    lines += [f"  {left['operations']:>4} x {left['op']} on the CPU: {left['reason']}" for left in npu["on_cpu"]]
    compiled = npu["compiled"]
    if compiled is None:
        return [*lines, "  by the compiler itself: not asked (--npu)"]
    if compiled["status"] == NOT_TESTED:
        return [*lines, f"  {compiled['accelerator']}: {NOT_TESTED}, {compiled['reason']}"]
    left = compiled["on_cpu"]
    lines.append(
        f"  {compiled['accelerator']}, {compiled['compiler']}: {compiled['operations'] - len(left)} of {compiled['operations']} operations "
        f"on the NPU in {compiled['parts']} part(s), {len(left)} on the CPU"
    )
    lines += [f"  {line}" for line in _grouped(left)]
    return [
        *lines,
        f"  the compiler's estimate, not a measurement: {compiled['estimated_ms']:.2f} ms, {compiled['sram_kib']:.0f} KiB of SRAM, "
        f"{compiled['dram_kib']:.0f} KiB of DRAM ({compiled['memory']})",
    ]


def _grouped(findings: Sequence[dict[str, str]]) -> list[str]:
    """One line for each operation and reason, with the layers."""
    groups: dict[tuple[str, str], list[str]] = {}
    for found in findings:
        groups.setdefault((found["op"], found["reason"]), []).append(found["layer"])
    lines = []
    for (operation, reason), layers in groups.items():
        shown = ", ".join(list(dict.fromkeys(layers))[:4])
        more = len(set(layers)) - 4
        lines.append(f"  {len(layers):>4} x {operation}: {reason}  [{shown}{f' and {more} more' if more > 0 else ''}]")
    return lines


def _scale(tensor: dict[str, Any]) -> str:
    quantization = tensor["quantization"]
    return f"  = {quantization['scale']:.6g} x (value - {quantization['zero_point']})" if quantization else ""
