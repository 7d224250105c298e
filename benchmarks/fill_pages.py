"""Writes every table of measurements on the pages, and the README's picture, from results/ and the training reports.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.

    python benchmarks/fill_pages.py
"""

from __future__ import annotations

import csv
import json
import re
import statistics
import sys
from pathlib import Path

import peer_rows
import readme_picture

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
CARD = ROOT / "tfvit" / "cifar10"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "models.md", CARD / "README.md")
PICTURE = ROOT / "docs" / "figures" / "int8_latency.png"


def headline_table() -> str:
    """The README's four figures, each with its link."""
    lines = ["| question | measured | more |", "|---|---|---|"]
    of_int8 = [row for row in _rows("recipe_latency.csv") if (row["variant"], row["recipe"]) == ("tiny224", "int8")]
    (latency,) = (row for row in of_int8 if row["cpu"].endswith("VNNI"))  # what int8 is for
    lines.append(
        f"| How fast is int8? | {latency['variant']} takes {latency['ratio']} of float32's time on one thread of {latency['cpu']} "
        f"(95 % interval {latency['ratio_low']} to {latency['ratio_high']}) | [latency](docs/results.md#latency) |"
    )
    (accuracy,) = (row for row in _rows("accuracy.csv") if (row["variant"], row["recipe"]) == ("nano32", "int8"))
    lines.append(
        f"| What does int8 cost? | nano32 has {accuracy['top1']} % top-1, the Keras model {accuracy['top1_keras']} % "
        f"({accuracy['test_images']} CIFAR-10 test images) | [accuracy](docs/results.md#accuracy) |"
    )
    files = [row for row in _rows("delegate_coverage.csv") if row["recipe"] == "int8"]
    whole = sum(row["xnnpack_partitions"] == "1" and row["gpu_by_rule"] == "whole" for row in files)
    ran = sum(row["gpu_measured"] == "whole" for row in files)
    lines.append(
        f"| Does int8 run whole? | {whole} of {len(files)} variants: one XNNPACK partition, whole on the GPU delegate by rule; {ran} of "
        f"them ran on a software GPU | [delegates](docs/results.md#delegates) |"
    )
    fidelity = _rows("timm_fidelity.csv")
    worst = max(float(row["logits_max_abs"]) for row in fidelity)
    lines.append(
        f"| Is it the same model? | {len(fidelity)} variants against the PyTorch original: logits differ by at most {worst:.1e} "
        f"| [fidelity](docs/models.md#the-same-numbers-as-the-original) |"
    )
    return "\n".join(lines)


