"""Batch concurrent requests: a queue, and a thread for each opened copy of the network.

A network's thread takes the images that wait, up to `max_batch`, and waits up to `max_wait_ms` for more. The threads
that decode put images into the queue, and the network's thread answers: the event loop has no part in it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
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
    since: float  # when it began to wait, of time.perf_counter


class Batcher:
    """The queue in front of one model.

    Args:
        networks: copies of it, each of which is called by one thread.
        max_batch: images a call; max_wait_ms: how long one that is not full waits for more.
        taken: called with a number of images that have left the queue, to be computed or because they were given up.
        observe: called after each call with its images, its seconds, and the seconds that each image had waited.
    """

    def __init__(
        self,
        networks: Sequence[Runtime],
        *,
        max_batch: int = 1,
        max_wait_ms: float = 0.0,
        taken: Callable[[int], None] = lambda _: None,
        observe: Callable[[int, float, list[float]], None] | None = None,
    ) -> None:
        self._networks = networks
        self._max_batch = max_batch
        self._max_wait = max_wait_ms / 1e3
        self._taken = taken
        self._observe = observe
        self._collecting = threading.Lock()  # of the thread that collects a batch: two would share what comes
        self._changed = threading.Condition()  # with the lock of the queue
        self._queue: deque[_Waiting] = deque()
        self._open: set[Future[Any]] = set()  # answers that are not set yet
        self._stopping = False

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

    def put(self, image: Floats, finish: Finish, answer: Future[Any], *, waited_s: float = 0.0) -> bool:
        """Add an image to the queue; return whether it is there, which it is not when its answer is cancelled.

        Args:
            image: [3, S, S], normalized.
            finish: makes an answer of the row of each output. It is called in the network's thread, as handing rows to
                another thread takes longer than most answers.
            answer: is set to what `finish` returns, or to what it or the network raises. When it is cancelled before a
                network takes the image, the image is not computed.
            waited_s: seconds that it has waited already, for the figures.

        Raises:
            Problem: 503 when the server stops.
        """
        if answer.cancelled():
            return False
        with self._changed:
            if self._stopping:
                raise _stopping()
            self._open.add(answer)
            answer.add_done_callback(self._open.discard)  # when it is set or cancelled
            self._queue.append(_Waiting(image, finish, answer, time.perf_counter() - waited_s))
            self._changed.notify()
        return True

    def _work(self, network: Runtime) -> None:
        while batch := self._next():
            try:
                self._answer(network, batch)
            except Exception as error:
                for request in batch:
                    with contextlib.suppress(InvalidStateError):
                        request.answer.set_exception(error)

    def _next(self) -> list[_Waiting]:
        """Return at least one request that has not been given up; when the server stops, none."""
        batch: list[_Waiting] = []
        until: float | None = None  # the batch waits for more
        with self._collecting, self._changed:
            while not self._stopping:
                batch = [request for request in batch if not request.answer.cancelled()]
                before = len(self._queue)
                while self._queue and len(batch) < self._max_batch:
                    if not (request := self._queue.popleft()).answer.cancelled():
                        batch.append(request)
                if len(self._queue) < before:
                    self._taken(before - len(self._queue))  # at once: a batch that waits for more needs them decoded
                now = time.perf_counter()
                if not batch:
                    until = None
                elif until is None:
                    until = now + self._max_wait
                if until is not None and (len(batch) == self._max_batch or now >= until):
                    # From here on nobody can give up: the network computes it.
                    batch = [request for request in batch if request.answer.set_running_or_notify_cancel()]
                    if batch:
                        return batch
                else:
                    self._changed.wait(None if until is None else until - now)
        return []

    def _answer(self, network: Runtime, batch: Sequence[_Waiting]) -> None:
        """Set each answer, or the exception that finishing it raised."""
        began = time.perf_counter()
        first = batch[0].image[None]  # [1, 3, S, S]; one image is not copied
        images = first if len(batch) == 1 else np.stack([request.image for request in batch])
        outputs = network.predict(images)  # each [N, ...]
        if self._observe is not None:
            seconds = time.perf_counter() - began
            self._observe(len(batch), seconds, [began - request.since for request in batch])
        for request, *rows in zip(batch, *outputs, strict=True):
            with contextlib.suppress(InvalidStateError):  # it was answered when the server stopped
                try:
                    answer = request.finish(tuple(rows))
                except Exception as error:
                    request.answer.set_exception(error)
                else:
                    request.answer.set_result(answer)


def _stopping() -> Problem:
    return Problem(503, "the server is stopping", retry_after=5)
