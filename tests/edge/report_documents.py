"""A folder of artifacts as the commands would leave it, made up in a moment: small files, manifests, measurements, phone reports."""

from __future__ import annotations

import base64
import copy
import io
import json
import zlib
from pathlib import Path
from typing import Any

from PIL import Image

from tfvit.hashing import sha256

# recipe -> (size as a share of float32's, logits SNR dB, median ms, whole on XNNPACK, GPU verdict)
RECIPES = {
    "float32": (1.0, 126.2, 2.9, True, "whole"),
    "float16": (0.5, 74.2, 2.8, True, "whole"),
    "int8": (0.28, 38.1, 1.25, True, "whole"),
    "dynamic": (0.27, 38.2, 1.35, True, "whole"),
    "int8_full": (0.275, 21.9, 1.7, False, "whole"),
    "w8a16": (0.285, 44.5, 48.0, False, "refused"),
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FLOAT32_BYTES = 4000


def content(name: str, size: int) -> bytes:
    """The bytes of a made-up .tflite file."""
    return (b"\x1c\0\0\0TFL3" + name.encode()).ljust(size, b"\0")


def manifest(recipe: str, name: str | None = None, variant: str = "nano32", random: bool = False, **drift: Any) -> dict[str, Any]:
    share, snr, _, whole, gpu = RECIPES[recipe]
    name = name or f"{variant}-{recipe}{'.random' if random else ''}"
    file = content(name, int(_FLOAT32_BYTES * share))
    refused = [
        {
            "op": "FULLY_CONNECTED",
            "tensor": f"t{index}",
            "layer": f"stage1_block{index}/mlp/fc1",
            "reason": "INT16 tensor",
            "outcome": "refused",
        }
        for index in range(6)
    ]
    return {
        "schema_version": 1,
        "name": name,
        "variant": variant,
        "recipe": recipe,
        "weights": {
            "source": "random:0" if random else "cifar10",
            "sha256": sha256(f"{variant} {random}".encode()),
            "license": "Apache-2.0",
            "origin": None,
            "random": random,
        },
        "classes": len(CLASSES),
        "input": {
            "name": "pixels",
            "shape": [1, 32, 32, 3],
            "dtype": "float32",
            "range": [0, 255],
            "quantization": None,
            "layout": "NHWC",
            "channels": "RGB",
        },
        "preprocessing": {"resize_px": 36, "crop_px": 32, "interpolation": "bicubic", "keep_aspect": True},
        "output": {"name": "probabilities", "shape": [1, 10], "dtype": "float32", "quantization": None, "activation": "softmax"},
        "calibration": {"source": "photos", "sha256": sha256(b"photos"), "samples": 128, "seed": 0} if "int8" in recipe else None,
        "file": {
            "sha256": sha256(file),
            "size_bytes": len(file),
            "ops": {"FULLY_CONNECTED": 51, "ADD": 48},
            "max_rank": 4,
            "min_runtime_version": "2.17.0" if recipe in ("int8", "dynamic") else "2.9.0",
        },
        "delegates": {
            "xnnpack": {
                "delegated_ops": 99 if whole else 60,
                "total_ops": 99,
                "partitions": 1 if whole else 7,
                "left_over": {} if whole else {"GELU": 8, "RSQRT": 31},
            },
            "npu": {
                "verdict": {"int8_full": "whole", "w8a16": "partly"}.get(recipe, "nothing"),
                "basis": "rules for ethos-u-vela 5.2.0, not compiled",
                "on_cpu": [] if recipe == "int8_full" else [{"op": "GELU", "operations": 8, "reason": "16-bit GELU"}],
            },
            "gpu": {
                "verdict": gpu,
                "basis": "rules for litert-gpu 2.3.0, not run on a GPU",
                "refused": refused if gpu == "refused" else [],
            },
        },
        "drift": {
            "source": "builtin",
            "samples": 32,
            "top1_agreement": 1.0 if snr > 50 else 0.96875,
            "top5_agreement": 0.98,
            "logits_snr_db": snr,
            "cosine": 0.9998,
            "max_abs_err": 0.01,
            "max_abs_err_logits": 0.1,
            "kl": 0.0005,
            "top1_reference": None,
            "top1_target": None,
            "limits": {"min_snr_db": 12.0 if recipe == "int8_full" else 20.0, "min_agreement": 0.8, "max_top1_drop": 1.0},
            "collapse": [],
            "passed": True,
            "runtime": "LiteRT CPU (XNNPACK)",
            **drift,
        },
        "repair": {"why": ["SNR"], "demoted": [{"layer": "head", "before": "static", "after": "float"}], "cost_bytes": 12}
        if recipe == "int8"
        else None,
        "tools": {"tfvit": "0.1.0", "tensorflow": "2.21.0", "ai-edge-litert": "2.3.0"},
    }


def save_artifact(folder: Path, document: dict[str, Any]) -> Path:
    """Writes the manifest and its file; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{document['name']}.tflite"
    path.write_bytes(content(document["name"], document["file"]["size_bytes"]))
    save(folder / f"{document['name']}.json", document)
    return path


def save(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def row(document: dict[str, Any], threads: int | None = 1, delegate: str = "cpu", **fields: Any) -> dict[str, Any]:
    """A benchmark's row of a file."""
    median = fields.pop("median_ms", RECIPES[document["recipe"]][2])
    ratio = median / RECIPES["float32"][2]
    own = document["recipe"] == "float32"
    return {
        "file": f"artifacts/{document['name']}.tflite",
        "size_bytes": document["file"]["size_bytes"],
        "random_weights": document["weights"]["random"],
        "delegate": delegate,
        "ran_on": "LiteRT 2.3.0 CPU (XNNPACK)",
        "threads": threads,
        "status": "ok",
        "reason": None,
        "refused": [],
        "software_gpu": None,
        "init_ms": 38.0,
        "first_inference_ms": 1.3 * median,
        "median_ms": median,
        "p5_ms": 0.97 * median,
        "p90_ms": 1.08 * median,
        "p95_ms": 1.12 * median,
        "mean_ms": 1.01 * median,
        "stddev_ms": 0.04 * median,
        "min_ms": 0.95 * median,
        "max_ms": 1.6 * median,
        "num_runs": 900,
        "seconds": 5.0,
        "warmup_runs": 40,
        "valid": True,
        "invalid_reasons": [],
        "peak_mem_mb": 71.0,
        "delegated_ops": 99,
        "total_ops": 99,
        "partitions": 1,
        "ratio": ratio,
        "ratio_low": ratio if own else 0.99 * ratio,
        "ratio_high": ratio if own else 1.01 * ratio,
        **fields,
    }


def benchmark(rows: list[dict[str, Any]], **environment: Any) -> dict[str, Any]:
    return {
        "environment": {
            "cpu": "Example 9, AVX512-VNNI",
            "machine": "x86_64",
            "system": "Linux 6.1",
            "cores": 4,
            "python": "3.11.7",
            "runtime": "LiteRT 2.3.0",
            **environment,
        },
        "preset": {"min_runs": 50, "min_seconds": 5.0, "headline": 50},
        "results": rows,
    }


def proportion(value: float, width: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - width), "high": min(1.0, value + width)}


