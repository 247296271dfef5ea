"""Write the files of a network, and prove on real images that other programs compute the same with them.

weights -> network -> batch norms folded -> format -> opened again -> outputs compared with Paddle's -> sidecar
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.errors import CheckFailed, UsageError
from mobilenext.export.images import parity_images
from mobilenext.export.parity import Agreement, Counter, ImageOutputs, compare, short
from mobilenext.export.post_processing import (
    POST_PROCESSED,
    PostProcessing,
    beside,
    compare_post_processed,
    describe,
    write_post_processed,
)
from mobilenext.export.sidecar import write_sidecar
from mobilenext.export.writing import write_format
from mobilenext.machine.packages import installed, require_paddle
from mobilenext.machine.temporary import scratch_folder
from mobilenext.runtime import RUNTIMES, RuntimeCard, RuntimeSpec, open_runtime
from mobilenext.runtime.self_check import failure, probe
from mobilenext.weights.load import network_of
from mobilenext.weights.record import Weights

if TYPE_CHECKING:
    from mobilenext.models.network import Network


def write_checked(
    weights: Weights,
    format: str,
    folder: Path,
    images: Sequence[str] | None,
    agreement: Agreement,
    post_processing: PostProcessing | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the model and its sidecar into an empty folder.

    Args:
        weights: of the network.
        format: a key of FORMATS.
        folder: exists.
        images: files and folders to compare on; None takes photos that scikit-learn brings.
        agreement: compares the answers of the task.
        post_processing: what follows the network; ONNX and OpenVINO get a second model with it, after the outputs of
            the network were compared.
        progress: called with the number of images that ran through a network or a runtime, and of all.

    Returns:
        The parity.

    Raises:
        CheckFailed: the files compute something else.
    """
    require_paddle()
    from mobilenext.export.folding import fold_batch_norms
    from mobilenext.runtime.paddle_eager import forward

    pixels, sources = parity_images(images, weights.preprocessing)
    batch, image = weights.preprocessing.normalize(pixels), probe(weights.preprocessing)  # [N, 3, S, S], [1, 3, S, S]
    network = network_of(weights)
    counter = Counter(2 + len(_installed_readers(format)), len(pixels), progress)
    in_paddle = counter.counting(partial(forward, network))
    original = ImageOutputs.of(network.outputs, in_paddle, batch)
    expected = forward(network, image)
    folded = fold_batch_norms(network)
    folding, _ = compare(original, ImageOutputs.of(network.outputs, in_paddle, batch), agreement)
    parity: dict[str, Any] = {
        "images": len(pixels),
        "sources": sources,
        **{f"{name}_std": short(deviation) for name, deviation in original.deviations().items()},
        "folded_batch_norms": folded,
        "folding": folding,
    }
    with scratch_folder() as scratch:
        graph, record, size = scratch / "network.onnx", weights.record(), weights.preprocessing.image_size
        specs = _readers(format, folder, write_format(network, format, folder, size, graph), network)
        compared = {spec.describe(): _compared(spec, format, original, batch, agreement, counter) for spec in specs}
        parity["runtimes"] = compared
        instructions = describe(post_processing, folder, record) if post_processing else None
        if post_processing and instructions is not None and format in POST_PROCESSED:
            names = write_post_processed(post_processing, format, graph, folder, record)
            pairs = beside(specs, names), (batch, original)
            parity["post_processing"] = compare_post_processed(post_processing, *pairs, record)
            instructions |= names
    write_sidecar(specs[0], format, record, expected, parity, instructions)
    return parity


def _compared(
    spec: RuntimeSpec, format: str, original: ImageOutputs, batch: Any, agreement: Agreement, counter: Counter
) -> dict[str, Any]:
    """Return the differences of one runtime.

    Raises:
        CheckFailed: they are more than rounding, or it cannot run the files.
    """
    try:
        outputs = ImageOutputs.of(spec.outputs, counter.counting(open_runtime(spec).predict), batch)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise CheckFailed(f"{spec.describe()} cannot run the export: {failure(error)}") from error
    differences, problem = compare(original, outputs, agreement)
    if problem:
        raise CheckFailed(
            f"the {format} export does not compute what Paddle does, by {spec.describe()}: {problem}. Nothing was "
            "written; another version of the converter may help"
        )
    return differences


def _installed_readers(format: str) -> list[RuntimeCard]:
    return [card for card in RUNTIMES.values() if format in card.formats and installed(card.package)]


def _readers(format: str, folder: Path, file: str, network: Network) -> list[RuntimeSpec]:
    """Return every installed runtime that opens the format, with the first engine that it has for it."""
    specs = []
    for card in _installed_readers(format):
        engine = card.engines[0]
        if card.name == "paddle-inference":
            from mobilenext.runtime.paddle_inference import unavailable

            engine = next(engine for engine in card.engines if not unavailable(engine, file))
        specs.append(RuntimeSpec(card.name, engine, "cpu", 1, folder, file, outputs=network.outputs))
    if not specs:
        raise UsageError(f"no installed runtime opens {format}, so it could not be checked")
    return specs
