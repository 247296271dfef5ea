"""The one reader of JSON that comes from outside: results, runs, logs, journals, sidecars, positions of checkpoints.

What a file may hold is bounded before anything uses it (`reading`). What a reader needs of it is declared beside that
reader, a check for each field (`fields`), and checked where it is read:

    _RESULT = {"images": whole(1), "final.raw.correct_top1": whole(0), "mean": many(number(), 3)}
    result = read_json(folder / "result.json", _RESULT)

Fields that are not declared are kept as they are, so that newer files stay readable.
"""

from mobilenext.json_files.fields import (
    INTEGERS,
    REMEDY,
    Check,
    Fields,
    Unfit,
    check,
    either,
    flag,
    is_name,
    many,
    named,
    nullable,
    number,
    optional,
    record,
    sha256,
    shown,
    text,
    whole,
)
from mobilenext.json_files.reading import (
    DEEPEST,
    LARGEST,
    LONGEST_LINE,
    lines_of,
    parse,
    read_bytes,
    read_json,
    read_json_lines,
    read_lines,
)

__all__ = [
    "DEEPEST", "INTEGERS", "LARGEST", "LONGEST_LINE", "REMEDY", "Check", "Fields", "Unfit", "check", "either", "flag",
    "is_name", "lines_of", "many", "named", "nullable", "number", "optional", "parse", "read_bytes", "read_json",
    "read_json_lines", "read_lines", "record", "sha256", "shown", "text", "whole",
]  # fmt: skip
