"""Pictures to try a model with: one of the package, or handwritten digits where scikit-learn is installed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from mobilenext.data.digits import sample_digits
from mobilenext.machine.packages import installed
from mobilenext.weights.pretrained import sample_of
from mobilenext.weights.record import WeightsRecord

OF_DIGITS = "mobilenext_x0_35.digits"
DIGITS = 3  # to try


def samples_of(record: WeightsRecord) -> int:
    """Return how many pictures there are to try these weights with."""
    if record.card == OF_DIGITS:
        return DIGITS if installed("sklearn") else 0
    return int(sample_of(record.published) is not None)


def sample(record: WeightsRecord, number: int) -> tuple[bytes, str]:
    """Return the file of the picture at `number`, below `samples_of`, and its media type. It may read files."""
    if record.card == OF_DIGITS:
        return _digits()[number], "image/png"
    path = sample_of(record.published)
    assert path is not None
    return Path(path).read_bytes(), "image/jpeg"


@cache
def _digits() -> list[bytes]:
    return sample_digits(DIGITS)
