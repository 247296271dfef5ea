"""Gradients of single images by all trainable parameters, and the cosines between them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobilenext.arrays import Floats

if TYPE_CHECKING:
    from mobilenext.models.network import Network

Matrix = npt.NDArray[np.float64]
BINS = np.linspace(-1, 1, 101)  # of a histogram of cosines
ALL = "all parameters"


def set_statistics(network: Network, batch: Floats) -> None:
    """Set the running means and variances of every batch norm to those of this batch [N, 3, S, S] alone."""
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
    """Return the part of the network of each trainable parameter: its block's stride, or the classifier."""
    group_of_block = {}
    for position, (name, _) in enumerate(network.blocks()):
        stride = next(feature.stride for feature in network.features_info if position <= feature.block)
        group_of_block[name] = f"stride {stride}" if stride > 4 else "up to stride 4"
    groups = {}
    for name, parameter in network.named_parameters():
        if parameter.stop_gradient:
            continue
        block = next((block for block in group_of_block if name.startswith(f"{block}.")), None)
        if block:
            groups[name] = group_of_block[block]
        elif name.startswith(tuple(f"{layer}." for layer in network.head_layers)):
            groups[name] = "classifier"
        else:
            groups[name] = "up to stride 4"  # a stem outside the blocks
    return groups


def gram_matrices(network: Network, batch: Floats, labels: npt.NDArray[Any]) -> tuple[dict[str, Matrix], float]:
    """Compute scalar products of the images' gradients, [N, N] for all parameters and for each part, and the mean loss.

    Args:
        network: in evaluation mode.
        batch: normalized, [N, 3, S, S].
        labels: [N].
    """
    import paddle
    import paddle.nn.functional as F

    group_of = parts(network)
    named = [(name, tensor) for name, tensor in network.named_parameters() if name in group_of]
    gradients: dict[str, list[Floats]] = {name: [] for name, _ in named}
    loss_sum = 0.0
    for image, label in zip(batch, labels, strict=True):
        loss = F.cross_entropy(network(paddle.to_tensor(image[None])), paddle.to_tensor([int(label)]))
        image_gradients = paddle.grad(loss, [tensor for _, tensor in named], allow_unused=True)
        loss_sum += float(loss)
        for (name, _), gradient in zip(named, image_gradients, strict=True):
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
    """Compute statistics of the cosines of all pairs from the scalar products [N, N].

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
