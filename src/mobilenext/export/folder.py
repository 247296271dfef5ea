"""Export weights to a folder that other programs run, and prove on real images that it computes the same.

weights -> network -> batch norms folded -> format -> opened again -> compared with Paddle -> renamed into place
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.arrays import Logits as Scores
from mobilenext.data.images import paths_of
from mobilenext.data.preprocessing import Pixels
from mobilenext.errors import CheckFailed, OutputError, UsageError
from mobilenext.export.formats import check_format, write_format
from mobilenext.export.images import parity_images
from mobilenext.export.sidecar import SIDECAR, write_sidecar
from mobilenext.machine.packages import installed, require_paddle
from mobilenext.machine.pool import WorkerPool, watched_scratch_folder
from mobilenext.machine.process_environment import compute_environment
from mobilenext.machine.stopping import defer_signals
from mobilenext.machine.temporary import temporary_beside, temporary_folder
from mobilenext.runtime import RUNTIMES, Runtime, RuntimeSpec, open_runtime
from mobilenext.runtime.self_check import ALLOWED_OF_STD, failure, probe
from mobilenext.weights.load import network_of
from mobilenext.weights.pretrained import locate
from mobilenext.weights.read import read_weights
from mobilenext.weights.record import Weights

log = logging.getLogger(__name__)
BATCH = 3  # compared as well, besides one image at a time


def export_model(
    output: str | os.PathLike[str],
    *,
    format: str = "onnx",
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    use: str | None = None,
    section: str | None = None,
    identity_divisor: int | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
) -> dict[str, Any]:
    """Write a folder with a model, and ``mobilenext.json`` that says how to use it.

    Args:
        output: the folder; an earlier export in it is replaced, anything else is refused.
        format: a key of :data:`mobilenext.export.FORMATS`.
        model, weights, use, section, identity_divisor, preprocessing: as in ``evaluate``; ``image_size`` is that of the
            export.
        images: what the export is compared on: files and folders, or one of them; None takes photos that scikit-learn
            brings.

    Returns:
        The parity: images, largest difference of a logit, agreement of the top-1.

    Raises:
        CheckFailed: the export computes something else. UsageError, DataError: what was asked for or read.
        OutputError: the folder cannot be written. Nothing is left in `output` then.
    """
    check_format(format)
    path = locate(model, weights)
    options = {
        "model": model.partition(".")[0] if model else None,
        "use": use,
        "section": section,
        "identity_divisor": identity_divisor,
        "preprocessing": dict(preprocessing or {}),
    }
    names = None if images is None else [str(path) for path in paths_of(images)]
    with watched_scratch_folder(output), new_folder(Path(output)) as folder:
        # Paddle and the converters stay out of this process.
        with WorkerPool(1, compute_environment(1)) as single:
            parity, notes = single.call(_export, path, options, format, folder, names)
        for note in notes:
            log.info("%s", note)
        shutil.rmtree(folder / "cache", ignore_errors=True)  # what OpenVINO in Paddle compiled
    return parity


@contextlib.contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder to write into that becomes `output` at the end, or vanishes after an error.

    Raises:
        UsageError: `output` is there and is no earlier export. OutputError: it cannot be written.
    """
    if output.exists() and not (output / SIDECAR).is_file() and (output.is_file() or any(output.iterdir())):
        raise UsageError(f"{output} is there and is no earlier export; choose another --output or remove it")
    # Beside the output; within it where that alone can be written to, such as a folder mounted into a container.
    within = output.is_dir() and (output.is_mount() or not os.access(output.absolute().parent, os.W_OK))
    place = output if within else output.parent
    try:
        with temporary_folder(temporary_beside(place / output.absolute().name)) as temporary:
            yield temporary
            with defer_signals():
                _give_name(temporary, output, within=within)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}; choose another --output") from error


def _give_name(temporary: Path, output: Path, *, within: bool) -> None:
    """Put a finished folder in the place of the earlier export, if there is one."""
    if not within:
        if output.exists():
            shutil.rmtree(output)
        temporary.rename(output)
        return
    (output / SIDECAR).unlink(missing_ok=True)  # from here on, and until the new one is there, it is no export
    for path in output.iterdir():
        if path.is_dir() and path != temporary:
            shutil.rmtree(path)
        elif path != temporary:
            path.unlink()
    for path in sorted(temporary.iterdir(), key=lambda path: path.name == SIDECAR):
        path.rename(output / path.name)


