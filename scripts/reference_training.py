"""What PyTorch computes in training and in float64, recorded for the comparison of the two ports.

    python scripts/reference_training.py LOGITS.npz VAL_LIST [-o tests/goldens/reproduction/training_reference.npz]

Needs PyTorch (and safetensors), and only to make that file anew; nothing else in this project does. LOGITS.npz has
PyTorch's logits `raw` and `ema`, [images, classes], in the order of VAL_LIST.

The network below is written for this purpose from the description of the authors' network, with their parameter names.
It counts as theirs only after its logits are those that their code gave with the same weights (tests/goldens).

It is trained twice for ten steps, on the same images and labels: from the formula's weights (tests/golden.py), and from
the trained weights in the package. The first amplify rounding so much that float32 is of little use there; the second
are what weights are like.

The reference is PyTorch in float64. How exactly another port can be expected to agree is measured here too, on PyTorch
itself: how far its results move when something is changed that a port cannot help.

    float32   everything in float32
    orders    float32, the largest of eight orders of the images in the batch, which mean the same in exact arithmetic
    loss32    only the loss in float32, as ours always is
    epsilon   batch norm's epsilon rounded to float32, as Paddle keeps it

The record's arrays, float64 where not said otherwise; START is formula or trained, P the number of parameters:

    forward/RECORDING             logits of that recording's network and images
    forward_epsilon/RECORDING     the same with the rounded epsilon
    START/names                   of the parameters, in order: the rows of what follows
    START/gradient/norm, mean, largest, projection [P] and entries [P, 64], see tests/reference_facts.py
    START/logits, logits_gradient [8, 20] of the first step
    START/loss                    the mean losses of ten steps
    START/statistics/names, sizes, per_channel, mean, variance   of batch norms after the first step, one after another
    START/own/KIND/gradient [P], loss [10], logits, mean, variance   how far PyTorch moves: a gradient as a part of its
                                  norm, logits of their standard deviation, statistics as statistics_errors has them
    checkpoint/KIND               mean loss without and with smoothing, correct top-1, correct top-5
    torch                         the version (text)
    trained_sha256                of the file of trained weights (text)
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from golden import formula_weights, recording, uniform
from reference_facts import MOMENTUM, RATE, REFERENCE, SMOOTHING, STARTS, STEPS, TRAINED, WEIGHT_DECAY, batch, sample

SUBJECT = "mobilenext_x0.35_20classes_64px"
# Recording: width, identity divisor, image size. Those with squeeze-excitation and MobileNetV2 are other networks.
NETWORKS = {
    SUBJECT: (0.35, 1, 64),
    "mobilenext_x0.35": (0.35, 1, 224),
    "mobilenext_x0.75": (0.75, 1, 224),
    "mobilenext_x1.0": (1.0, 1, 224),
    "mobilenext_x1.0_identity_div2": (1.0, 2, 224),
    "mobilenext_x1.0_identity_div4": (1.0, 4, 224),
}
# Channels, blocks and first stride of each stage; the first narrows to a half, all others to a sixth.
TABLE = ((96, 1, 2), (144, 1, 1), (192, 3, 2), (288, 3, 2), (384, 4, 1), (576, 4, 2), (960, 3, 1), (1280, 1, 1))


def multiple(value: float, of: int) -> int:
    nearest = max(of, int(value + of / 2) // of * of)
    return nearest if nearest >= 0.9 * value else nearest + of


class Block(nn.Module):
    """One sandglass; `before` and `after` say whether it has its two depthwise convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int, ratio: int, *, before: bool, after: bool, kept: int):
        super().__init__()
        hidden = inputs // ratio
        if hidden < outputs / 6:
            hidden = multiple(-(-outputs // 6), 16)
        parts: list[nn.Module] = []

        def add(source: int, target: int, kernel: int, step: int, groups: int, bounded: bool) -> None:
            parts.append(nn.Conv2d(source, target, kernel, step, kernel // 2, groups=groups, bias=False))
            parts.append(nn.BatchNorm2d(target))
            if bounded:
                parts.append(nn.ReLU6())

        if before:
            add(inputs, inputs, 3, 1, inputs, True)
        add(inputs, hidden, 1, 1, 1, False)
        add(hidden, outputs, 1, 1, 1, True)
        if after:
            add(outputs, outputs, 3, stride, outputs, False)
        self.conv = nn.Sequential(*parts)
        self.kept = kept  # the first channels, to which the input is added; 0: no shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if self.kept:
            y[:, : self.kept] += x[:, : self.kept]
        return y


class Reference(nn.Module):
    def __init__(self, width: float, divisor: int, classes: int) -> None:
        super().__init__()
        channels = multiple(32 * width, 8)
        layers: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU6())
        ]
        for number, (base, blocks, stride) in enumerate(TABLE):
            outputs = multiple(base * (max(width, 1) if number == len(TABLE) - 1 else width), 8)
            both = number == 0 or (blocks == 1 and stride == 1)
            ratio = 6 if number else 2
            layers.append(Block(channels, outputs, stride, ratio, before=both, after=both or stride == 2, kept=0))
            for _ in range(blocks - 1):
                layers.append(Block(outputs, outputs, 1, 6, before=True, after=True, kept=outputs // divisor))
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(channels, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean([2, 3]))


def made(name: str, dtype: torch.dtype) -> Reference:
    """The network of a recording with the formula's weights; its entries are the recording's, in the same order."""
    width, divisor, _ = NETWORKS[name]
    record, logits = recording(name)
    network = Reference(width, divisor, logits.shape[1])
    found = [[key, list(tensor.shape)] for key, tensor in network.state_dict().items()]
    assert found == record["keys"], f"{name}: the entries are not the recorded ones"
    weights = formula_weights(record["keys"], name)
    network.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in weights.items()})
    network.to(dtype)
    return network


def round_epsilon(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = float(np.float32(layer.eps))


def prove() -> dict[str, np.ndarray]:
    """Hold the network against the recordings, and return its logits in float64."""
    exact = {}
    for name, (_, _, size) in NETWORKS.items():
        values = ((uniform(f"input-{size}", 2 * 3 * size * size) - 0.5) * 4).reshape(2, 3, size, size)
        images = torch.from_numpy(values.astype(np.float32))
        with torch.no_grad():
            single = made(name, torch.float32).eval()(images).numpy()
            network = made(name, torch.float64).eval()
            double = network(images.double()).numpy()
            round_epsilon(network)
            rounded = network(images.double()).numpy()
        recorded = recording(name)[1]
        off, rounding = (float(np.abs(each - recorded).max() / recorded.std()) for each in (single, double))
        print(f"{name}: {off:.1e} of the logits' standard deviation from the recording; float64 {rounding:.1e}")
        assert off <= 1e-5, f"{name}: this is not the authors' network"
        exact[f"forward/{name}"] = double
        exact[f"forward_epsilon/{name}"] = rounded
    return exact


def trained() -> dict[str, torch.Tensor]:
    """The package's weights of 20 classes under PyTorch's names and layouts."""
    names = {"_mean": "running_mean", "_variance": "running_var"}
    found = {}
    for key, value in load_file(TRAINED).items():
        owner, _, leaf = key.rpartition(".")
        found[f"{owner}.{names.get(leaf, leaf)}"] = torch.from_numpy(value.T.copy() if value.ndim == 2 else value)
    return found


def prepared(start: str, dtype: torch.dtype) -> tuple[Reference, torch.optim.Optimizer, torch.Tensor, torch.Tensor]:
    network = made(SUBJECT, dtype).train()
    if start == "trained":
        missing, unexpected = network.load_state_dict(trained(), strict=False)
        assert not unexpected
        assert all(key.endswith("num_batches_tracked") for key in missing)
    weights = list(network.parameters())
    groups = [
        {"params": [each for each in weights if each.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [each for each in weights if each.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=RATE, momentum=MOMENTUM, nesterov=True)
    images, labels = batch()
    return network, optimizer, torch.from_numpy(images).to(dtype), torch.from_numpy(labels)


def train(
    start: str, dtype: torch.dtype, *, order: int | None = None, loss32: bool = False, epsilon: bool = False
) -> dict[str, Any]:
    """The losses of all steps; gradients, logits and statistics of the first."""
    network, optimizer, images, labels = prepared(start, dtype)
    if epsilon:
        round_epsilon(network)
    places = np.arange(len(labels)) if order is None else np.random.default_rng(order).permutation(len(labels))
    images, labels = images[places], labels[places]
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    per_channel: dict[str, int] = {}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _, x, y, name=name: per_channel.update({name: y[:, 0].numel()}))
    losses, found = [], {}
    for step in range(STEPS):
        logits = network(images)
        logits.retain_grad()
        loss = F.cross_entropy(logits.float() if loss32 else logits, labels, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if not step:
            back = np.argsort(places)
            found = {
                "gradients": {name: each.grad.numpy().astype(float) for name, each in network.named_parameters()},
                "logits": logits.detach().numpy()[back].astype(float),
                "logits_gradient": logits.grad.numpy()[back].astype(float),
                "statistics/names": np.array(list(layers)),
                "statistics/sizes": np.array([layer.num_features for layer in layers.values()]),
                "statistics/per_channel": np.array([per_channel[name] for name in layers]),
            }
            for kind, attribute in (("mean", "running_mean"), ("variance", "running_var")):
                values = [getattr(layer, attribute).numpy().astype(float) for layer in layers.values()]
                found[f"statistics/{kind}"] = np.concatenate(values)
        optimizer.step()
    return {**found, "loss": np.array(losses)}


def moved(other: dict[str, Any], exact: dict[str, Any]) -> dict[str, np.ndarray]:
    """How far a run is from the exact one."""
    gradients = [
        np.linalg.norm(other["gradients"][name] - g) / np.linalg.norm(g) for name, g in exact["gradients"].items()
    ]
    deviation = np.sqrt(exact["statistics/variance"])
    return {
        "gradient": np.array(gradients),
        "loss": np.abs(other["loss"] - exact["loss"]),
        "logits": np.abs(other["logits"] - exact["logits"]).max() / exact["logits"].std(),
        "mean": np.abs((other["statistics/mean"] - exact["statistics/mean"]) / deviation).max(),
        "variance": np.abs(other["statistics/variance"] / exact["statistics/variance"] - 1).max(),
    }


def of_training(start: str) -> dict[str, np.ndarray]:
    exact = train(start, torch.float64)
    changed = {
        "float32": [moved(train(start, torch.float32), exact)],
        "orders": [moved(train(start, torch.float32, order=order), exact) for order in range(8)],
        "loss32": [moved(train(start, torch.float64, loss32=True), exact)],
        "epsilon": [moved(train(start, torch.float64, epsilon=True), exact)],
    }
    gradients = exact.pop("gradients")
    samples = [sample(name, gradient) for name, gradient in gradients.items()]
    found = {**exact, "names": np.array(list(gradients))}
    found |= {f"gradient/{field}": np.stack([each[field] for each in samples]) for field in samples[0]}
    for kind, runs in changed.items():
        found |= {f"own/{kind}/{what}": np.max([run[what] for run in runs], axis=0) for what in runs[0]}
        print(f"{start}, {kind}: the losses move by {found[f'own/{kind}/loss']}")
    return {f"{start}/{key}": value for key, value in found.items()}


def of_checkpoint(file: Path, val_list: Path) -> dict[str, np.ndarray]:
    labels = torch.tensor([int(line.split()[-1]) for line in val_list.read_text().splitlines()])
    found = {}
    for kind, values in np.load(file).items():
        logits = torch.from_numpy(values)
        losses = [F.cross_entropy(logits.double(), labels, label_smoothing=part).item() for part in (0.0, SMOOTHING)]
        hits = logits.topk(5).indices == labels[:, None]
        found[f"checkpoint/{kind}"] = np.array([*losses, hits[:, 0].sum().item(), hits.any(1).sum().item()])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logits", type=Path)
    parser.add_argument("val_list", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=REFERENCE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = prove()
    for start in STARTS:
        record |= of_training(start)
    record |= of_checkpoint(options.logits, options.val_list)
    record["torch"] = np.array(torch.__version__)
    record["trained_sha256"] = np.array(hashlib.sha256(TRAINED.read_bytes()).hexdigest())
    options.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.output, **record)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
