"""Training images in batches: which, in what order and in what shape depends on (seed, epoch, index) alone.

A batch is the same whatever the number of workers, and the processes of a distributed run take consecutive parts of
it. The last images of an epoch that do not fill a batch are left out; they differ from epoch to epoch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobilenext.classification.augmentation import Augmentation, generator
from mobilenext.classification.balance import balanced_order
from mobilenext.classification.mixing import NEVER, Mixing, mix_images, neighbors
from mobilenext.data import LabelledImage as Record
from mobilenext.data import Preprocessing, read_image
from mobilenext.errors import DatasetError, ImageError, UsageError
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.ranks import Ranks

ORDER, PIXELS, ERASING, MIXING = 0, 1, 2, 3  # what a generator is for
MEMORY_BYTES = 1 << 30  # data sets of up to so many bytes of pixels are kept in memory
_SAMPLED = 50

Pixels = npt.NDArray[np.uint8]


class Item(NamedTuple):
    """One image of a batch."""

    path: Path
    name: str  # the same wherever the data set lies
    number: int  # in the data set
    label: int
    draw: int  # of its augmentation in this epoch: its number, or another one where it comes again


@dataclass(frozen=True)
class Batch:
    """This process' part of a batch."""

    images: npt.NDArray[np.float32]  # [N, 3, S, S], normalised
    labels: npt.NDArray[np.int64]  # [N]
    reader_seconds: float  # that the loop waited for it
    neighbors: npt.NDArray[np.int64] | None = None  # [N], labels of what the images are mixed with; None: nothing
    share: float = 1.0  # of an image itself, where it is mixed
    class_weights: npt.NDArray[np.float32] | None = None  # [classes]; None: all images count alike
    weight: float = 0.0  # with them, their sum over the whole batch, of all processes


@dataclass(frozen=True)
class Composition:
    """What decides which images make up an epoch, and how much they count."""

    balanced: bool = False  # each class as often, instead of each image once
    class_weights: npt.NDArray[np.float32] | None = None  # [classes]
    mixing: Mixing = NEVER