def conversion_table() -> str:
    """Size by recipe, what one process with all recipes took, and how the int8 file's latency compares."""
    rows: dict[str, dict[str, dict[str, str]]] = {}
    for row in _rows("convert_matrix.csv"):
        rows.setdefault(row["variant"], {})[row["recipe"]] = row
    columns = (
        "variant",
        "float32 MB",
        "float16 MB (bytes a parameter)",
        "int8 MB (bytes a parameter)",
        "int8 latency, ratio to float32",
        "seconds",
        "peak memory GB",
        "operations (int8)",
        "XNNPACK partitions",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" + "|--:" * (len(columns) - 1) + "|"]
    for variant, recipes in rows.items():
        cells = list(recipes.values())
        timed = cells[0]["model_seconds"]  # not where other work ran beside it
        seconds = str(int(timed) + sum(int(cell["recipe_seconds"]) for cell in cells)) if timed else ""
        partitions = "/".join(sorted({recipes[recipe]["xnnpack_partitions"] for recipe in ("float32", "float16", "int8")}))
        sizes = [f"{recipes[recipe]['size_mb']} ({recipes[recipe]['bytes_per_parameter']})" for recipe in ("float16", "int8")]
        memory, int8 = f"{max(int(cell['peak_memory_mb']) for cell in cells) / 1024:.1f}", recipes["int8"]
        shown = (recipes["float32"]["size_mb"], *sizes, int8["latency_ratio"], seconds, memory, int8["ops"], partitions)
        lines.append(f"| {variant} | {' | '.join(shown)} |")
    return "\n".join(lines)


def latency_table() -> str:
    rows = _rows("recipe_latency.csv")
    lines = ["| CPU | variant | recipe | median ms | ratio to float32 (95 % interval) |", "|---|---|---|--:|--:|"]
    for row in rows:
        interval = "" if row["recipe"] == "float32" else f" ({row['ratio_low']} to {row['ratio_high']})"
        lines.append(f"| {row['cpu']} | {row['variant']} | {row['recipe']} | {row['median_ms']} | {row['ratio']}{interval} |")
    note = f"{rows[0]['runtime']}, {rows[0]['threads']} thread, {rows[0]['rounds']} interleaved rounds, random weights."
    return "\n".join([*lines, "", note])


def fidelity_table() -> str:
    lines = ["| variant | logits: max abs difference (of scale) | worst layer: max abs difference (of scale) |", "|---|--:|--:|"]
    for row in _rows("timm_fidelity.csv"):
        worst = f"{row['worst_layer']} {row['worst_max_abs']} ({row['worst_max_of_scale']})"
        lines.append(f"| {row['variant']} | {row['logits_max_abs']} ({row['logits_max_of_scale']}) | {worst} |")
    return "\n".join(lines)


def reference_table() -> str:
    """The worst layer of every checkpoint and reference."""
    pairs: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in _rows("reference_fidelity.csv"):
        pairs.setdefault((row["checkpoint"], row["reference"]), []).append(row)
    lines = ["| checkpoint | reference | layers compared | worst layer: max abs, mean abs, max of scale |", "|---|---|---|---|"]
    for (checkpoint, reference), rows in pairs.items():
        worst = max(rows, key=lambda row: float(row["max_of_scale"]))
        figures = f"{worst['layer']}: {worst['max_abs']}, {worst['mean_abs']}, {worst['max_of_scale']}"
        lines.append(f"| {checkpoint} | {reference} | {', '.join(row['layer'] for row in rows)} | {figures} |")
    return "\n".join(lines)


def accuracy_table() -> str:
    """Top-1 of the shipped models in every recipe, beside the float Keras model."""
    rows = _rows("accuracy.csv")
    columns = (
        "variant",
        "recipe",
        "MB",
        "top-1 % (95 % interval)",
        "Keras top-1 %",
        "same top-1 as Keras %",
        "logits SNR dB",
        "latency ratio",
    )
    lines = [f"| {' | '.join(columns)} |", "|---|---" + "|--:" * (len(columns) - 2) + "|"]
    for row in rows:
        top1 = f"{row['top1']} ({row['top1_low']} to {row['top1_high']})"
        ratio = row["ratio"] if row["ratio"] in ("", "1.000") else f"{row['ratio']} ({row['ratio_low']} to {row['ratio_high']})"
        cells = (row["variant"], row["recipe"], row["size_mb"], top1, row["top1_keras"], row["agreement"], row["snr_db"], ratio)
        lines.append(f"| {' | '.join(cells)} |")
    calibration = next(row["calibration"] for row in rows if row["calibration"]).replace(" of ", " images of ")
    note = (
        f"{rows[0]['test_images']} CIFAR-10 test images; int8 calibrated on {calibration}. Latency: ratio of "
        f"medians to float32 (95 % interval), {rows[0]['runtime']}, 1 thread, {rows[0]['rounds']} interleaved rounds, {rows[0]['cpu']}."
    )
    return "\n".join(
        [*lines, "", note, *(_draws(variant) for variant in dict.fromkeys(row["variant"] for row in _rows("calibration_draws.csv")))]
    )


def _draws(variant: str) -> str:
    """Mean and standard deviation over the draws of calibration images."""
    rows = [row for row in _rows("calibration_draws.csv") if row["variant"] == variant]
    drops, agreements = ([float(row[name]) for row in rows] for name in ("drop", "agreement"))
    return (
        f"{variant} int8 over {len(rows)} draws of calibration images: top-1 drop {statistics.mean(drops):.2f} points, standard deviation "
        f"{statistics.stdev(drops):.2f} ({min(drops):.2f} to {max(drops):.2f}); same top-1 as Keras {statistics.mean(agreements):.2f} %, "
        f"standard deviation {statistics.stdev(agreements):.2f}."
    )


def peers_table() -> str:
    """Our files beside other tools', and what that says of our int8."""
    rows = _rows("peers.csv")
    threads = sorted({row["threads"] for row in rows})
    columns = ["model", "tool", "precision", "MB", "logits SNR dB"]
    columns += [f"{count} thread{'s' if count != '1' else ''}: ms, ratio to our float32 (95 % interval)" for count in threads]
    lines = [f"| {' | '.join(columns)} |", "|---|---|---" + "|--:" * (len(columns) - 3) + "|"]
    files: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        files.setdefault((row["model"], row["peer"], row["precision"]), []).append(row)
    for (model, peer, precision), own in files.items():
        by_threads = {row["threads"]: _peer_latency(row) for row in own}
        shown = (own[0]["size_mb"], own[0]["logits_snr_db"], *(by_threads.get(count, "") for count in threads))
        lines.append(f"| {model} | {peer} | {precision} | {' | '.join(shown)} |")
    measured = [row for row in rows if row["median_ms"]]
    invalid = [row for row in measured if row["valid"] != "true"]
    versions = "; ".join(dict.fromkeys(f"{row['peer']} {row['version']}" for row in rows))
    note = (
        f"All from the same **random** weights; SNR against PyTorch's float32 on 32 images nobody calibrated with. One interleaved run for "
        f"each model and number of threads, outputs read back, {measured[0]['cpu']}. {versions}."
    )
    lines += ["", note, ""]
    for model in dict.fromkeys(row["model"] for row in rows):
        for count in threads:
            of_run = [row for row in rows if (row["model"], row["threads"]) == (model, count)]
            runs = min((int(row["runs"]) for row in of_run if row["median_ms"]), default=0)
            if runs:
                title = f"{model}, {count} thread{'s' if count != '1' else ''}, at least {runs} inferences each"
                lines.append(f"- {title}: {' '.join(peer_rows.verdicts(of_run))}")
    if invalid:
        reasons = ", ".join(peer_rows.kinds_of_reasons(invalid))
        lines.append(f"- **{len(invalid)} of {len(measured)} rows are not valid measurements**: {reasons} (the CSV says which).")
    return "\n".join(lines)


def _peer_latency(row: dict[str, str]) -> str:
    if not row["median_ms"]:
        return f"{row['status']}: {row['reason']}".replace("|", "/")
    interval = "" if row["ratio"] == row["ratio_low"] == row["ratio_high"] else f" ({row['ratio_low']} to {row['ratio_high']})"
    return f"{float(row['median_ms']):.1f}, {row['ratio']}{interval}{'' if row['status'] == 'ok' else ' **wrong**'}"


def training_table() -> str:
    """Recipe and test accuracy of the shipped weights, from the training script's reports."""
    reports = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(CARD.glob("*.json"))}
    lines = [f"| | {' | '.join(reports)} |", "|---" + "|---" * len(reports) + "|"]

    def row(label: str, *cells: str) -> None:
        lines.append(f"| {label} | {' | '.join(cells)} |")

    row("test top-1", *(f"{100 * report['test_top1']:.2f} %" for report in reports.values()))
    row("95 % interval", *("{:.2f} to {:.2f} %".format(*(100 * limit for limit in report["interval"])) for report in reports.values()))
    row("test images", *(str(report["test_images"]) for report in reports.values()))
    for name in next(iter(reports.values()))["recipe"]:
        if name != "variant":
            row(name.replace("_", " "), *(str(report["recipe"][name]) for report in reports.values()))
    row("trained with", *(f"Keras {report['keras']} on {report['backend']}" for report in reports.values()))
    return "\n".join(lines)


