"""The validation of the network that is being trained: exact counts, shared among the processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mobilenext.data import Record, read_image
from mobilenext.data.problems import raise_unreadable
from mobilenext.errors import ImageError
from mobilenext.job import Job, Sampler
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.ranks import Ranks
from mobilenext.task import Counts, Evaluation, Facts

if TYPE_CHECKING:
    from paddle import nn


class Validation:
    """Scores a network on the validation images, each of them once."""

    def __init__(
        self,
        records: Sequence[Record],
        job: Job,
        evaluation: Evaluation,
        facts: Facts,
        *,
        batch_size: int,
        ranks: Ranks,
        pool: WorkerPool | None,
    ) -> None:
        """Prepare to score this process' share of the records by the rows and counts of `evaluation`.

        With `pool` its processes read the images every time; without, they are read now, and kept.

        Raises:
            ImageError: one that cannot be read.
        """
        records = records[ranks.rank :: ranks.world]
        self._job, self._evaluation, self._facts, self._ranks, self._pool = job, evaluation, facts, ranks, pool
        self._batches = [records[start : start + batch_size] for start in range(0, len(records), batch_size)]
        self._read = partial(_read, job.sample)
        # What cannot be read should be known before hours of training.
        self._kept = None if pool else self._read_all()

    def _read_all(self) -> list[list[Any]]:
        batches, problems = [], []
        for records in self._batches:
            try:
                batches.append(self._read(records))
            except ImageError:
                problems += [problem for record in records if (problem := _problem(self._job.sample, record))]
        if problems:
            raise_unreadable(problems, "validate on others: --val-list FILE")
        return batches

    def summary(self, network: nn.Layer) -> dict[str, Any]:
        """Return the job's summary of `counts`."""
        return self._job.summary(self.counts(network))

    def counts(self, network: nn.Layer) -> Counts:
        """Return the counts of all processes for the network as it is; it is in training mode again afterwards.

        Raises:
            ImageError: an image that cannot be read.
            WeightsError: outputs that are not finite.
        """
        import paddle  # not by the processes that read

        counts = self._evaluation.counts(self._facts)
        network.eval()
        with paddle.no_grad():
            samples = self._pool.map(self._read, self._batches) if self._pool else self._kept
            for records, of_batch in zip(self._batches, samples or (), strict=True):
                inputs = self._job.collate(of_batch, records, None).inputs  # [N, C, H, W]
                outputs = tuple(output.numpy() for output in as_tuple(network(paddle.to_tensor(inputs))))
                for row in self._evaluation.rows(outputs, records, self._facts):
                    counts.add(row)
        network.train()
        counts.merge(self._ranks.gather(counts.to_bytes()))
        return counts


def as_tuple(outputs: Any) -> tuple[Any, ...]:
    """Return the outputs of a network as a tuple, also where it has one."""
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)


def is_better(job: Job, summary: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    """Return whether the summary of a validation has a higher score than the best so far."""
    score, highest = job.score(summary), job.score(best)
    # Runs of earlier versions have not stored every metric of their best weights.
    return highest is None or (score is not None and score > highest)


def _read(sample: Sampler, records: Sequence[Record]) -> list[Any]:
    """Return the samples of the records' images, as they are evaluated."""
    return [_sample(sample, record) for record in records]


def _sample(sample: Sampler, record: Record) -> Any:
    image = read_image(record.path)
    try:
        return sample(image, record, None)
    except ImageError as error:
        raise ImageError(f"{record.path}: {error}") from error


def _problem(sample: Sampler, record: Record) -> str | None:
    """Return why an image cannot be read."""
    try:
        _sample(sample, record)
    except ImageError as error:
        return str(error)
    return None
