"""What follows a network to its answers, such as the suppression of boxes: a second model beside that of raw outputs.

The formats that can hold it get the file; for the others, and for other programs, the sidecar says how it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from mobilenext.arrays import Floats, Outputs
from mobilenext.errors import CheckFailed
from mobilenext.export.formats import FORMATS
from mobilenext.export.parity import BATCH, ImageOutputs
from mobilenext.export.writing import convert_onnx
from mobilenext.machine.temporary import scratch_folder
from mobilenext.runtime import RuntimeSpec, open_runtime
from mobilenext.runtime.self_check import failure
from mobilenext.weights.record import WeightsRecord

POST_PROCESSED = ("onnx", "openvino")  # formats that can hold more than the network

# Of each call: Paddle's outputs [N, ...] for N images, and what the model with its post-processing gives for them.
Calls: TypeAlias = Sequence[tuple[Outputs, Outputs]]


@dataclass(frozen=True, kw_only=True)
class PostProcessing:
    """What a task computes from the outputs of its network."""

    name: str  # stands in the file's name: model_NAME.onnx
    # Appends it to an ONNX graph (an `onnx.ModelProto`) whose outputs were compared, and returns the new graph.
    append: Callable[[Any, WeightsRecord], Any]
    # Fields of the parity, and a sentence if the answers differ by more than rounding.
    agreement: Callable[[Calls, WeightsRecord], tuple[dict[str, Any], str | None]]
    # For the sidecar: how to compute it from the raw outputs.
    instructions: Callable[[WeightsRecord], dict[str, Any]]
    # Files that the instructions name, such as constants: their names and contents.
    files: Callable[[WeightsRecord], Mapping[str, bytes]]
    # The answers for N images from raw outputs, for their time; and the numbers for these N images that this time
    # depends on, such as candidates. Both are pickled for worker processes: functions of a module.
    answers: Callable[[Outputs, WeightsRecord], Sequence[Any]]
    amounts: Callable[[Outputs, WeightsRecord], dict[str, int]]


def describe(post_processing: PostProcessing, folder: Path, record: WeightsRecord) -> dict[str, Any]:
    """Write the files that the instructions name into `folder`, and return the instructions."""
    for name, content in post_processing.files(record).items():
        (folder / name).write_bytes(content)
    return post_processing.instructions(record)


def write_post_processed(
    post_processing: PostProcessing, format: str, graph: Path, folder: Path, record: WeightsRecord
) -> dict[str, Any]:
    """Write the network with what follows it, in a format that can hold it.

    Args:
        post_processing: is appended.
        format: one of POST_PROCESSED.
        graph: ONNX file of the network.
        folder: holds the files of the network.
        record: of the weights.

    Returns:
        What the sidecar says of it: ``file``, ``input`` and ``outputs``.
    """
    import onnx

    model = post_processing.append(onnx.load(str(graph)), record)
    onnx.checker.check_model(model, full_check=True)
    outputs = tuple(output.name for output in model.graph.output)
    alone = Path(FORMATS[format].file)
    file = f"{alone.stem}_{post_processing.name}{alone.suffix}"
    with scratch_folder() as scratch:
        appended = scratch / "appended.onnx"
        onnx.save(model, str(appended))
        convert_onnx(format, appended, folder / file, record.preprocessing.image_size, outputs)
    return {"file": file, "input": model.graph.input[0].name, "outputs": list(outputs)}


def compare_post_processed(
    post_processing: PostProcessing,
    specs: Sequence[RuntimeSpec],
    images: tuple[Floats, ImageOutputs],
    record: WeightsRecord,
) -> dict[str, Any]:
    """Compare what the files give with what follows from Paddle's outputs, one image at a time and in threes.

    Args:
        post_processing: of the task.
        specs: every runtime that opens the file, with the file and its outputs.
        images: normalized [N, 3, S, S], and Paddle's outputs for them.
        record: of the weights.

    Returns:
        For each runtime the fields of the parity.

    Raises:
        CheckFailed: the answers differ by more than rounding, or a runtime cannot run the file.
    """
    batch, original = images
    fields: dict[str, Any] = {}
    for spec in specs:
        try:
            runtime = open_runtime(spec)
            calls = [
                (
                    tuple(output[start : start + size] for output in outputs),
                    runtime.predict(batch[start : start + size]),
                )
                for size, outputs in ((1, original.one_by_one), (BATCH, original.in_threes))
                for start in range(0, len(batch) // size * size, size)
            ]
        except (RuntimeError, ValueError, NotImplementedError) as error:
            raise CheckFailed(f"{spec.describe()} cannot run {spec.file}: {failure(error)}") from error
        fields[spec.describe()], problem = post_processing.agreement(calls, record)
        if problem:
            raise CheckFailed(
                f"{spec.file} does not give what follows from Paddle's outputs, by {spec.describe()}: {problem}. "
                "Nothing was written; another version of the runtime may help"
            )
    return fields


def beside(specs: Sequence[RuntimeSpec], names: Mapping[str, Any]) -> list[RuntimeSpec]:
    """Return the same runtimes with the file of the folder that `write_post_processed` has written."""
    fields = {"file": names["file"], "input": names["input"], "outputs": tuple(names["outputs"])}
    return [replace(spec, **fields) for spec in specs]
