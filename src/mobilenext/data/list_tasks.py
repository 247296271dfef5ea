"""Lists that do not hold one label for each image, but several, numbers, files or parts: recognized and refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from mobilenext.data.listing import IMAGE_SUFFIXES
from mobilenext.data.parts import part_of

SEPARATORS = " \t,;|"
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SEVERAL_NUMBERS = re.compile(
    rf"(.+?\.[A-Za-z]\w{{1,4}}[\"']?)[{re.escape(SEPARATORS)}]+[\[(]?(({NUMBER.pattern})([\s,;|]+({NUMBER.pattern}))+)[\])]?"
)
_PAIR = re.compile(rf".+\.\w+[\"']?[{re.escape(SEPARATORS)}]+\S*\.(?:xml|json|txt|png|npy|mat)")
_IS_PART = re.compile(r"is_?(?:train|training|val|valid|validation|test)(?:_img|_image)?")  # fastai, CUB-200


class NoList(Exception):
    """What the whole list is instead of names and labels."""


def shortened(text: str) -> str:
    """Return the text in quotes, or its beginning."""
    return repr(text if len(text) <= 100 else f"{text[:100]}...")


def cut(line: str) -> tuple[str, str]:
    """Return the text left and right of the last separator."""
    line = line.rstrip(SEPARATORS)
    if line.endswith(('"', "'")) and (start := line.rfind(line[-1], 0, -1)) > 0 and line[start - 1] in SEPARATORS:
        return line[:start].rstrip(SEPARATORS), line[start:]
    cut = max(map(line.rfind, SEPARATORS))
    return line[: max(cut, 0)].rstrip(SEPARATORS), line[cut + 1 :]


def refuse_parts(columns: Sequence[str], table: Sequence[Sequence[str]], read: Sequence[int]) -> None:
    """Raise NoList where a column that is not read says which part of the data an image belongs to."""
    for index, word in enumerate(columns):
        values = {cells[index] for cells in table if index < len(cells)} - {""}
        are_parts = all(map(part_of, values)) or _IS_PART.fullmatch(word)
        if index not in read and len(values) > 1 and are_parts:
            raise NoList(f"the column {word} divides this list into {', '.join(sorted(values))}; write a list for each")


def refuse_joined_labels(labels: Sequence[str]) -> None:
    """Raise NoList where cells hold several labels, as ``cat|dog``, and the single ones are labels, too."""
    for mark in "|;,":
        several = {label: [part.strip() for part in label.split(mark)] for label in labels if mark in label}
        count = Counter(part for parts in several.values() for part in set(parts))
        count.update({label for label in labels if mark not in label})
        if any(all(count[part] > 1 for part in parts) for parts in several.values()):
            label = next(iter(several))
            raise NoList(
                f"this is a multi-label list, with labels such as {shortened(label)}; one label is expected for each "
                "image"
            )


def refuse_other_tasks(lines: Sequence[tuple[int, str]]) -> None:
    """Raise NoList for lists of several labels, of boxes and of pairs of files."""
    matches = [_SEVERAL_NUMBERS.fullmatch(line) for _, line in lines]
    if all(matches):
        refuse_numbers([re.split(r"[\s,;|]+", match[2]) for match in matches if match])
    if all(_PAIR.fullmatch(line) for _, line in lines) and not any(
        PurePath(cut(line)[0]).suffix.lower() not in IMAGE_SUFFIXES for _, line in lines
    ):
        raise NoList(
            f"line {lines[0][0]}: this is a list of pairs of files, as for detection or segmentation; one label, an "
            "integer from 0 or a class name, is expected for each image"
        )


def refuse_numbers(numbers: Sequence[Sequence[str]]) -> None:
    """Raise NoList where every line has several numbers in place of a label."""
    if not numbers or any(len(row) < 2 or not all(map(NUMBER.fullmatch, row)) for row in numbers):
        return
    values = [[float(number) for number in row] for row in numbers]
    if all(value in (0, 1) for row in values for value in row):
        kind = f"this is a multi-label list, with a 0 or 1 for each of {len(values[0])} classes"
        if all(sum(row) == 1 for row in values):
            kind += " (each line has one 1 only: its position, from 0, is the label)"
    elif all(value == int(value) for row in values for value in row):
        kind = "this is a multi-label list, or one of boxes, with several integers for each image"
    else:
        kind = f"this is a list of {len(values[0])} numbers for each image, such as probabilities"
    raise NoList(f"{kind}; one label is expected for each image")
