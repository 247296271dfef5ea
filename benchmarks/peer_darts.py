"""A first-order step of the DARTS super-network in plain PyTorch, for `benchmarks/search_step.py`.

    PYTHON_WITH_TORCH benchmarks/peer_darts.py BEGINNING.npz CHANNELS CELLS

It is run by the interpreter of an environment that has PyTorch, and imports nothing of this project. BEGINNING has the
weights and the batches of the other side, so both compute the same. A mixed operator is the plain sum of its operators
times their weights. The step of the alphas asks for their gradients only, that of the weights for those of the weights.

First it prints a line of JSON on itself; then, for each line of its input, it makes a step of the network of that
memory format, and prints another one: seconds, those of the processor, and the loss before the step.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

NODES, EDGES = 4, 14
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, affine=False)


class Op(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.op(x)


class Zero(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class Halved(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.bn = norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))


def wide(inputs: int, outputs: int) -> nn.Module:
    return Op(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs))


def depthwise(c: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(c, c, kernel, stride, padding, dilation, c, bias=False),
        nn.Conv2d(c, c, 1, bias=False),
        norm(c),
    ]


OPERATORS: list[Callable[[int, int], nn.Module]] = [  # of channels and stride
    lambda c, stride: Zero(stride),
    lambda c, stride: nn.Sequential(nn.MaxPool2d(3, stride, 1), norm(c)),
    lambda c, stride: nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm(c)),
    lambda c, stride: nn.Identity() if stride == 1 else Halved(c, c),
    lambda c, stride: Op(*depthwise(c, 3, stride), *depthwise(c, 3, 1)),
    lambda c, stride: Op(*depthwise(c, 5, stride), *depthwise(c, 5, 1)),
    lambda c, stride: Op(*depthwise(c, 3, stride, 2)),
    lambda c, stride: Op(*depthwise(c, 5, stride, 2)),
]


class Mixed(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self._ops = nn.ModuleList(make(channels, stride) for make in OPERATORS)

    def forward(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        terms = [weight * operator(x) for weight, operator in zip(weights, self._ops, strict=True)]
        return sum(terms[1:], terms[0])


class Cell(nn.Module):
    def __init__(self, older: int, newer: int, channels: int, reduces: bool, reduced: bool) -> None:
        super().__init__()
        self.reduces = reduces
        self.preprocess0 = Halved(older, channels) if reduced else wide(older, channels)
        self.preprocess1 = wide(newer, channels)
        self._ops = nn.ModuleList(
            Mixed(channels, 2 if reduces and source < 2 else 1) for node in range(NODES) for source in range(2 + node)
        )

    def forward(self, older: torch.Tensor, newer: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        states, edges = [self.preprocess0(older), self.preprocess1(newer)], itertools.count()
        for _ in range(NODES):
            numbers = [next(edges) for _ in states]
            terms = [self._ops[edge](x, weights[edge]) for edge, x in zip(numbers, states, strict=True)]
            states.append(sum(terms[1:], terms[0]))
        return torch.cat(states[2:], 1)


class SuperNetwork(nn.Module):
    def __init__(self, channels: int, cells: int, classes: int) -> None:
        super().__init__()
        older = newer = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, newer, 3, padding=1, bias=False), nn.BatchNorm2d(newer))
        self.cells, reduced = nn.ModuleList(), False
        for index in range(cells):
            reduces = index in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduces else 1
            self.cells.append(Cell(older, newer, channels, reduces, reduced))
            older, newer, reduced = newer, NODES * channels, reduces
        self.classifier = nn.Linear(newer, classes)
        self.alphas_normal = nn.Parameter(torch.zeros(EDGES, len(OPERATORS)))
        self.alphas_reduce = nn.Parameter(torch.zeros(EDGES, len(OPERATORS)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normal, reduce = F.softmax(self.alphas_normal, -1), F.softmax(self.alphas_reduce, -1)
        older = newer = self.stem(x)
        for cell in self.cells:
            older, newer = newer, cell(older, newer, reduce if cell.reduces else normal)
        return self.classifier(newer.mean((2, 3)))


Batch = Sequence[torch.Tensor]  # images and labels


class Search:
    def __init__(self, network: SuperNetwork) -> None:
        self.network = network.train()
        self.alphas = [network.alphas_normal, network.alphas_reduce]
        own = {id(table) for table in self.alphas}
        self.weights = [value for value in network.parameters() if id(value) not in own]
        self.descent = torch.optim.SGD(self.weights, 0.025, momentum=0.9, weight_decay=3e-4)
        self.architect = torch.optim.Adam(self.alphas, 3e-3, (0.5, 0.999), weight_decay=1e-3)

    def step(self, train: Batch, validation: Batch) -> float:
        self._gradients(self.alphas, validation)
        self.architect.step()
        loss = self._gradients(self.weights, train)
        nn.utils.clip_grad_norm_(self.weights, 5.0)
        self.descent.step()
        return loss

    def _gradients(self, parameters: list[nn.Parameter], batch: Batch) -> float:
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return float(loss)


def main() -> None:
    channels, cells = int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    arrays = {name: torch.from_numpy(array) for name, array in np.load(sys.argv[1]).items()}
    batches = {part: (arrays.pop(f"{part} images"), arrays.pop(f"{part} labels")) for part in ("train", "validation")}
    arrays = {name.replace("._mean", ".running_mean").replace("._variance", ".running_var"): value
              for name, value in arrays.items()}  # fmt: skip
    arrays["classifier.weight"] = arrays["classifier.weight"].T
    searches = {}
    for name, memory_format in FORMATS.items():
        network = SuperNetwork(channels, cells, len(arrays["classifier.bias"]))
        unknown = network.load_state_dict(arrays, strict=False)
        counters = [key for key in unknown.missing_keys if not key.endswith(".num_batches_tracked")]
        if unknown.unexpected_keys or counters:
            sys.exit(f"other parameters: {unknown.unexpected_keys[:3]} {counters[:3]}")
        searches[name] = Search(network.to(memory_format=memory_format))
    parameters = sum(value.numel() for value in network.parameters())
    print(json.dumps({"parameters": parameters, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        name = line.strip()
        train, validation = (
            (images.to(memory_format=FORMATS[name]), labels) for images, labels in batches.values()
        )  # fmt: skip
        started, of_process = time.perf_counter(), time.process_time()
        loss = searches[name].step(train, validation)
        seconds = time.perf_counter() - started
        answer = {"seconds": seconds, "processor_seconds": time.process_time() - of_process, "loss": loss}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
