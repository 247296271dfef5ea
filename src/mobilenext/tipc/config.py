"""A driver's configuration: lines ``key:value`` that mean something by their number.

Three layouts are in use, and no file says which one it has:

    specification   51 lines   test_tipc/configs/<model>/train_infer_python.txt
    prod            32 lines   the same place, in Paddle's reference repository
    paddleclas      51 lines   test_tipc/configs/<family>/<model>_train_infer_python.txt

The drivers split a file at line ends and drop blank lines, so that one blank line moves all later ones. They take the
text between the first and the second colon for the value, and their shell expands ``*`` and ``?``. All that they would
misread silently is an error here, with its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mobilenext.errors import DataError, UsageError, nearest
from mobilenext.tipc.flags import NULL

MODES = ("lite_train_lite_infer", "lite_train_whole_infer", "whole_train_whole_infer", "whole_infer")
SPECIFICATION, PROD, PADDLECLAS = "specification", "prod", "paddleclas"


@dataclass(frozen=True)
class Layout:
    """What every line means."""

    name: str
    lines: int
    banners: frozenset[int]
    fields: Mapping[int, str]


_LONG_FIELDS = {
    2: "model_name", 3: "python", 4: "gpu_list", 5: "train_device", 6: "auto_cast", 7: "epochs", 8: "output",
    9: "batch_size", 10: "pretrained", 11: "train_model_name", 12: "train_images", 13: "train_extra", 15: "trainers",
    16: "norm_train", 17: "pact_train", 18: "fpgm_train", 19: "distill_train", 20: "other_train_1",
    21: "other_train_2", 24: "eval", 25: "eval_extra", 28: "export_output", 29: "export_weights", 30: "norm_export",
    31: "pact_export", 32: "fpgm_export", 33: "distill_export", 34: "other_export_1", 35: "other_export_2",
    37: "infer_model", 38: "infer_export", 39: "infer_quantized", 40: "infer", 41: "infer_device", 42: "mkldnn",
    43: "threads", 44: "infer_batch_size", 45: "tensorrt", 46: "precision", 47: "model_dir", 48: "images",
    49: "save_log", 50: "benchmark", 51: "infer_extra",
}  # fmt: skip
_LONG_BANNERS = frozenset({1, 14, 22, 23, 26, 27})  # line 36 has a folder or nothing, and is read by neither of ours
LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        SPECIFICATION: Layout(SPECIFICATION, 51, _LONG_BANNERS, _LONG_FIELDS),
        PADDLECLAS: Layout(PADDLECLAS, 51, _LONG_BANNERS, _LONG_FIELDS),
        PROD: Layout(
            PROD,
            32,
            frozenset({1, 12, 15, 16, 18, 19, 23, 26}),
            {
                2: "model_name", 3: "python", 4: "gpu_list", 5: "train_device", 6: "epochs", 7: "output",
                8: "batch_size", 9: "pretrained", 10: "train_model_name", 11: "data", 13: "trainers", 14: "norm_train",
                17: "eval", 20: "export_output", 21: "export_weights", 22: "norm_export", 24: "infer_model",
                25: "infer_export", 27: "infer", 28: "infer_device", 29: "infer_batch_size", 30: "model_dir",
                31: "images", 32: "benchmark",
            },
        ),
    }
)  # fmt: skip

_REQUIRED = ("model_name", "python", "gpu_list", "train_model_name", "trainers", "norm_train", "infer")
_KEYS = ("output", "export_output", "export_weights", "pretrained", "model_dir")
_BY_MODE = ("epochs", "batch_size")
_BOOLEAN_LISTS = ("mkldnn", "tensorrt", "benchmark", "infer_quantized")
_NUMBER_LISTS = ("threads", "infer_batch_size")
_DEVICES = ("True", "False", "cpu", "gpu")
_GPUS = re.compile(r"-1|\d(,\d)*|[\d.]+(,[\d.]+)+;\d(,\d)*")


@dataclass(frozen=True)
class Line:
    """One line: the text before its first colon, and between that and the second."""

    number: int
    key: str
    value: str

    @property
    def is_set(self) -> bool:
        """Whether the driver writes it at all."""
        return NULL not in (self.key, self.value) and bool(self.value)

    @property
    def values(self) -> tuple[str, ...]:
        """The value's alternatives."""
        return tuple(self.value.split("|"))


@dataclass(frozen=True)
class Config:
    """A checked configuration."""

    path: Path
    layout: Layout
    lines: Mapping[str, Line]

    def __getitem__(self, field: str) -> Line:
        return self.lines[field]

    def value(self, field: str) -> str:
        return self.lines[field].value

    def of_mode(self, field: str, mode: str) -> str:
        """The value of a ``mode=value`` list; empty where the mode is not in it."""
        pairs = (item.partition("=") for item in self.lines[field].values)
        return next((value for name, _, value in pairs if name == mode), "")