def _metrics(snr: float | None, same: float) -> dict[str, Any]:
    return {
        "samples": 5000,
        "top1_agreement": proportion(same, 0.002),
        "top1_in_top5": proportion(0.999, 0.001),
        "top5_overlap": 0.985,
        "logits_snr_db": snr,
        "cosine": 0.99991,
        "kl": 0.0004,
        "max_abs_err": 0.05,
        "mean_abs_err": 0.001,
        "max_abs_err_logits": 0.4,
        "mean_abs_err_logits": 0.02,
    }


def _answers(top1: float) -> dict[str, Any]:
    bins = [
        {"low": index / 15, "high": (index + 1) / 15, "count": 20 * index, "confidence": (index + 0.5) / 15, "accuracy": (index + 0.2) / 15}
        for index in range(15)
    ]
    return {"top1": proportion(top1), "top5": proportion(0.99, 0.003), "mean_confidence": 0.83, "ece": 0.021, "reliability": bins}


def thumbnail(color: tuple[int, int, int]) -> str:
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), color).save(picture, "PNG")
    return "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()


def validation(document: dict[str, Any], labelled: bool = True, passed: bool = True, layers: bool = False) -> dict[str, Any]:
    """What edge.validate says of a file."""
    change = -0.0002 * (zlib.crc32(document["recipe"].encode()) % 9)
    per_class = [
        {"label": label, "images": 500, "reference_right": 400 + 5 * index, "target_right": 400 + 5 * index + (index * 7) % 5 - 3}
        for index, label in enumerate(CLASSES)
    ]
    shown = [
        {
            "path": f"{CLASSES[index]}/{index:04}.jpg",
            "label": CLASSES[index] if labelled else None,
            "reference": {"answer": CLASSES[index], "probability": 0.51},
            "target": {"answer": CLASSES[(index + 3) % 10], "probability": 0.49},
            "thumbnail": thumbnail((25 * index, 120, 255 - 25 * index)) if index % 4 else None,
        }
        for index in range(6)
    ]
    rows = [
        {
            "layer": f"stage{1 + index // 4}_block{1 + index % 2}/{('attention/qkv', 'mlp/fc2')[index % 2]}",
            "mode": ("dynamic", "static")[index % 2],
            "snr_db": 60.0 - index,
            "cosine": 0.9999,
            "own_snr_db": 28.0 + 1.5 * index,
            "own_cosine": 0.99995,
        }
        for index in range(20)
    ]
    snr = document["drift"]["logits_snr_db"]
    return {
        "kind": "validation",
        "schema_version": 1,
        "name": document["name"],
        "file": f"{document['name']}.tflite",
        "sha256": document["file"]["sha256"],
        "variant": document["variant"],
        "recipe": document["recipe"],
        "weights": {name: document["weights"][name] for name in ("source", "sha256", "random")},
        "images": {
            "source": "test.zip",
            "sha256": sha256(b"test.zip"),
            "number": 5000,
            "labelled": labelled,
            "skipped": [{"path": "cat/broken.jpg", "reason": "cannot be decoded"}],
        },
        "preprocessing": {"reference": {"resize_px": 32}, "target": {"resize_px": 32}},
        "differences": [
            {
                "name": "preprocessing",
                "reference": "Keras preprocessing",
                "target": "the app's",
                "identical": True,
                "metrics": _metrics(None, 1.0),
            },
            {"name": "export", "reference": "Keras model", "target": "float32 file", "identical": False, "metrics": _metrics(126.0, 1.0)},
            {
                "name": "quantization",
                "reference": "float32 file",
                "target": document["name"],
                "identical": False,
                "metrics": _metrics(snr, 0.9956),
            },
            {"name": "total", "reference": "Keras model", "target": document["name"], "identical": False, "metrics": _metrics(snr, 0.9956)},
        ],
        "accuracy": {
            "reference": _answers(0.8116),
            "target": _answers(0.8116 + change),
            "top1_change": {"value": change, "low": change - 0.001, "high": change + 0.001},
            "only_reference_right": 12,
            "only_target_right": 8,
            "mcnemar_p": 0.5,
            "per_class": per_class,
        }
        if labelled
        else None,
        "meaning": "classes",
        "confidence": {"reference_mean": 0.83, "target_mean": 0.828, "mean_change": -0.002, "mean_abs_change": 0.004},
        "flipped": {"number": 22, "shown": shown},
        "non_finite": [],
        "collapse": [],
        "gate": {
            "limits": {"min_snr_db": 20.0, "min_agreement": 0.98, "max_top1_drop": 1.0},
            "failures": [] if passed else ["same top-1 on 91.2 % of the images, at least 98 %"],
            "passed": passed,
            "proved": True,
            "proof": [
                {
                    "limit": "min_agreement",
                    "claimed": 0.98,
                    "measured": 0.9956,
                    "low": 0.9934,
                    "high": None,
                    "proved": True,
                    "images_needed": 310,
                },
                {
                    "limit": "max_top1_drop",
                    "claimed": 1.0,
                    "measured": -100 * change,
                    "low": None,
                    "high": 1.2,
                    "proved": False,
                    "images_needed": 9000,
                },
            ],
        },
        "layers": {"images": 16, "worst": rows[0]["layer"], "rows": rows} if layers else None,
        "runtime": "LiteRT 2.3.0 CPU (XNNPACK)",
        "machine": {"cpu": "Example 9", "cores": 4, "system": "Linux 6.1"},
        "tools": {"tfvit": "0.1.0", "ai-edge-litert": "2.3.0"},
    }


