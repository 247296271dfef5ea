"""Problems of a data set, collected over the whole and raised as one error: the first 20 and their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mobilenext.errors import DatasetError, ImageError

PROBLEMS_SHOWN = 20
MOST_SHOWN = 1000  # of a check, which is there to show what is to be repaired


def raise_problems(source: Path, problems: list[str], hint: str = "") -> NoReturn:
    """Raise one DatasetError of the first `PROBLEMS_SHOWN` problems and their number."""
    shown = problems[:PROBLEMS_SHOWN]
    if len(problems) > len(shown):
        shown.append(f"... and {len(problems) - len(shown):,} more")
    raise DatasetError(
        f"{source}: {len(problems):,} problem{'s' * (len(problems) > 1)}:\n    " + "\n    ".join(shown) + hint
    )


def shortened(sentences: Sequence[str]) -> list[str]:
    """Return the first `PROBLEMS_SHOWN` sentences on each file, at most `MOST_SHOWN`, and how many there are beyond.

    A sentence begins with its file and a colon.
    """
    shown: list[str] = []
    number: Counter[str] = Counter()
    for sentence in sentences:
        file = sentence.partition(":")[0]
        number[file] += 1
        if number[file] <= PROBLEMS_SHOWN and len(shown) < MOST_SHOWN:
            shown.append(sentence)
    if len(sentences) > len(shown):
        most, count = number.most_common(1)[0]
        of_file = f", most of them in {most}" if count > PROBLEMS_SHOWN else ""
        shown.append(f"... and {len(sentences) - len(shown):,} more{of_file} (--json has all)")
    return shown


def unreadable_text(problems: Sequence[str], *, complete: bool = True) -> str:
    """Return the first 20 images that cannot be read and their number; `complete`: `problems` are all of them."""
    number = f"{len(problems):,}{'' if complete else ' or more'}"
    shown = [*problems[:PROBLEMS_SHOWN], *(["..."] if len(problems) > PROBLEMS_SHOWN or not complete else [])]
    return f"{number} image{'s' if number != '1' else ''} cannot be read:\n    " + "\n    ".join(shown)


def raise_unreadable(problems: Sequence[str], way_out: str, *, complete: bool = True) -> NoReturn:
    """Raise one ImageError of images that cannot be read, and the two ways out; arguments as `unreadable_text`."""
    raise ImageError(
        f"{unreadable_text(problems, complete=complete)}\n"
        f"Repair them or take them out (mobilenext check-data names all of them), or {way_out}"
    )
