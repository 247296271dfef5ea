"""A self-contained report page of evaluations, training runs and benches: one HTML file that asks nobody for anything.

Everything stands in the file: style, script, Vega, charts, thumbnails. A content security policy names the two scripts
and the style by their checksums and allows nothing else, so that no file name or class name can become code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.classification.analysis import calibration_error, confidence_bins, confusions, worst_mistakes
from mobilenext.drawing.chart import Chart
from mobilenext.files import write_atomically
from mobilenext.machine.packages import require
from mobilenext.origin import now
from mobilenext.report import charts, sections
from mobilenext.report.heat_maps import HeatMaps
from mobilenext.report.inputs import Bench, Evaluation, Inputs, read_inputs
from mobilenext.report.network_charts import accuracy_mult_adds, bench_charts
from mobilenext.report.thumbnails import Thumbnails
from mobilenext.report.training_charts import training_charts
from mobilenext.report.training_report import Run
from mobilenext.version import __version__

HISTOGRAM_BINS = 20


def write_report(
    folders: Sequence[Path], output: Path, data: Path | None = None, weights: Sequence[str | os.PathLike[str]] = ()
) -> int:
    """Write the page and return its size in bytes.

    Args:
        folders: of evaluations, training runs and benches; with several evaluations the first is what the others are
            compared with.
        output: the HTML file.
        data: the folder that was evaluated, for thumbnails; without it there are none.
        weights: those that were evaluated, for heat maps of the worst mistakes: files, or ``model.tag``.

    Raises:
        MissingDependency: the extra `report` is not installed.
        DataError: a folder is none of these, a file is damaged, or the images are not in `data`.
        OutputError: the page cannot be written.
    """
    require(["jinja2", "vl_convert"], "report", "the report page")
    pictures = Thumbnails(data)
    inputs = read_inputs(folders)
    heat_maps = HeatMaps(data, weights)
    heat_maps.check([run.result for run in inputs.evaluations])
    page = report_html(inputs, pictures, heat_maps)
    content = page.encode(errors="backslashreplace")  # file names that are no text
    write_atomically(output, content)
    return len(content)


def report_html(inputs: Inputs, pictures: Thumbnails, heat_maps: HeatMaps) -> str:
    """The page as text."""
    import jinja2
    import vl_convert

    assets = files("mobilenext.report") / "assets"
    style = (assets / "report.css").read_text(encoding="utf-8")
    script = (assets / "report.js").read_text(encoding="utf-8")
    # A script of its own scope: the bundle is written as a module and leaves what it exports in `window`.
    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub asks for what it does not need
    vega = f"(function(){{{bundle}}})();"
    for code in (style, script, vega):
        assert "</script" not in code.lower()
        assert "</style" not in code.lower()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["data"] = _as_data
    template = environment.from_string((assets / "report.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        style=style,
        script=script,
        vega=vega,
        policy=_policy([script, vega], style),
        version=__version__,
        **_content(inputs, pictures, heat_maps),
    )


def _as_data(value: Any) -> str:
    """JSON that can stand in a script element: ASCII, and no character that HTML reads."""
    found = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    from markupsafe import Markup

    return Markup(found.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _finite(value: Any) -> Any:
    """A loss may have become NaN, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _policy(scripts: Sequence[str], style: str) -> str:
    def checksum(code: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"

    allowed = " ".join(checksum(code) for code in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {checksum(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _content(inputs: Inputs, pictures: Thumbnails, heat_maps: HeatMaps) -> dict[str, Any]:
    """Everything that the template shows."""
    runs = inputs.evaluations
    confused = [confusions(run.labels[run.readable], run.best[run.readable, 0]) for run in runs]
    evaluations = [
        _evaluation(run, place, pairs, pictures, heat_maps)
        for place, (run, pairs) in enumerate(zip(runs, confused, strict=True))
    ]
    domain = _latency_domain(runs)
    for run, shown in zip(runs, evaluations, strict=True):
        samples = run.result["latency"].get("samples_ms")
        shown["latency"] = charts.latency_histogram(samples, run.result["latency"], domain) if samples else None
    content = {
        "title": ", ".join(_all_names(inputs)),
        "made": sections.dates(_results(inputs), now()),
        "evaluations": evaluations,
        "accuracy": sections.accuracy_table(runs) if runs else None,
        "accuracy_chart": charts.accuracy_latency(runs),
        "mult_adds_chart": _mult_adds(inputs),
        "classes": sections.class_table(runs, confused) if runs else None,
        "comparisons": [sections.compared(runs[0], other, place, pictures) for place, other in enumerate(runs[1:], 1)],
        "training": sections.training_table(inputs.training) if inputs.training else None,
        "training_charts": training_charts(inputs.training),
        "benches": [
            {"table": sections.bench_table(bench, place), "charts": bench_charts(bench), "name": bench.name}
            | {"skipped": bench.result.get("skipped") or []}
            for place, bench in enumerate(inputs.benches)
        ],
        "facts": _facts(inputs),
        "mistakes_shown": sections.MOST_MISTAKES,
        "pictures": pictures,
        "heat_maps": heat_maps.wanted,
    }
    pictures.check()
    return content


def _results(inputs: Inputs) -> list[Mapping[str, Any]]:
    """The records that may say when they were made."""
    return [
        *(run.result for run in inputs.evaluations),
        *(run.result or run.config for run in inputs.training),
        *(bench.result for bench in inputs.benches),
    ]


def _all_names(inputs: Inputs) -> list[str]:
    kinds: tuple[Sequence[Evaluation | Run | Bench], ...] = (inputs.evaluations, inputs.training, inputs.benches)
    return [one.name for kind in kinds for one in kind]


def _evaluation(
    run: Evaluation, place: int, pairs: Sequence[Any], pictures: Thumbnails, heat_maps: HeatMaps
) -> dict[str, Any]:
    confidence, correct = run.scores[run.readable, 0], run.correct[run.readable]
    bins = confidence_bins(confidence, correct)
    error = calibration_error(bins)
    places = np.flatnonzero(run.readable)
    worst = [int(places[at]) for at in worst_mistakes(confidence, correct, sections.MOST_MISTAKES)]
    return {
        "name": run.name,
        "place": place,
        "headline": sections.headline(run),
        "confused": sections.confusion_table(run, place, pairs) if pairs else None,
        "matrix": charts.confusion_matrix(run, pairs),
        "reliability": charts.reliability(bins, error),
        "error": None if error is None else f"{100 * error:.2f} %",
        "bins": len(bins),
        "readable": f"{len(places):,}",
        "confidence": charts.confidence_histogram(confidence_bins(confidence, correct, HISTOGRAM_BINS)),
        "mistakes": sections.mistakes(run, worst, pictures, heat_maps),
        "wrong": f"{int((~correct).sum()):,}",
        "unreadable": sections.unreadable_table(run, place),
    }


def _latency_domain(runs: Sequence[Evaluation]) -> tuple[float, float]:
    """From the fastest call of all runs to the slowest, or to twice the largest p90: one call may be very slow."""
    samples = [value for run in runs for value in run.result["latency"].get("samples_ms") or ()]
    slow = 2 * max((run.result["latency"]["p90"] for run in runs), default=1.0)
    low, high = min(samples, default=0.0), min(max(samples, default=1.0), slow)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _mult_adds(inputs: Inputs) -> Chart | None:
    """The paper's points, beside networks of 1,000 classes and beside a bench; next to ten digits they mislead."""
    if inputs.benches or any(run.result["num_classes"] == 1000 for run in inputs.evaluations):
        return accuracy_mult_adds(inputs.evaluations)
    return None


def _facts(inputs: Inputs) -> list[sections.Table]:
    tables = []
    kinds: list[tuple[str, str, list[tuple[str, Any]]]] = [
        ("configuration", "Configuration", [(run.name, sections.configuration(run)) for run in inputs.evaluations]),
        ("environment", "Environment", [(run.name, run.result["environment"]) for run in inputs.evaluations]),
        ("training-configuration", "Training configuration", [(run.name, run.config) for run in inputs.training]),
        (
            "bench-environment",
            "Environment of the bench",
            [
                (bench.name, {"configuration": bench.result["configuration"], **bench.result["environment"]})
                for bench in inputs.benches
            ],
        ),
    ]
    for name, caption, columns in kinds:
        if columns:
            tables.append(sections.facts_table(name, caption, columns))
    return tables