def _export(
    path: Path, options: Mapping[str, Any], format: str, folder: Path, images: list[str] | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The work, in a process of its own."""
    require_paddle()
    from mobilenext.export.folding import fold_batch_norms
    from mobilenext.runtime.paddle_eager import forward

    weights = read_weights(path, **options)
    pixels, sources = parity_images(images, weights.preprocessing)
    network = network_of(weights)
    original = Logits.of(lambda batch: forward(network, batch)[0], weights, pixels)
    expected = forward(network, probe(weights.preprocessing))
    folded = fold_batch_norms(network)
    after_folding = Logits.of(lambda batch: forward(network, batch)[0], weights, pixels)
    file = write_format(network, format, folder, weights.preprocessing.image_size)

    parity: dict[str, Any] = {
        "images": len(pixels),
        "sources": sources,
        "logits_std": _short(original.one_by_one.std()),
        "folded_batch_norms": folded,
        "folding": original.compared_with(after_folding),
        "runtimes": {},
    }
    specs = _readers(format, folder, file, network.outputs)
    for spec in specs:
        try:
            opened: Runtime = open_runtime(spec)
            found = Logits.of(lambda batch, opened=opened: opened.predict(batch)[0], weights, pixels)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            raise CheckFailed(f"{spec.describe()} cannot run the export: {failure(error)}") from error
        compared = original.compared_with(found)
        parity["runtimes"][spec.describe()] = compared
        problem = original.problem_with(found)
        if problem:
            raise CheckFailed(
                f"the {format} export does not compute what Paddle does, by {spec.describe()}: {problem}. Nothing was "
                "written; another version of the converter may help"
            )
    write_sidecar(specs[0], format, weights.record(), expected, parity)
    return parity, weights.notes


def _readers(format: str, folder: Path, file: str, outputs: tuple[str, ...]) -> list[RuntimeSpec]:
    """Every installed runtime that opens the format, with the first engine that it has for it."""
    specs = []
    for card in RUNTIMES.values():
        if format not in card.formats or not installed(card.package):
            continue
        engine = card.engines[0]
        if card.name == "paddle-inference":
            from mobilenext.runtime.paddle_inference import unavailable

            engine = next(each for each in card.engines if not unavailable(each, file))
        specs.append(RuntimeSpec(card.name, engine, "cpu", 1, folder, file, outputs=outputs))
    if not specs:
        raise UsageError(f"no installed runtime opens {format}, so it could not be checked")
    return specs


@dataclass(frozen=True)
class Logits:
    """Of the same images, one at a time and in threes [N, classes]; N may be less in threes."""

    one_by_one: Scores
    in_threes: Scores

    @classmethod
    def of(cls, predict: Any, weights: Weights, pixels: Pixels) -> Logits:
        """What `predict` makes of uint8 pixels [N, S, S, 3]."""
        batch = weights.preprocessing.normalize(pixels)  # [N, 3, S, S]
        whole = len(batch) // BATCH * BATCH
        ones = [predict(batch[i : i + 1]) for i in range(len(batch))]
        threes = [predict(batch[i : i + BATCH]) for i in range(0, whole, BATCH)]
        return cls(np.concatenate(ones), np.concatenate(threes))

    def compared_with(self, other: Logits) -> dict[str, Any]:
        """Differences, as they stand in the sidecar."""
        differences = np.abs(other.one_by_one - self.one_by_one)
        in_threes = np.abs(other.in_threes - self.in_threes)
        worst = max(float(differences.max()), float(in_threes.max()))
        return {
            "largest_difference": _short(worst),
            "largest_difference_of_std": _short(worst / float(self.one_by_one.std())),
            "equal_top1": int((other.one_by_one.argmax(1) == self.one_by_one.argmax(1)).sum()),
        }

    def problem_with(self, other: Logits) -> str | None:
        """None when `other` are these logits but for rounding, else a sentence."""
        compared = self.compared_with(other)
        allowed = ALLOWED_OF_STD["fp32"]
        if not compared["largest_difference_of_std"] <= allowed:  # a NaN is a problem too
            return (
                f"logits differ by {compared['largest_difference']} ({compared['largest_difference_of_std']} of their "
                f"standard deviation; allowed {allowed})"
            )
        # A call closer than the differences that are allowed may fall either way.
        best = np.sort(self.one_by_one, axis=1)
        clear = best[:, -1] - best[:, -2] > 2 * allowed * self.one_by_one.std()
        wrong = int((clear & (other.one_by_one.argmax(1) != self.one_by_one.argmax(1))).sum())
        return f"{wrong} images of {len(best)} get another class" if wrong else None


def _short(value: Any) -> float:
    return float(f"{float(value):.3g}")
