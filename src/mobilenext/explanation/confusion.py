"""Gradient confusion: how far the gradients of different images contradict each other.

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

import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobilenext.arrays import Floats
from mobilenext.data import LabelledDataset, Preprocessing, open_dataset, pixels_of
from mobilenext.data.class_folders import check_class_folders
from mobilenext.data.class_names import with_classes
from mobilenext.errors import UsageError
from mobilenext.files import write_atomically
from mobilenext.machine.packages import require
from mobilenext.origin import now, origin

if TYPE_CHECKING:
    from mobilenext.models.network import Network
    from mobilenext.weights.record import Weights

Matrix = npt.NDArray[np.float64]
log = logging.getLogger(__name__)
BINS = np.linspace(-1, 1, 101)
ALL = "all parameters"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")  # Okabe and Ito's


def gradient_confusion(
    data: str | os.PathLike[str],
    *,
    models: Sequence[str] = (),
    weights: Sequence[str | os.PathLike[str]] = (),
    seeds: Sequence[int] = (0, 1, 2),
    images: int = 100,
    list_file: str | os.PathLike[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Cosines between the gradients of the same images, for freshly initialised networks and for trained ones.

    Args:
        data: as in ``evaluate``; the networks have as many classes as it has labels.
        models: networks to initialise, once from each seed.
        weights: files or ``model.tag``.
        seeds: of the initialisation.
        images: so many are chosen by chance, the same for every network. All their gradients are held in memory: 4
            bytes for each parameter of each.
        list_file: another list, the training images for one.
        preprocessing: fields that replace the first weights' or the default ones; all networks share one.
        progress: called with networks done and to do.

    Returns:
        ``data``, ``preprocessing``, ``started``, ``finished``, ``command``, ``environment`` and ``rows``: one for each
        network, with its ``model``, ``weights`` or ``seed``, ``parameters``, ``mean_loss``, and in ``groups`` the
        statistics of :func:`cosine_statistics` for all parameters and for each part.

    Raises:
        UsageError: no network, fewer than two images, or weights of another preprocessing or too few classes.
    """
    from mobilenext.machine.environment import environment
    from mobilenext.machine.packages import require_paddle
    from mobilenext.models import build_network, find_model
    from mobilenext.weights.load import network_of
    from mobilenext.weights.pretrained import source_of
    from mobilenext.weights.read import read_weights

    require_paddle()
    import paddle

    started = now()
    if not models and not weights:
        raise UsageError("no network; expected models to initialise, weights, or both")
    if images < 2:
        raise UsageError(f"images is {images}; expected two or more, since pairs are compared")
    dataset = open_dataset(data, list_file=list_file, check_classes=False)
    for note in dataset.all_notes():
        log.info("%s", note)
    names = [find_model(name).name for name in models]
    files = [read_weights(source_of(os.fspath(each)), preprocessing=preprocessing) for each in weights]
    applied = files[0].preprocessing if files else Preprocessing().replace(**(preprocessing or {}))
    dataset = _with_classes_of(files, dataset)
    classes = 1 + max(record.label for record in dataset.records)
    for each in files:
        if each.preprocessing != applied:
            raise UsageError(
                f"{each.path} was trained on {each.preprocessing.describe()}; {files[0].path} on {applied.describe()}. "
                "Cosines of different pictures say nothing: state the preprocessing"
            )
        if each.num_classes < classes:
            raise UsageError(f"{each.path} has {each.num_classes} classes; {data} has labels up to {classes - 1}")
    order = np.random.default_rng(0).permutation(len(dataset))[:images]
    chosen = [dataset.records[index] for index in sorted(order)]
    labels = np.array([record.label for record in chosen])
    batch = applied.normalize(np.stack([pixels_of(record.path, applied) for record in chosen]))  # [N, 3, S, S]

    rows: list[dict[str, Any]] = []
    total = len(names) * len(seeds) + len(files)

    def add(network: Network, facts: dict[str, Any]) -> None:
        grams, loss = gram_matrices(network, batch, labels)
        parameters = sum(int(each.size) for each in network.parameters() if not each.stop_gradient)
        groups = {name: cosine_statistics(gram, labels) for name, gram in grams.items()}
        rows.append({**facts, "parameters": parameters, "mean_loss": round(loss, 4), "groups": groups})
        if progress:
            progress(len(rows), total)

    for name in names:
        for seed in seeds:
            paddle.seed(seed)
            network = build_network(name, num_classes=classes)
            network.eval()
            set_statistics(network, batch)
            add(network, {"model": name, "identity_divisor": 1, "state": "initialised", "seed": seed, "weights": None})
    for each in files:
        facts = {"model": each.model, "identity_divisor": each.identity_divisor, "state": "trained", "seed": None}
        add(network_of(each), {**facts, "weights": f"{each.path.parent.name}/{each.path.name}", "sha256": each.sha256})
    return {
        "data": {
            "folder": dataset.root.name,
            "list_file": dataset.list_file.name if dataset.list_file else None,
            "classes": classes,
            "images": len(chosen),
            "pairs": len(chosen) * (len(chosen) - 1) // 2,
            "digest": dataset.digest(),
        },
        "preprocessing": applied.to_dict(),
        "rows": rows,
        **origin(started),
        "environment": environment(),
    }


