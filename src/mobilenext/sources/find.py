"""Find the network that the options of a call name: weights of a model here, an exported folder, or a foreign file.

The readers of weights are imported when there are weights to read: an exported folder needs none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.errors import DataError, UsageError
from mobilenext.export.sidecar import SIDECAR, read_sidecar
from mobilenext.file_kinds import other_kind
from mobilenext.models import split_tag
from mobilenext.runtime.paddle_files import find_program
from mobilenext.sources.options import Labels, Source

if TYPE_CHECKING:
    from typing import Unpack

    from mobilenext.weights.record import Weights


@dataclass(frozen=True)
class Subject:
    """Where a network is, and what its user says about it."""

    path: Path
    kind: str  # weights | exported (by `mobilenext export`) | of other projects: onnx, paddle
    model: str | None = None
    use: str | None = None
    section: str | None = None
    identity_divisor: int | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)  # fields that replace the network's own
    labels: Labels | None = None  # names of the classes, in place of those that it may have
    output: str | None = None  # of a foreign model: the name of the output with the scores; None: it is found
    timed_only: bool = False  # a foreign model is not asked about images: any mean and std will do


def find_subject(**source: Unpack[Source]) -> Subject:
    """Return the one network that the options name, downloaded if need be.

    Raises:
        UsageError: options that exclude each other. Else as :func:`mobilenext.weights.pretrained.locate`.
        DataError: no such file or folder, or one of another kind.
    """
    exported, onnx, output = source.get("exported"), source.get("onnx"), source.get("output_name")
    fields, labels = dict(source.get("preprocessing") or {}), source.get("labels")
    if exported is None and onnx is None:
        if output is not None:
            raise UsageError("output_name was given without onnx or exported: weights have one output")
        from mobilenext.weights.pretrained import locate

        model = source.get("model")
        return Subject(
            locate(model, source.get("weights")), "weights", split_tag(model)[0] if model else None,
            source.get("use"), source.get("section"), source.get("identity_divisor"), fields, labels,
        )  # fmt: skip
    option = "exported" if exported is not None else "onnx"
    _refuse_others(option, source)
    path = Path(exported if exported is not None else onnx)  # type: ignore[arg-type]
    fitting = ("onnx",) if option == "onnx" else ("exported", "paddle-folder", "paddle-inference", "pdiparams")
    if problem := other_kind(path, *fitting):
        raise DataError(f"--{option} {path}: {problem}.")
    if option == "onnx":
        if not path.is_file():
            raise DataError(f"{path} is no file; expected an ONNX model")
        return Subject(path, "onnx", preprocessing=fields, labels=labels, output=output)
    if not path.exists():
        raise DataError(f"{path} is no folder; expected one made by `mobilenext export` (an ONNX file: --onnx)")
    if not (path / SIDECAR).is_file():
        return Subject(find_program(path), "paddle", preprocessing=fields, labels=labels, output=output)
    if output is not None:
        raise UsageError(f"output_name was given, but {path / SIDECAR} says what the output is")
    return Subject(path, "exported", preprocessing=fields, labels=labels)


def _refuse_others(option: str, source: Source) -> None:
    """Raise UsageError where an exported folder or an ONNX file comes with options about weights."""
    names = ("model", "weights", "use", "section", "identity_divisor", *(("onnx",) if option == "exported" else ()))
    others = [name.replace("_", " ") for name in names if source.get(name) is not None]
    if others:
        raise UsageError(
            f"{option} was given together with {', '.join(others)}; it already describes its network: drop the others"
        )


def weights_of(subject: Subject) -> Weights:
    """Read the weights that a subject of the kind ``weights`` names.

    Raises:
        WeightsError: they cannot be read, or are of another model.
    """
    from mobilenext.weights.read import read_weights

    return read_weights(
        subject.path,
        model=subject.model,
        use=subject.use,
        section=subject.section,
        identity_divisor=subject.identity_divisor,
        preprocessing=subject.preprocessing,
        labels=subject.labels,
    )


def sample_for(**source: Unpack[Source]) -> Path:
    """Return the picture that the package has to try this network with.

    Raises:
        UsageError: it has none. Else as `find_subject` and `weights_of`.
    """
    from mobilenext.weights.pretrained import sample_of

    subject = find_subject(**source)
    sample = sample_of(weights_of(subject).published) if subject.kind == "weights" else None
    if sample is None:
        raise UsageError(
            f"no image is named, and {subject.path.name} comes without a sample; expected image files, folders or -"
        )
    return sample


def task_of(subject: Subject) -> str | None:
    """Return the name of the task that a network was trained for; None, as for models of other projects, where none is.

    Raises:
        DataError: the sidecar of an exported folder is damaged.
    """
    if subject.kind == "weights":
        from mobilenext.weights.metadata import stored_task
        from mobilenext.weights.read import with_suffix

        return stored_task(with_suffix(subject.path))
    return read_sidecar(subject.path, check_files=False).record.task if subject.kind == "exported" else None
