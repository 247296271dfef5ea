from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mobilenext.classification.metrics import Prediction
from mobilenext.data import LabelledImage, Preprocessing
from mobilenext.evaluation import pipeline
from mobilenext.evaluation.pipeline import CHUNK, ChunkWork, divide, predict_records, predict_together
from mobilenext.runtime import RuntimeSpec
from mobilenext.tasks import find_task


class Runtime:
    """Logits of three classes: the mean of each channel."""

    def predict(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        return (batch.mean(axis=(2, 3)),)


class Pool:
    workers = 1

    def map(self, function: Any, items: Any) -> Iterator[Any]:
        return map(function, items)


class Ranks:
    """One of two processes, which are threads."""

    world = 2
    barrier = threading.Barrier(2)
    contents: list[bytes] = [b"", b""]  # noqa: RUF012

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def gather(self, content: bytes) -> list[bytes]:
        self.contents[self.rank] = content
        self.barrier.wait(300)
        contents = list(self.contents)
        self.barrier.wait(300)
        return contents


@pytest.fixture
def records(tmp_path: Path) -> list[LabelledImage]:
    """Eleven images, of which number 4 cannot be read."""
    images = []
    for index in range(11):
        path = tmp_path / f"{index}.png"
        color = tuple(np.random.default_rng(index).integers(0, 256, 3).tolist())
        Image.new("RGB", (8, 8), color).save(path)
        images.append(LabelledImage(index, str(path), path.name, index % 3))
    images[4].path.write_bytes(b"damaged")
    return images


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> ChunkWork:
    monkeypatch.setattr(pipeline, "_open_once", lambda spec: Runtime())
    monkeypatch.setattr(pipeline, "ROUND", 3)  # of two processes: 6 and 5 records
    spec = RuntimeSpec("paddle", "eager", "cpu", 1, Path())
    preprocessing = Preprocessing(image_size=8, crop_pct=1.0)
    return ChunkWork(spec, preprocessing, 2, "wrong", find_task().evaluation, {"num_classes": 3})


def rows_of(chunks: Iterator[list[Any]]) -> list[Prediction]:
    return [row for rows in chunks for row in rows]


def test_rows_are_in_order_and_an_unreadable_image_has_one(records: list[LabelledImage], job: ChunkWork) -> None:
    rows = rows_of(predict_records(Pool(), job, records))  # type: ignore[arg-type]
    assert [(row.index, row.path, row.label) for row in rows] == [(r.index, r.name, r.label) for r in records]
    assert [row.index for row in rows if row.error] == [4]
    assert rows[4].bytes == len(b"damaged")
    means = [np.asarray(Image.open(r.path)).mean(axis=(0, 1)) for r in records if r.index != 4]
    mean, std = np.array(job.preprocessing.mean), np.array(job.preprocessing.std)
    assert [row.top5[0] for row in rows if not row.error] == [int(((m / 255 - mean) / std).argmax()) for m in means]


@given(st.integers(0, 500), st.integers(1, 70), st.integers(1, 9))
def test_chunks_are_whole_batches_and_the_last_are_small(images: int, batch_size: int, workers: int) -> None:
    records: Any = range(images)
    chunks = divide(records, batch_size, workers)
    assert [index for chunk in chunks for index in chunk] == list(records)
    sizes = [len(chunk) for chunk in chunks]
    assert all(size % batch_size == 0 for size in sizes[:-1])
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes, default=0) < CHUNK + batch_size
    assert not sizes or sizes[-1] <= batch_size


def test_two_processes_get_the_rows_of_one(records: list[LabelledImage], job: ChunkWork) -> None:
    alone = rows_of(predict_records(Pool(), job, records))  # type: ignore[arg-type]

    def rows(rank: int) -> list[Prediction]:
        return rows_of(predict_together(Ranks(rank), Pool(), job, records))  # type: ignore[arg-type]

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(rows, range(2))) == [alone, alone]
