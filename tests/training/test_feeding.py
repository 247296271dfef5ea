from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilenext.classification.augmentation import Augmentation
from mobilenext.classification.recipes import RECIPES, Objective
from mobilenext.classification.training import ClassificationJob, ImageSampler
from mobilenext.data import LabelledImage as Record
from mobilenext.data import Preprocessing
from mobilenext.errors import DatasetError, ImageError, UsageError
from mobilenext.job import Batch, Feed
from mobilenext.machine.pool import WorkerPool
from mobilenext.training import feeding
from mobilenext.training.feeding import Feeder, fits_in_memory

IMAGES = 14
VARIED = Augmentation(image_size=8, color_jitter=0.4, erasing=0.7)
PLAIN = Augmentation(image_size=16, crop="none", flip=0.0)
NORMAL = Preprocessing(image_size=8)
BATCH = 4
BROKEN = (3, 4, 11)


def pixels_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def write(folder: Path, broken: tuple[int, ...] = ()) -> tuple[Record, ...]:
    """Images whose label is their number."""
    folder.mkdir()
    records = []
    for number in range(IMAGES):
        path = folder / f"{number}.png"
        Image.fromarray(pixels_of(number)).save(path)
        if number in broken:
            path.write_bytes(path.read_bytes()[:90])
        records.append(Record(number, str(path), path.name, number))
    return tuple(records)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, ...]:
    return write(tmp_path_factory.mktemp("feeding") / "whole")


@pytest.fixture(scope="module")
def some_broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, ...]:
    return write(tmp_path_factory.mktemp("feeding") / "broken", BROKEN)


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[int, WorkerPool | None]]:
    with WorkerPool(1) as one, WorkerPool(3) as three:
        yield {0: None, 1: one, 3: three}


def feeder(records: tuple[Record, ...], augmentation: Augmentation = VARIED, **options: Any) -> Feeder:
    objective, weights = options.pop("objective", Objective()), options.pop("class_weights", None)
    pool = options.pop("pool", None)
    # The feeder does not care about the recipe's own image size, which has to be at least 32.
    recipe = RECIPES["tiny"]
    job = ClassificationJob(recipe, NORMAL, IMAGES, class_weights=weights)
    job.objective, job.augmentation, job.mixing = objective, augmentation, objective.mixing()
    job.sample = ImageSampler(augmentation, NORMAL)
    return Feeder(records, job, Feed(**{"seed": 5, "batch_size": BATCH, **options}), pool)


def contents(batches: Iterator[Batch]) -> list[tuple[bytes, list[int]]]:
    return [(batch.inputs.tobytes(), batch.targets["labels"].tolist()) for batch in batches]


def order(batches: Iterator[Batch]) -> list[int]:
    return [label for batch in batches for label in batch.targets["labels"].tolist()]


# --- which images


