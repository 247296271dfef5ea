from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilenext.errors import DataError, MissingDependency, OutputError, UsageError
from mobilenext.machine.packages import installed
from mobilenext.report import training_report
from mobilenext.report.training_report import comparison_lines
from mobilenext.runs.comparison import comparison, differences
from mobilenext.runs.curves import write_curves
from mobilenext.runs.training_run import read_run

needs_matplotlib = pytest.mark.skipif(not installed("matplotlib"), reason="matplotlib is not installed (extra bench)")
EPOCHS, STEPS = 3, 4


def counts(correct: int) -> dict[str, Any]:
    return {"images": 200, "correct_top1": correct, "correct_top5": 200, "top1_percent": correct / 2, "loss": 1.0}


def a_run(folder: Path, correct: int = 100, *, done: int = EPOCHS, ema: int | None = None, **changes: Any) -> Path:
    """A run folder whose final top-1 is `correct` of 200; one image fewer for each epoch before the last."""
    folder.mkdir(parents=True)
    recipe = {"name": "tiny", "lr": 0.1} | changes.pop("recipe", {})
    data = {"folder": "flowers", "train_images": 64, "train_sha256": "a" * 64, "val_sha256": "b" * 64}
    config = {
        "model": "mobilenext_x0_35",
        "recipe": recipe,
        "seed": 0,
        "identity_divisor": 1,
        "num_classes": 20,
        "data": data | changes.pop("data", {}),
        "steps_per_epoch": STEPS,
        "epochs": EPOCHS,
        "parameters": 1000,
        "environment": {"load_average": [len(str(folder)), id(folder)]},
        **changes,
    }
    (folder / "run.json").write_text(json.dumps(config, indent=1))
    rows: list[dict[str, Any]] = []
    for epoch in range(1, done + 1):
        start = (epoch - 1) * STEPS
        for step in range(start + 1, start + STEPS + 1):
            rows.append({"event": "step", "epoch": epoch, "global_step": step, "loss": 3 - step / 8, "lr": 0.1 / step})
        evaluated = {"raw": counts(correct - EPOCHS + epoch)} | ({"ema": counts(ema)} if ema is not None else {})
        rows.append(
            {"event": "epoch", "epoch": epoch, "global_step": start + STEPS, "lr": 0.1, "train_loss": 3 / epoch}
        )
        rows[-1] |= {"seconds": 900.0, "images_per_second": 50.0, "val": None if epoch == 2 else evaluated}
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if done == EPOCHS:
        final = {"raw": counts(correct), "ema": None if ema is None else counts(ema)}
        result = {"best": {"epoch": 3, "kind": "raw", **counts(correct)}, "final": final}
        result |= {"images_per_second": 55.5, "train_seconds": 5400.0}
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def twogrouped(folder: Path) -> list[Path]:
    """Final top-1 of 35, 36, 37 % with divisor 1 and 30, 31, 32 % with divisor 2."""
    return [
        a_run(folder / f"div{divisor}-{seed}", base + 2 * seed, seed=seed, identity_divisor=divisor, ema=90)
        for divisor, base in ((1, 70), (2, 60))
        for seed in range(3)
    ]


def test_a_finished_run_is_read(tmp_path: Path) -> None:
    run = read_run(a_run(tmp_path / "first"))
    assert (run.name, run.config["seed"]) == ("first", 0)
    assert [row["global_step"] for row in run.steps] == list(range(1, 13))
    assert [row["epoch"] for row in run.epochs] == [1, 2, 3]
    assert run.result is not None
    assert run.result["final"]["raw"]["correct_top1"] == 100


def test_a_last_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", done=2)
    log = (folder / "log.jsonl").read_bytes()
    whole = log.count(b"\n", 0, len(log) - 30)
    for content in (log[:-30], log[:-1]):  # in its middle, and before its end of line
        (folder / "log.jsonl").write_bytes(content)
        run = read_run(folder)
        assert len(run.steps) + len(run.epochs) == whole
        assert run.result is None