def check_mode(mode: str) -> None:
    """Raises UsageError for a mode that the drivers would take for a training without epochs."""
    if mode not in MODES:
        raise UsageError(f"unknown mode {mode!r}{nearest(mode, MODES)}; expected {', '.join(MODES)}")


def read_config(path: Path, layout: str | None = None) -> Config:
    """Read and check a configuration.

    Args:
        path: the file.
        layout: its layout; None takes it from the file's name and length.

    Raises:
        UsageError: an unknown layout.
        DataError: no such file, or its problems: the line, what is there, what is expected.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"layout is {layout!r}; expected {', '.join(LAYOUTS)}{nearest(layout, LAYOUTS)}")
    try:
        text = path.read_bytes().decode()  # with its line ends
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    raw = text.split("\n")
    if raw[-1] == "":
        raw.pop()
    form = LAYOUTS[layout or _layout_of(path, len(raw))]
    problems = _problems_of_lines(raw[: form.lines], form)
    lines = {}
    for number, field in form.fields.items():
        if number <= len(raw):
            parts = raw[number - 1].split(":")
            lines[field] = Line(number, parts[0], parts[1] if len(parts) > 1 else "")
    if not problems:  # a shifted file would only give nonsense
        problems = _problems_of_values(lines)
    if problems:
        listed = "\n    ".join(problems[:20])
        raise DataError(f"{path} cannot be used ({form.name} layout, {form.lines} lines):\n    {listed}")
    return Config(path, form, lines)


def _layout_of(path: Path, lines: int) -> str:
    if not path.name.startswith("train_"):
        return PADDLECLAS
    return PROD if lines < LAYOUTS[SPECIFICATION].lines - 8 else SPECIFICATION


def _problems_of_lines(raw: list[str], form: Layout) -> list[str]:
    problems = []
    blank = [number for number, line in enumerate(raw, 1) if not line.strip()]
    for number in blank:
        problems.append(f"line {number} is blank: the drivers drop it, and every later line moves up by one; remove it")
    for number, line in enumerate(raw, 1):
        if "\r" in line:
            problems.append(f"line {number} ends as on Windows, and the return would become a part of its value")
    if problems:
        return problems
    if len(raw) < form.lines:
        problems.append(f"it ends after line {len(raw)}; expected {form.lines} lines")
    for number, line in enumerate(raw, 1):
        colons = line.count(":")
        field = form.fields.get(number)
        if number in form.banners and ":" in line:
            problems.append(f"line {number} is {line!r}; expected a heading such as ===train_params===, or ##")
        elif field and not colons:
            problems.append(f"line {number} is {line!r}; expected key:value ({field.replace('_', ' ')})")
        elif field and colons > 1:
            problems.append(
                f"line {number} has {colons} colons; the drivers take what stands between the first two, "
                f"{line.split(':')[1]!r}"
            )
        elif field and set("*?[") & set(line):
            problems.append(f"line {number} has one of * ? [, which the drivers' shell expands")
    return problems


def _problems_of_values(lines: Mapping[str, Line]) -> list[str]:
    problems = []

    def expect(line: Line, holds: bool, expected: str) -> None:
        if not holds:
            problems.append(f"line {line.number}: {line.key}:{line.value}; expected {expected}")

    for field in _REQUIRED:
        expect(lines[field], lines[field].value not in ("", NULL), f"a {field.replace('_', ' ')}")
    for field in _KEYS:  # whose values the drivers make
        expect(lines[field], lines[field].key not in ("", NULL), f"a flag for the {field.replace('_', ' ')}")
    expect(lines["gpu_list"], all(map(_GPUS.fullmatch, lines["gpu_list"].values)), "-1, or numbers such as 0|0,1")
    expect(lines["infer_device"], set(lines["infer_device"].values) <= set(_DEVICES), f"{' or '.join(_DEVICES)}")
    trainers = [line.key for field, line in lines.items() if field.endswith("_train") or "other_train" in field]
    expect(lines["trainers"], set(lines["trainers"].values) <= set(trainers), f"some of {', '.join(trainers)}")
    for field in (*_BOOLEAN_LISTS, *_NUMBER_LISTS, *_BY_MODE):
        line = lines.get(field)
        if line is None or not line.is_set:
            continue
        if field in _BOOLEAN_LISTS:
            expect(line, set(line.values) <= {"True", "False"}, "True or False")
        elif field in _NUMBER_LISTS:
            expect(line, all(v.isdecimal() and int(v) for v in line.values), "whole numbers such as 1|4")
        elif "=" in line.value:
            pairs = [item.partition("=") for item in line.values]
            unknown = [name for name, _, _ in pairs if name not in MODES]
            numbers = all(value.isdecimal() and int(value) for _, _, value in pairs)
            expect(line, not unknown and numbers, f"MODE=NUMBER with modes of {', '.join(MODES)}")
        else:
            expect(line, line.value.isdecimal() and bool(int(line.value)), "MODE=NUMBER|..., or a number")
    if "mkldnn" in lines and lines["mkldnn"].key == NULL:
        expect(lines["mkldnn"], False, "a key: the drivers write it even where it is null")
    return problems
