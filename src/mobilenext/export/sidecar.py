"""``mobilenext.json``, the file beside an exported model that says all there is to know to use it.

Evaluating or predicting from an exported folder reads this file and the model, and nothing else. Version 2 adds the
task and every output with its shape; ``output`` stays, the name of the first, for programs that read version 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.arrays import Outputs
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import DataError, UsageError
from mobilenext.export.formats import FORMATS
from mobilenext.files import sha256_of
from mobilenext.json_files import Unfit, many, named, nullable, number, optional, read_json, record, sha256, text, whole
from mobilenext.machine.environment import environment
from mobilenext.origin import now, origin
from mobilenext.runtime import PRECISIONS, RuntimeSpec
from mobilenext.runtime.form import DTYPES, LARGEST_BATCH, LAYOUTS, OUTPUTS, Form
from mobilenext.weights.record import WeightsRecord

SIDECAR = "mobilenext.json"
VERSION = "mobilenext export 2"
READABLE = ("mobilenext export 1", VERSION)
_REMEDY = "export again"
_OPTIONAL = ("form", "outputs", "post_processing")  # fields of a sidecar that a file may lack
_SIDECAR = record(
    {
        "version": text(*READABLE),
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
        "outputs": optional(many(record({"name": text(), "shape": many(whole(0))}))),
        "post_processing": optional(
            record({**dict.fromkeys(("file", "input"), optional(text())), "outputs": optional(many(text()))})
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
        "record.architecture": optional(record({})),
    }
)


@dataclass(frozen=True)
class Output:
    """One array that the network gives."""

    name: str
    shape: tuple[int, ...]  # of one image: without the batch


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """The content of an exported folder."""

    format: str  # one of FORMATS
    file: str  # the model file
    precision: str  # of its weights: fp32 or int8
    input: str
    outputs: tuple[Output, ...]
    layout: str  # of the input: NCHW or NHWC
    form: Form | None = None  # of a network of another project, whose input or output differs from ours
    record: WeightsRecord
    files: Mapping[str, str]  # every file beside the sidecar, and its sha256
    # What Paddle gives for mobilenext.runtime.self_check.probe: the values of all outputs, one after the other.
    self_check: tuple[float, ...] = field(repr=False)
    parity: Mapping[str, Any]  # how close it is to Paddle on real images
    made_by: Mapping[str, Any]  # versions of what wrote it
    # How answers follow from the outputs; file, input and outputs of another model in the folder that computes them.
    post_processing: Mapping[str, Any] | None = None

    def expected_outputs(self) -> Outputs:
        """Return the outputs, float32 [1, ...], that the self check expects."""
        sizes = [math.prod(output.shape) for output in self.outputs]
        parts = np.split(np.array(self.self_check, np.float32), np.cumsum(sizes)[:-1])
        return tuple(part.reshape(1, *output.shape) for part, output in zip(parts, self.outputs, strict=True))

    def write(self, folder: Path) -> None:
        """Write it into `folder`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["output"] = self.outputs[0].name
        values["outputs"] = [asdict(output) for output in self.outputs]
        record = {item.name: getattr(self.record, item.name) for item in fields(WeightsRecord)}
        record.update(preprocessing=self.record.preprocessing.to_dict(), path=self.record.path.name)
        for name in ("task", "architecture"):
            if record[name] is None:
                del record[name]
        if self.post_processing is None:
            del values["post_processing"]
        if self.form is None:
            del values["form"]
        else:
            values["form"] = self.form.to_dict()
        # Rounded to what float32 holds; the check allows far more.
        check = [float(f"{value:.7g}") for value in self.self_check]
        text = json.dumps({"version": VERSION, **values, "record": record, "self_check": check}, indent=1)
        (folder / SIDECAR).write_text(text + "\n")


