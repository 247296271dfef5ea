"""A training step of SSDLite320 with MobileNeXt in plain PyTorch, for `benchmarks/detection_step.py`.

    PYTHON_WITH_TORCH benchmarks/peer_ssdlite.py WIDTH BATCH CLASSES CORE   prints one line of JSON

It is run by the interpreter of an environment that has PyTorch, and imports nothing of this project. The network is
that of the authors' names and sizes; targets are random, a hundredth of the priors positive, and the loss is MultiBox
with three negatives to a positive, as in the `voc` form. Eager, channels_last, one thread: what is fastest there.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

from peer_mobilenext import conv, divisible, trunk

SIZE, BOXES, SIDES = 320, 6, (20, 10, 5, 3, 2, 1)
EXTRAS = ((1280, 512, 0.2), (512, 256, 0.25), (256, 256, 0.5), (256, 128, 0.5))
WARM_UP, STEPS = 3, 10


class Detector(nn.Module):
    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        self.stem, self.blocks, inputs = trunk(width)
        self.taps = (12, 19)  # indices of the blocks whose widest map is the first and the second level
        channels = [divisible(576 * width), inputs]
        self.extras = nn.ModuleList()
        for first, second, ratio in EXTRAS:
            first = inputs if first == 1280 else first
            layers = [*conv(first, first, 3, 2, first), nn.ReLU6(), *conv(first, int(first * ratio))]
            self.extras.append(nn.Sequential(*layers, *conv(int(first * ratio), second), nn.ReLU6()))
            channels.append(second)
        self.scores = self._heads(channels, BOXES * (classes + 1))
        self.boxes = self._heads(channels, BOXES * 4)

    @staticmethod
    def _heads(channels: list[int], outputs: int) -> nn.ModuleList:
        heads = [
            nn.Sequential(
                nn.Conv2d(c, c, 3, padding=1, groups=c), nn.BatchNorm2d(c), nn.ReLU6(), nn.Conv2d(c, outputs, 1)
            )
            for c in channels[:-1]
        ]
        return nn.ModuleList([*heads, nn.Conv2d(channels[-1], outputs, 1)])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, maps = self.stem(x), []
        for index, block in enumerate(self.blocks):
            wide, x = block(x)
            if index in self.taps:
                maps.append(wide)
        for extra in self.extras:
            x = extra(x)
            maps.append(x)
        return self._join(self.scores, maps), self._join(self.boxes, maps, 4)

    @staticmethod
    def _join(heads: nn.ModuleList, maps: list[torch.Tensor], last: int = 0) -> torch.Tensor:
        outputs = [head(x).permute(0, 2, 3, 1) for head, x in zip(heads, maps, strict=True)]
        last = last or outputs[0].shape[3] // BOXES
        return torch.cat([output.reshape(len(output), -1, last) for output in outputs], 1)


def multibox(scores: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    positive = labels > 0  # [N, P]
    with torch.no_grad():
        background = -F.log_softmax(scores, 2)[:, :, 0]
        background[positive] = -math.inf
        rank = background.sort(1, descending=True)[1].sort(1)[1]
        chosen = positive | (rank < 3 * positive.sum(1, keepdim=True))
    classification = F.cross_entropy(scores[chosen], labels[chosen], reduction="sum")
    regression = F.smooth_l1_loss(boxes[positive], targets[positive], reduction="sum")
    return (classification + regression) / positive.sum()


def main() -> None:
    width, batch, classes, core = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Detector(width, classes).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.001, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(batch, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
    priors = BOXES * sum(side**2 for side in SIDES)
    labels = torch.randint(1, classes + 1, (batch, priors)) * (torch.rand(batch, priors) < 0.01)
    targets = torch.randn(batch, priors, 4)
    seconds = []
    for step in range(WARM_UP + STEPS):
        started = time.perf_counter()
        optimizer.zero_grad()
        scores, boxes = network(images)
        multibox(scores, boxes, labels, targets).backward()
        optimizer.step()
        if step >= WARM_UP:
            seconds.append(time.perf_counter() - started)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(json.dumps({"seconds": statistics.median(seconds), "parameters": parameters, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
