from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mobilenext.errors import DataError, OutputError, UsageError
from mobilenext.runs.run_folder import (
    BEST,
    CHECKPOINT,
    CONFIG,
    LAST,
    LAST_EMA,
    LOG_LINES,
    RESULT,
    RunFolder,
    config_digest,
    read_config,
)

SETUP: dict[str, Any] = {"model": "m", "seed": 0, "recipe": {"lr": 0.1}, "environment": {"cores": 2}}


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


# --- one run at a time


def test_a_folder_that_is_being_written_to(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as first:
        first.begin(SETUP)
        with pytest.raises(UsageError, match=r"another run is writing to .*run; wait for it, or choose another output"):
            RunFolder(tmp_path / "run")
        assert read_config(tmp_path / "run") == SETUP
        with RunFolder(tmp_path / "other"):
            pass
    with RunFolder(tmp_path / "run"):
        assert read_config(tmp_path / "run") == SETUP


def test_a_folder_that_another_process_is_writing_to(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom mobilenext.runs.run_folder import RunFolder\n"
        "folder = RunFolder(Path(sys.argv[1]))\nprint('here', flush=True)\nsys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "here\n"
        with pytest.raises(UsageError, match="another run is writing to"):
            RunFolder(tmp_path)
        other.kill()
    with RunFolder(tmp_path):  # a process that was killed holds nothing
        pass


def test_an_error_gives_the_folder_back(tmp_path: Path) -> None:
    def interrupted() -> None:
        with RunFolder(tmp_path) as folder:
            folder.begin(SETUP)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with RunFolder(tmp_path):
        pass


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    for name in (CONFIG, CHECKPOINT, LOG_LINES):
        (tmp_path / name).write_text(name)
    with RunFolder(tmp_path) as folder, pytest.raises(UsageError) as caught:
        folder.check_new()
    sentence = f"{tmp_path} holds a run already; go on with it by --resume {tmp_path}, or choose another output"
    assert str(caught.value) == sentence
    assert files(tmp_path) == {CONFIG, CHECKPOINT, LOG_LINES}
    assert all((tmp_path / name).read_text() == name for name in files(tmp_path))


def test_where_nothing_can_be_gone_on_with_a_run_may_begin(tmp_path: Path) -> None:
    """As after a kill before the first checkpoint."""
    (tmp_path / CONFIG).write_text("{}")
    (tmp_path / LOG_LINES).write_text('{"global_step": 8}\n')
    with RunFolder(tmp_path) as folder:
        folder.check_new()
        folder.begin(SETUP)
        folder.log({"global_step": 1})
    assert read_config(tmp_path) == SETUP
    assert (tmp_path / LOG_LINES).read_text() == '{"global_step": 1}\n'


# --- what is left behind


def test_a_run_that_has_not_begun_leaves_nothing(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "a" / "b") as folder:
        folder.check_new()
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_other_files_and_folders_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path, tmp_path / "empty"):
        with RunFolder(folder):
            pass
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "empty"}
    assert list((tmp_path / "empty").iterdir()) == []


def test_what_has_begun_stays(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder:
        folder.begin(SETUP)
        folder.log({"global_step": 1})
    assert files(tmp_path / "run") == {CONFIG, LOG_LINES}


def test_what_a_killed_run_was_writing_goes(tmp_path: Path) -> None:
    written = (CONFIG, CHECKPOINT, BEST, LAST, LAST_EMA, LOG_LINES, RESULT)
    killed = {f".{name}.{process}.tmp" for process, name in enumerate(written, 123)} | {f".{CHECKPOINT}.7.tmp"}
    others = {
        *(CONFIG, CHECKPOINT, "notes.tmp", ".notes.txt.123.tmp", "checkpoint.safetensors.123.tmp"),
        *(".checkpoint.safetensors.123", ".checkpoint.safetensors.123.tmp.old", ".checkpoint.safetensors.tmp"),
        ".checkpoint.123.tmp",
    }
    (tmp_path / "more").mkdir()
    inside = tmp_path / "more" / f".{CHECKPOINT}.123.tmp"
    with RunFolder(tmp_path) as writing:
        writing.begin(SETUP)
        for path in (*(tmp_path / name for name in killed | others), inside):
            path.write_text(path.name)
        with pytest.raises(UsageError):  # the run that is under way may be writing them
            RunFolder(tmp_path)
        assert files(tmp_path) == killed | others | {"more"}
    with RunFolder(tmp_path):
        assert files(tmp_path) == others | {"more"}
    assert files(tmp_path) == others | {"more"}
    assert all((tmp_path / name).read_text() == name for name in others)
    assert inside.read_text() == inside.name


def test_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError, match=r"cannot write to .*file.*; choose another output"):
            RunFolder(path)


