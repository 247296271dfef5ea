"""What is evaluated: weights of a model here, an exported folder, or somebody else's ONNX file; made ready to run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mobilenext.arrays import Floats, Outputs
from mobilenext.errors import CheckFailed, DataError, UsageError
from mobilenext.export import FORMATS
from mobilenext.export.sidecar import SIDECAR, read_sidecar
from mobilenext.file_kinds import other_kind
from mobilenext.machine.environment import processor
from mobilenext.runtime import Candidate, RuntimeSpec, check_precision, resolve_runtime
from mobilenext.runtime.form import Form
from mobilenext.runtime.paddle_files import find_program
from mobilenext.runtime.self_check import probe, problem_of
from mobilenext.sources.foreign import ForeignModel, Labels, names_of, read_model
from mobilenext.weights.pretrained import locate
from mobilenext.weights.read import read_weights
from mobilenext.weights.record import IMAGENET_ASSUMED, Weights, WeightsRecord, names_of_classes


@dataclass(frozen=True)
class Subject:
    """Where a network is, and how it is to be read."""

    path: Path
    kind: str  # weights | exported (by `mobilenext export`) | of other projects: onnx, paddle
    model: str | None = None
    use: str | None = None
    section: str | None = None
    identity_divisor: int | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)  # fields that replace the network's own
    labels: Labels | None = None  # names of the classes, in place of those that it may have
    output: str | None = None  # of a foreign model: the name of the output with the scores; None: it is found
    timed_only: bool = False  # any mean and std will do


@dataclass(frozen=True)
class Choice:
    """How it is to be run."""

    runtime: str = "auto"
    engine: str = "auto"
    device: str = "cpu"
    threads: int = 1
    precision: str | None = None  # None: what the files are


@dataclass(frozen=True)
class Prepared:
    """A network that can be opened, and what is known about it."""

    record: WeightsRecord
    spec: RuntimeSpec
    notes: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)  # all others that decide what it computes, and their sha256
    setup: Mapping[str, Any] = field(default_factory=dict)  # what else decides it, of a network of another form
    labels_assumed: bool = False  # the names of the classes are ImageNet's for want of others


def find_subject(
    *,
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    exported: str | os.PathLike[str] | None = None,
    onnx: str | os.PathLike[str] | None = None,
    use: str | None = None,
    section: str | None = None,
    identity_divisor: int | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    labels: Labels | None = None,
    output_name: str | None = None,
) -> Subject:
    """The one network that the options name, downloaded if need be.

    Raises:
        UsageError: options that exclude each other. Else as :func:`mobilenext.weights.pretrained.locate`.
    """
    fields = dict(preprocessing or {})
    if exported is None and onnx is None:
        if output_name is not None:
            raise UsageError("output_name was given without onnx or exported: weights have one output")
        name = model.partition(".")[0] if model else None
        return Subject(locate(model, weights), "weights", name, use, section, identity_divisor, fields, labels)
    source = "exported" if exported is not None else "onnx"
    others = {"model": model, "weights": weights, "use": use, "section": section, "identity divisor": identity_divisor}
    others |= {"onnx": onnx} if source == "exported" else {}
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise UsageError(f"{source} was given together with {', '.join(given)}; it says by itself what it is")
    path = Path(exported if exported is not None else onnx)  # type: ignore[arg-type]
    fitting = ("onnx",) if source == "onnx" else ("exported", "paddle-folder", "paddle-inference", "pdiparams")
    if problem := other_kind(path, *fitting):
        raise DataError(f"--{source} {path}: {problem}.")
    if source == "onnx":
        if not path.is_file():
            raise DataError(f"{path} is no file; expected an ONNX model")
        return Subject(path, "onnx", preprocessing=fields, labels=labels, output=output_name)
    if not path.exists():
        raise DataError(f"{path} is no folder; expected one made by `mobilenext export` (an ONNX file: --onnx)")
    if not (path / SIDECAR).is_file():
        return Subject(find_program(path), "paddle", preprocessing=fields, labels=labels, output=output_name)
    if output_name is not None:
        raise UsageError(f"output_name was given, but {path / SIDECAR} says what the output is")
    return Subject(path, "exported", preprocessing=fields, labels=labels)


def weights_of(subject: Subject) -> Weights:
    """The weights of a subject of that kind, read as it says.

    Raises:
        WeightsError: they cannot be read, or are of another model.
    """
    return read_weights(
        subject.path,
        model=subject.model,
        use=subject.use,
        section=subject.section,
        identity_divisor=subject.identity_divisor,
        preprocessing=subject.preprocessing,
        labels=subject.labels,
    )


def prepare(subject: Subject, folder: Path, choice: Choice) -> Prepared:
    """Make ready to run: the first candidate that computes what Paddle does. Files are written into `folder`.

    Raises:
        CheckFailed: a runtime that was asked for by name computes something else; with ``auto``, all do.
        UsageError, DataError: what was asked for, or read.
    """
    prepared = _prepare(subject, folder, choice)
    record = prepared.record
    labels, assumed = names_of_classes(record)
    notes = (*prepared.notes, IMAGENET_ASSUMED) if assumed else prepared.notes
    return replace(prepared, record=replace(record, labels=labels), notes=notes, labels_assumed=assumed)


def _prepare(subject: Subject, folder: Path, choice: Choice) -> Prepared:
    if subject.kind == "weights":
        return prepare_weights(weights_of(subject), folder, choice)
    if subject.kind == "exported":
        return _prepare_exported(subject, folder, choice)
    return _prepare_foreign(subject, folder, choice)


def prepare_weights(weights: Weights, folder: Path, choice: Choice) -> Prepared:
    """As `prepare`, of weights that have been read."""
    from mobilenext.export.folding import fold_batch_norms
    from mobilenext.export.formats import check_format, write_format
    from mobilenext.runtime.paddle_eager import forward
    from mobilenext.weights.load import network_of
    from mobilenext.weights.write import write_weights

    if choice.precision == "int8":
        raise UsageError(
            "int8 needs calibration: `mobilenext quantize` makes an int8 folder, which --exported evaluates"
        )
    check_precision(choice.precision or "fp32", processor()[1])
    precision = choice.precision or "fp32"
    candidates = resolve_runtime(choice.runtime, choice.engine, choice.device, precision=precision)
    if candidates[0].runtime == "paddle":
        file = "weights.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(weights, folder / file)
        spec = RuntimeSpec("paddle", "eager", choice.device, choice.threads, folder, file)
        return Prepared(weights.record(), spec, weights.notes)

    network = network_of(weights)
    image = probe(weights.preprocessing)
    expected = forward(network, image)
    fold_batch_norms(network)
    written: dict[str, Path] = {}

    def files(candidate: Candidate) -> tuple[Path, str, str, tuple[str, ...]]:
        name = candidate.format
        if name not in written:
            check_format(name)
            target = folder / name
            target.mkdir(parents=True, exist_ok=True)
            write_format(network, name, target, weights.preprocessing.image_size)
            written[name] = target
        return written[name], FORMATS[name].file, "image", network.outputs

    spec, notes = _first_that_works(candidates, files, choice, precision, folder, image, expected)
    return Prepared(weights.record(), spec, (*weights.notes, *notes))


def _prepare_exported(subject: Subject, folder: Path, choice: Choice) -> Prepared:
    sidecar = read_sidecar(subject.path)
    precision = choice.precision or sidecar.precision
    if precision == "int8" and sidecar.precision != "int8":
        raise UsageError(f"{subject.path} is not quantised; `mobilenext quantize` makes an int8 folder")
    if sidecar.precision == "int8" and precision != "int8":
        raise UsageError(f"{subject.path} is int8, which no runtime can turn back into {precision}")
    check_precision(precision, processor()[1])
    record = _overridden(sidecar.record, subject)
    if subject.labels is not None:
        record = replace(record, labels=names_of(subject.labels, record.num_classes))
    candidates = resolve_runtime(
        choice.runtime, choice.engine, choice.device, formats=[sidecar.format], precision=precision
    )

    def files(candidate: Candidate) -> tuple[Path, str, str, tuple[str, ...]]:
        return subject.path, sidecar.file, sidecar.input, tuple(output.name for output in sidecar.outputs)

    # What Paddle was asked was normalised as the sidecar says, whatever is asked for now.
    image = probe(sidecar.record.preprocessing)
    spec, notes = _first_that_works(
        candidates, files, choice, precision, folder, image, sidecar.expected_outputs(), sidecar.form
    )
    return Prepared(record, spec, tuple(notes), sidecar.files, _setup(sidecar.form))


def _overridden(record: WeightsRecord, subject: Subject) -> WeightsRecord:
    """The record with the preprocessing that was asked for; the size of the image is the network's."""
    size = subject.preprocessing.get("image_size", record.preprocessing.image_size)
    if size != record.preprocessing.image_size:
        raise UsageError(
            f"image size {size} was asked for, but {subject.path} takes {record.preprocessing.image_size}; export "
            f"again with --image-size {size}"
        )
    return replace(record, preprocessing=record.preprocessing.replace(**subject.preprocessing))


