from __future__ import annotations

from pathlib import Path

import pytest

from mobilenext.errors import DataError
from mobilenext.runs.training_run import read_run
from run_folders import a_run


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


def test_counts_are_expected_where_something_was_evaluated(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", ema=80)
    for name, where in (("log.jsonl", "line 5"), ("result.json", "result.json")):
        before = (folder / name).read_text()
        (folder / name).write_text(before.replace('"ema": {"images"', '"ema": {"pictures"'))
        with pytest.raises(DataError, match=rf"{where} is damaged: (val|final)\.ema\.images is missing"):
            read_run(folder)
        (folder / name).write_text(before)


def test_means_stand_at_the_middle_of_their_steps_and_validations_at_the_end(tmp_path: Path) -> None:
    """Rows after steps 1 to 12 of three epochs of four steps: the first mean is of the first step alone."""
    run = read_run(a_run(tmp_path / "run"))
    assert run.losses()[:2] == [(0.125, 3 - 1 / 8), (0.375, 3 - 2 / 8)]
    assert run.epoch_losses() == {0.5: 3.0, 1.5: 1.5, 2.5: 1.0}
    assert run.validation_loss() == {1: 1.0, 3: 1.0}  # the second epoch was not evaluated
    assert run.rates()[-1] == (3.0, 0.1 / 12)