# --- the log


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    with RunFolder(tmp_path / "run") as folder:
        yield folder


def test_lines_after_the_checkpoint_are_dropped(folder: RunFolder) -> None:
    rows = [{"event": "step", "global_step": step, "loss": 0.1 + step} for step in (5, 10, 15, 20)]
    rows.insert(2, {"event": "epoch", "epoch": 1, "global_step": 10})
    for row in rows:
        folder.log(row)
    log = folder.folder / LOG_LINES
    folder.keep_log_until(10, 1)
    kept = [json.loads(line) for line in log.read_text().splitlines()]
    assert kept == [row for row in rows if row["global_step"] <= 10]
    assert len(kept) == 3
    folder.log({"global_step": 11})
    assert log.read_text().endswith('"global_step": 10}\n{"global_step": 11}\n')


def test_an_epoch_whose_validation_was_not_saved_is_dropped(folder: RunFolder) -> None:
    rows = [{"event": "step", "global_step": 10}, {"event": "epoch", "epoch": 1, "global_step": 10}]
    for row in rows:
        folder.log(row)
    folder.keep_log_until(10, 0)
    assert [json.loads(line) for line in (folder.folder / LOG_LINES).read_text().splitlines()] == rows[:1]


@pytest.mark.parametrize(
    "cut", ['{"global_step": 2', '{"global_step": 2}', '{"glo', '{"loss": 1}\n', "null\n", "\n", "\xff\n", '"\0\n']
)
def test_lines_that_were_cut_are_dropped(cut: str, folder: RunFolder) -> None:
    folder.log({"event": "step", "global_step": 1})
    log = folder.folder / LOG_LINES
    whole = log.read_bytes()
    log.write_bytes(whole + cut.encode("latin-1"))
    folder.keep_log_until(9, 0)
    assert log.read_bytes() == whole


def test_a_run_without_a_log(folder: RunFolder) -> None:
    folder.keep_log_until(3, 0)
    assert files(folder.folder) == set()


def test_a_log_that_cannot_be_written(folder: RunFolder) -> None:
    (folder.folder / LOG_LINES).mkdir()
    with pytest.raises(OutputError, match="the last checkpoint is kept: make room and go on with --resume"):
        folder.log({"global_step": 1})


# --- what the run is


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_record(content: bytes, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_bytes(content)
    with pytest.raises(DataError, match=r"run\.json is damaged: .*; start the run anew"):
        read_config(tmp_path)


def test_no_record(tmp_path: Path) -> None:
    for folder, problem in ((tmp_path, "no run.json there"), (tmp_path / "none", "no such folder")):
        with pytest.raises(DataError, match=f"{folder}: {problem}; expected the folder of a training run"):
            read_config(folder)


def test_the_digest_is_of_what_decides() -> None:
    same = {**SETUP, "environment": {"cores": 64}, "data_folder": {"root": "/elsewhere"}}
    assert config_digest(dict(reversed(same.items()))) == config_digest(SETUP)
    others = [{**SETUP, "seed": 1}, {**SETUP, "recipe": {"lr": 0.2}}, {**SETUP, "more": None}]
    assert len({config_digest(each) for each in (SETUP, *others)}) == 4
