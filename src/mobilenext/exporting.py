"""Export weights of any task to a folder that other programs run."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.arrays import Outputs
from mobilenext.data.images import paths_of
from mobilenext.errors import refuse_unknown
from mobilenext.export.checked import write_checked
from mobilenext.export.folder import new_folder
from mobilenext.export.formats import check_format
from mobilenext.machine.pool import Report, WorkerPool, watched_scratch_folder
from mobilenext.machine.process_environment import compute_environment
from mobilenext.models import split_tag
from mobilenext.tasks import task_of_file
from mobilenext.weights.pretrained import locate
from mobilenext.weights.read import WeightsSelection, read_weights

if TYPE_CHECKING:
    from typing import Unpack

log = logging.getLogger(__name__)


def export_model(
    output: str | os.PathLike[str],
    *,
    format: str = "onnx",
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[WeightsSelection],
) -> dict[str, Any]:
    """Write a folder with a model, and ``mobilenext.json`` that says how to use it.

        mobilenext.export_model("exported", format="openvino", weights="best.safetensors")

    Args:
        output: the folder; an earlier export in it is replaced, anything else is refused.
        format: a key of :data:`mobilenext.export.FORMATS`.
        model, weights, preprocessing: as in ``evaluate``; ``image_size`` is that of the export.
        images: what the export is compared on: files and folders, or one of them; None takes photos that scikit-learn
            brings.
        progress: called with the number of images that were compared, and of all.
        options: use, section and identity_divisor, as in ``evaluate``.

    Returns:
        The parity: images, the largest difference of an output, agreement of the answers.

    Raises:
        CheckFailed: the export computes something else. UsageError, DataError: an option or a file is wrong.
        OutputError: the folder cannot be written. Nothing is left in `output` then.
    """
    refuse_unknown(options, WeightsSelection.__annotations__, "export_model")
    check_format(format)
    path = locate(model, weights)
    name = split_tag(model)[0] if model else None
    reading = {**options, "model": name, "preprocessing": dict(preprocessing or {})}
    names = None if images is None else [str(path) for path in paths_of(images)]
    with watched_scratch_folder(output) as scratch, new_folder(Path(output)) as folder:
        # Paddle and the converters stay out of this process.
        with WorkerPool(1, compute_environment(1)) as single:
            parity, notes = single.call_watched(
                _export, path, reading, format, folder, names, scratch=scratch, progress=progress
            )
        for note in notes:
            log.info("%s", note)
        shutil.rmtree(folder / "cache", ignore_errors=True)  # what OpenVINO in Paddle compiled
    return parity


def _export(
    path: Path, reading: Mapping[str, Any], format: str, folder: Path, images: list[str] | None, report: Report
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read the weights and write them as their task asks, in a process of its own."""
    weights = read_weights(path, **reading)
    task = task_of_file(weights.task, path)
    record, export = weights.record(), task.export

    def agreement(expected: Outputs, outputs: Outputs) -> tuple[dict[str, Any], str | None]:
        return export.agreement(expected, outputs, record)

    parity = write_checked(weights, format, folder, images, agreement, export.post_processing, report)
    return parity, weights.notes
