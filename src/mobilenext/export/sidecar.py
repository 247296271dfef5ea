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
from mobilenext.json_files import Unfit, many, named, nullable, number, optional, read_json, record, sha256, text, whole
from mobilenext.runtime import PRECISIONS
from mobilenext.runtime.form import DTYPES, LARGEST_BATCH, LAYOUTS, OUTPUTS, Form
from mobilenext.weights.record import WeightsRecord

SIDECAR = "mobilenext.json"
VERSION = "mobilenext export 1"
_REMEDY = "export again"
_SIDECAR = record(
    {
        "version": text(VERSION),
        "format": text(*FORMATS),
        "precision": text(*PRECISIONS),
        **dict.fromkeys(("file", "input", "output", "layout"), text()),
        "form": optional(
            record(
                {
                    "batch": nullable(whole(1, LARGEST_BATCH)),
                    "layout": text(*LAYOUTS),
                    "dtype": text(*DTYPES),
                    "output": text(*OUTPUTS),
                }
            )
        ),
        "files": named(sha256()),
        "self_check": many(number()),
        **dict.fromkeys(("parity", "made_by", "record.preprocessing"), record({})),
        **dict.fromkeys(("record.model", "record.sha256", "record.source_name", "record.source_sha256"), text()),
        **dict.fromkeys(("record.num_classes", "record.identity_divisor"), whole(1)),
        "record.labels": nullable(many(text())),
        "record.card": nullable(text()),
        "record.kind": text(),
        "record.notes": many(text()),
        "record.section": optional(text()),
        "record.assumed": optional(many(text())),
        "record.task": optional(text()),
    }
)


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What an exported folder holds."""

    format: str  # one of FORMATS
    file: str  # the model file
    precision: str  # of its weights: fp32 or int8
    input: str
    output: str
    layout: str  # of the input: NCHW or NHWC
    form: Form | None = None  # of a network of another maker, whose input or output is unlike ours
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
        if self.record.task is None:
            del record["task"]
        if self.form is None:
            del values["form"]
        else:
            values["form"] = self.form.to_dict()
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
    if not path.exists():
        raise DataError(f"{folder} has no {SIDECAR}: expected a folder made by `mobilenext export`")
    values = read_json(path, _SIDECAR, remedy=_REMEDY)
    try:
        sidecar = _from_dict(values, folder)
    except (Unfit, UsageError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}; {_REMEDY}") from error
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


def _from_dict(values: Mapping[str, Any], folder: Path) -> Sidecar:
    """The sidecar from checked fields; those that this version does not know are left out."""
    record = {each.name: values["record"].get(each.name) for each in fields(WeightsRecord)}
    record["preprocessing"] = Preprocessing.from_dict(record["preprocessing"])
    record["labels"] = tuple(record["labels"]) if record["labels"] else None
    record["notes"] = tuple(record["notes"])
    record["section"], record["assumed"] = record["section"] or "", tuple(record["assumed"] or ())
    record["path"] = folder / values["file"]
    known = {each.name: values[each.name] for each in fields(Sidecar) if each.name != "form"}
    known["form"] = Form.from_dict(values["form"]) if values.get("form") is not None else None
    known["record"] = WeightsRecord(**record)
    known["self_check"] = tuple(map(float, values["self_check"]))
    sidecar = Sidecar(**known)
    classes = sidecar.record.num_classes
    if sidecar.file not in sidecar.files:
        raise Unfit(f"{sidecar.file!r} is not among its files")
    if outside := [name for name in sidecar.files if Path(name).name != name]:
        raise Unfit(f"it names a file outside its folder, {outside[0]!r}")
    if len(sidecar.self_check) != classes:
        raise Unfit(f"{len(sidecar.self_check)} logits to check with, for {classes} classes")
    if sidecar.record.labels and len(sidecar.record.labels) != classes:
        raise Unfit(f"{len(sidecar.record.labels)} labels for {classes} classes")
    return sidecar
