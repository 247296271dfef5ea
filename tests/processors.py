"""What the processor that runs the tests can compute."""

from __future__ import annotations

import pytest

from mobilenext.errors import UsageError
from mobilenext.machine.environment import processor
from mobilenext.runtime import check_precision


def _computes(precision: str) -> bool:
    try:
        check_precision(precision, processor()[1])
    except UsageError:
        return False
    return True


needs_int8 = pytest.mark.skipif(
    not _computes("int8"), reason="this processor has no instructions for 8 bits: int8 is refused on it"
)
