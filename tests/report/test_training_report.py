from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mobilenext.report import training_report
from mobilenext.report.training_report import comparison_lines
from mobilenext.runs.comparison import comparison, differences
from mobilenext.runs.training_run import read_run
from run_folders import a_run, two_groups


def test_a_run_that_was_stopped_before_its_first_row(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", done=0)
    (folder / "log.jsonl").unlink()
    row = comparison([read_run(folder)])["runs"][0]
    assert (row["epochs_done"], row["best"], row["train_loss"], row["train_seconds"]) == (0, None, None, 0)
    assert "0/3" in comparison_lines([read_run(folder)])[0]


def test_a_row_for_each_run(tmp_path: Path) -> None:
    runs = [
        read_run(a_run(tmp_path / "done", 101, ema=105)),
        read_run(a_run(tmp_path / "half", 101, done=2, recipe={"lr": 0.05}, identity_divisor=2)),
    ]
    done, half = comparison(runs)["runs"]
    assert done["final"]["raw"]["top1_percent"] == 50.5
    assert done["final"]["ema"]["top1_percent"] == 52.5
    assert (done["finished"], done["epochs_done"], done["train_loss"]) == (True, 3, 1.0)
    assert (done["images_per_second"], done["train_seconds"]) == (55.5, 5400.0)
    assert (half["finished"], half["epochs_done"], half["final"]) == (False, 2, {})
    assert (half["best"]["epoch"], half["best"]["correct_top1"]) == (1, 99)  # the second was not evaluated
    assert (half["images_per_second"], half["train_seconds"]) == (50.0, 1800.0)
    json.dumps(comparison(runs))

    header, _, first, second = comparison_lines(runs)[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, first, second)]
    names = ["run", "model", "divisor", "recipe", "seed", "epochs", "final top-1", "EMA top-1", "best", "train loss"]
    assert cells[0] == [*names, "images/s", "hours"]
    same = "mobilenext_x0_35"
    scores = ["50.50 % (101/200)", "52.50 % (105/200)", "50.50 % (raw, epoch 3)"]
    assert cells[1] == ["done", same, "1", "tiny", "0", "3/3", *scores, "1.000", "55.5", "1.50"]
    unfinished = ["2/3", "unfinished", "-", "49.50 % (raw, epoch 1)", "1.500", "50.0", "0.50"]
    assert cells[2] == ["half", same, "2", "tiny", "0", *unfinished]


def test_only_what_differs_is_listed(tmp_path: Path) -> None:
    folders = [a_run(tmp_path / name, recipe={"lr": rate}) for name, rate in (("a", 0.1), ("b", 0.2))]
    runs = [read_run(folder) for folder in (*folders, a_run(tmp_path / "c", done=2))]
    assert differences(runs) == {"recipe.lr": [0.1, 0.2, 0.1]}
    assert comparison_lines(runs)[1:] == ["", "differs: recipe.lr: 0.1 (a, c); 0.2 (b)"]
    assert differences(runs[::2]) == {}


def test_long_values_are_told_apart_in_a_short_line(tmp_path: Path) -> None:
    """An architecture's list of blocks fills a screen."""
    blocks = [{"in_channels": 16, "hidden_channels": 8, "stride": stride} for stride in (1, 2) * 10]
    runs = [
        read_run(a_run(tmp_path / name, architecture={"blocks": of_run}))
        for name, of_run in (("a", blocks), ("b", blocks[::-1]), ("c", blocks[:2]), ("d", blocks))
    ]
    (line,) = [line for line in comparison_lines(runs) if line.startswith("differs: architecture.blocks: ")]
    values = line.removeprefix("differs: architecture.blocks: ").split("; ")
    assert [value.partition(" (")[0] for value in values] == ["20 entries", "20 entries", "2 entries"]
    assert [value.rpartition(" (")[2] for value in values] == ["a, d)", "b)", "c)"]
    assert len(line) < 200


