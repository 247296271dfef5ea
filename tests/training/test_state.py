from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mobilenext.classification.presentation import PRESENTATION
from mobilenext.errors import DataError, OutputError
from mobilenext.training.state import FORMAT, Position, Sums, check_parts, check_state, read_state, write_state

RUN = "c0ffee" * 10
SUMMARY = PRESENTATION.check_counts
LARGE = 40_000  # bytes, and more than the file system is made to take


def arrays(seed: int) -> dict[str, np.ndarray]:
    """Whatever float32 can be: signed zeros, the smallest, the largest, none at all; columns first, no dimension."""
    random = np.random.default_rng(seed)
    return {
        "a.weight": random.standard_normal((3, 4, 5), dtype=np.float32),
        "a.odd": np.array([0.0, -0.0, 1e-45, -3.4e38, np.inf, -np.inf, np.nan], np.float32),
        "b.columns": random.standard_normal((7, 5), dtype=np.float32).T,
        "b.every/second": random.standard_normal(20, dtype=np.float32)[::2],
        "c.scalar": np.array(seed, np.float32),
    }


PARTS = {"network": arrays(1), "average": arrays(2), "optimizer": arrays(3)}
BEST = {"epoch": 2, "kind": "ema", "correct_top1": 12, "images": 50, "loss": 0.7}
POSITION = Position(
    epoch=4,
    step=17,
    global_step=1234,
    window=Sums(loss=0.1 + 0.2, counted={"correct": 3}, images=8, seconds=1 / 3, reader_seconds=1e-9, steps=2),
    in_epoch=Sums(loss=1e300, counted={"correct": 2**40}, images=2**41, seconds=5e5, reader_seconds=0.0, steps=15),
    train_seconds=2 / 3,
    images=2**42,
    best=BEST,
    final={"raw": {"correct_top1": 11, "images": 50}},
    unreadable={"imgs/ä b.png": "imgs/ä b.png: not an image"},
    scaler={"scale": [65536.0], "incr_count": 3},
)


def changed(**values: Any) -> str:
    """The position as JSON, with other values."""
    return json.dumps({**POSITION.to_dict(), **values})


def bits(parts: dict[str, dict[str, np.ndarray]]) -> dict[str, tuple[Any, ...]]:
    return {
        f"{part}: {name}": (array.dtype, array.shape, array.tobytes())
        for part, named in parts.items()
        for name, array in named.items()
    }


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    write_state(path, RUN, POSITION, PARTS)
    return path


def test_there_and_back_bit_for_bit(checkpoint: Path) -> None:
    position, parts = read_state(checkpoint, RUN, SUMMARY)
    assert position == POSITION
    assert bits(parts) == bits(PARTS)
    assert len(bits(parts)) == 15


def test_a_fresh_position_and_no_average(tmp_path: Path) -> None:
    path = tmp_path / "new" / "checkpoint.safetensors"
    write_state(path, RUN, Position(), {"network": PARTS["network"]})
    position, parts = read_state(path, RUN, SUMMARY)
    assert position == Position()
    assert (parts["average"], parts["optimizer"]) == ({}, {})