def gate_table() -> str:
    """What 256 unlabelled images say of a file, beside what all labelled ones say."""
    rows = [row for row in _rows("gate_record.csv") if row["variant"] == "nano32"]
    (number,) = {row["test_images"] for row in rows}
    (few,) = {row["images_a_draw"] for row in rows}
    lines = [
        f"| nano32, file | changed of {number}, % | top-1 lost, points | counted on {few}, % (error) | estimated on {few}, % (error) |",
        "|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['file']} | {row['changed_percent']} | {row['top1_lost_points']} | {row['counted_mean']} ({row['counted_rms_error']}) "
        f"| {row['estimated_mean']} ({row['estimated_rms_error']}) |"
        for row in rows
    ]
    return "\n".join(lines)


def gpu_table() -> str:
    """Milliseconds on a real GPU beside the CPU's."""
    rows = _rows("gpu_latency.csv")
    cells = {(row["variant"], row["recipe"], row["delegate"]): row for row in rows}
    (gpu,) = {row["ran_on"].split(": ")[1] for row in rows if row["delegate"] == "gpu"}
    lines = [f"| file | CPU, one thread ({rows[0]['cpu']}), ms | {gpu}, float16, ms | float32, ms |", "|---|--:|--:|--:|"]
    for variant, recipe in dict.fromkeys((row["variant"], row["recipe"]) for row in rows):
        found = [cells[variant, recipe, delegate] for delegate in ("cpu", "gpu", "gpu_f32")]
        shown = [f"{float(row['median_ms']):.2f}{'' if row['valid'] == 'True' else ' (invalid)'}" for row in found]
        lines.append(f"| {variant} {recipe}, {found[0]['weights']} weights | {' | '.join(shown)} |")
    return "\n".join(lines)


