"""Results as text: aligned in a terminal, and valid Markdown when pasted into a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.drawing.markdown import table

TOP = 5  # as in evaluation.metrics, which imports NumPy: `list` does without


def result_table(result: Mapping[str, Any]) -> str:
    """The product of an evaluation: environment, top-1, top-5 (where there are more classes), latency."""
    measured = result["environment"]
    paddle = measured.get("paddlepaddle") or measured.get("paddlepaddle-gpu")
    runtime = result["runtime"]
    from mobilenext.runtime import RUNTIMES  # imports NumPy

    package = RUNTIMES[runtime].package.replace("_", "-") if runtime in RUNTIMES else runtime
    version = measured.get(package) or "of unknown version"
    software = (
        f"Paddle {paddle or 'of unknown version'}, {runtime}"
        if runtime.startswith("paddle")
        else f"{runtime} {version}"
    )
    inside = [result.get(name) for name in ("engine", "precision")]
    inside = [part for part in inside if part not in (None, "", "eager", "gpu", "fp32")]
    engine = f" ({', '.join(map(str, inside))})" if any(inside) else ""
    where = measured.get("processor") if result.get("device") == "cpu" else "GPU"
    latency = result["latency"]
    cells = [
        f"{software}{engine}, {where}",
        _share(result, "top1"),
        *([_share(result, "top5")] if result["num_classes"] > TOP else []),
        f"{latency['median']:.2f} ms (p10 {latency['p10']:.2f}, p90 {latency['p90']:.2f}; batch 1, "
        f"threads: {latency['threads']})",
    ]
    heading = ["environment", "top-1", *(["top-5"] if result["num_classes"] > TOP else []), "latency"]
    return table(heading, [cells])


def _share(result: Mapping[str, Any], which: str) -> str:
    low, high = result[f"{which}_interval_percent"]
    return (
        f"{result[f'{which}_percent']:.2f} % ({result[f'correct_{which}']}/{result['images']}; "
        f"95 %: {low:.2f} to {high:.2f})"
    )


def result_lines(result: Mapping[str, Any]) -> list[str]:
    """Everything that is said at the end of an evaluation, the table among it."""
    lines = []
    if result["partial"]:
        lines.append(f"PARTIAL: the first {result['images']} of {result['data'].get('images_in_list')} images")
    if result["unreadable"]:
        lines.append(f"{result['unreadable']} unreadable images were counted as wrong")
    lines.append(result_table(result))
    if result.get("mean_class_accuracy_percent") is not None:
        lines.append(class_means_line(result))
    speed, latency = result.get("images_per_second"), result["latency"]
    if speed is not None:
        lines.append(
            f"{speed:.1f} images/s with {result.get('workers')} processes of {result.get('threads')} threads; "
            f"reading and preprocessing one image: {latency.get('preprocessing_median')} ms"
        )
    lines += comparison_lines(result.get("comparison"))
    lines += [f"diagnosis: {sentence}" for sentence in result.get("diagnosis") or ()]
    if result["partial"]:
        lines.append("PARTIAL: not a result for the whole data set")
    return lines


def class_means_line(result: Mapping[str, Any]) -> str:
    """Means over the classes, in which a class of few images counts as much as one of many."""
    classes, of = result["classes_with_images"], result["num_classes"]
    without = f" ({of - classes} others have no image)" if classes < of else ""
    return (
        f"means over {classes} classes{without}: top-1 {result['mean_class_accuracy_percent']:.2f} %, precision "
        f"{result['macro_precision_percent']:.2f} %, F1 {result['macro_f1_percent']:.2f} %"
    )


def comparison_lines(comparison: Mapping[str, Any] | None) -> list[str]:
    """Expected, measured, difference, verdict."""
    if comparison is None:
        return []
    expected, measured = comparison["expected_top1_percent"], comparison.get("measured_top1_percent")
    difference = comparison.get("difference_points")
    cells = [
        f"{expected:.3f} %",
        f"{measured:.3f} %" if measured is not None else "-",
        f"{difference:+.3f} points" if difference is not None else "-",
        f"{comparison['verdict']}: {comparison['reason']}",
    ]
    return [
        "",
        f"published: {comparison.get('dataset')}, {comparison.get('origin')}",
        table(["expected top-1", "measured", "difference", "verdict"], [cells]),
    ]


def parity_lines(parity: Mapping[str, Any]) -> list[str]:
    """How close an export is to Paddle."""
    compared = {f"{parity['folded_batch_norms']} batch norms folded, in Paddle": parity["folding"]} | parity["runtimes"]
    rows = [
        [
            name,
            f"{row['largest_difference']:.1e}",
            f"{row['largest_difference_of_std']:.1e}",
            f"{row['equal_top1']} of {parity['images']}",
        ]
        for name, row in compared.items()
    ]
    heading = ["against Paddle on real images", "largest logit difference", "of the logits' std", "equal top-1"]
    return [table(heading, rows)]


def quantization_table(reports: Sequence[Mapping[str, Any]]) -> str:
    """float32 beside int8, a row for each quantised network."""
    few = all(report.get("num_classes", TOP + 1) <= TOP for report in reports)
    rows = []
    for report in reports:
        for name in ("fp32", "int8"):
            side = report[name]
            last = name == "int8"
            rows.append(
                [
                    "" if last else f"{report['model']}, {report['images']} images of {report['data']['folder']}",
                    name,
                    f"{side['top1_percent']:.2f} % ({side['correct_top1']})",
                    *([] if few else [f"{side['top5_percent']:.2f} %"]),
                    f"{report['equal_predictions']} of {report['images']}" if last else "-",
                    f"{side['bytes'] / 1e6:.2f} MB",
                    f"{side['latency_ms']['median']:.2f} ms",
                    f"{report['speedup']:.2f}" if last else "1",
                ]
            )
    top5 = [] if few else ["top-5"]
    heading = ["network", "", "top-1", *top5, "equal predictions", "size", "one image", "times faster"]
    return table(heading, rows)


def quantization_lines(report: Mapping[str, Any]) -> list[str]:
    """What int8 costs and gains, and where it costs most."""
    calibrated = f"calibrated with {report['calibration']['images']} images, none of which was evaluated"
    lines = [quantization_table([report]), f"{calibrated}; ONNX Runtime, 1 thread"]
    if report["speedup"] <= 1:
        lines.append("int8 is NOT faster here: it saves size only")
    if report["keep_float"]:
        lines.append(f"kept in float32: {', '.join(report['keep_float'])}")
    rows = [[row["layer"], f"{row['signal_to_noise_db']:.1f} dB"] for row in report["layers"][:5]]
    lines += ["", table(["layers that lose most, each quantised alone", "logits' signal to noise"], rows)]
    return lines


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


def models_table() -> str:
    """All models with their sizes, the paper's top-1, and the weights that can be had."""
    from mobilenext.models import MODELS

    rows = []
    for card in MODELS.values():
        for index, weights in enumerate(card.weights or (None,)):
            first = index == 0
            published = weights.published if weights else None
            rows.append(
                [
                    card.name if first else "",
                    f"{card.parameters / 1e6:.2f} M" if first else "",
                    f"{card.mult_adds / 1e6:.1f} M" if first else "",
                    ("-" if card.paper_top1_percent is None else f"{card.paper_top1_percent:g} %") if first else "",
                    "none published" if weights is None else weights.tag,
                    f"{published.top1_percent:.3f} % ({published.dataset})" if published else "-",
                    weights.licence if weights else "-",
                ]
            )
    return table(["model", "parameters", "mult-adds", "paper top-1", "weights", "their top-1", "licence"], rows)


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


def operator_table(result: Mapping[str, Any]) -> str:
    """Where the time of a step goes: the operators' shares in the plain loop and in ours."""
    lines = []
    for row in result["rows"]:
        if row["operators"]:
            shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(row["operators"].items())[:5])
            lines.append([row["case"], row["variant"], shares])
    return table(["network", "step", "operators"], lines)