def test_runs_on_other_data_are_not_compared(tmp_path: Path) -> None:
    runs = [
        read_run(a_run(tmp_path / f"{name}{seed}", 50 + seed, seed=seed, data={"val_sha256": name * 64}))
        for name in "bc"
        for seed in (0, 1)
    ]
    warnings = [line for line in comparison_lines(runs) if line.startswith("WARNING")]
    expected = "WARNING: not comparable, the data differ: data.val_sha256: bbbbbbbb (b0, b1); cccccccc (c0, c1)"
    assert warnings == [expected]
    result = comparison(runs)
    assert [group["group"] for group in result["groups"]] == [
        "mobilenext_x0_35, tiny, val_sha256 bbbbbbbb",
        "mobilenext_x0_35, tiny, val_sha256 cccccccc",
    ]
    assert result["pairs"] == []


def test_groups_over_seeds_and_their_difference(tmp_path: Path) -> None:
    runs = [read_run(folder) for folder in two_groups(tmp_path)]
    result = comparison(runs)
    raw, ema, raw_2, _ = result["groups"]
    label = "mobilenext_x0_35, tiny"
    assert raw == {
        "group": label,
        "kind": "raw",
        "n": 3,
        "mean_top1_percent": 36.0,
        "std_points": 1.0,
        "min_top1_percent": 35.0,
        "max_top1_percent": 37.0,
    }
    assert (ema["kind"], ema["mean_top1_percent"], ema["std_points"]) == ("ema", 45.0, 0.0)
    assert (raw_2["group"], raw_2["mean_top1_percent"]) == ("mobilenext_x0_35, divisor 2, tiny", 31.0)
    # Standard deviations of 1 over 3 seeds each: 4 degrees of freedom, half the interval 2.7764 sqrt(2 / 3) = 2.267.
    first, second = result["pairs"]
    assert (first["group"], first["minus"], first["kind"]) == (raw_2["group"], label, "raw")
    assert first["difference_points"] == -5.0
    assert first["interval_points"] == pytest.approx([-7.267, -2.733], abs=1e-3)
    assert (second["kind"], second["interval_points"]) == ("ema", None)
    lines = comparison_lines(runs)
    assert lines[-2:] == [
        "#3 minus #1: -5.00 points; 95 % (Welch): -7.27 to -2.73",
        "#4 minus #2: +0.00 points; no interval without spread",
    ]
    assert [cell.strip() for cell in lines[-4].splitlines()[2].strip("|").split("|")] == [
        *("#1", label, "raw", "3", "36.00", "1.00", "35.00", "37.00")
    ]


def test_what_is_left_out_of_groups(tmp_path: Path) -> None:
    runs = [
        read_run(a_run(tmp_path / "a", 70, seed=0)),
        read_run(a_run(tmp_path / "b", 74, seed=1, data={"folder": "the same elsewhere"})),
        read_run(a_run(tmp_path / "unfinished", 90, seed=2, done=2)),
        read_run(a_run(tmp_path / "again", 99, seed=1)),
        read_run(a_run(tmp_path / "other", 99, seed=3, recipe={"lr": 1.0})),
    ]
    result = comparison(runs)
    (group,) = result["groups"]
    assert (group["n"], group["mean_top1_percent"], result["repeated"]) == (2, 36.0, ["again"])
    assert group["group"] == "mobilenext_x0_35, tiny, lr 0.1"
    assert "not counted again: again repeats a seed of its group" in comparison_lines(runs)
    assert comparison(runs[:1])["groups"] == []


def test_folders_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    runs = [read_run(a_run(tmp_path / parent / "run", seed=seed)) for seed, parent in enumerate("ab")]
    assert [row["run"] for row in comparison(runs)["runs"]] == [str(run.folder) for run in runs]


def test_the_tables_need_neither_paddle_nor_charts() -> None:
    code = f"import sys, {training_report.__name__}; sys.exit('paddle' in sys.modules or 'vl_convert' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