class Feeder:
    """The batches of every epoch."""

    def __init__(
        self,
        records: Sequence[Record],
        augmentation: Augmentation,
        preprocessing: Preprocessing,
        *,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        pool: WorkerPool | None = None,
        max_unreadable: int = 0,
        composition: Composition = Composition(),
    ) -> None:
        """
        Args:
            records: the training part.
            augmentation, preprocessing: what is done to an image; of the second, mean and std.
            seed: of order and augmentation.
            batch_size: over all `world` processes, of which this one is number `rank`.
            pool: processes that read; without them all images are read now, and kept in memory.
            max_unreadable: so many images may be unreadable, and are left out of their batches.
            composition: which images make up an epoch, and how much they count.

        Raises:
            UsageError: a batch larger than the data, or one that cannot be shared evenly.
            ImageError: too many unreadable images.
        """
        if batch_size > len(records):
            raise UsageError(
                f"batch_size is {batch_size}, but there are {len(records)} training images; choose up to that many "
                "(--set batch_size=...), or leave it out: the batch is then made to fit"
            )
        if batch_size % world:
            raise UsageError(f"batch_size is {batch_size}; expected a multiple of the {world} processes")
        self.unreadable: dict[str, str] = {}  # name: what is wrong with the file
        self.steps_per_epoch = len(records) // batch_size
        self._records, self._augmentation, self._preprocessing = records, augmentation, preprocessing
        self._seed, self._batch_size, self._rank, self._world = seed, batch_size, rank, world
        self._max_unreadable = max_unreadable
        self._pool, self.composition = pool, composition
        self._labels = np.array([record.label for record in records], np.int64)
        self._memory = None if pool else self._read_all()

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `first_step` on, both counted from 0."""
        order, repeats = self._order(epoch)
        size = self._augmentation.image_size
        share, weights = self._batch_size // self._world, self.composition.class_weights
        steps = range(first_step, self.steps_per_epoch)
        starts = [step * self._batch_size + self._rank * share for step in steps]
        batches = [slice(start, start + share) for start in starts]
        items = partial(self._items, order, repeats)
        read = partial(_augmented, self._augmentation, self._seed, epoch, self._memory)
        results = self._pool.map(read, map(items, batches)) if self._pool else map(read, map(items, batches))
        iterator = iter(zip(steps, map(items, batches), results, strict=True))
        while True:
            started = time.perf_counter()
            following = next(iterator, None)
            if following is None:
                return
            step, of_batch, pixels = following
            images, labels = self._normalised(epoch, of_batch, pixels)
            mix = self.composition.mixing.draw(size, generator(self._seed, epoch, step, MIXING))
            if mix is not None:
                mix_images(images, mix)
            whole = self._labels[order[step * self._batch_size : (step + 1) * self._batch_size]]
            yield Batch(
                images,
                labels,
                time.perf_counter() - started,
                None if mix is None else labels[neighbors(len(labels))],
                1.0 if mix is None else mix.share,
                weights,
                0.0 if weights is None else float(weights[whole].sum(dtype=np.float64)),
            )

    def _order(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Positions of the images of an epoch in its order, and how often each has come before in it."""
        random = generator(self._seed, epoch, 0, ORDER)
        if self.composition.balanced:
            return balanced_order(self._labels, random)
        return random.permutation(len(self._records)), np.zeros(len(self._records), np.int64)

    def _items(self, order: npt.NDArray[np.int64], repeats: npt.NDArray[np.int64], batch: slice) -> list[Item]:
        items = []
        for position, repeat in zip(order[batch].tolist(), repeats[batch].tolist(), strict=True):
            record = self._records[position]
            draw = record.index + repeat * len(self._records)
            items.append(Item(record.path, record.name, record.index, record.label, draw))
        return items

    def count_unreadable_of(self, ranks: Ranks) -> None:
        """Take over what the other processes could not read.

        Raises:
            ImageError: more than allowed, all together.
        """
        if ranks.world > 1:
            for each in ranks.gather(json.dumps(self.unreadable).encode()):
                self.unreadable |= json.loads(each)
            self._check_unreadable()

    def _normalised(
        self, epoch: int, items: list[Item], pixels: list[Pixels | str]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        readable = []
        for item, image in zip(items, pixels, strict=True):
            if isinstance(image, str):
                self.unreadable[item.name] = image
            else:
                readable.append((item, image))
        self._check_unreadable()
        if not readable:
            raise DatasetError(f"no image of a whole batch can be read; the first: {pixels[0]}")
        images = self._preprocessing.normalize(np.stack([image for _, image in readable]))
        if self._augmentation.erasing:
            self._augmentation.erase(images, [generator(self._seed, epoch, i.draw, ERASING) for i, _ in readable])
        return images, np.array([item.label for item, _ in readable], np.int64)

    def _check_unreadable(self) -> None:
        if len(self.unreadable) > self._max_unreadable:
            listed = "\n    ".join(list(self.unreadable.values())[:20])
            raise ImageError(
                f"{len(self.unreadable)} training images cannot be read; expected up to {self._max_unreadable} "
                f"(--max-unreadable):\n    {listed}"
            )

    def _read_all(self) -> dict[int, Pixels | str]:
        images: dict[int, Pixels | str] = {}
        by_path: dict[Path, Pixels | str] = {}  # a list may repeat an image
        for record in self._records:
            if record.path not in by_path:
                by_path[record.path] = _decoded(record.path)
            images[record.index] = pixels = by_path[record.path]
            if isinstance(pixels, str):
                self.unreadable[record.name] = pixels
        self._check_unreadable()
        return images


def fits_in_memory(records: Sequence[Record]) -> bool:
    """Whether the pixels of all images would take at most MEMORY_BYTES, judged by some of them."""
    sampled = [_decoded(record.path) for record in records[:: max(1, len(records) // _SAMPLED)]]
    sizes = [pixels.nbytes for pixels in sampled if not isinstance(pixels, str)]
    return bool(sizes) and len(records) * sum(sizes) / len(sizes) <= MEMORY_BYTES


def _decoded(path: Path) -> Pixels | str:
    """RGB pixels [H, W, 3] of a file, or what is wrong with it."""
    try:
        return np.asarray(read_image(path))
    except ImageError as error:
        return str(error)


def _augmented(
    augmentation: Augmentation, seed: int, epoch: int, memory: dict[int, Pixels | str] | None, items: list[Item]
) -> list[Pixels | str]:
    """Pixels [S, S, 3] for each item, or what is wrong with its file."""
    results: list[Pixels | str] = []
    for item in items:
        pixels = memory[item.number] if memory is not None else _decoded(item.path)
        if not isinstance(pixels, str):
            try:
                pixels = augmentation.pixels(Image.fromarray(pixels), generator(seed, epoch, item.draw, PIXELS))
            except ImageError as error:  # too narrow to be resized
                pixels = f"{item.path}: {error}"
        results.append(pixels)
    return results
