"""Training images in batches: which, in what order and in what shape depends on (seed, epoch, index) alone.

A batch is the same whatever the number of workers, and the processes of a distributed run take consecutive parts of
it. The last images of an epoch that do not fill a batch are left out; they differ from epoch to epoch.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobilenext.arrays import Pixels
from mobilenext.data import Record, read_image
from mobilenext.errors import DatasetError, ImageError, UsageError
from mobilenext.job import Batch, Feed, Job, Place, Sampler
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.ranks import Ranks
from mobilenext.seeds import ORDER, SAMPLE, generator

MEMORY_BYTES = 1 << 30  # data sets of up to this many bytes of pixels are kept in memory
_SAMPLED = 50
Order: TypeAlias = "tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]"  # what `Job.order` returns


class Item(NamedTuple):
    """One image of a batch."""

    record: Record
    draw: int  # of its augmentation in this epoch: its number, or another one where it comes again


class _Position(NamedTuple):
    """A batch of an epoch."""

    epoch: int
    step: int
    order: Order


class Problem(str):
    """What is wrong with a file, in place of its sample."""

    __slots__ = ()


class Feeder:
    """Yields the batches of every epoch."""

    def __init__(self, records: Sequence[Record], job: Job, feed: Feed, pool: WorkerPool | None = None) -> None:
        """Prepare to feed records, such as those of the training part.

        The processes of `pool` read the images; without one all images are read now, and kept in memory.

        Raises:
            UsageError: a batch larger than the data, or one that cannot be shared evenly.
            ImageError: too many unreadable images.
        """
        if feed.batch_size > len(records):
            raise UsageError(
                f"batch_size is {feed.batch_size}, but there are {len(records)} training images; choose up to that "
                "many (--set batch_size=...), or leave it out: the batch is then made to fit"
            )
        if feed.batch_size % feed.world:
            raise UsageError(f"batch_size is {feed.batch_size}; expected a multiple of the {feed.world} processes")
        self.reading, self.unreadable = feed.reading, feed.reading.unreadable
        self.steps_per_epoch = len(records) // feed.batch_size
        self._records, self._job, self._feed, self._pool = records, job, feed, pool
        self._memory = None if pool else self._read_all()

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `first_step` on, both counted from 0.

        Raises:
            ImageError: too many unreadable images. DatasetError: a batch without a readable image.
        """
        order = self._order(epoch)
        yield from self._batches(_Position(epoch, step, order) for step in range(first_step, self.steps_per_epoch))

    def draws(self, first: int, last: int) -> Iterator[Batch]:
        """Yield fresh random batches number `first` to before `last`: each is the first one of an epoch of its own.

        Raises:
            As :meth:`epoch`.
        """
        yield from self._batches(_Position(number, 0, self._order(number)) for number in range(first, last))

    def _order(self, epoch: int) -> Order:
        return self._job.order(self._records, generator(self._feed.seed, epoch, 0, ORDER))

    def _batches(self, positions: Iterator[_Position]) -> Iterator[Batch]:
        feed, share = self._feed, self._feed.batch_size // self._feed.world  # images of each process
        read = partial(_sampled, self._job.sample, feed.seed, self._memory)
        waiting: deque[tuple[_Position, list[Item]]] = deque()  # what is being read, in order

        def batches() -> Iterator[tuple[int, list[Item]]]:
            for position in positions:
                start = position.step * feed.batch_size + feed.rank * share
                items = self._items(position.order, slice(start, start + share))
                waiting.append((position, items))
                yield position.epoch, items

        iterator = iter(self._pool.map(read, batches()) if self._pool else map(read, batches()))
        while True:
            started = time.perf_counter()
            samples = next(iterator, None)  # waits for the workers, or reads
            if samples is None:
                return
            position, items = waiting.popleft()
            begin = position.step * feed.batch_size
            whole = [self._records[i] for i in position.order[0][begin : begin + feed.batch_size].tolist()]
            batch = self._collate(items, samples, Place(feed.seed, position.epoch, position.step, (), whole))
            waited = time.perf_counter() - started
            self.reading.seconds += waited
            yield dataclasses.replace(batch, reader_seconds=waited)

    def _items(self, order: Order, part: slice) -> list[Item]:
        items, (positions, repeats) = [], order
        for position, repeat in zip(positions[part].tolist(), repeats[part].tolist(), strict=True):
            record = self._records[position]
            items.append(Item(record, record.index + repeat * len(self._records)))
        return items

    def count_unreadable_of(self, ranks: Ranks) -> None:
        """Take over what the other processes could not read.

        Raises:
            ImageError: more than allowed, all together.
        """
        if ranks.world > 1:
            for content in ranks.gather(json.dumps(self.unreadable).encode()):
                self.unreadable |= json.loads(content)
            self._check_unreadable()

    def _collate(self, items: list[Item], samples: list[Any], place: Place) -> Batch:
        """Return the batch of the images that could be read; the others are counted."""
        readable = []
        for item, sample in zip(items, samples, strict=True):
            if isinstance(sample, Problem):
                self.unreadable[item.record.name] = str(sample)
            else:
                readable.append((item, sample))
        self._check_unreadable()
        if not readable:
            raise DatasetError(f"no image of a whole batch can be read; the first: {samples[0]}")
        place = dataclasses.replace(place, draws=[item.draw for item, _ in readable])
        return self._job.collate([sample for _, sample in readable], [item.record for item, _ in readable], place)

    def _check_unreadable(self) -> None:
        if len(self.unreadable) > self._feed.max_unreadable:
            listed = "\n    ".join(list(self.unreadable.values())[:20])
            raise ImageError(
                f"{len(self.unreadable)} training images cannot be read; expected up to {self._feed.max_unreadable} "
                f"(--max-unreadable):\n    {listed}"
            )

    def _read_all(self) -> dict[int, Pixels | Problem]:
        """Return the pixels of all images by the number of their records."""
        images: dict[int, Pixels | Problem] = {}
        by_path: dict[Path, Pixels | Problem] = {}  # a list may repeat an image
        for record in self._records:
            if record.path not in by_path:
                by_path[record.path] = _decoded(record.path)
            images[record.index] = pixels = by_path[record.path]
            if isinstance(pixels, Problem):
                self.unreadable[record.name] = str(pixels)
        self._check_unreadable()
        return images


