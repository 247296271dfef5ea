"""Make a network ready to run: write the files of a runtime, and choose one that computes what Paddle does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from mobilenext.arrays import Floats, Outputs
from mobilenext.errors import CheckFailed, UsageError
from mobilenext.export import FORMATS
from mobilenext.export.sidecar import read_sidecar
from mobilenext.machine.environment import processor
from mobilenext.machine.packages import require_paddle
from mobilenext.models import MODELS
from mobilenext.runtime import RUNTIMES, Candidate, RuntimeSpec, check_precision, resolve_runtime
from mobilenext.runtime.form import Form
from mobilenext.runtime.self_check import probe, problem_of
from mobilenext.runtime.trial import try_apart
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import Subject, weights_of
from mobilenext.sources.foreign import format_of, names_of, read_model
from mobilenext.weights.builders import builder_of, network_for
from mobilenext.weights.record import Weights, WeightsRecord, names_of_classes, note_on_assumed_names


@dataclass(frozen=True)
class Prepared:
    """A network that can be opened, and what is known about it."""

    record: WeightsRecord
    spec: RuntimeSpec
    notes: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)  # all others that decide what it computes, and their sha256
    setup: Mapping[str, Any] = field(default_factory=dict)  # what else decides it, of a network of another form
    labels_assumed: bool = False  # the names of the classes are ImageNet's, as there are no others


class ModelFile(NamedTuple):
    """What a runtime opens."""

    folder: Path
    file: str
    input: str  # name of the input
    outputs: tuple[str, ...]  # names of the outputs


def prepare(subject: Subject, folder: Path, choice: Choice) -> Prepared:
    """Make a network ready to run by the first candidate that computes what Paddle does; write its files into `folder`.

    Raises:
        CheckFailed: a runtime that was asked for by name computes something else; with ``auto``, all do.
        UsageError, DataError: what was asked for, or read.
    """
    prepared = _prepare(subject, folder, choice)
    record = prepared.record
    labels, assumed = names_of_classes(record)
    notes = (*prepared.notes, note_on_assumed_names(record)) if assumed else prepared.notes
    return replace(prepared, record=replace(record, labels=labels), notes=notes, labels_assumed=assumed)


def _prepare(subject: Subject, folder: Path, choice: Choice) -> Prepared:
    if subject.kind == "weights":
        return prepare_weights(weights_of(subject), folder, choice)
    if subject.kind == "exported":
        return _prepare_exported(subject, folder, choice)
    return _prepare_foreign(subject, folder, choice)


def prepare_weights(weights: Weights, folder: Path, choice: Choice) -> Prepared:
    """Do the same as `prepare` for weights that have been read."""
    require_paddle()
    from mobilenext.export.folding import fold_batch_norms
    from mobilenext.export.formats import check_format
    from mobilenext.export.writing import write_format
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

    def files(candidate: Candidate) -> ModelFile:
        name = candidate.format
        if name not in written:
            check_format(name)
            target = folder / name
            target.mkdir(parents=True, exist_ok=True)
            write_format(network, name, target, weights.preprocessing.image_size, kept=False)
            written[name] = target
        return ModelFile(written[name], FORMATS[name].file, "image", network.outputs)

    spec, notes = _first_that_works(candidates, files, choice, precision, folder, (image, expected))
    return Prepared(weights.record(), spec, (*weights.notes, *notes))


def _prepare_exported(subject: Subject, folder: Path, choice: Choice) -> Prepared:
    sidecar = read_sidecar(subject.path)
    precision = choice.precision or sidecar.precision
    if precision == "int8" and sidecar.precision != "int8":
        raise UsageError(f"{subject.path} is not quantized; `mobilenext quantize` makes an int8 folder")
    if sidecar.precision == "int8" and precision != "int8":
        raise UsageError(f"{subject.path} is int8, which no runtime can turn back into {precision}")
    check_precision(precision, processor()[1])
    record = _overridden(sidecar.record, subject)
    if subject.labels is not None:
        record = replace(record, labels=names_of(subject.labels, record.num_classes))
    candidates = resolve_runtime(
        choice.runtime, choice.engine, choice.device, formats=[sidecar.format], precision=precision
    )

    def files(candidate: Candidate) -> ModelFile:
        model = ModelFile(subject.path, sidecar.file, sidecar.input, tuple(output.name for output in sidecar.outputs))
        if RUNTIMES[candidate.runtime].tried_apart:
            spec = RuntimeSpec(
                candidate.runtime, candidate.engine, "cpu", 1, model.folder, model.file,
                input=model.input, outputs=model.outputs,
            )  # fmt: skip
            try_apart(spec, record.preprocessing.image_size)
        return model

    # The picture that Paddle was shown was normalized as the sidecar says, whatever is asked for now.
    check = probe(sidecar.record.preprocessing), sidecar.expected_outputs()
    spec, notes = _first_that_works(candidates, files, choice, precision, folder, check, sidecar.form)
    return Prepared(record, spec, tuple(notes), sidecar.files, _setup(sidecar.form))


def _overridden(record: WeightsRecord, subject: Subject) -> WeightsRecord:
    """Return the record with the preprocessing that was asked for; the size of the image is the network's."""
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
    candidates = resolve_runtime(
        choice.runtime, choice.engine, choice.device, formats=[format_of(subject)], precision=precision
    )
    network = read_model(subject)
    recognized = network.recognized

    def files(candidate: Candidate) -> ModelFile:
        return ModelFile(subject.path.parent, subject.path.name, recognized.input, (recognized.output,))

    # There is no Paddle network to compare with: the format's own reference stands in.
    check = probe(network.record.preprocessing), (recognized.logits,)
    spec, notes = _first_that_works(candidates, files, choice, precision, folder, check, recognized.form)
    setup = _setup(recognized.form) | ({} if subject.output is None else {"output": subject.output})
    return Prepared(network.record, spec, (*network.notes, *notes), network.files, setup)


