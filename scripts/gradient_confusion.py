"""Gradient confusion: how far the gradients of different images contradict each other.

    python scripts/gradient_confusion.py DATA --model mobilenext_x0_35 mobilenetv2_x0_35 -o FOLDER

writes gradient_confusion.json and gradient_confusion.png, and prints a table.

Sankararaman et al., "The Impact of Neural Network Overparameterization on Gradient Confusion and Stochastic Gradient
Descent", ICML 2020 (arXiv 1904.06963): the losses f_i of the samples have gradient confusion eta when

    <grad f_i, grad f_j>  >=  -eta      for all i != j.

The larger eta, the more a step for one sample undoes that for another. They find that wider layers lower it, and the
MobileNeXt paper takes it as a reason for a shortcut that joins wide tensors. Networks differ in the size of their
gradients, so what is compared here, and in their experiments, are cosines:

    cos_ij = <grad f_i, grad f_j> / (|grad f_i| |grad f_j|),      confusion = max(0, -min over i < j of cos_ij)

f_i is the cross-entropy of one image, without augmentation, and its gradient that by all trainable parameters, or those
of one part of the network. Batch norms are in evaluation mode, since in training a sample has no gradient of its own:
the other samples of its batch are in it. The running statistics of a fresh network describe no data, so they are set to
those of the images that are measured.

A minimum over thousands of pairs is moved by a single one, so the mean cosine and the share of pairs below zero are
stated too, and all of them apart for pairs of one class and of two: images of one class ought to agree.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gradient_confusion_plot import confusion_picture
from gradient_cosines import ALL, BINS, cosine_statistics, gram_matrices, set_statistics
from mobilenext.arrays import Floats
from mobilenext.cli.options import (
    DATA,
    JSON,
    LIST,
    MODEL,
    OUTPUT,
    WEIGHTS,
    Flag,
    add_flags,
    add_preprocessing,
    preprocessing_of,
    print_report,
)
from mobilenext.cli.parsing import Parser, numbers
from mobilenext.data import LabelledDataset, LabelledImage, Preprocessing, open_dataset, pixels_of
from mobilenext.data.class_folders import check_class_folders
from mobilenext.data.class_names import with_classes
from mobilenext.drawing.markdown import table
from mobilenext.drawing.picture import write_picture
from mobilenext.errors import UsageError
from mobilenext.files import write_atomically
from mobilenext.machine.command import guarded
from mobilenext.machine.console import progress_bar
from mobilenext.machine.environment import environment
from mobilenext.machine.home import provide_home
from mobilenext.machine.packages import require_paddle
from mobilenext.models import find_model
from mobilenext.origin import now, origin
from mobilenext.weights.pretrained import source_of
from mobilenext.weights.read import read_weights
from mobilenext.weights.record import Weights, names_of_classes

if TYPE_CHECKING:
    from mobilenext.models.network import Network

log = logging.getLogger(__name__)
NAME = "gradient_confusion"  # of the files


def gradient_confusion(
    data: str | Path,
    *,
    models: Sequence[str] = (),
    weights: Sequence[str | Path] = (),
    seeds: Sequence[int] = (0, 1, 2),
    images: int = 100,
    list_file: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure cosines between the gradients of the same images, for freshly initialized networks and trained ones.

    Args:
        data: as in ``evaluate``; the networks have as many classes as it has labels.
        models: networks to initialize, once from each seed.
        weights: files or ``model.tag``.
        seeds: of the initialization.
        images: the number of images, sampled at random, the same for every network. All their gradients are in memory:
            4 bytes for each parameter and image.
        list_file: another list, such as that of the training images.
        preprocessing: fields that replace those of the first weights, or the default ones; all networks share one.
        progress: called with the number of networks that are done, and of all.

    Returns:
        The data, the preprocessing, the environment and ``rows``, one for each network, with the statistics of
        :func:`cosine_statistics` for all parameters and for each part in ``groups``.

    Raises:
        UsageError: no network, fewer than two images, or weights of another preprocessing or too few classes.
    """
    require_paddle()
    started = now()
    if not models and not weights:
        raise UsageError("no network; expected models to initialise, weights, or both")
    if images < 2:
        raise UsageError(f"images is {images}; expected two or more, since pairs are compared")
    dataset = open_dataset(data, list_file=list_file, check_classes=False)
    names = [find_model(name).name for name in models]
    files = [read_weights(source_of(str(file)), preprocessing=preprocessing) for file in weights]
    applied = files[0].preprocessing if files else Preprocessing().replace(**(preprocessing or {}))
    dataset = _with_classes_of(files, dataset)
    classes = 1 + max(record.label for record in dataset.records)
    _check_weights(files, applied, classes, data)
    records = _sample(dataset, images)
    labels = np.array([record.label for record in records])
    batch = applied.normalize(np.stack([pixels_of(record.path, applied) for record in records]))  # [N, 3, S, S]
    rows = []
    total = len(names) * len(seeds) + len(files)
    for network, facts in _networks(names, seeds, files, batch, classes):
        rows.append({**facts, **_measure(network, batch, labels)})
        if progress:
            progress(len(rows), total)
    return {
        "data": _described(dataset, classes, len(records)),
        "preprocessing": applied.to_dict(),
        "rows": rows,
        **origin(started),
        "environment": environment(),
    }


