"""The whole state of a run in one safetensors file, from which it goes on as if it had never stopped.

Nothing random has a state: the order of images, augmentation and dropout are functions of the seed and of the
position, which is stored. The learning rate is a function of the position, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.errors import DataError
from mobilenext.files import write_atomically
from mobilenext.weights.checkpoint import safetensors_bytes

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


def read_state(path: Path, run_digest: str) -> tuple[Position, dict[str, dict[str, npt.NDArray[np.float32]]]]:
    """The position and the parts of a checkpoint.

    Raises:
        DataError: no such file, damaged, or of another run.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint; the run had not begun: start it anew")
    parts: dict[str, dict[str, npt.NDArray[np.float32]]] = {part: {} for part in PARTS}
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise DataError(f"{path}: its format is {metadata.get('format')!r}; expected {FORMAT!r}")
            if metadata.get("run") != run_digest:
                raise DataError(
                    f"{path} belongs to another run than the run.json beside it; restore the one or the other"
                )
            for key in file.keys():  # noqa: SIM118 - no dictionary
                part, _, name = key.partition("/")
                parts[part][name] = file.get_tensor(key)
        values = json.loads(metadata["position"])
        for name in ("window", "in_epoch"):
            values[name] = Sums(**values[name])
        return Position(**values), parts
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: this checkpoint is damaged: {error}; start a new run, perhaps from best.safetensors (--weights)"
        ) from error