def _setup(form: Form | None) -> dict[str, Any]:
    return {} if form in (None, Form()) else {"form": form.to_dict()}


def _first_that_works(
    candidates: Sequence[Candidate],
    files: Callable[[Candidate], ModelFile],
    choice: Choice,
    precision: str,
    scratch: Path,
    check: tuple[Floats, Outputs],
    form: Form | None = None,
) -> tuple[RuntimeSpec, list[str]]:
    """Choose a way to run a network.

    Args:
        candidates: ways to run it, the fastest first.
        files: writes or names the model file for a candidate.
        choice, precision: how it is to run.
        scratch: where an engine may keep what it compiles.
        check: a picture [1, 3, S, S], and the outputs that are expected for it.
        form: of a network of another maker.

    Returns:
        The first candidate that gives the expected outputs, and a sentence on each that was passed over.

    Raises:
        CheckFailed: none does.
    """
    passed: list[str] = []
    for candidate in candidates:
        name = f"{candidate.runtime} ({candidate.engine})" if candidate.engine else candidate.runtime
        try:
            model = files(candidate)
        except (UsageError, CheckFailed) as error:
            if choice.runtime != "auto":
                raise
            passed.append(f"{name} is passed over: {error}")
            continue
        spec = RuntimeSpec(
            candidate.runtime, candidate.engine, choice.device, choice.threads, model.folder, model.file, precision,
            model.input, model.outputs, scratch, form,
        )  # fmt: skip
        problem = problem_of(spec, *check)
        if problem is None:
            return spec, [*passed, *_reason(spec, choice, candidates)]
        passed.append(f"{name} is passed over: {problem}")
    raise CheckFailed(
        "; ".join(passed) + ". Another runtime may work (--runtime), or another engine of paddle-inference "
        "(--engine openvino|onednn|native); --runtime paddle needs neither."
    )


def _reason(spec: RuntimeSpec, choice: Choice, candidates: Sequence[Candidate]) -> list[str]:
    """Return a sentence on why `auto` took this one."""
    if choice.runtime != "auto" or choice.engine != "auto":
        return []
    names = list(dict.fromkeys(candidate.runtime for candidate in candidates))
    return [
        f"runtime: {spec.describe()} (chosen automatically: the fastest whose outputs are right, of {', '.join(names)})"
    ]


def count_mult_adds(record: WeightsRecord) -> int | None:
    """Return the multiply-accumulates of one image; None for a network of another project."""
    if record.model not in MODELS and builder_of(record) is None:
        return None
    from mobilenext.models.counting import count  # imports Paddle

    return count(network_for(record), record.preprocessing.image_size).mult_adds