def _described(dataset: LabelledDataset, classes: int, images: int) -> dict[str, Any]:
    return {
        "folder": dataset.root.name,
        "list_file": dataset.list_file.name if dataset.list_file else None,
        "classes": classes,
        "images": images,
        "pairs": images * (images - 1) // 2,
        "digest": dataset.digest(),
    }


def _check_weights(files: Sequence[Weights], applied: Preprocessing, classes: int, data: str | Path) -> None:
    for file in files:
        if file.preprocessing != applied:
            raise UsageError(
                f"{file.path} was trained on {file.preprocessing.describe()}; {files[0].path} on {applied.describe()}. "
                "Cosines of different pictures say nothing: state the preprocessing"
            )
        if file.num_classes < classes:
            raise UsageError(f"{file.path} has {file.num_classes} classes; {data} has labels up to {classes - 1}")


def _sample(dataset: LabelledDataset, images: int) -> list[LabelledImage]:
    """Sample images at random, the same each time, and return them in the order of the list."""
    order = np.random.default_rng(0).permutation(len(dataset))[:images]
    return [dataset.records[index] for index in sorted(order)]


def _networks(
    names: Sequence[str], seeds: Sequence[int], files: Sequence[Weights], batch: Floats, classes: int
) -> Iterator[tuple[Network, dict[str, Any]]]:
    """Build one network after the other, with the facts that its row states."""
    import paddle

    from mobilenext.models import build_network
    from mobilenext.weights.load import network_of

    for name in names:
        for seed in seeds:
            paddle.seed(seed)
            network = build_network(name, num_classes=classes)
            network.eval()
            set_statistics(network, batch)
            facts = {"model": name, "identity_divisor": 1, "state": "initialised", "seed": seed, "weights": None}
            yield network, facts
    for file in files:
        facts = {"model": file.model, "identity_divisor": file.identity_divisor, "state": "trained", "seed": None}
        yield network_of(file), {**facts, "weights": f"{file.path.parent.name}/{file.path.name}", "sha256": file.sha256}


def _measure(network: Network, batch: Floats, labels: npt.NDArray[Any]) -> dict[str, Any]:
    """Return the number of parameters, the mean loss and the statistics of the cosines in each part."""
    grams, loss = gram_matrices(network, batch, labels)
    parameters = sum(int(tensor.size) for tensor in network.parameters() if not tensor.stop_gradient)
    groups = {name: cosine_statistics(gram, labels) for name, gram in grams.items()}
    return {"parameters": parameters, "mean_loss": round(loss, 4), "groups": groups}


def _with_classes_of(files: Sequence[Weights], dataset: LabelledDataset) -> LabelledDataset:
    """Return the data set with labels by the names of the weights' classes, where they have any; log its notes."""
    for note in dataset.all_notes():
        log.info("%s", note)
    named = {labels: assumed for labels, assumed in map(names_of_classes, files) if labels}
    if len(named) > 1 and dataset.class_names:
        raise UsageError("the weights have classes of different names, so the same labels cannot serve all of them")
    if not named:
        check_class_folders(dataset, None)
        return dataset
    labels, assumed = next(iter(named.items()))
    return with_classes(dataset, len(labels), labels, assumed=assumed)


