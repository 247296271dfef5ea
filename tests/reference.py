"""Our network, loss and optimiser in the situation that scripts/reference_training.py recorded PyTorch in."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
import safetensors.numpy
from paddle import nn

from golden import formula_weights, recording
from mobilenext.classification.loss import cross_entropy_sum
from mobilenext.classification.recipes import RECIPES, ClassificationRecipe
from mobilenext.classification.training import ClassificationJob
from mobilenext.job import Batch, Feed, Setup
from mobilenext.machine.ranks import Ranks
from mobilenext.training.acceleration import accelerate
from mobilenext.training.stepper import GradientStep
from mobilenext.weights.load import network_of
from mobilenext.weights.naming import entries_of, to_pytorch
from mobilenext.weights.read import read_weights
from reference_facts import BATCH, MOMENTUM, RATE, REFERENCE, SMOOTHING, STEPS, TRAINED, WEIGHT_DECAY, batch, sample

SUBJECT = "mobilenext_x0.35_20classes_64px"
TIMES = 4  # what is allowed: so many times what PyTorch's own results move by
Arrays = dict[str, np.ndarray]


def reference(part: str) -> Arrays:
    """The recorded arrays whose names begin with ``part/``, without it."""
    with np.load(REFERENCE) as file:
        return {name.removeprefix(f"{part}/"): file[name] for name in file.files if name.startswith(f"{part}/")}


def recipe() -> ClassificationRecipe:
    """The authors' recipe at the recorded batch size and rate; dropout is random and therefore off."""
    return RECIPES["released"].replace(
        batch_size=BATCH, lr_batch_size=BATCH, lr=RATE, momentum=MOMENTUM, nesterov=True,
        weight_decay=WEIGHT_DECAY, decay_1d=False, label_smoothing=SMOOTHING, dropout=0.0,
    )  # fmt: skip


def network_from(start: str, dtype: str = "float32", *, compiled: bool = False) -> nn.Layer:
    """The network in training mode; `compiled` has an effect on float32 only."""
    if start == "trained":
        network = network_of(read_weights(TRAINED))
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "formula.safetensors"
            safetensors.numpy.save_file(formula_weights(recording(SUBJECT)[0]["keys"], SUBJECT), file)
            network = network_of(read_weights(file))
    for layer in network.sublayers():
        if isinstance(layer, nn.Dropout):
            layer.p = recipe().dropout
    network.train()
    if compiled:
        assert accelerate(network)
    return network.to(dtype=dtype)


def first_step(network: nn.Layer, logits_gradient: np.ndarray | None = None) -> tuple[Arrays, np.ndarray, float]:
    """Gradients in PyTorch's names and layouts, logits and mean loss; nothing is updated but the statistics.

    With `logits_gradient` the gradients are what the network makes of it, and without those of our loss.
    """
    images, labels = batch()
    dtype = network.parameters()[0].dtype
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "When training, we now always track")  # Paddle's batch norm, of itself
        logits = network(paddle.to_tensor(images).astype(dtype))
    loss = cross_entropy_sum(logits, paddle.to_tensor(labels), SMOOTHING) / BATCH
    if logits_gradient is None:
        loss.backward()
    else:
        logits.backward(paddle.to_tensor(logits_gradient).astype(dtype))
    gradients = {name: each.grad.numpy() for name, each in network.named_parameters() if not each.stop_gradient}
    entries = [entry for entry in entries_of(network) if entry.paddle_name in gradients]
    return to_pytorch(gradients, entries), logits.numpy(), float(loss)


def losses(network: nn.Layer) -> np.ndarray:
    """The mean losses of the recorded steps, made by the stepper of the training itself."""
    images, labels = batch()
    images = images.astype(str(network.parameters()[0].dtype).rpartition(".")[2])
    job = ClassificationJob(recipe(), RECIPES["released"].preprocessing, network.num_classes)
    step = GradientStep(Setup(recipe(), job, Ranks(), Feed(0, BATCH)), network)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "When training, we now always track")
        rows = [step(Batch(images, {"labels": labels}), number, RATE) for number in range(STEPS)]
    return np.array([float(sums[0]) for (sums,) in rows]) / BATCH  # what the loop adds up for its log


