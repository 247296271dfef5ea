"""The whole state of a run in one safetensors file, from which it goes on as if it had never stopped.

Nothing random has a state: the order of images, augmentation and dropout are functions of the seed and of the
position, which is stored. The learning rate is a function of the position, too.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.arrays import Floats
from mobilenext.errors import DataError
from mobilenext.files import write_atomically
from mobilenext.json_files import Check, check, named, nullable, number, optional, parse, record, text, whole
from mobilenext.runs.log import Sums
from mobilenext.weights.write import safetensors_bytes

FORMAT = "mobilenext checkpoint 1"

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass
class Position:
    """Where a run stands, and what it has counted so far."""

    epoch: int = 0  # the one under way, from 0
    step: int = 0  # finished steps of it
    global_step: int = 0  # finished steps of the run
    window: Sums = field(default_factory=Sums)  # since the last row of the log
    in_epoch: Sums = field(default_factory=Sums)
    train_seconds: float = 0.0
    images: int = 0  # that were trained on
    best: dict[str, Any] | None = None
    final: dict[str, Any] | None = None  # the last epoch's validation: a summary of the raw and of the EMA weights
    unreadable: dict[str, str] = field(default_factory=dict)
    scaler: dict[str, Any] | None = None  # values of the stepper, such as the scale of float16 on a GPU

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them; what the task counts stands beside the other sums."""
        values = asdict(self)
        for name in ("window", "in_epoch"):
            values[name] |= values[name].pop("counted")
        return values


def write_state(path: Path, run_digest: str, position: Position, parts: Mapping[str, Arrays]) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: the file; an earlier one is replaced when the new one is complete.
        run_digest: of the configuration that it belongs to.
        position: where the run stands.
        parts: names and arrays of each part: ``network``, ``average`` where there is one, and those of the stepper,
            such as ``optimizer``.

    Raises:
        OutputError: it cannot be written; an earlier one is as it was.
    """
    tensors = {f"{part}/{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
    metadata = {"format": FORMAT, "run": run_digest, "position": json.dumps(position.to_dict())}
    write_atomically(path, safetensors_bytes(tensors, metadata))


def check_state(path: Path, run_digest: str, check_summary: Check) -> None:
    """Check the head of a checkpoint, before anything is made for it; raises as :func:`read_state`."""
    with _opened(path, run_digest, check_summary):
        pass


def read_state(path: Path, run_digest: str, check_summary: Check) -> tuple[Position, dict[str, dict[str, Floats]]]:
    """Return the position and the parts of a checkpoint; a part that it does not have is empty.

    `check_summary` is the check of a validation's summary.

    Raises:
        DataError: no such file, damaged, or of another run.
    """
    parts: dict[str, dict[str, Floats]] = defaultdict(dict)
    with _opened(path, run_digest, check_summary) as (file, position):
        for key in file.keys():  # noqa: SIM118 - no dictionary
            part, _, name = key.partition("/")
            parts[part][name] = array = file.get_tensor(key)
            if array.dtype != np.float32:
                raise ValueError(f"{key} is of type {array.dtype}; expected float32")
    return position, parts


def check_parts(path: Path, parts: Collection[str], *, needed: Set[str], known: Set[str]) -> None:
    """Check that a checkpoint has all parts that a run needs to go on as it was, and none but the `known` ones.

    Raises:
        DataError: it has not.
    """
    if missing := needed - set(parts):
        problem = f"it has no {', '.join(sorted(missing))}, without which the run would not go on as it was"
    elif unknown := set(parts) - known:
        problem = f"it has the parts {', '.join(sorted(unknown))}, which this training does not keep"
    else:
        return
    raise DataError(f"{path} is damaged: {problem}; {_REMEDY}")


def check_counted(path: Path, position: Position, counted: Collection[str]) -> None:
    """Check that a checkpoint counts what the run's job counts.

    Raises:
        DataError: it counts something else.
    """
    if any(set(sums.counted) != set(counted) for sums in (position.window, position.in_epoch)):
        raise DataError(
            f"{path} is damaged: it counts {', '.join(position.window.counted)}; expected {', '.join(counted)}; "
            "start a new run, perhaps from best.safetensors"
        )


@contextlib.contextmanager
def _opened(path: Path, run_digest: str, check_summary: Check) -> Iterator[tuple[Any, Position]]:
    """Open a checkpoint, and yield the file and the position in it."""
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
            content = metadata["position"].encode(errors="surrogatepass")
            yield file, _position(content, f"{path}: this checkpoint's position", check_summary)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: this checkpoint is damaged: {error}; {_REMEDY}") from error


_REMEDY = "start a new run, perhaps from best.safetensors (--weights)"
_COUNT, _SECONDS = whole(0), number(0, 1e12)
_NEUTRAL_SUMS = {
    **dict.fromkeys(("images", "steps"), _COUNT),
    **dict.fromkeys(("seconds", "reader_seconds"), _SECONDS),
    "loss": number(),
}


def _check_sums(value: Any, field: str) -> None:
    """Check sums; all other fields are what the task counts."""
    record(_NEUTRAL_SUMS)(value, field)
    for name in value.keys() - _NEUTRAL_SUMS.keys():
        number(0)(value[name], f"{field}.{name}")


def _position_check(summary: Check) -> Check:
    def best(value: Any, field: str) -> None:
        record({"epoch": whole(1), "kind": text("raw", "ema")})(value, field)
        summary(value, field)

    return record(
        {
            **dict.fromkeys(("epoch", "step", "global_step", "images"), _COUNT),
            **dict.fromkeys(("window", "in_epoch"), _check_sums),
            "train_seconds": _SECONDS,
            "best": nullable(best),
            "final": nullable(record({"raw": summary, "ema": optional(summary)})),
            "unreadable": named(text()),
            "scaler": optional(record({})),
        }
    )


def _position(content: bytes, name: str, summary: Check) -> Position:
    """Return a position whose numbers fit each other.

    Raises:
        DataError: it is damaged.
    """
    values = parse(content, name, remedy=_REMEDY)
    check(values, _position_check(summary), name, remedy=_REMEDY)
    for part in ("window", "in_epoch"):
        counted = {field: values[part].pop(field) for field in values[part].keys() - _NEUTRAL_SUMS.keys()}
        values[part] = Sums(**values[part], counted=counted)
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
