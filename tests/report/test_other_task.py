"""A task that says no more than its metric appears on a page, in tables and in the picture of its curves."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from brightness import NAME, BrightRow
from evaluation_folders import SAMPLES_MS
from mobilenext.machine.packages import installed
from mobilenext.report.page import write_report
from mobilenext.report.training_report import comparison_lines
from mobilenext.runs.comparison import comparison
from mobilenext.runs.curves import curves
from mobilenext.runs.tables import result_lines
from mobilenext.runs.training_run import read_run
from run_folders import a_run

ROOT = Path(__file__).parents[2]
needs_libraries = pytest.mark.skipif(
    not (installed("jinja2") and installed("vl_convert")), reason="jinja2 or vl-convert is not installed (extra report)"
)


def an_evaluation(folder: Path, error: float = 0.25) -> Path:
    """Four images, each answered with too high a brightness by `error`; the last cannot be read."""
    folder.mkdir()
    rows = [BrightRow(place, f"val/{place}.png", 0.5, 0.5 + error) for place in range(3)]
    rows.append(BrightRow(3, "val/3.png", 0.5, None, "empty file"))
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row.to_dict()) + "\n" for row in rows))
    latency = {"median": 1.5, "p10": 1.1, "p90": 1.9, "threads": 1, "samples_ms": SAMPLES_MS}
    result: dict[str, Any] = {"task": NAME, "model": "mobilenext_x0_35", "runtime": "onnxruntime", "partial": False}
    result |= {"weights": {"sha256": "0" * 64}, "images": 4, "unreadable": 1, "mean_error": error, "latency": latency}
    result |= {"data": {"folder": "photos"}, "preprocessing": {}, "environment": {"processor": "a processor"}}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def a_training(folder: Path, seed: int = 0) -> Path:
    """A run of the task with an error of 0.3 and, by the seed, a hundredth more."""
    a_run(folder, task=NAME, seed=seed)
    counts = {"images": 10, "mean_error": 0.3 + seed / 100}
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for row in rows:
        if row["event"] == "epoch":
            row["val"] = {"raw": counts}
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = json.loads((folder / "result.json").read_text())
    result |= {"best": {**counts, "epoch": 1, "kind": "raw"}, "final": {"raw": counts, "ema": None}}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@needs_libraries
def test_it_appears_on_a_page(tmp_path: Path) -> None:
    folders = [an_evaluation(tmp_path / "a"), an_evaluation(tmp_path / "b", 0.125), a_training(tmp_path / "run")]
    write_report(folders, tmp_path / "r.html")
    content = (tmp_path / "r.html").read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style)\b.*?</\1>", " ", content, flags=re.DOTALL)))
    for expected in (
        "Mean error and latency",
        "Mean error against latency",
        "0.2500",
        "0.1250",
        "final mean error, raw",
        "0.3000",
        "empty file",
    ):
        assert expected in text
    for foreign in ("top-1", "Confusion", "Calibration", "ccuracy", "ImageNet"):
        assert foreign not in text
    specs = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', content, flags=re.DOTALL)
    assert any(value.get("mean_error") == 0.125 for spec in specs for value in values_of(json.loads(spec)))


def values_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return list(spec.get("data", {}).get("values", ()))


def test_its_tables(tmp_path: Path) -> None:
    lines = "\n".join(result_lines(json.loads((an_evaluation(tmp_path / "a") / "result.json").read_text())))
    assert "| mean error |" in lines
    assert "| 0.2500     |" in lines
    runs = [read_run(a_training(tmp_path / f"run{seed}", seed)) for seed in (0, 1)]
    (group,) = comparison(runs)["groups"]
    assert (group["mean_mean_error"], group["n"]) == (pytest.approx(0.305), 2)
    assert group["std"] == pytest.approx(0.01 / 2**0.5)
    assert "final mean error" in comparison_lines(runs)[0]
    assert "validation mean error" in json.dumps(curves(runs))


def test_the_best_of_a_run_has_the_smallest_error(tmp_path: Path) -> None:
    folder = a_training(tmp_path / "run")
    (folder / "result.json").unlink()
    log = (folder / "log.jsonl").read_text().replace('"mean_error": 0.3', '"mean_error": 0.2', 1)
    (folder / "log.jsonl").write_text(log)
    assert comparison([read_run(folder)])["runs"][0]["best"] == {
        "epoch": 1,
        "kind": "raw",
        "images": 10,
        "mean_error": 0.2,
    }


@needs_libraries
def test_runs_of_two_tasks_on_one_page(tmp_path: Path) -> None:
    """Each task has its own sections; no two elements of the page share a name."""
    folders = [an_evaluation(tmp_path / "a"), a_training(tmp_path / "b"), a_run(tmp_path / "c"), a_run(tmp_path / "d")]
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "bench.json").write_text((ROOT / "results" / "bench_batch1.json").read_text())
    write_report([*folders, tmp_path / "bench"], tmp_path / "r.html")
    content = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert re.findall(r"<h2 [^>]*>([^<]*)</h2>", content) == [
        *("Result", "Mean error and latency (brightness)", "Latency (brightness)", "Unreadable images (brightness)"),
        *("Training (brightness)", "Training (classification)", "Latency of networks", "Accuracy and mult-adds"),
        "Configuration and environment",
    ]
    ids = re.findall(r' id="([^"]*)"', content)
    assert len(ids) == len(set(ids))
    text = html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"<(script|style)\b.*?</\1>", " ", content, flags=re.DOTALL)))
    assert "Training run b: best validation mean error 0.3000" in text
    assert "Of 2 training runs, c has the best validation top-1, 50.00 %" in text
    assert "What differs between the training runs: no setting." in text
    assert "top-1 in the paper" in text, "of the bench, whose networks are classifiers"
