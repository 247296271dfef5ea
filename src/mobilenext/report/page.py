"""A self-contained report page of evaluations, training runs and benches: one HTML file that loads nothing.

Everything stands in the file: style, script, Vega, charts, thumbnails. A content security policy names the two scripts
and the style by their checksums and allows nothing else, so that no file name or class name can become code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from mobilenext.drawing.chart import Chart
from mobilenext.drawing.parts import Charts, Paragraph, Part, Section, Span, article_of
from mobilenext.files import write_atomically
from mobilenext.machine.packages import require
from mobilenext.origin import now
from mobilenext.presentation import Reported
from mobilenext.report import sections
from mobilenext.report.charts import latency_histogram, metric_latency
from mobilenext.report.head import head
from mobilenext.report.images import Images
from mobilenext.report.inputs import Inputs, read_inputs
from mobilenext.report.names import published_of
from mobilenext.report.network_charts import bench_charts
from mobilenext.report.training_charts import training_charts
from mobilenext.runs.bench import Bench
from mobilenext.task import Task
from mobilenext.version import __version__

NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


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
    images = Images(data, weights)
    inputs = read_inputs(folders)
    images.check_weights([run.result for run in inputs.evaluations])
    page = report_html(inputs, images)
    content = page.encode(errors="backslashreplace")  # file names that are no text
    write_atomically(output, content)
    return len(content)


def report_html(inputs: Inputs, images: Images) -> str:
    """Return the page as text."""
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
    environment.filters["kind"] = lambda part: type(part).__name__
    environment.filters["unbroken"] = unbroken
    template = environment.from_string((assets / "report.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        style=style,
        script=script,
        vega=vega,
        policy=_policy([script, vega], style),
        version=__version__,
        **_content(inputs, images),
    )


def unbroken(text: str) -> str:
    """Return a text of numbers in which no line ends between a number and its unit."""
    return re.sub(r"(?<=\d) (?=(%|ms|s|h|M|MiB|points)\b|%)", NO_BREAK_SPACE, text)


def _as_data(value: Any) -> str:
    """Encode JSON for a script element: in ASCII, and without a character that HTML reads."""
    content = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    from markupsafe import Markup

    return Markup(content.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _finite(value: Any) -> Any:
    """Replace numbers that are not finite, such as a diverged loss, by None: JSON cannot express them."""
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


def _content(inputs: Inputs, images: Images) -> dict[str, Any]:
    """Return the values of everything that the template shows."""
    runs, task = inputs.evaluations, inputs.task
    content = {
        "title": ", ".join(_all_names(inputs)),
        "made": sections.dates(_results(inputs), now()),
        "head": head(inputs),
        "runs": [sections.headline(run, task) for run in runs],
        "sections": _sections(inputs, images),
    }
    images.check()
    return content


def _sections(inputs: Inputs, images: Images) -> list[Section]:
    """Return the sections of the page below the results, in their order."""
    runs, task = inputs.evaluations, inputs.task
    networks = task.presentation.networks_chart(runs, _as_published(inputs))
    general, special = [], []
    if runs:
        special = task.presentation.sections(runs, images)
        charts = [chart for chart in (metric_latency(runs, task), networks) if chart]
        parts: list[Part] = [sections.metric_table(runs, task), *([Charts(charts)] if charts else [])]
        general.append(Section("metric-latency", f"{task.metric.heading} and latency", parts))
        general.append(Section("latency", "Latency", _latency(runs)))
        general.append(Section("unreadable", "Unreadable images", _unreadable(runs)))
    if inputs.training:
        parts = [sections.training_table(inputs.training, task), Charts(training_charts(inputs.training))]
        general.append(Section("training-runs", "Training", parts))
        general += task.presentation.trained(inputs.training)
    if inputs.benches:
        general.append(Section("bench", "Latency of networks", _benches(inputs.benches, task)))
    if networks and not runs:
        general.append(Section("mult-adds", f"{task.metric.heading} and mult-adds", [Charts([networks])]))
    general.append(Section("facts", "Configuration and environment", _facts(inputs)))
    ordered = []
    for section in general:
        ordered += [*(one for one in special if one.before == section.name), section]
    return ordered


def _as_published(inputs: Inputs) -> bool:
    """Return whether a bench has a network that ran as its authors ran it, beside which their numbers belong."""
    rows = (row for bench in inputs.benches for row in bench.result["rows"])
    return any(published_of(row, inputs.task) is not None for row in rows)


def _results(inputs: Inputs) -> list[Mapping[str, Any]]:
    """Return the records that may hold the time at which they were written."""
    return [
        *(run.result for run in inputs.evaluations),
        *(run.result or run.config for run in inputs.training),
        *(bench.result for bench in inputs.benches),
    ]


def _all_names(inputs: Inputs) -> list[str]:
    return [run.name for kind in (inputs.evaluations, inputs.training, inputs.benches) for run in kind]


def _latency(runs: Sequence[Reported]) -> list[Part]:
    """Return a histogram of the calls of each run, all on one axis."""
    domain, charts = _latency_domain(runs), []
    for run in runs:
        latency = run.result["latency"]
        samples = latency.get("samples_ms")
        if samples:
            charts.append(replace(latency_histogram(samples, latency, domain), title=run.name))
        else:
            charts.append(
                Chart(
                    run.name,
                    f"{latency['median']:.2f} ms ({sections.latency_note(run)}).",
                    {},
                    note="This result was written before single calls were stored, so their distribution cannot be "
                    "shown. Evaluate again to have it.",
                )
            )
    text = "One image at a time, warm, while nothing else of the evaluation runs."
    return [Paragraph([text + " The axes share one range." * (len(runs) > 1)]), Charts(charts)]


def _latency_domain(runs: Sequence[Reported]) -> tuple[float, float]:
    """Return the range from the fastest call to the slowest, or to twice the largest p90: one call may be very slow."""
    samples = [value for run in runs for value in run.result["latency"].get("samples_ms") or ()]
    slow = 2 * max((run.result["latency"]["p90"] for run in runs), default=1.0)
    low, high = min(samples, default=0.0), min(max(samples, default=1.0), slow)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _unreadable(runs: Sequence[Reported]) -> list[Part]:
    parts: list[Part] = []
    for place, run in enumerate(runs):
        name: list[str | Span] = [Span(run.name, "bdi"), ": "] if len(runs) > 1 else []
        table = sections.unreadable_table(run, place)
        parts.append(table or Paragraph([*name, _all_read(len(run.paths))]))
    return parts


def _all_read(images: int) -> str:
    return "The only image could be read." if images == 1 else f"All {images:,} images could be read."


def _benches(benches: Sequence[Bench], task: Task) -> list[Part]:
    articles: list[Part] = []
    for place, bench in enumerate(benches):
        notes = [
            Paragraph([f"skipped: {entry['network']}, {entry['runtime']}: {entry['reason']}"], "note")
            for entry in bench.result.get("skipped") or ()
        ]
        parts: list[Part] = [sections.bench_table(bench, place, task), Charts(bench_charts(bench, task)), *notes]
        articles.append(article_of(bench.name, parts, several=len(benches) > 1))
    return articles


def _facts(inputs: Inputs) -> list[Part]:
    kinds: list[tuple[str, str, list[tuple[str, Any]]]] = [
        (
            "configuration",
            "Configuration",
            [(run.name, sections.configuration(run, inputs.task)) for run in inputs.evaluations],
        ),
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
    return [sections.facts_table(name, caption, columns) for name, caption, columns in kinds if columns]