def test_an_image_comes_with_its_own_label(records: tuple[Record, ...]) -> None:
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    for batch in feeder(records, PLAIN).epoch(0):
        assert (batch.inputs.shape, batch.inputs.dtype, batch.targets["labels"].dtype) == (
            (4, 3, 16, 16),
            np.float32,
            np.int64,
        )
        for image, label in zip(batch.inputs, batch.targets["labels"].tolist(), strict=True):
            expected = (pixels_of(label).astype(np.float32) / 255 - mean) / std
            np.testing.assert_allclose(image, expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


def test_each_image_once_an_epoch_in_another_order(records: tuple[Record, ...]) -> None:
    whole = feeder(records, batch_size=7)
    orders = [order(whole.epoch(epoch)) for epoch in range(4)]
    assert whole.steps_per_epoch == 2
    assert all(sorted(each) == list(range(IMAGES)) for each in orders)
    assert len(set(map(tuple, orders))) == 4
    assert order(feeder(records, batch_size=7, seed=6).epoch(0)) != orders[0]


def composed(records: tuple[Record, ...], labels: list[int], **options: Any) -> Feeder:
    """Each class as often; the labels are other ones."""
    relabeled = tuple(replace(record, label=label) for record, label in zip(records, labels, strict=True))
    objective = Objective(sampling="balanced", **options.pop("mixing", {}))
    return feeder(relabeled, objective=objective, class_weights=np.float32([1, 2, 4]), **options)


RARE = [0] * 10 + [1] * 3 + [2]
MIXED = {"mixup": 0.4, "cutmix": 1.0}


def test_each_class_as_often_with_its_weight(records: tuple[Record, ...]) -> None:
    whole = composed(records, RARE, batch_size=7)
    seen = [batch for epoch in range(3) for batch in whole.epoch(epoch)]
    for epoch in range(3):
        labels = order(whole.epoch(epoch))
        assert sorted(labels.count(label) for label in range(3)) == [4, 5, 5]
    for batch in seen:
        assert batch.shared.weight == sum((1, 2, 4)[label] for label in batch.targets["labels"].tolist())
        only = batch.inputs[batch.targets["labels"] == 2]  # of one image that comes again and again
        assert len({image.tobytes() for image in only}) == len(only), "each time augmented in another way"


@pytest.mark.parametrize("workers", [0, 3])
def test_mixed_batches_depend_on_the_position_alone(
    workers: int, records: tuple[Record, ...], pools: dict[int, WorkerPool | None]
) -> None:
    def described(batches: Iterator[Batch]) -> list[Any]:
        return [
            (
                batch.inputs.tobytes(),
                batch.targets["labels"].tolist(),
                batch.targets["neighbors"].tolist(),
                batch.shared.mix.share,
            )
            for batch in batches
        ]

    whole = described(composed(records, RARE, mixing=MIXED).epoch(1))
    assert len({row[3] for row in whole}) == 3
    resumed = composed(records, RARE, mixing=MIXED, pool=pools[workers])
    assert described(resumed.epoch(1, first_step=1)) == whole[1:]
    parts = [composed(records, RARE, mixing=MIXED, rank=rank, world=2) for rank in (0, 1)]
    shared = [list(part.epoch(1)) for part in parts]
    for number, (first, second) in enumerate(zip(*shared, strict=True)):
        assert (first.inputs.tobytes() + second.inputs.tobytes(), first.shared.mix.share) == (
            whole[number][0],
            whole[number][3],
        )
        assert np.concatenate([first.targets["neighbors"], second.targets["neighbors"]]).tolist() == whole[number][2]
        assert first.shared.weight == second.shared.weight, "of the whole batch"


def test_what_does_not_fill_a_batch_is_left_out_by_turns(records: tuple[Record, ...]) -> None:
    ends = feeder(records)
    assert ends.steps_per_epoch == 3
    seen = [order(ends.epoch(epoch)) for epoch in range(12)]
    assert all(len(each) == len(set(each)) == 12 for each in seen)
    left_out = [set(range(IMAGES)).difference(each) for each in seen]
    assert len(set(map(frozenset, left_out))) > 6


def test_an_image_varies_from_epoch_to_epoch(records: tuple[Record, ...]) -> None:
    looks, cropped = set(), Augmentation(image_size=8)
    for epoch in range(5):
        for batch in feeder(records, cropped, batch_size=IMAGES).epoch(epoch):
            looks.add(batch.inputs[batch.targets["labels"].tolist().index(0)].tobytes())
    assert len(looks) == 5


# --- the same, however it is computed


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(
    workers: int, records: tuple[Record, ...], pools: dict[int, WorkerPool | None]
) -> None:
    alone, shared = feeder(records), feeder(records, pool=pools[workers])
    for epoch in (0, 1):
        expected = contents(alone.epoch(epoch))
        assert len(expected) == 3
        assert contents(shared.epoch(epoch)) == expected


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("world", [2, 4])
def test_the_number_of_processes_changes_nothing(
    world: int, workers: int, records: tuple[Record, ...], pools: dict[int, WorkerPool | None]
) -> None:
    alone = feeder(records)
    parts = [feeder(records, rank=rank, world=world, pool=pools[workers]) for rank in range(world)]
    for epoch in (0, 1):
        batches = list(alone.epoch(epoch))
        shares = list(zip(*(part.epoch(epoch) for part in parts), strict=True))
        assert len(shares) == len(batches) == 3
        for batch, share in zip(batches, shares, strict=True):
            assert all(len(part.targets["labels"]) == BATCH // world for part in share)
            assert (
                np.concatenate([part.targets["labels"] for part in share]).tolist() == batch.targets["labels"].tolist()
            )
            assert np.concatenate([part.inputs for part in share]).tobytes() == batch.inputs.tobytes()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_goes_on_from_its_middle(
    workers: int, records: tuple[Record, ...], pools: dict[int, WorkerPool | None]
) -> None:
    whole = contents(feeder(records).epoch(3))
    for first in range(4):
        assert contents(feeder(records, pool=pools[workers]).epoch(3, first)) == whole[first:]


def test_what_was_read_before_changes_nothing(records: tuple[Record, ...]) -> None:
    expected = contents(feeder(records).epoch(2))
    used = feeder(records)
    for epoch in (0, 1):
        next(iter(used.epoch(epoch)))
    np.random.seed(0)
    assert contents(used.epoch(2)) == expected


def test_erasing_belongs_to_the_image(records: tuple[Record, ...]) -> None:
    """What is erased does not depend on the batch that an image is in."""
    erasing = Augmentation(image_size=16, crop="none", flip=0.0, erasing=0.7)

    def by_label(augmentation: Augmentation, batch_size: int) -> dict[int, bytes]:
        batches = feeder(records, augmentation, batch_size=batch_size).epoch(0)
        return {
            label: image.tobytes()
            for batch in batches
            for image, label in zip(batch.inputs, batch.targets["labels"].tolist(), strict=True)
        }

    whole, small, untouched = by_label(erasing, IMAGES), by_label(erasing, 1), by_label(PLAIN, IMAGES)
    assert whole == small
    erased = sum(whole[label] != untouched[label] for label in whole)
    assert 0 < erased < IMAGES


# --- sizes that do not fit


def test_a_batch_larger_than_the_data(records: tuple[Record, ...]) -> None:
    assert feeder(records, batch_size=IMAGES).steps_per_epoch == 1
    with pytest.raises(UsageError, match=r"batch_size is 15, but there are 14 training images; .*--set batch_size"):
        feeder(records, batch_size=IMAGES + 1)


def test_a_batch_that_cannot_be_shared(records: tuple[Record, ...]) -> None:
    with pytest.raises(UsageError, match="batch_size is 4; expected a multiple of the 3 processes"):
        feeder(records, world=3)


# --- unreadable images


def run(records: tuple[Record, ...], pool: WorkerPool | None, **options: Any) -> tuple[Feeder, list[Batch]]:
    reading = feeder(records, pool=pool, batch_size=7, **options)
    return reading, list(reading.epoch(0))


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_stop_the_training(
    workers: int, some_broken: tuple[Record, ...], pools: dict[int, WorkerPool | None]
) -> None:
    with pytest.raises(ImageError) as caught:
        run(some_broken, pools[workers])
    first, *listed = str(caught.value).splitlines()
    broken = {str(some_broken[number].path) for number in BROKEN}
    named = {line.split(": ")[0].strip() for line in listed}
    assert first.endswith("training images cannot be read; expected up to 0 (--max-unreadable):")
    assert first.split()[0] == str(len(listed)) == str(len(named))
    # With workers, those of the first batch that has any; in memory, all are read before the first step.
    assert named <= broken
    assert named
    assert workers or named == broken


def test_in_memory_they_are_known_before_the_first_step(some_broken: tuple[Record, ...]) -> None:
    with pytest.raises(ImageError, match="3 training images cannot be read; expected up to 0"):
        feeder(some_broken)


@pytest.mark.parametrize("workers", [0, 1])
def test_one_more_than_may_be(
    workers: int, some_broken: tuple[Record, ...], pools: dict[int, WorkerPool | None]
) -> None:
    with pytest.raises(ImageError, match="3 training images cannot be read; expected up to 2"):
        run(some_broken, pools[workers], max_unreadable=2)


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_are_left_out_counted_and_listed(
    workers: int, records: tuple[Record, ...], some_broken: tuple[Record, ...], pools: dict[int, WorkerPool | None]
) -> None:
    reading, batches = run(some_broken, pools[workers], max_unreadable=3)
    assert set(reading.unreadable) == {f"{number}.png" for number in BROKEN}
    for number in BROKEN:
        assert reading.unreadable[f"{number}.png"].startswith(f"{some_broken[number].path}: ")
    _, whole = run(records, None)
    for batch, all_of_it in zip(batches, whole, strict=True):
        kept = [at for at, label in enumerate(all_of_it.targets["labels"].tolist()) if label not in BROKEN]
        assert batch.targets["labels"].tolist() == all_of_it.targets["labels"][kept].tolist()
        assert batch.inputs.tobytes() == all_of_it.inputs[kept].tobytes()
    assert sum(len(batch.targets["labels"]) for batch in batches) == IMAGES - len(BROKEN)
    list(reading.epoch(1))
    assert len(reading.unreadable) == len(BROKEN), "an image that is met again is not another one"


def test_an_unreadable_image_is_the_same_one_where_the_data_have_moved(
    some_broken: tuple[Record, ...], tmp_path: Path
) -> None:
    moved = write(tmp_path / "moved", BROKEN)
    before, after = (feeder(records, max_unreadable=3) for records in (some_broken, moved))
    after.unreadable.update(before.unreadable)  # as when a run goes on
    assert len(list(after.epoch(0))) == 3
    assert len(after.unreadable) == len(BROKEN)


def test_a_batch_of_nothing_but_unreadable_images(some_broken: tuple[Record, ...]) -> None:
    with pytest.raises(DatasetError, match=r"no image of a whole batch can be read; the first: .*png: "):
        list(feeder(some_broken, batch_size=1, max_unreadable=3).epoch(0))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_too_narrow(workers: int, tmp_path: Path, pools: dict[int, WorkerPool | None]) -> None:
    records = write(tmp_path / "narrow")
    Image.new("RGB", (1, 4000)).save(records[2].path)
    shifted = Augmentation(image_size=4000, crop="pad", padding=1)
    with pytest.raises(ImageError, match=r"1 training images cannot be read(.|\n)*2.png: "):
        list(feeder(records[2:3], shifted, seed=0, batch_size=1, pool=pools[workers]).epoch(0))


def test_what_fits_in_memory(records: tuple[Record, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "MEMORY_BYTES", IMAGES * 16 * 16 * 3)
    assert fits_in_memory(records)
    monkeypatch.setattr(feeding, "MEMORY_BYTES", IMAGES * 16 * 16 * 3 - 1)
    assert not fits_in_memory(records)
