"""What a run says before its first step: a batch that does not fit is refused before its memory is taken."""

from __future__ import annotations

import pytest
from paddle import nn

from mobilenext.classification.recipes import RECIPES
from mobilenext.errors import UsageError
from mobilenext.training import rehearsal
from mobilenext.training.rehearsal import rehearse


class Wide(nn.Layer):  # type: ignore[misc]
    """Keeps 3 x 32 x 32 x 64 numbers of four bytes, which are 0.75 MiB, for an image, and notes the batches."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.batches = nn.Conv2D(3, 192, 1), []

    def forward(self, x):  # type: ignore[no-untyped-def]
        self.batches.append(x.shape[0])
        return nn.functional.relu(self.conv(x)).mean(axis=[2, 3])


def test_a_batch_is_refused_before_its_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES["tiny"].replace(image_size=32, batch_size=4096, accumulate=1)
    monkeypatch.setattr(rehearsal, "free_memory_mib", lambda: 2000.0)
    network = Wide()
    with pytest.raises(
        UsageError, match=r"a step of 4096 images needs about [\d,]+ MiB, but 2,000 MiB are free; .*--set"
    ):
        rehearse(network, recipe, 1)
    assert network.batches == [1, 2]
    assert network.training
    assert network.conv.weight.grad is None  # zeros would let an optimizer move it
    network.batches.clear()
    rehearse(network, recipe, 256)  # 16 images of each process
    assert network.batches == [1, 2, 4, 8, 16, 16]