def write_sidecar(
    spec: RuntimeSpec,
    format: str,
    record: WeightsRecord,
    expected: Outputs,
    parity: Mapping[str, Any],
    post_processing: Mapping[str, Any] | None = None,
) -> None:
    """Describe the model in a folder, and every file beside it.

    Args:
        spec: one way to open the model, which says where it is and what it takes and gives.
        format: one of FORMATS.
        record: of the weights.
        expected: the outputs [1, ...] for :func:`mobilenext.runtime.self_check.probe`.
        parity: how close the model is to Paddle on real images.
        post_processing: how answers follow from the outputs.
    """
    form = None if spec.form == Form() else spec.form
    sidecar = Sidecar(
        format=format,
        file=spec.file,
        precision=spec.precision,
        input=spec.input,
        outputs=tuple(Output(name, array.shape[1:]) for name, array in zip(spec.outputs, expected, strict=True)),
        layout="NHWC" if format == "tflite" or (form and form.layout.endswith("C")) else "NCHW",
        form=form,
        record=record,
        files={path.name: sha256_of(path) for path in sorted(spec.folder.iterdir()) if path.is_file()},
        self_check=tuple(float(value) for array in expected for value in array.ravel()),
        parity=parity,
        made_by={**origin(now()), **environment()},
        post_processing=post_processing,
    )
    sidecar.write(spec.folder)


def read_sidecar(folder: Path, *, check_files: bool = True) -> Sidecar:
    """Read the sidecar in an exported folder, every file of which must be as it was written.

    Args:
        folder: made by an export.
        check_files: compare all files with their checksums, which takes as long as reading them.

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
    for name, expected in sidecar.files.items() if check_files else ():
        try:
            digest = sha256_of(folder / name)
        except OSError as error:
            raise DataError(f"{folder / name} cannot be read: {error.strerror}; export again") from error
        if digest != expected:
            raise DataError(
                f"{folder / name} is not the file that {SIDECAR} was written for (sha256 {digest[:12]}…, expected "
                f"{expected[:12]}…): it may be of another model, or cut short; export again"
            )
    return sidecar


def _from_dict(values: Mapping[str, Any], folder: Path) -> Sidecar:
    """Make a sidecar of checked fields; those that this version does not know are left out."""
    record = {item.name: values["record"].get(item.name) for item in fields(WeightsRecord)}
    record["preprocessing"] = Preprocessing.from_dict(record["preprocessing"])
    record["labels"] = tuple(record["labels"]) if record["labels"] else None
    record["notes"] = tuple(record["notes"])
    record["section"], record["assumed"] = record["section"] or "", tuple(record["assumed"] or ())
    record["path"] = folder / values["file"]
    known = {item.name: values[item.name] for item in fields(Sidecar) if item.name not in _OPTIONAL}
    known["post_processing"] = values.get("post_processing")
    known["form"] = Form.from_dict(values["form"]) if values.get("form") is not None else None
    known["record"] = WeightsRecord(**record)
    known["self_check"] = tuple(map(float, values["self_check"]))
    classes = known["record"].num_classes
    outputs = values.get("outputs") or [{"name": values["output"], "shape": [classes]}]  # version 1: logits alone
    known["outputs"] = tuple(Output(output["name"], tuple(output["shape"])) for output in outputs)
    sidecar = Sidecar(**known)
    if sidecar.file not in sidecar.files:
        raise Unfit(f"{sidecar.file!r} is not among its files")
    if (file := (sidecar.post_processing or {}).get("file")) is not None and file not in sidecar.files:
        raise Unfit(f"{file!r} is not among its files")
    if outside := [name for name in sidecar.files if Path(name).name != name]:
        raise Unfit(f"it names a file outside its folder, {outside[0]!r}")
    if sidecar.record.task is None and [output.shape for output in sidecar.outputs] != [(classes,)]:
        raise Unfit(f"outputs are not one of {classes} values, for {classes} classes")
    size = sum(math.prod(output.shape) for output in sidecar.outputs)
    if len(sidecar.self_check) != size:
        raise Unfit(f"self_check has {len(sidecar.self_check)} values; expected {size}, those of its outputs")
    if sidecar.record.labels and len(sidecar.record.labels) != classes:
        raise Unfit(f"{len(sidecar.record.labels)} labels for {classes} classes")
    return sidecar
