"""Batch concurrent requests: a bounded queue, and one task for each opened copy of the network.

A task takes the images that wait, up to `max_batch`, and waits up to `max_wait_ms` for more. Everything but the call
and what is made of its outputs happens on the event loop, so there is nothing to lock.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from mobilenext.arrays import Floats, Outputs
from mobilenext.runtime import Runtime
from mobilenext.serving.problems import Problem

Finish: TypeAlias = Callable[[Outputs], Any]  # from a row of each output to an answer


def _as_they_are(rows: Outputs) -> Outputs:
    return rows


@dataclass
class _Waiting:
    image: Floats  # [3, S, S], normalized
    finish: Finish
    answer: asyncio.Future[Any]
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """The queue in front of one model.

    Args:
        networks: copies of it, each of which is called by one thread at a time.
        max_batch: images a call; max_wait_ms: how long one that is not full waits for more.
        max_queue: images that may wait; another one is answered 503.
        observe: called after each call with its images, its seconds, and the seconds that each image had waited.
    """

    def __init__(
        self,
        networks: Sequence[Runtime],
        *,
        max_batch: int = 1,
        max_wait_ms: float = 0.0,
        max_queue: int = 64,
        observe: Callable[[int, float, list[float]], None] | None = None,
    ) -> None:
        self._networks = networks
        self._max_batch = max_batch
        self._max_wait = max_wait_ms / 1e3
        self._max_queue = max_queue
        self._observe = observe
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._threads = ThreadPoolExecutor(len(networks), "network")
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def start(self) -> None:
        """Start the tasks in the running event loop."""
        self._tasks = [asyncio.create_task(self._work(network)) for network in self._networks]

    async def stop(self) -> None:
        """End the tasks and answer 503 to the requests that still wait."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for request in self._queue:
            if not request.answer.done():
                request.answer.set_exception(Problem(503, "the server is stopping", retry_after=5))
        self._queue.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def predict(self, image: Floats, finish: Finish = _as_they_are) -> Any:
        """Return what `finish` makes of the row of each output for a normalized image [3, S, S].

        It is called in the network's thread, as handing rows to another one takes longer than most answers. Cancelling
        removes the image from the queue.

        Raises:
            Problem: 503 when the queue is full. Else what the network or `finish` raises.
        """
        if len(self._queue) >= self._max_queue:
            raise Problem(503, f"{len(self._queue)} images wait for this model, its limit; try again", retry_after=1)
        waiting = _Waiting(image, finish, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        return await waiting.answer

    async def _work(self, network: Runtime) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next()
            began = time.perf_counter()
            try:
                seconds, answers = await loop.run_in_executor(self._threads, _call, network, batch)
            except Exception as error:
                for request in batch:
                    if not request.answer.done():
                        request.answer.set_exception(error)
                continue
            except asyncio.CancelledError:
                for request in batch:
                    if not request.answer.done():
                        request.answer.set_exception(Problem(503, "the server is stopping", retry_after=5))
                raise
            if self._observe is not None:
                self._observe(len(batch), seconds, [began - request.since for request in batch])
            for request, answer in zip(batch, answers, strict=True):
                if request.answer.done():
                    continue
                if isinstance(answer, Exception):
                    request.answer.set_exception(answer)
                else:
                    request.answer.set_result(answer)

    async def _next(self) -> list[_Waiting]:
        """Return at least one request that has not been given up."""
        batch: list[_Waiting] = []
        until = 0.0
        while True:
            while self._queue and len(batch) < self._max_batch:
                request = self._queue.popleft()
                if not request.answer.done():
                    batch.append(request)
            if len(batch) == self._max_batch or (batch and self._max_wait == 0):
                return batch
            if batch and not until:
                until = time.perf_counter() + self._max_wait
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), until - time.perf_counter() if batch else None)
            except asyncio.TimeoutError:
                batch = [request for request in batch if not request.answer.done()]
                if batch:
                    return batch
                until = 0.0


def _call(network: Runtime, batch: Sequence[_Waiting]) -> tuple[float, list[Any]]:
    """Return the seconds of the network, and the answer of each request or the exception that finishing it raised."""
    first = batch[0].image[None]  # [1, 3, S, S]; one image is not copied
    images = first if len(batch) == 1 else np.stack([request.image for request in batch])
    began = time.perf_counter()
    outputs = network.predict(images)  # each [N, ...]
    seconds = time.perf_counter() - began
    answers: list[Any] = []
    for request, *rows in zip(batch, *outputs, strict=True):
        try:
            answers.append(request.finish(tuple(rows)))
        except Exception as error:
            answers.append(error)
    return seconds, answers
