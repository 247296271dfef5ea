"""Batch concurrent requests: a bounded queue, and a thread for each opened copy of the network.

A thread takes the images that wait, up to `max_batch`, and waits up to `max_wait_ms` for more. The thread that decoded
an image puts it here, and the network's thread answers it: the event loop, which has the requests of all to read, is
asked for nothing in between.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from mobilenext.arrays import Floats, Outputs
from mobilenext.runtime import Runtime
from mobilenext.serving.problems import Problem

Finish: TypeAlias = Callable[[Outputs], Any]  # from a row of each output to an answer


@dataclass
class _Waiting:
    image: Floats  # [3, S, S], normalized
    finish: Finish
    answer: Future[Any]
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """The queue in front of one model.

    Args:
        networks: copies of it, each of which is called by one thread.
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
        self._changed = threading.Condition()  # with the lock of the queue
        self._queue: deque[_Waiting] = deque()
        self._open: set[Future[Any]] = set()  # answers that are not set yet; each leaves by itself when it is
        self._stopping = False

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def start(self) -> None:
        """Start the threads."""
        for number, network in enumerate(self._networks):
            threading.Thread(target=self._work, args=(network,), name=f"network_{number}", daemon=True).start()

    def stop(self) -> None:
        """Answer 503 to the requests that are not answered; each thread ends after what it computes."""
        with self._changed:
            self._stopping = True
            self._queue.clear()
            self._changed.notify_all()
        for answer in list(self._open):
            with contextlib.suppress(InvalidStateError):  # it was set just now
                answer.set_exception(_stopping())

    def put(self, image: Floats, finish: Finish, answer: Future[Any]) -> None:
        """Have `answer` set to what `finish` makes of the row of each output for a normalized image [3, S, S].

        It is called in the network's thread, as handing rows to another one takes longer than most answers. An answer
        that is cancelled before a network has its image is not computed. What the network or `finish` raises becomes
        the answer's exception.

        Raises:
            Problem: 503 when the queue is full, or the server stops.
        """
        with self._changed:
            if self._stopping:
                raise _stopping()
            if len(self._queue) >= self._max_queue:
                raise Problem(
                    503, f"{len(self._queue)} images wait for this model, its limit; try again", retry_after=1
                )
            self._open.add(answer)
            answer.add_done_callback(self._open.discard)
            self._queue.append(_Waiting(image, finish, answer))
            self._changed.notify()

    def _work(self, network: Runtime) -> None:
        while batch := self._next():
            began = time.perf_counter()
            try:
                seconds = self._call(network, batch)
            except Exception as error:
                for request in batch:
                    with contextlib.suppress(InvalidStateError):
                        request.answer.set_exception(error)
            else:
                if self._observe is not None:
                    self._observe(len(batch), seconds, [began - request.since for request in batch])

    def _next(self) -> list[_Waiting]:
        """Return at least one request that has not been given up; when the server stops, none."""
        batch: list[_Waiting] = []
        until = 0.0
        with self._changed:
            while not self._stopping:
                batch = [request for request in batch if not request.answer.cancelled()]
                while self._queue and len(batch) < self._max_batch:
                    batch.append(self._queue.popleft())
                now = time.perf_counter()
                until = (until or now + self._max_wait) if batch else 0.0
                if len(batch) == self._max_batch or (batch and now >= until):
                    # From here on nobody can give up: the network computes it.
                    batch = [request for request in batch if request.answer.set_running_or_notify_cancel()]
                    if batch:
                        return batch
                else:
                    self._changed.wait(until - now if batch else None)
        return []

    def _call(self, network: Runtime, batch: Sequence[_Waiting]) -> float:
        """Answer each request, or set the exception that finishing it raised; return the seconds of the network."""
        first = batch[0].image[None]  # [1, 3, S, S]; one image is not copied
        images = first if len(batch) == 1 else np.stack([request.image for request in batch])
        began = time.perf_counter()
        outputs = network.predict(images)  # each [N, ...]
        seconds = time.perf_counter() - began
        for request, *rows in zip(batch, *outputs, strict=True):
            with contextlib.suppress(InvalidStateError):  # it was answered when the server stopped
                try:
                    answer = request.finish(tuple(rows))
                except Exception as error:
                    request.answer.set_exception(error)
                else:
                    request.answer.set_result(answer)
        return seconds


def _stopping() -> Problem:
    return Problem(503, "the server is stopping", retry_after=5)
