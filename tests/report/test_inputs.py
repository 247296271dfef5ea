from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation_folders import write_evaluation
from mobilenext.errors import DataError
from mobilenext.report.inputs import read_inputs


def small(folder: Path, **changes: object) -> Path:
    best = [[0, 1], [0, 1], [1, 0], [1, 0]]
    scores = [[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3]]
    return write_evaluation(folder, [0, 1, 1, 0], best, scores, classes=2, **changes)  # type: ignore[arg-type]


def test_an_evaluation_as_columns(tmp_path: Path) -> None:
    [run] = read_inputs([small(tmp_path / "run", errors={3: "truncated"})]).evaluations
    assert run.labels.tolist() == [0, 1, 1, 0]
    assert run.best[:, 0].tolist() == [0, 0, 1, -1]
    assert run.correct.tolist() == [True, False, True, False]
    assert run.readable.tolist() == [True, True, True, False]
    assert run.errors == {3: "truncated"}


def test_the_names_of_classes_that_do_not_occur(tmp_path: Path) -> None:
    """A wrong answer may be a class without images; results of earlier versions know those that occur only."""
    names = ["ape", "bee"]
    [run] = read_inputs([small(tmp_path / "new", class_names=names, per_class=[])]).evaluations
    assert run.names == {0: "ape", 1: "bee"}
    [run] = read_inputs([small(tmp_path / "old", names=names)]).evaluations
    assert run.names == {0: "ape", 1: "bee"}
    [run] = read_inputs([small(tmp_path / "none", class_names=None)]).evaluations
    assert run.names == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no such folder; expected an evaluation"),
        (lambda folder: folder.touch(), "not a folder; expected an evaluation"),
        (lambda folder: folder.mkdir(), "none of the files of a run is there; expected an evaluation"),
        (lambda folder: (small(folder) / "predictions.jsonl").unlink(), "predictions.jsonl is missing"),
        (lambda folder: (small(folder) / "result.json").unlink(), "result.json is missing"),
        (lambda folder: (small(folder) / "result.json").write_text("{"), "result.json is damaged"),
        (lambda folder: (small(folder) / "result.json").write_text("{}"), "model is missing; expected text"),
        (
            lambda folder: small(folder, latency={"median": "fast"}),
            "latency.median is 'fast'; expected a finite number from 0 to 1e",
        ),
        (lambda folder: small(folder, correct_top1=4), "is not of the result.json beside it"),
        (lambda folder: small(folder, images=3), "correct_top5 is 4; expected up to 3, the number of images"),
        (lambda folder: small(folder, images=3, correct_top5=3), "is not of the result.json beside it: more than 3 im"),
        (lambda folder: small(folder, images=10**15), "1000000000000000 images cannot be in it"),
        (lambda folder: small(folder, images=0), "images is 0; expected a whole number from 1 up"),
        (lambda folder: small(folder, num_classes=1), r"per_class\[1\].class is 1; expected each class below 1 once"),
        (
            lambda folder: small(folder, num_classes=1, per_class=[]),
            r"line 1 is damaged: top5 is \[0, 1\]; expected up to 5 classes from 0 to 0; evaluate again",
        ),
        (
            lambda folder: small(folder, per_class=[{"class": 0}]),
            r"per_class\[0\].images is missing; expected a whole number from 0 up",
        ),
    ],
)
def test_what_cannot_be_reported(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "run")  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        read_inputs([tmp_path / "run"])


@pytest.mark.parametrize(
    "change", [{"index": 7}, {"scores": [0.9]}, {"scores": [2.0, 0.1]}, {"top5": "ab"}, {"error": "but it has classes"}]
)
def test_a_damaged_line_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    path = small(tmp_path / "run") / "predictions.jsonl"
    lines = path.read_text().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), **change})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"predictions.jsonl: line 3 is damaged"):
        read_inputs([tmp_path / "run"])


def test_an_unfinished_evaluation(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="an unfinished evaluation"):
        read_inputs([tmp_path])


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    folders = [small(tmp_path / first / "run") for first in "ab"]
    assert [run.name for run in read_inputs(folders).evaluations] == ["a/run", "b/run"]
    assert [run.name for run in read_inputs([folders[0]] * 2).evaluations] == [
        f"{'/'.join(folders[0].parts[-5:]).lstrip('/')} ({place})" for place in (1, 2)
    ]


def test_progress_counts_the_images_of_all_evaluations(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    read_inputs([small(tmp_path / "a"), small(tmp_path / "b")], lambda done, of: calls.append((done, of)))
    assert calls == [(done, 8) for done in range(1, 9)]