def npu_table() -> str:
    """What Arm's compiler takes of integer files, and its estimates."""
    rows: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in _rows("npu.csv"):
        rows.setdefault((row["variant"], row["recipe"]), []).append(row)
    accelerators = [row["accelerator"] for row in next(iter(rows.values()))]
    columns = ["variant", "recipe", "operations", *(f"{name}: on the CPU; estimate" for name in accelerators)]
    lines = [f"| {' | '.join(columns)} |", "|---|---" + "|--:" * (len(columns) - 2) + "|"]
    for (variant, recipe), found in rows.items():
        estimates = [f"{row['on_cpu']}; {row['estimated_ms']} ms, {row['sram_kib']} KiB" for row in found]
        lines.append(f"| {variant} | {recipe} | {found[0]['operations']} | {' | '.join(estimates)} |")
    return "\n".join(lines)


def readers_table() -> str:
    """What readers other than TensorFlow's make of both forms of every recipe."""
    rows = _rows("readers.csv")
    readers = dict.fromkeys((row["reader"], row["version"]) for row in rows)
    found = {(row["form"], row["recipe"], row["reader"]): row for row in rows}
    columns = ["form", "recipe", "MB", "logits SNR dB", *(f"{name} {version}" for name, version in readers)]
    lines = [f"| {' | '.join(columns)} |", "|---|---|--:|--:" + "|---" * len(readers) + "|"]
    for form, recipe in dict.fromkeys((row["form"], row["recipe"]) for row in sorted(rows, key=lambda row: row["form"] != "portable")):
        own = [found[form, recipe, name] for name, _ in readers if (form, recipe, name) in found]
        size = next((f"{int(row['bytes']) / 1e6:.2f}" for row in own if row["bytes"]), "")
        snr = next((row["logits_snr_db"] for row in own if row["logits_snr_db"]), "")
        makers = [name for name, _ in readers if form.startswith(f"{name} ")]  # of a file that its own converter made smaller
        cells = ["" if makers and name not in makers else _reader_cell(found.get((form, recipe, name))) for name, _ in readers]
        lines.append(f"| {form} | {recipe} | {size} | {snr} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _reader_cell(row: dict[str, str] | None) -> str:
    if row is None:
        return "not tested"
    return f"{row['status']}, {row['max_rel_difference']}" if row["max_rel_difference"] else row["status"]


def arm_table() -> str:
    """Instructions of one inference on ARM cores, and the kinds of work that execute most of them."""
    cases: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    rows = _rows("arm_instructions.csv")
    for row in rows:
        cases.setdefault((row["variant"], row["recipe"], row["cpu"]), []).append(row)
    lines = ["| variant | recipe | core | G instructions | ratio to float32 | most of them (share) |", "|---|---|---|--:|--:|---|"]
    for (variant, recipe, cpu), own in cases.items():
        total, reference = float(own[0]["total_instructions_m"]), cases.get((variant, "float32", cpu))
        ratio = f"{total / float(reference[0]['total_instructions_m']):.3f}" if reference else ""
        most = ", ".join(f"{row['work']} {float(row['share_percent']):.0f} %" for row in own[:4])
        lines.append(f"| {variant} | {recipe} | {cpu} | {total / 1e3:.3f} | {ratio} | {most} |")
    return "\n".join([*lines, "", f"**Instructions, and no time.** LiteRT {rows[0]['litert']}, one thread, qemu."])


def foreign_table() -> str:
    """Kinds of files that are not ours: what is said of each, and what happened; those of which all is said and done alike in one row."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    rows = _rows("foreign_files.csv")
    for row in rows:
        partitions = f"{row['xnnpack_partitions']} (by rule {row['xnnpack_by_rule']})" if row["xnnpack_partitions"] else ""
        verdicts = (row["cpu"], partitions, row["gpu_by_rule"], row["gpu_measured"])
        kinds.setdefault(verdicts, []).append(row["kind"])
    lines = ["| kinds of files | CPU | XNNPACK partitions | GPU by rule | GPU delegate |", "|---|---|---|---|---|"]
    lines += [f"| {'; '.join(names)} | {' | '.join(verdicts)} |" for verdicts, names in kinds.items()]
    ran_on = next(row["ran_on"] for row in rows if "GPU" in row["ran_on"])
    return "\n".join([*lines, "", f"{len(rows)} kinds. {ran_on}."])


def gpu_reports_table() -> str:
    """What each release of the GPU delegate makes of graphs that others reported, and of our files."""
    rows = _rows("gpu_reports.csv")
    releases = list(dict.fromkeys(row["litert"] for row in rows))
    lines = [f"| graph | {' | '.join(f'LiteRT {release}' for release in releases)} |", "|---" + "|---" * len(releases) + "|"]
    for graph, report in dict.fromkeys((row["graph"], row["report"]) for row in rows):
        own = {row["litert"]: row for row in rows if row["graph"] == graph}
        cells = [f"{own[release]['outcome']} {own[release]['difference']}".strip() for release in releases]
        lines.append(f"| {graph}{f' ({report})' if report else ''} | {' | '.join(cells)} |")
    device = next(row["device"] for row in rows if row["device"])
    arithmetic = ", ".join(dict.fromkeys(row["litert"] for row in rows if row["precision"] == "its own"))
    note = f"GPU alone, on a software GPU ({device}), float32 arithmetic; {arithmetic} take no precision from Python and do not "
    note += "say whether all of a graph ran on the GPU (ran)."
    return "\n".join([*lines, "", note])


def int4_table() -> str:
    """The 4-bit recipes beside the 8-bit ones: bytes, accuracy, what runs them."""
    rows = _rows("int4.csv")
    columns = (
        "variant",
        "recipe",
        "MB (bytes a parameter)",
        "layers with 4, 8, 32 bits",
        "top-1 lost, points",
        "same top-1 %",
        "logits SNR dB",
    )
    columns += ("XNNPACK partitions", "GPU by rule", "runtime from")
    lines = [f"| {' | '.join(columns)} |", "|---|---" + "|--:" * (len(columns) - 2) + "|"]
    for row in rows:
        size = f"{int(row['bytes']) / 1e6:.2f} ({row['bytes_per_parameter']})"
        lost, same = (row[name] + (f" ± {row[name + '_sd']}" if row[name + "_sd"] else "") for name in ("drop", "agreement"))
        cells = (row["variant"], row["recipe"], size, row["layers_4_8_32"], lost, same, row["snr_db"], row["xnnpack_partitions"])
        lines.append(f"| {' | '.join((*cells, row['gpu_by_rule'], row['min_runtime']))} |")
    trained = next(row for row in rows if row["drop"])
    note = (
        f"{trained['test_images']} CIFAR-10 test images; each draw has {trained['calibration_images']} training images to calibrate on. "
        f"±: standard deviation over {max(int(row['draws']) for row in rows)} draws; without it, one draw. Without a top-1: random "
        "weights, SNR on held-out generated images."
    )
    return "\n".join([*lines, "", note])


def int4_choices_table() -> str:
    """int4 with one thing done otherwise; the difference in SNR is to the first row of the variant."""
    rows: dict[str, dict[str, dict[str, str]]] = {}
    for row in _rows("int4_choices.csv"):
        rows.setdefault(row["choice"], {})[row["variant"]] = row
    variants = list(next(iter(rows.values())))
    lines = [f"| | {' | '.join(f'{name}: MB; dB (to int4); same top-1 %' for name in variants)} |", "|---" + "|--:" * len(variants) + "|"]
    for choice, by_variant in rows.items():
        cells = []
        for name in variants:
            row, base = by_variant[name], rows["int4"][name]
            change = f"{float(row['snr_db']) - float(base['snr_db']):+.1f}" if row["snr_db"] else ""
            cells.append(f"{int(row['bytes']) / 1e6:.2f}; {row['snr_db']} ({change}); {row['agreement']}" if row["snr_db"] else "none made")
        lines.append(f"| {choice} | {' | '.join(cells)} |")
    return "\n".join(lines)


def outliers_table() -> str:
    """Every recipe on the stress versions: points lost to float32, what was repaired or refused."""
    rows: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for row in _rows("outliers.csv"):
        rows.setdefault((row["variant"], row["outliers"]), {})[row["recipe"]] = row
    recipes = list(next(iter(rows.values())))
    lines = [f"| variant | outliers | float32 top-1 % | {' | '.join(recipes)} |", "|---|--:|--:" + "|--:" * len(recipes) + "|"]
    for (variant, ratio), by_recipe in rows.items():
        cells = []
        for row in by_recipe.values():
            repaired = f", {row['demoted_layers']} layers repaired" if row["demoted_layers"] != "0" else ""
            spread = f" ± {row['lost_points_spread']}" if row["lost_points_spread"] else ""
            cells.append(f"{row['lost_points']}{spread} ({row['snr_db']} dB{repaired})" if row["lost_points"] else row["status"])
        lines.append(f"| {variant} | {ratio if ratio != '1' else 'none'} | {by_recipe[recipes[0]]['top1_float32']} | {' | '.join(cells)} |")
    (images,) = {row["test_images"] for by_recipe in rows.values() for row in by_recipe.values()}
    draws = max(int(row["draws"]) for by_recipe in rows.values() for row in by_recipe.values())
    spread = f" ±: standard deviation over {draws} draws of calibration images; without it, one draw." if draws > 1 else ""
    return "\n".join([*lines, "", f"Points of top-1 lost to the float32 file, {images} test images.{spread}"])


def float16_table() -> str:
    """Float16 files computed in float16: room below 65504, and what the answers are worth, with streams scaled and without."""
    cases: dict[tuple[str, str], dict[tuple[str, str], dict[str, str]]] = {}
    rows = _rows("float16_run.csv")
    for row in rows:
        cases.setdefault((row["variant"], row["outliers"]), {})[row["streams"], row["arithmetic"]] = row
    columns = ("float16, streams scaled", "float16, as trained", "float32, as trained")
    lines = [f"| variant | outliers | {' | '.join(columns)} |", "|---|--:|--:|--:|--:|"]
    for (variant, ratio), found in cases.items():
        cells = []
        for key in (("scaled", "f16"), ("as trained", "f16"), ("as trained", "f32")):
            row = found.get(key)
            room = f", {row['least_headroom_db']} dB of room" if row and key[1] == "f16" else ""
            cells.append(f"{row['snr_db']} dB, {float(row['agreement']):.0f} % the same class{room}" if row else "not needed")
        lines.append(f"| {variant} | {ratio if ratio != '1' else 'none'} | {' | '.join(cells)} |")
    (images,) = {row["test_images"] for row in rows}
    return "\n".join(
        [*lines, "", f"Float16 files against the float32 file, {images} test images; {rows[0]['device'].replace(', f16', '')}."]
    )


def plain_table() -> str:
    """The plain variants in every recipe that has a file of them."""
    rows: dict[str, dict[str, dict[str, str]]] = {}
    for row in _rows("plain_matrix.csv"):
        rows.setdefault(row["variant"], {})[row["recipe"]] = row
    recipes = list(next(iter(rows.values())))
    lines = [f"| variant | {' | '.join(f'{recipe}: MB; dB' for recipe in recipes)} | XNNPACK partitions | GPU by rule |"]
    lines.append("|---" + "|--:" * (len(recipes) + 2) + "|")
    for variant, by_recipe in rows.items():
        sizes = [f"{row['size_mb']}; {float(row['logits_snr_db']):.1f}" for row in by_recipe.values()]
        found = ["/".join(sorted({row[name] for row in by_recipe.values()})) for name in ("xnnpack_partitions", "gpu_verdict_by_rules")]
        lines.append(f"| {variant} | {' | '.join((*sizes, *found))} |")
    row = next(row for row in _rows("plain_matrix.csv") if row["recipe"] == "int8")
    note = f"Random weights; SNR on {row['drift_images']} held-out generated images, {row['calibration_images']} of them to calibrate on."
    return "\n".join([*lines, "", note.replace(" of them", "")])


TABLES = {
    "int4": int4_table,
    "int4_choices": int4_choices_table,
    "outliers": outliers_table,
    "float16": float16_table,
    "plain": plain_table,
    "foreign": foreign_table,
    "npu": npu_table,
    "readers": readers_table,
    "arm": arm_table,
    "gate": gate_table,
    "gpu": gpu_table,
    "gpu_reports": gpu_reports_table,
    "headline": headline_table,
    "reference": reference_table,
    "conversion": conversion_table,
    "latency": latency_table,
    "fidelity": fidelity_table,
    "accuracy": accuracy_table,
    "peers": peers_table,
    "training": training_table,
}


def filled_in(page: str) -> str:
    """A page with every table made anew."""

    def replace(match: re.Match) -> str:
        return f"<!-- table: {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", replace, page, flags=re.DOTALL)


def _rows(name: str) -> list[dict[str, str]]:
    with (RESULTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def main() -> int:
    for path in PAGES:
        path.write_text(filled_in(path.read_text(encoding="utf-8")), encoding="utf-8")
    PICTURE.write_bytes(readme_picture.drawing(RESULTS / "peers.csv"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
