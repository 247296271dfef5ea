"""A self-contained report page of evaluations, trainings, searches and benches: one HTML file that loads nothing.

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
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from mobilenext.files import write_atomically
from mobilenext.machine.packages import require
from mobilenext.origin import now
from mobilenext.report import sections
from mobilenext.report.body import body
from mobilenext.report.head import head
from mobilenext.report.images import Images
from mobilenext.report.inputs import Inputs, read_inputs
from mobilenext.version import __version__

NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def write_report(
    folders: Sequence[Path],
    output: Path,
    data: Path | None = None,
    weights: Sequence[str | os.PathLike[str]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the page and return its size in bytes.

    Args:
        folders: of evaluations, training runs, searches and benches, of any tasks; of several evaluations of a task
            the first is what the others are compared with.
        output: the HTML file.
        data: the folder that was evaluated, for thumbnails; without it there are none.
        weights: those that were evaluated, for heat maps of the worst mistakes: files, or ``model.tag``.
        progress: called with the number of images whose predictions are read, and of all; then with that of pictures.

    Raises:
        MissingDependency: the extra `report` is not installed.
        DataError: a folder is none of these, a file is damaged, or the images are not in `data`.
        OutputError: the page cannot be written.
    """
    require(["jinja2", "vl_convert"], "report", "the report page")
    images = Images(data, weights, progress)
    inputs = read_inputs(folders, progress)
    images.expect(len(inputs.evaluations))
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
    """Return a text of numbers in which no line ends between a number and what it counts."""
    return re.sub(r"(?<=\d) (?=(%|ms|s|min|h|M|MiB|points|threads?)\b|%)|(?<=batch) (?=\d)", NO_BREAK_SPACE, text)


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
    content = {
        "title": ", ".join(_all_names(inputs)),
        "made": sections.dates(_results(inputs), now()),
        "head": head(inputs),
        "runs": [sections.headline(run, group.task) for group in inputs.groups for run in group.evaluations],
        "sections": body(inputs, images),
    }
    images.check()
    return content


def _results(inputs: Inputs) -> list[Mapping[str, Any]]:
    """Return the records that may hold the time at which they were written."""
    return [
        *(run.result for run in inputs.evaluations),
        *(run.result or run.config for run in inputs.training),
        *(bench.result for bench in inputs.benches),
    ]


def _all_names(inputs: Inputs) -> list[str]:
    return [run.name for kind in (inputs.evaluations, inputs.training, inputs.benches) for run in kind]
