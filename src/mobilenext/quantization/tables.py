"""What int8 costs and gains, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.drawing.markdown import table
from mobilenext.statistics import percent_text

TOP = 5  # where there are no more classes, top-5 says nothing


def quantization_table(reports: Sequence[Mapping[str, Any]]) -> str:
    """Return float32 beside int8, two rows for each quantized network; all of them are of one task."""
    if reports and "metric" in reports[0]:
        return _table_of_metric(reports)
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
                    f"{percent_text(side['top1_percent'])} ({side['correct_top1']})",
                    *([] if few else [percent_text(side["top5_percent"])]),
                    f"{report['equal_predictions']} of {report['images']}" if last else "-",
                    f"{side['bytes'] / 1e6:.2f} MB",
                    f"{side['latency_ms']['median']:.2f} ms",
                    f"{report['speedup']:.2f}" if last else "1",
                ]
            )
    top5 = [] if few else ["top-5"]
    heading = ["network", "", "top-1", *top5, "equal predictions", "size", "one image", "times faster"]
    return table(heading, rows)


def _table_of_metric(reports: Sequence[Mapping[str, Any]]) -> str:
    """Return the same of a task with another metric than classification."""
    metric = reports[0]["metric"]
    rows = []
    for report in reports:
        for name in ("fp32", "int8"):
            side, last = report[name], name == "int8"
            value = f"{side[metric['field']]:.2f} {metric['symbol']}".strip()
            rows.append(
                [
                    "" if last else f"{report['model']}, {report['images']} images of {report['data']['folder']}",
                    name,
                    value,
                    f"{side['bytes'] / 1e6:.2f} MB",
                    f"{side['latency_ms']['median']:.2f} ms",
                    f"{report['speedup']:.2f}" if last else "1",
                    str(len(report["keep_float"])) if last else "all",
                ]
            )
    heading = ["network", "", metric["display"], "size", "one image", "times faster", "layers in float32"]
    return table(heading, rows)


def quantization_lines(report: Mapping[str, Any]) -> list[str]:
    """Return what int8 costs and gains, and where it costs most."""
    calibrated = f"calibrated with {report['calibration']['images']} images, none of which was evaluated"
    lines = [quantization_table([report]), f"{calibrated}; ONNX Runtime, 1 thread"]
    if report["speedup"] <= 1:
        lines.append("int8 is NOT faster here: it saves size only")
    if report["keep_float"]:
        lines.append(f"kept in float32: {', '.join(report['keep_float'])}")
    lines += _tried(report)
    rows = [[row["layer"], f"{row['signal_to_noise_db']:.1f} dB"] for row in report["layers"][:5]]
    signal = "outputs'" if "metric" in report else "logits'"
    lines += ["", table(["layers that lose most, each quantized alone", f"{signal} signal to noise"], rows)]
    return lines


def _tried(report: Mapping[str, Any]) -> list[str]:
    """Return a line on each choice of layers that was measured, where several were."""
    if len(report.get("tried", ())) < 2:
        return []
    unit, display = report["metric"]["unit"], report["metric"]["display"]
    return [
        f"{len(choice['keep_float'])} layers in float32: {choice[f'lost_{unit}']:.2f} {unit} of {display} lost"
        for choice in report["tried"]
    ]