class Errors(NamedTuple):
    """Largest differences of gradients, of those of which something is recorded."""

    values: int
    absolute: float
    relative: float  # to the norm of the parameter's gradient
    worst: str  # the parameter with that
    zero_absolute: float  # largest entry of the gradients that should be zero
    zero: float  # that as a part of the norm of all gradients together


def has_effect(record: Arrays) -> np.ndarray:
    """Which parameters have a gradient [P]; a shift in front of a 1x1 convolution and another batch norm has none."""
    return record["gradient/norm"] > 1e-12 * np.linalg.norm(record["gradient/norm"])


def gradient_errors(found: Arrays, record: Arrays) -> Errors:
    """Gradients, as `first_step` returns them, against the recorded ones."""
    names, norms, effect = record["names"].tolist(), record["gradient/norm"], has_effect(record)
    assert list(found) == names
    values, absolute, zero = 0, 0.0, 0.0
    relative: dict[str, float] = {}
    for index, name in enumerate(names):
        kept = sample(name, found[name])
        if not effect[index]:
            zero = max(zero, float(kept["largest"]))
            continue
        differences = {field: np.abs(kept[field] - record[f"gradient/{field}"][index]) for field in kept}
        values += int(sum(np.isfinite(each).sum() for each in differences.values()))
        absolute = max(absolute, float(np.nanmax(differences["entries"])))
        differences["mean"] = differences["mean"] * np.sqrt(found[name].size)  # of the size of the norm, as the others
        relative[name] = max(float(np.nanmax(each)) for each in differences.values()) / norms[index]
    worst = max(relative, key=relative.__getitem__)
    return Errors(values, absolute, float(relative[worst]), worst, zero, zero / float(np.linalg.norm(norms)))


def statistics_errors(network: nn.Layer, start: str, record: Arrays) -> dict[str, tuple[float, float]]:
    """Largest differences of running means and variances after one step: absolute, and relative.

    Means are relative to the running standard deviation, variances to themselves. PyTorch's running variance takes in
    the unbiased variance of a batch, Paddle's the biased one; with n values a channel PyTorch's is n / (n - 1) of it.
    ``variance`` is with that factor put in, ``biased`` without.
    """
    before = {name: each.numpy() for name, each in network_from(start).state_dict().items()}
    after = {name: each.numpy().astype(float) for name, each in network.state_dict().items()}
    ends = np.cumsum(record["statistics/sizes"])[:-1]
    means, variances = (np.split(record[f"statistics/{kind}"], ends) for kind in ("mean", "variance"))
    rows = []
    for name, n, mean, variance in zip(
        record["statistics/names"].tolist(), record["statistics/per_channel"], means, variances, strict=True
    ):
        kept, own = 0.9 * before[f"{name}._variance"].astype(float), after[f"{name}._variance"]
        differences = {
            "mean": (after[f"{name}._mean"] - mean, np.sqrt(variance)),
            "variance": (kept + (own - kept) * n / (n - 1) - variance, variance),
            "biased": (own - variance, variance),
        }
        rows.append({kind: (np.abs(d).max(), np.abs(d / of).max()) for kind, (d, of) in differences.items()})
    return {kind: (float(max(r[kind][0] for r in rows)), float(max(r[kind][1] for r in rows))) for kind in rows[0]}


def allowed(record: Arrays, kind: str, what: str) -> float:
    """The bound on `what` that follows from how far PyTorch's own results move by a change of `kind`."""
    own = record[f"own/{kind}/{what}"]
    return TIMES * float((own[has_effect(record)] if what == "gradient" else own).max())


def comparable_steps(record: Arrays, kind: str) -> int:
    """How many steps PyTorch's own losses stay together for; afterwards rounding has grown into another run."""
    apart = np.flatnonzero(record[f"own/{kind}/loss"] > 1e-3)
    return int(apart[0]) if len(apart) else STEPS