def kinds(result: Mapping[str, Any]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Group the rows by network (with its identity divisor, where that is not one) and state."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        divisor = f", divisor {row['identity_divisor']}" if row["identity_divisor"] != 1 else ""
        groups.setdefault((row["model"] + divisor, row["state"]), []).append(row)
    return groups


def confusion_table(result: Mapping[str, Any]) -> str:
    """Return a table with a line for each network and state: the mean over its seeds or files, smallest and largest."""

    def spread(rows: Sequence[dict[str, Any]], kind: str, field: str, form: str) -> str:
        values = [row["groups"][ALL][kind][field] for row in rows if field in row["groups"][ALL][kind]]
        if not values:
            return "-"
        mean = format(sum(values) / len(values), form)
        return mean if len(values) == 1 else f"{mean} ({format(min(values), form)} to {format(max(values), form)})"

    lines = [
        [
            network,
            f"{state}, {len(rows)}",
            f"{rows[0]['parameters']:,}",
            f"{sum(row['mean_loss'] for row in rows) / len(rows):.2f}",
            spread(rows, "different_class", "mean", ".3f"),
            spread(rows, "different_class", "std", ".3f"),
            spread(rows, "same_class", "mean", ".3f"),
            spread(rows, "different_class", "negative_percent", ".0f"),
            spread(rows, "all", "confusion", ".2f"),
        ]
        for (network, state), rows in kinds(result).items()
    ]
    heading = ["network", "state, networks", "parameters", "loss", "mean cosine, two classes", "their deviation"]
    return table([*heading, "mean cosine, one class", "pairs below 0, two classes, %", "confusion"], lines)


def write_confusion(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``gradient_confusion.json`` and ``gradient_confusion.png`` into `folder`; return their paths.

    Raises:
        MissingDependency: vl-convert is not installed. OutputError: they cannot be written.
    """
    record, picture = folder / f"{NAME}.json", folder / f"{NAME}.png"
    write_atomically(record, (json.dumps(result, indent=1) + "\n").encode())
    write_plot(result, picture)
    return [record, picture]


def write_plot(result: Mapping[str, Any], path: Path) -> None:
    """Draw the distributions of the cosines and their means.

    Raises:
        MissingDependency: vl-convert is not installed. OutputError: it cannot be written.
    """
    spec = confusion_picture(kinds(result), BINS, ALL)
    write_picture(spec, path, extra="report", purpose="the plot of gradient confusion")


def run(arguments: Sequence[str] | None) -> int:
    command = Parser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    add_flags(
        command, DATA,
        MODEL.several(help="networks to initialize, as in `mobilenext list`"),
        WEIGHTS.several(help="trained ones: files, or model.tag"),
        Flag("--seeds", metavar="N,N", help="seeds for initializing --model (default: 0,1,2)").several(
            numbers, default=[0, 1, 2]
        ),
        Flag(
            "--num-images", earlier="--images", dest="images", type=int, default=100, metavar="N",
            help="number of images, sampled at random (default: 100)",
        ),
    )  # fmt: skip
    output = OUTPUT(required=True, help=f"folder for {NAME}.json and .png")
    add_flags(command, LIST(help="another list file, such as that of the training images"), output)
    add_preprocessing(command)
    add_flags(command, JSON)
    options = command.parse_args(arguments)
    provide_home(options.output)
    with progress_bar(unit=" networks") as progress:
        result = gradient_confusion(
            options.data, models=options.model, weights=options.weights, seeds=options.seeds, images=options.images,
            list_file=options.list_file, preprocessing=preprocessing_of(options), progress=progress,
        )  # fmt: skip
    written = write_confusion(result, Path(options.output))
    print_report([confusion_table(result)], options, result)
    log.info("written: %s", ", ".join(map(str, written)))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(partial(run, None)))