def _prepare_foreign(subject: Subject, folder: Path, choice: Choice) -> Prepared:
    precision = choice.precision or "fp32"
    check_precision(precision, processor()[1])
    model = ForeignModel(
        subject.path, subject.kind, subject.preprocessing, subject.labels, subject.output, subject.timed_only
    )
    candidates = resolve_runtime(
        choice.runtime, choice.engine, choice.device, formats=[model.format], precision=precision
    )
    network = read_model(model)
    found = network.recognized

    def files(candidate: Candidate) -> tuple[Path, str, str, tuple[str, ...]]:
        return subject.path.parent, subject.path.name, found.input, (found.output,)

    # There is no Paddle network to compare with: the format's own reference stands in.
    image = probe(network.record.preprocessing)
    spec, notes = _first_that_works(candidates, files, choice, precision, folder, image, (found.logits,), found.form)
    setup = _setup(found.form) | ({} if subject.output is None else {"output": subject.output})
    return Prepared(network.record, spec, (*network.notes, *notes), network.files, setup)


def _setup(form: Form | None) -> dict[str, Any]:
    return {} if form in (None, Form()) else {"form": form.to_dict()}


def _first_that_works(
    candidates: Sequence[Candidate],
    files: Callable[[Candidate], tuple[Path, str, str, tuple[str, ...]]],
    choice: Choice,
    precision: str,
    scratch: Path,
    image: Floats,
    expected: Outputs,
    form: Form | None = None,
) -> tuple[RuntimeSpec, list[str]]:
    """The first candidate that gives the `expected` outputs, and a sentence on each that was passed over."""
    passed: list[str] = []
    for candidate in candidates:
        name = f"{candidate.runtime} ({candidate.engine})" if candidate.engine else candidate.runtime
        try:
            where, file, first, last = files(candidate)
        except (UsageError, CheckFailed) as error:
            if choice.runtime != "auto":
                raise
            passed.append(f"{name} is passed over: {error}")
            continue
        spec = RuntimeSpec(
            candidate.runtime, candidate.engine, choice.device, choice.threads, where, file, precision, first, last,
            scratch, form,
        )  # fmt: skip
        problem = problem_of(spec, image, expected)
        if problem is None:
            return spec, [*passed, *_reason(spec, choice, candidates)]
        passed.append(f"{name} is passed over: {problem}")
    raise CheckFailed(
        "; ".join(passed) + ". Another runtime may work (--runtime), or another engine of paddle-inference "
        "(--engine openvino|onednn|native); --runtime paddle needs neither."
    )


def _reason(spec: RuntimeSpec, choice: Choice, candidates: Sequence[Candidate]) -> list[str]:
    """Why `auto` took this one."""
    if choice.runtime != "auto" or choice.engine != "auto":
        return []
    names = list(dict.fromkeys(candidate.runtime for candidate in candidates))
    return [
        f"runtime {spec.describe()}, which gives the expected logits: the fastest such of those that are installed and "
        f"fit ({', '.join(names)})"
    ]