def fits_in_memory(records: Sequence[Record]) -> bool:
    """Return whether the pixels of all images would take at most MEMORY_BYTES, judged by some of them."""
    sampled = [_decoded(record.path) for record in records[:: max(1, len(records) // _SAMPLED)]]
    sizes = [pixels.nbytes for pixels in sampled if not isinstance(pixels, Problem)]
    return bool(sizes) and len(records) * sum(sizes) / len(sizes) <= MEMORY_BYTES


def _decoded(path: Path) -> Pixels | Problem:
    """Return the RGB pixels [H, W, 3] of a file, or what is wrong with it."""
    try:
        return np.asarray(read_image(path))
    except ImageError as error:
        return Problem(error)


def _sampled(
    sample: Sampler, seed: int, memory: dict[int, Pixels | Problem] | None, of_batch: tuple[int, list[Item]]
) -> list[Any]:
    """Return a sample for each item of an epoch, or a Problem. Runs in a worker where there is a pool."""
    epoch, items = of_batch
    results: list[Any] = []
    for record, draw in items:
        pixels = memory[record.index] if memory is not None else _decoded(record.path)
        if isinstance(pixels, Problem):
            results.append(pixels)
            continue
        try:
            results.append(sample(Image.fromarray(pixels), record, generator(seed, epoch, draw, SAMPLE)))
        except ImageError as error:  # too narrow to be resized
            results.append(Problem(f"{record.path}: {error}"))
    return results