def device_row(document: dict[str, Any], requested: str = "cpu", used: str | None = None, **fields: Any) -> dict[str, Any]:
    """A phone's row of a file."""
    median = 2.2 * RECIPES[document["recipe"]][2]
    return {
        "name": document["name"],
        "sha256": document["file"]["sha256"],
        "backend_requested": requested,
        "backend_used": used or requested,
        "backend_reason": None if used in (None, requested) else "Failed to compile model",
        "threads": 4,
        "avg_ms": 1.02 * median,
        "median_ms": median,
        "p5_ms": 0.95 * median,
        "p90_ms": 1.2 * median,
        "p95_ms": 1.3 * median,
        "stddev_ms": 0.1 * median,
        "min_ms": 0.93 * median,
        "max_ms": 1.9 * median,
        "init_ms": 80.0,
        "first_inference_ms": 2 * median,
        "num_runs": 200,
        "num_warmup_runs": 20,
        "seconds": 5.0,
        "peak_mem_mb": None,
        "valid": True,
        "invalid_reasons": [],
        "thermal": {"status_start": "none", "status_end": "light"},
        "parity": {"passed": True, "top5_same": True, "max_abs_err": 1e-5, "tolerance": 1e-3},
        **fields,
    }


def device_report(rows: list[dict[str, Any]], kind: str = "phone", model: str = "Nine") -> dict[str, Any]:
    return {
        "kind": "device_report",
        "schema_version": 1,
        "app": {"name": "tfvit demo", "version": "1.0"},
        "device": {
            "manufacturer": "Example",
            "model": model,
            "soc": "G3",
            "android_version": "15",
            "api_level": 35,
            "abi": "arm64-v8a",
            "kind": kind,
        },
        "runtime": "LiteRT 2.3.0",
        "results": rows,
    }