def test_a_run_that_was_stopped_before_its_first_row(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", done=0)
    (folder / "log.jsonl").unlink()
    row = comparison([read_run(folder)])["runs"][0]
    assert (row["epochs_done"], row["best"], row["train_loss"], row["train_seconds"]) == (0, None, None, 0)
    assert "0/3" in comparison_lines([read_run(folder)])[0]


def test_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, problem in (("none", "no such folder"), ("file", "not a folder"), ("empty", "no run.json there")):
        with pytest.raises(DataError, match=rf"{name}: {problem}; expected the folder of a training run"):
            read_run(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "run.json",
            '{\n"model": "x",\n"seed": }',
            r"run\.json is damaged: line 3 is not JSON .*expected JSON;",
        ),
        ("run.json", '{"model": "x", "recipe": {}}', r"run\.json is damaged: recipe\.name is missing; expected text"),
        ("run.json", "[]", r"run\.json is damaged: it is \[\]; expected a record"),
        ("result.json", "", r"result\.json is damaged"),
        ("result.json", '{"final": {}}', r"result\.json is damaged: best is missing; expected a record"),
        ("log.jsonl", '{"event": "step"\n{"event"', r"log\.jsonl: line 1 is damaged"),
        ("log.jsonl", "7\n", r"log\.jsonl: line 1 is damaged: it is 7; expected a record"),
        (
            "log.jsonl",
            '{"event": "stop"}\n',
            r"line 1 is damaged: event is 'stop'; expected 'step' or 'epoch';",
        ),
        (
            "log.jsonl",
            '{"event": "step", "global_step": 1, "loss": 1}\n',
            r"line 1 .*: lr is missing;",
        ),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    folder = a_run(tmp_path / "run")
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_run(folder)


def test_a_damaged_line_in_the_middle_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run")
    lines = (folder / "log.jsonl").read_bytes().splitlines(keepends=True)
    for bad in (lines[6][:20] + b"\n", b'{"event": "\xff"}\n', b"\n"):
        (folder / "log.jsonl").write_bytes(b"".join([*lines[:6], bad, *lines[7:]]))
        with pytest.raises(DataError, match=r"log\.jsonl: line 7 is damaged"):
            read_run(folder)


def test_counts_are_expected_where_something_wasevaluated(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", ema=80)
    for name, where in (("log.jsonl", "line 5"), ("result.json", "result.json")):
        before = (folder / name).read_text()
        (folder / name).write_text(before.replace('"ema": {"images"', '"ema": {"pictures"'))
        with pytest.raises(DataError, match=rf"{where} is damaged: (val|final)\.ema\.images is missing"):
            read_run(folder)
        (folder / name).write_text(before)


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
    runs = [read_run(folder) for folder in twogrouped(tmp_path)]
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


def test_what_is_left_out_ofgrouped(tmp_path: Path) -> None:
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


def ink(path: Path) -> list[float]:
    """The share of coloured pixels in each third of the picture, left to right, above the legend."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), np.int16)[:500]  # [500, 1600, 3]
    colourful = pixels.max(axis=2) - pixels.min(axis=2) > 60
    return [float(part.mean()) for part in np.array_split(colourful, 3, axis=1)]


@needs_matplotlib
def test_the_picture_has_something_in_each_panel(tmp_path: Path) -> None:
    runs = [read_run(folder) for folder in twogrouped(tmp_path)]
    for name, some in (("one", runs[:1]), ("six", runs)):
        write_curves(some, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width == 1600
            assert 550 < image.height < 700
        assert min(ink(tmp_path / f"{name}.png")) > 0.002
    write_curves(runs, tmp_path / "six.svg")
    assert "<svg" in (tmp_path / "six.svg").read_text()


@needs_matplotlib
def test_a_picture_of_twelve_runs_and_of_none_that_got_far(tmp_path: Path) -> None:
    folders = [a_run(tmp_path / f"{rate}", recipe={"lr": rate}, done=rate % 4) for rate in range(12)]
    write_curves([read_run(folder) for folder in folders], tmp_path / "twelve.png")
    assert min(ink(tmp_path / "twelve.png")) > 0.002
    write_curves([read_run(folders[0])], tmp_path / "nothing.png")  # without a row
    assert max(ink(tmp_path / "nothing.png")) == 0
    write_curves([read_run(folders[1])], tmp_path / "single.png")  # one evaluation: a dot
    assert ink(tmp_path / "single.png")[1] > 0


@needs_matplotlib
def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    runs = [read_run(a_run(tmp_path / "run"))]
    with pytest.raises(UsageError, match=r"'curves\.gif'; expected a name that ends in \.png or \.svg"):
        write_curves(runs, tmp_path / "curves.gif")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_curves(runs, tmp_path / "file" / "curves.png")


def test_a_picture_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilenext.machine.packages.installed", lambda package: package != "matplotlib")
    message = r"^the picture .* needs matplotlib, which is not installed: pip install 'mobilenext\[bench\]'$"
    with pytest.raises(MissingDependency, match=message):
        write_curves([read_run(a_run(tmp_path / "run"))], tmp_path / "curves.png")


def test_the_tables_need_neither_paddle_nor_matplotlib() -> None:
    code = f"import sys, {training_report.__name__}; sys.exit('paddle' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