def test_the_same_state_is_the_same_file(checkpoint: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    write_state(again, RUN, POSITION, PARTS)
    assert again.read_bytes() == checkpoint.read_bytes()


def test_sums_add_up() -> None:
    total = Sums(1.0, {}, 3, 4.0, 5.0, 6)
    total.add(Sums(10.0, {"correct": 20, "boxes": 2.5}, 30, 40.0, 50.0, 60))
    total.add(Sums(0.0, {"correct": 1, "boxes": 0.5}))
    assert total == Sums(11.0, {"correct": 21, "boxes": 3.0}, 33, 44.0, 55.0, 66)


# --- what cannot be gone on from


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.safetensors: no such checkpoint; .*: start it anew"):
        read_state(tmp_path / "none.safetensors", RUN, SUMMARY)


def test_a_checkpoint_that_was_cut(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    for size in (0, 5, 8, 100, len(whole) // 2, len(whole) - 1):
        checkpoint.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"checkpoint\.safetensors: this checkpoint is damaged: "):
            read_state(checkpoint, RUN, SUMMARY)


def test_another_format(checkpoint: Path) -> None:
    tensors = load_file(checkpoint)
    for metadata, shown in (({"format": "mobilenext checkpoint 7"}, "'mobilenext checkpoint 7'"), (None, "None")):
        save_file(tensors, checkpoint, metadata=metadata)
        with pytest.raises(DataError, match=rf"checkpoint\.safetensors: its format is {shown}; expected '{FORMAT}'"):
            read_state(checkpoint, RUN, SUMMARY)


def test_another_run(checkpoint: Path) -> None:
    with pytest.raises(DataError, match=r"checkpoint\.safetensors belongs to another run than the run\.json beside it"):
        read_state(checkpoint, RUN.replace("c", "d"), SUMMARY)


NO_POSITIONS: dict[str, tuple[str, str]] = {
    "cut off": ("{", "line 1 is cut off"),
    "no record": ("[]", r"it is \[\]; expected a record"),
    "empty": ("{}", "epoch is missing; expected a whole number from 0 up"),
    "deep": ("[" * 100_000, "nested deeper"),
    "text": (changed(global_step="x"), "global_step is 'x'; expected a whole number"),
    "negative": (changed(step=-3), "step is -3; expected a whole number from 0 up"),
    "true": (changed(epoch=True), "epoch is True; expected a whole number"),
    "a list for the best": (changed(best=[1]), r"best is \[1\]; expected a record"),
    "more right than images": (
        changed(best={**BEST, "correct_top1": 51}),
        "correct_top1 is 51; expected up to 50",
    ),
    "no images": (changed(final={"raw": {"correct_top1": 0, "images": 0}}), "final.raw.images is 0; expected"),
    "a list of unreadable": (changed(unreadable=["a"]), r"unreadable is \['a'\]; expected a record"),
    "a number for a reason": (changed(unreadable={"a": 1}), "unreadable.a is 1; expected text"),
    "infinite": (
        changed(train_seconds=1).replace('"train_seconds": 1', '"train_seconds": 1e999'),
        "train_seconds is inf",
    ),
    "no seconds": (changed(train_seconds=0), "do not fit each other"),
    "another step": (changed(step=16), "step 16 of epoch 4, 1234 steps in all, with 2 and 15 .* do not fit"),
    "sums of an earlier kind": (changed(window={"lost": 1}), "window.images is missing"),
}


@pytest.mark.parametrize("case", NO_POSITIONS)
def test_a_position_that_is_none(case: str, checkpoint: Path) -> None:
    position, said = NO_POSITIONS[case]
    save_file(load_file(checkpoint), checkpoint, metadata={"format": FORMAT, "run": RUN, "position": position})
    for read in (read_state, check_state):
        with pytest.raises(DataError, match=rf"checkpoint\.safetensors: this .*position is damaged: .*{said}"):
            read(checkpoint, RUN, SUMMARY)


def test_another_part_or_type(checkpoint: Path) -> None:
    metadata = {"format": FORMAT, "run": RUN, "position": changed()}
    save_file({"network/a": np.zeros(1, np.float64)}, checkpoint, metadata=metadata)
    with pytest.raises(DataError, match=r"this checkpoint is damaged: network/a is of type float64; expected float32"):
        read_state(checkpoint, RUN, SUMMARY)
    # Which parts a run has, its stepper knows.
    save_file({"architecture/a": np.zeros(1, np.float32)}, checkpoint, metadata=metadata)
    assert list(read_state(checkpoint, RUN, SUMMARY)[1]) == ["architecture"]
    with pytest.raises(
        DataError, match=r"is damaged: it has the parts architecture, which this training does not keep"
    ):
        check_parts(checkpoint, ["network", "architecture"], needed={"network"}, known={"network", "optimizer"})


# --- writing that fails


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_changes_nothing(call: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = checkpoint.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
    with pytest.raises(OutputError, match=r"cannot write .*checkpoint\.safetensors: No space left on device"):
        write_state(checkpoint, RUN, Position(epoch=9), PARTS)
    assert checkpoint.read_bytes() == before
    assert list(checkpoint.parent.iterdir()) == [checkpoint]
    assert read_state(checkpoint, RUN, SUMMARY)[0] == POSITION


def test_a_file_system_that_is_full(checkpoint: Path) -> None:
    """In a process of its own, whose files can hold no more than so many bytes."""
    before = checkpoint.read_bytes()
    code = (
        "import sys, numpy\nfrom pathlib import Path\nfrom mobilenext.errors import OutputError\n"
        "from mobilenext.training.state import Position, write_state\n"
        f"large = {{'network': {{'a': numpy.ones({LARGE // 4}, numpy.float32)}}}}\n"
        "try:\n    write_state(Path(sys.argv[1]), 'run', Position(), large)\n"
        "except OutputError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(checkpoint)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LARGE, LARGE)),
    )
    assert done.stdout == f"cannot write {checkpoint}: File too large; nothing was changed there\n"
    assert checkpoint.read_bytes() == before
    assert list(checkpoint.parent.iterdir()) == [checkpoint]
