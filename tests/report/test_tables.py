"""The tables at the end of a command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from evaluation_folders import write_evaluation
from mobilenext.machine.environment import environment
from mobilenext.report.names import runtime_of
from mobilenext.report.sections import bench_table, flat, how_run
from mobilenext.runs.bench import Bench
from mobilenext.runs.evaluation import read_evaluation
from mobilenext.runs.tables import result_table
from mobilenext.runtime import RUNTIMES
from mobilenext.runtime.table import RuntimeSpec
from mobilenext.tasks import find_task


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_version_of_every_runtime_is_told(runtime: str, tmp_path: Path) -> None:
    measured = environment()
    folder = write_evaluation(tmp_path, [0], [[0, 1]], [[0.9, 0.1]], classes=2, runtime=runtime, environment=measured)
    cell = result_table(json.loads((folder / "result.json").read_text()))
    package = RUNTIMES[runtime].package.replace("_", "-")
    if package == "paddle":
        package = "paddlepaddle-gpu" if "paddlepaddle-gpu" in measured else "paddlepaddle"
    assert "None" not in cell
    assert measured.get(package, "of unknown version") in cell


def test_a_run_on_a_gpu_has_one_name(tmp_path: Path) -> None:
    folder = write_evaluation(
        tmp_path, [0], [[0, 1]], [[0.9, 0.1]], classes=2, runtime="paddle-inference", engine="gpu", precision="fp16",
        device="gpu",
    )  # fmt: skip
    result = json.loads((folder / "result.json").read_text())
    spec = RuntimeSpec("paddle-inference", "gpu", "gpu", 1, tmp_path, precision="fp16")
    assert spec.describe() == runtime_of(result) == "paddle-inference (fp16)"
    assert "paddle-inference (fp16), GPU" in result_table(result)
    assert how_run(read_evaluation(folder, "a", expected="")).startswith("paddle-inference (fp16), batch 1")


def test_a_result_of_a_runtime_that_is_not_known(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path, [0], [[0, 1]], [[0.9, 0.1]], classes=2, runtime="tensorrt", environment={})
    assert "tensorrt of unknown version" in result_table(json.loads((folder / "result.json").read_text()))


def test_the_bench_of_a_detector_tells_its_post_processing() -> None:
    results = Path(__file__).parents[2] / "results"
    after = "of it, post-processing"
    for name, task, expected in (("bench_detection", "detection", True), ("bench_batch1", None, False)):
        result = json.loads((results / f"{name}.json").read_text())
        table = bench_table(Bench(results, name, result), 0, find_task(task))
        assert (after in table.head) == expected
        assert {len(row) for row in table.rows} == {len(table.head)}
        for row, cells in zip(result["rows"], table.rows, strict=True):
            if expected:
                cell, amounts = cells[list(table.head).index(after)], row.get("amounts_per_image")
                assert cell.value == row.get("post_processing_ms")
                note = f"{amounts['candidates']:,.0f} candidates; {amounts['boxes']:,.0f} boxes" if amounts else ""
                assert cell.note == note


def test_a_bench_quotes_the_paper_beside_networks_that_ran_as_in_it() -> None:
    results = Path(__file__).parents[2] / "results"
    result = json.loads((results / "bench_batch1.json").read_text())
    small = [{**row, "image_size": 64} for row in result["rows"]]
    for rows, quoted in ((result["rows"], True), (small, False), ([*result["rows"], *small], True)):
        table = bench_table(Bench(results, "bench", {**result, "rows": rows}), 0, find_task(None))
        assert ("top-1 in the paper" in table.head) == quoted
    place = list(table.head).index("top-1 in the paper")
    assert {cells[place].text for row, cells in zip(rows, table.rows, strict=True) if row["image_size"] == 64} == {"-"}
    assert "72.30 %" in {cells[place].text for cells in table.rows}


def test_the_verdict_is_rounded_like_the_table_above_it() -> None:
    published = {"expected_top1_percent": 98.664, "measured_top1_percent": 98.664, "difference_points": -0.004}
    compared = {**published, "verdict": "reproduced", "reason": "equal", "dataset": "digits", "origin": "here"}
    lines = find_task(None).presentation.closing_lines({"comparison": compared})
    assert "98.66 %" in lines[-1]
    assert "-0.00 points" in lines[-1]
    assert "98.664" not in lines[-1]


def test_nested_lists_of_a_configuration_stay_short() -> None:
    blocks = [{"in_channels": 16, "stride": 1}] * 20
    facts = flat({"model": "a", "architecture": {"blocks": blocks, "widths": [1, 2], "pairs": [[1, 2]], "none": []}})
    assert re.fullmatch(r"20 entries \(sha256 [0-9a-f]{8}\)", facts.pop("architecture.blocks"))
    assert facts == {
        "model": "a", "architecture.widths": "1, 2", "architecture.pairs": "[[1, 2]]", "architecture.none": "none"
    }  # fmt: skip
