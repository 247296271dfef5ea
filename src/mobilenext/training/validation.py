"""The accuracy of the network that is being trained: exact counts, shared among the processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobilenext.classification.metrics import Counts, predictions_of
from mobilenext.data import LabelledImage as Record
from mobilenext.data import Preprocessing, pixels_of
from mobilenext.data.problems import raise_unreadable
from mobilenext.errors import ImageError
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.ranks import Ranks

if TYPE_CHECKING:
    from paddle import nn

Pixels = npt.NDArray[np.uint8]


class Validation:
    """Top-1 and top-5 of a network on the validation images, each of them once."""

    def __init__(
        self,
        records: Sequence[Record],
        preprocessing: Preprocessing,
        *,
        num_classes: int,
        batch_size: int,
        ranks: Ranks,
        pool: WorkerPool | None,
    ) -> None:
        """With `pool` its processes read the images every time; without, they are read now, and kept.

        Raises:
            ImageError: one that cannot be read.
        """
        self._records = records[ranks.rank :: ranks.world]
        self._preprocessing, self._num_classes = preprocessing, num_classes
        self._ranks, self._pool = ranks, pool
        self._batches = [
            self._records[start : start + batch_size] for start in range(0, len(self._records), batch_size)
        ]
        self._read = partial(_read, preprocessing)
        # What cannot be read should be known before hours of training.
        self._kept = None if pool else self._read_all()

    def _read_all(self) -> list[Pixels]:
        batches, problems = [], []
        for records in self._batches:
            try:
                batches.append(self._read(records))
            except ImageError:
                problems += [problem for record in records if (problem := _problem(record, self._preprocessing))]
        if problems:
            raise_unreadable(problems, "validate on others: --val-list FILE")
        return batches

    def counts(self, network: nn.Layer) -> Counts:
        """Evaluate the network as it is; it is in training mode again afterwards.

        Raises:
            ImageError: an image that cannot be read.
            WeightsError: logits that are not finite.
        """
        import paddle  # not by the processes that read

        counts = Counts(self._num_classes)
        network.eval()
        with paddle.no_grad():
            images = self._pool.map(self._read, self._batches) if self._pool else self._kept
            for records, pixels in zip(self._batches, images or (), strict=True):
                logits = network(paddle.to_tensor(self._preprocessing.normalize(pixels))).numpy()
                columns = zip(*((record.index, record.name, record.label) for record in records), strict=True)
                for row in predictions_of(logits, *columns):
                    counts.add(row)
        network.train()
        counts.merge(self._ranks.gather(counts.to_bytes()))
        return counts


def is_better(counts: Mapping[str, Any], best: Mapping[str, Any], metric: str) -> bool:
    """Whether the counts of a validation are better than the best so far, by one of `recipes.METRICS`."""
    field = {"top1": "correct_top1", "loss": "loss"}.get(metric, f"{metric}_percent")
    if best.get(field) is None:
        return True
    return bool(counts[field] < best[field] if metric == "loss" else counts[field] > best[field])


def _read(preprocessing: Preprocessing, records: Sequence[Record]) -> Pixels:
    """Pixels [N, S, S, 3] of the records' images."""
    return np.stack([pixels_of(record.path, preprocessing) for record in records])


def _problem(record: Record, preprocessing: Preprocessing) -> str | None:
    """Why an image cannot be read."""
    try:
        pixels_of(record.path, preprocessing)
    except ImageError as error:
        return str(error)
    return None
