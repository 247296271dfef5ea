"""Results of the benchmarks as tables, for their output and for the documents (scripts/update_tables.py)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from mobilenext.drawing.markdown import table


def evaluation_table(result: Mapping[str, Any]) -> str:
    """Speed of the evaluation by every runtime, beside the usual loop."""
    rows = [
        [
            f"`evaluate`, {row['runtime']}",
            f"{row['images_per_second']:.1f}",
            f"{row['over_plain_loop']:.1f}",
            f"{100 * row['share_of_best']:.0f} %",
            f"{row['latency_ms']:.2f} ms",
            f"{row['peak_memory_mib']:.0f} MiB",
        ]
        for row in result["rows"]
    ]
    rows.append(
        [
            "usual loop",
            f"{result['plain_loop_images_per_second']:.1f}",
            "1",
            "-",
            f"{result['eager_latency_ms']:.2f} ms",
            "-",
        ]
    )
    rows.append(["preprocessing alone", f"{result['preprocessing_images_per_second']:.1f}", "-", "-", "-", "-"])
    return table(["", "images/s", "ratio", "of the best possible", "one image", "peak memory"], rows)


def photo_table(photos: Mapping[str, Any]) -> str:
    """What decoding and resizing a photo costs, by Pillow and by the compiled loops."""
    decoding = f"{photos['decoding_ms']:.2f} ms"
    rows = [["decoding", decoding, decoding, "1"]]
    for row in photos["rows"]:
        name = "resize and crop of the evaluation" if row["crop"] == "evaluation" else f"resize, {row['crop']}"
        rows.append([name, f"{row['pillow_ms']:.2f} ms", f"{row['loops_ms']:.2f} ms", f"{row['share']:.2f}"])
    return table(["one photo", "Pillow", "compiled loops", "share"], rows)


def plain_table(result: Mapping[str, Any]) -> str:
    """Our runtimes beside the plain ones."""
    rows = [
        [
            row["way"],
            str(row["threads"]),
            f"{row['median_ms']:.2f} ms",
            f"{row['p10_ms']:.2f} to {row['p90_ms']:.2f}",
            f"{row['of_best_plain']:.2f}",
            f"{row['times_compute_floor']:.2f}",
        ]
        for row in result["rows"]
    ]
    return table(["", "threads", "median", "p10 to p90", "of the best plain one", "of the compute floor"], rows)


def training_speed_table(result: Mapping[str, Any]) -> str:
    """Images/s of every variant of a training step, and how many times the plain loop's and ours that is."""
    rows = [
        [
            row["case"],
            row["variant"],
            f"{row['images_per_second']:.1f}",
            f"{row['over_plain']:.2f}",
            f"{row['over_train']:.2f}",
        ]
        for row in result["rows"]
    ]
    return table(["network", "step", "images/s", "times the plain loop", "times train"], rows)


def two_processes_table(result: Mapping[str, Any]) -> str:
    """Images/s of two processes, how many times one process that is, and which share of two trainings apart."""
    limits = {row["case"]: row["rounds"] for row in result["rows"] if row["variant"] == "two trainings"}
    rows = []
    for row in result["rows"]:
        shares = [rate / limit for rate, limit in zip(row["rounds"], limits.get(row["case"], ()), strict=False)]
        share = f"{statistics.median(shares):.2f}" if shares else "-"
        rows.append([row["case"], row["variant"], f"{row['images_per_second']:.1f}", f"{row['over_train']:.2f}", share])
    return table(["network", "step", "images/s", "times train", "times two trainings"], rows)


def operator_table(result: Mapping[str, Any]) -> str:
    """Where the time of a step goes: the operators' shares in the plain loop and in ours."""
    lines = []
    for row in result["rows"]:
        if row["operators"]:
            shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(row["operators"].items())[:5])
            lines.append([row["case"], row["variant"], shares])
    return table(["network", "step", "operators"], lines)


def start_up_table(result: Mapping[str, Any]) -> str:
    """Seconds of commands, beside those of another version where one was measured, and of an evaluation's stages."""
    medians = result["medians"]
    before = medians.get("before", {})
    names = {
        "evaluate": f"`evaluate`, {result['data']['images']} images",
        "predict": "`predict`, one image by an exported file",
        "help": "`--help`",
    }
    rows = [
        [name, f"{medians['now'][verb]:.2f} s", f"{before[verb]:.2f} s" if before else "-",
         f"{medians['now'][verb] / before[verb]:.2f}" if before else "-"]
        for verb, name in names.items()
    ]  # fmt: skip
    commands = table(["from the shell to the end", "seconds", "the version before", "of the version before"], rows)
    stages = [[name, f"{seconds:.2f} s"] for name, seconds in medians["stages"].items()]
    return commands + "\n\n" + table(["stage of that evaluation", "seconds"], stages)


def scale_table(result: Mapping[str, Any]) -> str:
    """Time and memory of evaluations of ImageNet's size; a part that was left out has no row."""
    names = {
        "whole": "one command",
        "resumed": "killed in the middle, resumed",
        "launched": "processes of the launcher",
    }
    rows = []
    for part, name in names.items():
        if row := result.get(part):
            title = f"{row['processes']} {name}" if part == "launched" else name
            first = f"{row['first_row_seconds']:.1f} s" if "first_row_seconds" in row else "-"
            minutes = f"{row['seconds'] / 60:.1f} min" + (" for the rest" if part == "resumed" else "")
            memory = f"{row['peak_memory_mib']:.0f} MiB"
            rows.append([title, f"{row['images']:,}", first, minutes, f"{row['images_per_second']:.1f}", memory])
    if row := result.get("lines"):
        first, memory = f"{row['first_row_seconds']:.1f} s", f"{row['peak_memory_mib']:.0f} MiB"
        rows.append(["a long list, to its first image", f"{row['lines']:,}", first, "-", "-", memory])
    return table(["evaluation", "images", "first image after", "whole run", "images/s", "peak memory"], rows)
