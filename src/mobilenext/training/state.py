"""The whole state of a run in one safetensors file, from which it goes on as if it had never stopped.

Nothing random has a state: the order of images, augmentation and dropout are functions of the seed and of the
position, which is stored. The learning rate is a function of the position, too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.classification.fields import counted
from mobilenext.errors import DataError
from mobilenext.files import write_atomically
from mobilenext.json_files import check, named, nullable, number, optional, parse, record, text, whole
from mobilenext.weights.write import safetensors_bytes

FORMAT = "mobilenext checkpoint 1"
PARTS = ("network", "average", "optimizer")

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass
class Sums:
    """Of training images: nothing is divided before it is shown."""

    loss: float = 0.0
    correct: int = 0
    images: int = 0
    seconds: float = 0.0
    reader_seconds: float = 0.0
    steps: int = 0

    def add(self, other: Sums) -> None:
        """Add another's sums to these."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Position:
    """Where a run stands, and what it has counted so far."""

    epoch: int = 0  # the one under way, from 0
    step: int = 0  # finished steps of it
    global_step: int = 0  # finished steps of the run
    window: Sums = field(default_factory=Sums)  # since the last line of the log
    in_epoch: Sums = field(default_factory=Sums)
    train_seconds: float = 0.0
    images: int = 0  # that were trained on
    best: dict[str, Any] | None = None
    final: dict[str, Any] | None = None  # the last epoch's validation
    unreadable: dict[str, str] = field(default_factory=dict)
    scaler: dict[str, Any] | None = None  # of float16 on a GPU


def write_state(path: Path, run_digest: str, position: Position, parts: Mapping[str, Arrays]) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: the file; an earlier one is replaced when the new one is complete.
        run_digest: of the configuration that it belongs to.
        position: where the run stands.
        parts: of PARTS, names and arrays.

    Raises:
        OutputError: it cannot be written; an earlier one is as it was.
    """
    tensors = {f"{part}/{name}": array for part in PARTS for name, array in parts.get(part, {}).items()}
    metadata = {"format": FORMAT, "run": run_digest, "position": json.dumps(asdict(position))}
    write_atomically(path, safetensors_bytes(tensors, metadata))


def check_state(path: Path, run_digest: str) -> None:
    """Check the head of a checkpoint, before anything is made for it; raises as :func:`read_state`."""
    with _opened(path, run_digest):
        pass


def read_state(path: Path, run_digest: str) -> tuple[Position, dict[str, dict[str, npt.NDArray[np.float32]]]]:
    """The position and the parts of a checkpoint.

    Raises:
        DataError: no such file, damaged, or of another run.
    """
    parts: dict[str, dict[str, npt.NDArray[np.float32]]] = {part: {} for part in PARTS}
    with _opened(path, run_digest) as (file, position):
        for key in file.keys():  # noqa: SIM118 - no dictionary
            part, _, name = key.partition("/")
            parts[part][name] = array = file.get_tensor(key)
            if array.dtype != np.float32:
                raise ValueError(f"{key} is of type {array.dtype}; expected float32")
    return position, parts


@contextlib.contextmanager
def _opened(path: Path, run_digest: str) -> Iterator[tuple[Any, Position]]:
    """The file of a checkpoint and the position in it."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint; the run had not begun: start it anew")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise DataError(f"{path}: its format is {metadata.get('format')!r:.60}; expected {FORMAT!r}")
            if metadata.get("run") != run_digest:
                raise DataError(
                    f"{path} belongs to another run than the run.json beside it; restore the one or the other"
                )
            yield (
                file,
                _position(metadata["position"].encode(errors="surrogatepass"), f"{path}: this checkpoint's position"),
            )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: this checkpoint is damaged: {error}; {_REMEDY}") from error


_REMEDY = "start a new run, perhaps from best.safetensors (--weights)"
_COUNT, _SECONDS = whole(0), number(0, 1e12)
_SUMS = record(
    {
        **dict.fromkeys(("correct", "images", "steps"), _COUNT),
        **dict.fromkeys(("seconds", "reader_seconds"), _SECONDS),
        "loss": number(),
    }
)
_COUNTS = {"images": whole(1), "correct_top1": _COUNT}
_BEST = {"epoch": whole(1), "kind": text("raw", "ema")}
_COMPARED = dict.fromkeys(("loss", "mean_class_accuracy_percent", "macro_f1_percent"), optional(number()))
_POSITION = record(
    {
        **dict.fromkeys(("epoch", "step", "global_step", "images"), _COUNT),
        **dict.fromkeys(("window", "in_epoch"), _SUMS),
        "train_seconds": _SECONDS,
        "best": nullable(counted({**_COUNTS, **_BEST, **_COMPARED})),
        "final": nullable(record({"raw": counted(_COUNTS), "ema": optional(counted(_COUNTS))})),
        "unreadable": named(text()),
        "scaler": optional(record({})),
    }
)


def _position(content: bytes, name: str) -> Position:
    """Read a position and check that its numbers fit each other.

    Raises:
        DataError: it is damaged.
    """
    values = parse(content, name, remedy=_REMEDY)
    check(values, _POSITION, name, remedy=_REMEDY)
    for part in ("window", "in_epoch"):
        values[part] = Sums(**values[part])
    position = Position(**values)
    window, in_epoch = position.window, position.in_epoch
    trained = [sums for sums in (window, in_epoch) if sums.steps]
    if (
        window.steps + in_epoch.steps != position.step
        or position.step > position.global_step
        or not all(sums.images and sums.seconds for sums in trained)
        or (position.global_step and not (position.images and position.train_seconds))
    ):
        raise DataError(
            f"{name} is damaged: step {position.step} of epoch {position.epoch}, {position.global_step} steps in all, "
            f"with {window.steps} and {in_epoch.steps} counted in the epoch, do not fit each other; {_REMEDY}"
        )
    return position
