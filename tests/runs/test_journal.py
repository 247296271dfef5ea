from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from mobilenext.classification import evaluation
from mobilenext.classification.metrics import Prediction
from mobilenext.errors import DataError, OutputError, UsageError
from mobilenext.runs.journal import JOURNAL, PREDICTIONS, Journal, line_of, read_predictions, setup_digest

SETUP: dict[str, Any] = {"model": "m", "preprocessing": {"image_size": 32, "mean": [0.5, 0.5]}, "images": 4}
ROWS = [
    Prediction(0, 'quote " and \\', 1, (1, 0), (0.75, 0.25), 0.1),
    Prediction(1, "ünï\u2028\r{}/猫.png", 0, (1, 0), (0.75, 0.25), 1.5),
    Prediction(2, "not text \udcff.png", 0, (0, 1), (1.0, 0.0), 0.0),
    Prediction(3, "broken.png", 1, (), (), None, "broken.png: empty"),
]


def read_row(value: object, index: int) -> Prediction:
    return evaluation.read_row(value, index, {}, None)


def written(folder: Path, rows: list[Prediction]) -> Path:
    journal = Journal(folder, SETUP, read_row, resume=False)
    journal.add(rows)
    journal.close()
    return journal.path


def test_a_line_for_the_setup_and_one_for_each_image(tmp_path: Path) -> None:
    header, *lines = written(tmp_path, ROWS).read_bytes().removesuffix(b"\n").split(b"\n")
    assert json.loads(header) == {"digest": setup_digest(SETUP), "setup": SETUP}
    assert [json.loads(line)["path"] for line in lines] == [row.path for row in ROWS]


def test_rows_are_on_disk_as_soon_as_they_are_added(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SETUP, read_row, resume=False)
    journal.add(ROWS[:2])
    assert journal.path.read_bytes().count(b"\n") == 3
    journal.close()


def test_resume_after_a_cut_at_every_byte(tmp_path: Path) -> None:
    content = written(tmp_path, ROWS).read_bytes()
    for cut in range(len(content) + 1):
        (tmp_path / JOURNAL).write_bytes(content[:cut])
        journal = Journal(tmp_path, SETUP, read_row, resume=True)
        whole = max(0, content[:cut].count(b"\n") - 1)
        assert journal.rows == ROWS[:whole], f"cut at {cut}"
        journal.add(ROWS[whole:])
        journal.close()
        assert journal.rows == ROWS
        assert journal.path.read_bytes() == content, f"cut at {cut}"


def test_resume_without_a_journal_starts_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new", SETUP, read_row, resume=True)
    assert journal.rows == []
    journal.close()
    assert journal.path.is_file()


def test_another_setup_is_refused_and_the_change_named(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    before = path.read_bytes()
    with pytest.raises(UsageError) as caught:
        Journal(tmp_path, {**SETUP, "model": "other", "new": 1}, read_row, resume=True)
    message = str(caught.value)
    assert "model: 'm' there, 'other' now" in message
    assert "new: None there, 1 now" in message
    assert "preprocessing" not in message
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (1, b"not json"),
        (1, b"{}"),
        (1, b"[]"),
        (3, b"not json"),
        (3, b"\xff\xfe"),
        (3, b"{}"),
        (3, b"null"),
        (3, b'{"index": 1}'),
        (3, b'{"index": Infinity, "path": "", "label": 0, "top5": [], "scores": [], "loss": null}'),
        (3, b'{"index": 2, "path": "", "label": 0, "top5": [], "scores": [], "loss": null}'),  # image 1 is missing
        (4, b""),
    ],
)
def test_damage_before_the_end_is_an_error_with_its_line(tmp_path: Path, number: int, line: bytes) -> None:
    path = written(tmp_path, ROWS)
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = line
    path.write_bytes(b"\n".join(lines))
    before = path.read_bytes()
    with pytest.raises(DataError, match=f"line {number} "):
        Journal(tmp_path, SETUP, read_row, resume=True)
    assert path.read_bytes() == before


def test_an_unfinished_journal_is_not_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS[:3])
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"unfinished evaluation of 3 images: add --resume"):
        Journal(tmp_path, SETUP, read_row, resume=False)
    assert path.read_bytes() == before


def test_a_journal_without_images_is_nothing_to_lose(tmp_path: Path) -> None:
    written(tmp_path, [])
    journal = Journal(tmp_path, {**SETUP, "model": "other"}, read_row, resume=False)
    journal.close()
    assert json.loads(journal.path.read_bytes())["setup"]["model"] == "other"


def test_remove(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SETUP, read_row, resume=False)
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_and_what_is_there_can_be_resumed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SETUP, read_row, resume=False)
    journal.add(ROWS[:2])
    room = journal.path.stat().st_size + 10  # bytes; part of the next line fits
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        with pytest.raises(OutputError, match=r"cannot write to .*--resume goes on"):
            journal.add(ROWS[2:])
        with pytest.raises(OutputError):
            journal.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert journal.rows == ROWS[:2], "rows that are not on disk do not count"
    assert journal.path.stat().st_size == room
    again = Journal(tmp_path, SETUP, read_row, resume=True)
    assert again.rows == ROWS[:2]
    again.close()


def test_no_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Not a directory"):
        Journal(tmp_path / "file" / "below", SETUP, read_row, resume=False)


def test_two_evaluations_into_one_folder(tmp_path: Path) -> None:
    first = Journal(tmp_path, SETUP, read_row, resume=False)
    for resume in (False, True):
        with pytest.raises(UsageError, match=r"another evaluation is writing to .*; wait for it, or choose another"):
            Journal(tmp_path, SETUP, read_row, resume=resume)
    first.add(ROWS)
    first.close()
    resumed = Journal(tmp_path, SETUP, read_row, resume=True)
    assert resumed.rows == ROWS, "nothing of the first was lost"
    resumed.remove()
    assert list(tmp_path.iterdir()) == []


def test_predictions_are_read_back(tmp_path: Path) -> None:
    (tmp_path / PREDICTIONS).write_bytes(b"".join(line_of(row.to_dict()) for row in ROWS))
    assert read_predictions(tmp_path) == ROWS
    (tmp_path / PREDICTIONS).write_text('{"index": 0}\n')
    with pytest.raises(DataError, match="line 1 is damaged: path is missing; evaluate again"):
        read_predictions(tmp_path)
    with pytest.raises(DataError, match="is missing; expected what `mobilenext evaluate -o` writes"):
        read_predictions(tmp_path / "none")