def set_statistics(network: Network, batch: Floats) -> None:
    """Running means and variances of every batch norm from this batch [N, 3, S, S] alone; nothing else changes."""
    import paddle
    from paddle import nn

    norms = [layer for layer in network.sublayers() if isinstance(layer, nn.BatchNorm2D)]
    momenta = [norm._momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm._momentum = 0.0  # the share of the old statistics
    with paddle.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "When training, we now always track")  # Paddle says so at every call
        network(paddle.to_tensor(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm._momentum = momentum


def parts(network: Network) -> dict[str, str]:
    """The part of the network that each trainable parameter belongs to: its block's stride, or the classifier."""
    group_of_block = {}
    for position, (name, _) in enumerate(network.blocks()):
        stride = next(feature.stride for feature in network.features_info if position <= feature.block)
        group_of_block[name] = f"stride {stride}" if stride > 4 else "up to stride 4"
    groups = {}
    for name, parameter in network.named_parameters():
        if parameter.stop_gradient:
            continue
        block = next((each for each in group_of_block if name.startswith(f"{each}.")), None)
        if block:
            groups[name] = group_of_block[block]
        elif name.startswith(tuple(f"{layer}." for layer in network.head_layers)):
            groups[name] = "classifier"
        else:
            groups[name] = "up to stride 4"  # a stem outside the blocks
    return groups


def _with_classes_of(files: Sequence[Weights], dataset: LabelledDataset) -> LabelledDataset:
    """The data set with labels by the names of the weights' classes, where they have any."""
    from mobilenext.weights.record import names_of_classes

    named = {labels: assumed for labels, assumed in map(names_of_classes, files) if labels}
    if len(named) > 1 and dataset.class_names:
        raise UsageError("the weights have classes of different names, so the same labels cannot serve all of them")
    if not named:
        check_class_folders(dataset, None)
        return dataset
    labels, assumed = next(iter(named.items()))
    return with_classes(dataset, len(labels), labels, assumed=assumed)


def gram_matrices(network: Network, batch: Floats, labels: npt.NDArray[Any]) -> tuple[dict[str, Matrix], float]:
    """Scalar products of the images' gradients, [N, N] for all parameters and for each part, and the mean loss.

    Args:
        network: in evaluation mode.
        batch: normalised, [N, 3, S, S].
        labels: [N].
    """
    import paddle
    import paddle.nn.functional as F

    group_of = parts(network)
    named = [(name, each) for name, each in network.named_parameters() if name in group_of]
    gradients: dict[str, list[Floats]] = {name: [] for name, _ in named}
    loss_sum = 0.0
    for image, label in zip(batch, labels, strict=True):
        loss = F.cross_entropy(network(paddle.to_tensor(image[None])), paddle.to_tensor([int(label)]))
        found = paddle.grad(loss, [each for _, each in named], allow_unused=True)
        loss_sum += float(loss)
        for (name, _), gradient in zip(named, found, strict=True):
            if gradient is not None:  # the one batch norm of S and L that no tensor passes
                gradients[name].append(gradient.numpy().ravel())
    grams = {group: np.zeros((len(batch), len(batch))) for group in (ALL, *dict.fromkeys(group_of.values()))}
    for name, rows in gradients.items():
        if rows:
            stacked = np.stack(rows).astype(np.float64)  # [N, values of the parameter]
            product = stacked @ stacked.T  # [N, N]
            grams[ALL] += product
            grams[group_of[name]] += product
    return grams, loss_sum / len(batch)


def cosine_statistics(gram: Matrix, labels: npt.NDArray[Any]) -> dict[str, Any]:
    """The cosines of all pairs from the scalar products [N, N].

    Images whose gradient is zero have no direction; their pairs are left out, and ``without_gradient`` counts them.

    Returns:
        ``all``, ``same_class`` and ``different_class``, each with ``pairs``, ``mean``, ``std``, ``min``,
        ``negative_percent`` and ``confusion``; and ``histogram``, the pairs of different classes in `BINS`.
    """
    norms = np.sqrt(np.diag(gram))
    usable = np.flatnonzero(norms > 0)
    cosines = gram[np.ix_(usable, usable)] / np.outer(norms[usable], norms[usable])
    first, second = np.triu_indices(len(usable), k=1)
    values = np.clip(cosines[first, second], -1, 1)
    same = labels[usable][first] == labels[usable][second]
    statistics: dict[str, Any] = {
        name: _summary(chosen)
        for name, chosen in (("all", values), ("same_class", values[same]), ("different_class", values[~same]))
    }
    histogram = np.histogram(values[~same], bins=BINS)[0]
    return {**statistics, "without_gradient": int(len(norms) - len(usable)), "histogram": histogram.tolist()}


def _summary(values: Matrix) -> dict[str, Any]:
    if not len(values):
        return {"pairs": 0}
    return {
        "pairs": len(values),
        "mean": round(float(values.mean()), 4),
        "std": round(float(values.std()), 4),
        "min": round(float(values.min()), 4),
        "negative_percent": round(100 * float((values < 0).mean()), 2),
        "confusion": round(max(0.0, -float(values.min())), 4),
    }


def kinds(result: Mapping[str, Any]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The rows by network (with its identity divisor, where that is not one) and state."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        divisor = f", divisor {row['identity_divisor']}" if row["identity_divisor"] != 1 else ""
        found.setdefault((row["model"] + divisor, row["state"]), []).append(row)
    return found


def confusion_table(result: Mapping[str, Any]) -> str:
    """A line for each network and state: the mean over its seeds or files, with the smallest and the largest."""
    from mobilenext.drawing.markdown import table

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
    """``gradient_confusion.json`` and ``gradient_confusion.png`` in `folder`; their paths.

    Raises:
        MissingDependency: matplotlib is not installed. OutputError: they cannot be written.
    """
    require(["matplotlib"], "explain", "the plot of gradient confusion")
    record, plot = folder / "gradient_confusion.json", folder / "gradient_confusion.png"
    write_atomically(record, (json.dumps(result, indent=1) + "\n").encode())
    write_atomically(plot, plot_confusion(result))
    return [record, plot]


def plot_confusion(result: Mapping[str, Any]) -> bytes:
    """A PNG: for each state the distribution of the cosines, and their mean in each part of the network."""
    from matplotlib.figure import Figure

    found = kinds(result)
    states = list(dict.fromkeys(state for _, state in found))
    networks = list(dict.fromkeys(network for network, _ in found))
    figure = Figure(figsize=(11, 0.9 + 3.1 * len(states)), dpi=120, layout="constrained")
    panels = figure.subplots(len(states), 2, squeeze=False)
    middles = (BINS[1:] + BINS[:-1]) / 2
    for (left, right), state in zip(panels, states, strict=True):
        for place, network in enumerate(networks):
            rows = found.get((network, state), [])
            if not rows:
                continue
            colour, name = COLOURS[place % len(COLOURS)], f"{network}, {rows[0]['parameters'] / 1e6:.2f} M parameters"
            counts = np.array([row["groups"][ALL]["histogram"] for row in rows], float)
            shares = 100 * counts / counts.sum(axis=1, keepdims=True)  # [networks, bins], %
            if len(rows) > 1:
                for share in shares:
                    left.plot(middles, share, color=colour, linewidth=0.6, alpha=0.6)
            left.plot(middles, shares.mean(axis=0), color=colour, linewidth=2, label=name)
            groups = [group for group in rows[0]["groups"] if group != ALL]
            means = [[row["groups"][group]["different_class"].get("mean", np.nan) for group in groups] for row in rows]
            for line in means if len(rows) > 1 else []:
                right.plot(groups, line, ".", color=colour, alpha=0.6)
            right.plot(groups, np.mean(means, axis=0), color=colour, linewidth=2, marker="o", label=name)
        left.set_title(f"{state}: cosines of the gradients, two images of different classes", fontsize=10)
        left.set_ylabel("% of pairs", fontsize=9)
        left.set_xlabel("cosine", fontsize=9)
        left.axvline(0, color="grey", linewidth=0.8)
        left.set_xlim(*_range(found, state))
        right.set_title(f"{state}: their mean in each part of the network", fontsize=10)
        right.set_ylabel("mean cosine", fontsize=9)
        right.axhline(0, color="grey", linewidth=0.8)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=9)
    handles: dict[str, Any] = {}
    for axes in panels[:, 0]:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    names = list(handles)
    figure.legend(
        [handles[name] for name in names], names, loc="outside lower center", ncols=2, fontsize=9, frameon=False
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _range(found: Mapping[tuple[str, str], list[dict[str, Any]]], state: str) -> tuple[float, float]:
    """The cosines that occur, and a little room."""
    counts = np.sum(
        [row["groups"][ALL]["histogram"] for (_, each), rows in found.items() if each == state for row in rows], axis=0
    )
    filled = np.flatnonzero(counts)
    if not len(filled):
        return -1.0, 1.0
    return max(-1.0, float(BINS[filled[0]]) - 0.05), min(1.0, float(BINS[filled[-1] + 1]) + 0.05)
