"""``mobilenext.json``, the file beside an exported model that says all there is to know to use it.

Evaluating or predicting from an exported folder reads this file and the model, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import DataError, UsageError
from mobilenext.export import FORMATS
from mobilenext.files import sha256_of
from mobilenext.runtime import PRECISIONS
from mobilenext.weights.checkpoint import WeightsRecord

SIDECAR = "mobilenext.json"
VERSION = "mobilenext export 1"


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What an exported folder holds."""

    format: str  # one of FORMATS
    file: str  # the model file
    precision: str  # of its weights: fp32 or int8
    input: str
    output: str
    layout: str  # of the input: NCHW or NHWC
    record: WeightsRecord
    files: Mapping[str, str]  # every file beside the sidecar, and its sha256
    self_check: tuple[float, ...] = field(repr=False)  # Paddle's logits for mobilenext.runtime.self_check.probe
    parity: Mapping[str, Any]  # how close it is to Paddle on real images
    made_by: Mapping[str, Any]  # versions of what wrote it

    def write(self, folder: Path) -> None:
        """Write it into `folder`."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        record = {each.name: getattr(self.record, each.name) for each in fields(WeightsRecord)}
        record.update(preprocessing=self.record.preprocessing.to_dict(), path=self.record.path.name)
        # Rounded to what float32 holds; the check allows far more.
        check = [float(f"{value:.7g}") for value in self.self_check]
        text = json.dumps({"version": VERSION, **values, "record": record, "self_check": check}, indent=1)
        (folder / SIDECAR).write_text(text + "\n")


def read_sidecar(folder: Path) -> Sidecar:
    """The sidecar in an exported folder, every file of which is there and as it was written.

    Raises:
        DataError: no sidecar, one that cannot be used, or a file that is missing or is not the one that was exported.
    """
    path = folder / SIDECAR
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{folder} has no {SIDECAR}: expected a folder made by `mobilenext export`") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}; export again") from error
    try:
        sidecar = _from_dict(values, folder)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        said = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path} is not a sidecar of {VERSION!r}: {said}; export again") from error
    for name, expected in sidecar.files.items():
        try:
            found = sha256_of(folder / name)
        except OSError as error:
            raise DataError(f"{folder / name} cannot be read: {error.strerror}; export again") from error
        if found != expected:
            raise DataError(
                f"{folder / name} is not the file that {SIDECAR} was written for (sha256 {found[:12]}…, expected "
                f"{expected[:12]}…): it may be of another model, or cut short; export again"
            )
    return sidecar


def _from_dict(values: Any, folder: Path) -> Sidecar:
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise ValueError(f"version is {values.get('version') if isinstance(values, dict) else values!r}")
    record = dict(values["record"])
    record["preprocessing"] = Preprocessing.from_dict(record["preprocessing"])
    record["labels"] = tuple(map(str, record["labels"])) if record["labels"] else None
    record["notes"] = tuple(map(str, record["notes"]))
    record["path"] = folder / str(values["file"])
    known = {each.name: values[each.name] for each in fields(Sidecar)}
    known["record"] = WeightsRecord(**record)
    known["self_check"] = tuple(map(float, values["self_check"]))
    sidecar = Sidecar(**known)
    classes = sidecar.record.num_classes
    if sidecar.format not in FORMATS or sidecar.precision not in PRECISIONS:
        raise ValueError(f"format {sidecar.format!r}, precision {sidecar.precision!r}")
    if not isinstance(sidecar.files, dict) or sidecar.file not in sidecar.files:
        raise ValueError(f"{sidecar.file!r} is not among its files")
    if any(Path(name).name != name for name in sidecar.files):
        raise ValueError("it names a file outside its folder")
    if type(classes) is not int or len(sidecar.self_check) != classes:
        raise ValueError(f"{len(sidecar.self_check)} logits to check with, for {classes!r} classes")
    if sidecar.record.labels and len(sidecar.record.labels) != classes:
        raise ValueError(f"{len(sidecar.record.labels)} labels for {classes} classes")
    return sidecar
