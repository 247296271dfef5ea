"""The list of training runs on tiny20, who takes which, and what is made of those that are finished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny20_pairs
from document_tables import pairs as tables
from mobilenext.errors import UsageError
from run_folders import a_run
from tiny20_pairs import FIRST, SECOND, VARIANTS, planned_runs, run_all, taken, write_results

EPOCHS = 3


def finish(folder: Path, model: str, seed: int, correct: int, epochs: int = EPOCHS) -> None:
    a_run(folder / f"{model}_{seed}", correct, ema=correct + 2, model=model, seed=seed, recipe={"epochs": epochs})


def test_the_order() -> None:
    runs = [(run.model, run.seed) for run in planned_runs(Path("runs"), EPOCHS, 2, 1)]
    assert runs[:4] == [(FIRST, 0), (SECOND, 0), (FIRST, 1), (SECOND, 1)]
    assert runs[4:] == [(name, 0) for name in VARIANTS]
    assert len(VARIANTS) == 7


def test_a_run_begins_or_goes_on(tmp_path: Path) -> None:
    run, other, *_ = planned_runs(tmp_path, EPOCHS, 1, 0)
    a_run(other.folder, done=1, model=SECOND)
    assert run.command(Path("data"))[3:] == [
        *("train", "data", "--model", FIRST, "--recipe", "tiny", "--set", "epochs=3", "--seed", "0"),
        *("-o", str(run.folder)),
    ]
    assert other.command(Path("data"))[3:] == ["train", "--resume", str(other.folder)]
    assert other.finished() is None


def test_only_what_is_neither_finished_nor_taken_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = planned_runs(tmp_path / "runs", EPOCHS, 2, 0)
    finish(tmp_path / "runs", SECOND, 0, 90)
    trained = []

    class Done:
        returncode = 0

    def train(command: list[str], **_: object) -> Done:
        trained.append(Path(command[-1]).name)
        model, _, seed = trained[-1].rpartition("_")
        if model == FIRST:
            finish(tmp_path / "runs", model, int(seed), 100)
        Done.returncode = 0 if model == FIRST else 5
        return Done()

    monkeypatch.setattr(tiny20_pairs.subprocess, "run", train)
    with taken(runs[0].folder.with_suffix(".lock")) as mine:
        assert mine
        failed = run_all(Path("data"), runs, tmp_path / "pairs.json")
    assert trained == [f"{FIRST}_1", f"{SECOND}_1"]
    assert len(failed) == 1
    assert f"{SECOND}_1: exit code 5" in failed[0]


def test_results_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, output = tmp_path / "runs", tmp_path / "results" / "tiny20_pairs.json"
    runs = planned_runs(folder, EPOCHS, 3, 1)
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "load", lambda name: json.loads(output.read_text()))
    assert "n = 0" in tables.pairs()
    for seed, (ours, theirs) in enumerate(((100, 94), (104, 96), (110, 100))):  # 3, 4 and 5 points of 200 images apart
        finish(folder, FIRST, seed, ours)
        finish(folder, SECOND, seed, theirs)
    finish(folder, VARIANTS[0], 0, 90)
    write_results(runs, output)
    content = json.loads(output.read_text())
    assert (len(content["runs"]), content["runs_planned"]) == (7, 13)
    pair = next(pair for pair in content["pairs"] if (pair["second"], pair["weights"]) == (SECOND, "raw"))
    assert (pair["n"], pair["points"], pair["mean_points"]) == (3, [3, 4, 5], 4)
    # Standard error 1 / sqrt(3), Student's t of two degrees of freedom 4.3027.
    assert pair["interval"] == pytest.approx([4 - 4.3027 / 3**0.5, 4 + 4.3027 / 3**0.5], abs=1e-4)
    assert "+4.00 (+1.52 to +6.48; n 3)" in tables.pairs()
    assert "+5.00 (no interval; n 1)" in tables.variant_runs()
    assert "7 of 13 runs are finished" in tables.variant_runs()


def test_another_run_in_its_folder(tmp_path: Path) -> None:
    runs = planned_runs(tmp_path, EPOCHS, 1, 0)
    finish(tmp_path, FIRST, 0, 90, epochs=44)
    with pytest.raises(UsageError, match=r"holds a run of .* 44\), expected .* 3\); name another folder"):
        run_all(Path("data"), runs, tmp_path / "pairs.json")
