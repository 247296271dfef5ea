"""A training step of MobileNeXt in plain PyTorch, for `benchmarks/training.py`.

    PYTHON_WITH_TORCH benchmarks/peer_mobilenext.py WIDTH SIZE BATCH CLASSES contiguous|channels_last STEPS CORE

prints one line of JSON. It is run by the interpreter of an environment that has PyTorch, and imports nothing of this
project. The network has the authors' sizes. The step is the usual eager one on one thread: cross-entropy with label
smoothing, SGD with Nesterov's momentum; no moving average of the weights, which `mobilenext train` has.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

STAGES = (
    (2, 96, 1, 2), (6, 144, 1, 1), (6, 192, 3, 2), (6, 288, 3, 2),
    (6, 384, 4, 1), (6, 576, 4, 2), (6, 960, 3, 1), (6, 1280, 1, 1),
)  # fmt: skip
WARM_UP = 2


def divisible(value: float, divisor: int = 8) -> int:
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, reduction: int, both: bool, shortcut: bool) -> None:
        super().__init__()
        hidden = inputs // reduction
        if hidden < outputs / 6:
            hidden = divisible(math.ceil(outputs / 6), 16)
        first = [*conv(inputs, inputs, 3, groups=inputs), nn.ReLU6()] if both else []
        narrow = [*conv(inputs, hidden), *conv(hidden, outputs), nn.ReLU6()]
        last = conv(outputs, outputs, 3, stride, groups=outputs) if both or stride == 2 else []
        self.head, self.tail = nn.Sequential(*first, *narrow), nn.Sequential(*last)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        wide = self.head(x)
        out = self.tail(wide)
        return wide, x + out if self.shortcut else out


def trunk(width: float) -> tuple[nn.Sequential, nn.ModuleList, int]:
    """Return the stem, the blocks, and the channels of the last of them."""
    inputs = divisible(32 * width)
    stem = nn.Sequential(*conv(3, inputs, 3, 2), nn.ReLU6())
    blocks: list[Block] = []
    for reduction, base, repeats, stride in STAGES:
        outputs = divisible(base * (max(1.0, width) if base == 1280 else width))
        both = reduction == 2 or (repeats == 1 and stride == 1)
        blocks.append(Block(inputs, outputs, stride, reduction, both, False))
        blocks += [Block(outputs, outputs, 1, reduction, True, True) for _ in range(repeats - 1)]
        inputs = outputs
    return stem, nn.ModuleList(blocks), inputs


class Classifier(nn.Module):
    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        self.stem, self.blocks, channels = trunk(width)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(channels, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)[1]
        logits: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits


def main() -> None:
    width, size, batch, classes = float(sys.argv[1]), *map(int, sys.argv[2:5])
    form, steps, core = (
        getattr(torch, {"contiguous": "contiguous_format"}.get(sys.argv[5], sys.argv[5])),
        *map(int, sys.argv[6:8]),
    )
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Classifier(width, classes).to(memory_format=form).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, nesterov=True)
    images = torch.randn(batch, 3, size, size)
    labels = torch.randint(0, classes, (batch,))
    seconds = []
    for _ in range(WARM_UP + steps):
        started = time.perf_counter()
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images.to(memory_format=form)), labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - started)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(json.dumps({"seconds": seconds[WARM_UP:], "parameters": parameters, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