def calibration(passed: bool = True) -> dict[str, Any]:
    """What calibration.inspect says of the images that int8 was calibrated on."""
    checks = [
        {"name": "readable", "status": "ok", "detail": "all 128"},
        {"name": "count", "status": "warn", "detail": "60 different images, 128 are advised"},
        {
            "name": "overlap",
            "status": "ok" if passed else "fail",
            "detail": "none" if passed else "3 identical to an image of the validation set",
        },
    ]
    return {
        "schema_version": 1,
        "source": "photos",
        "variant": "nano32",
        "passed": passed,
        "checks": checks,
        "images": {"found": 128, "readable": 128, "labels": {}},
        "channels": {"mean": [120.0, 115.0, 100.0]},
    }


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one field changed: "drift.passed", for example."""
    copied = copy.deepcopy(document)
    *folders, last = path.split(".")
    inner = copied
    for name in folders:
        inner = inner[name]
    inner[last] = value
    return copied


def full_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """Everything at once; returns the manifests by recipe."""
    manifests = {recipe: manifest(recipe) for recipe in RECIPES}
    for document in manifests.values():
        save_artifact(folder, document)
    rows = [row(document, threads) for threads in (1, 2) for document in manifests.values()]
    rows.append(
        row(
            manifests["float16"],
            None,
            "gpu",
            software_gpu=True,
            ran_on="llvmpipe",
            median_ms=3000.0,
            ratio=None,
            ratio_low=None,
            ratio_high=None,
        )
    )
    rows[5] |= {"valid": False, "invalid_reasons": ["too noisy: p5 to p90 spread over 52% of the median, at most 40%"]}
    save(folder / "benchmark.json", benchmark(rows))
    for recipe in ("float32", "float16", "int8", "dynamic", "int8_full", "w8a16"):
        save(folder / f"nano32-{recipe}.validation.json", validation(manifests[recipe], layers=recipe == "int8"))
    phone = [device_row(manifests["int8"]), device_row(manifests["float16"], "gpu"), device_row(manifests["int8"], "gpu", used="cpu")]
    save(folder / "phone.json", device_report(phone))
    save(folder / "jvm.json", device_report([device_row(manifests["int8"])], "host_jvm", "desktop"))
    save(folder / "calibration.json", calibration())
    return manifests
