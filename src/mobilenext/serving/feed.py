"""Decode uploads just ahead of a network: the threads that decode get as many as its copies will soon take.

Images that were decoded long before their turn would fill the memory and the processor's caches, and once all are
decoded, a core whose network waits for Python's lock would have nothing to do.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError
from functools import partial
from typing import Any


class Feed:
    """The uploads of one model that wait to be decoded, the first that came first.

    Args:
        threads: that decode; feeds may share them.
        places: images that may be between the beginning of their decoding and the network.
    """

    def __init__(self, threads: Executor, places: int) -> None:
        self._threads = threads
        self._places = places
        self._lock = threading.Lock()
        self._stopped = False
        self._waiting: dict[Future[Any], Callable[[], bool]] = {}  # in the order in which they came

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, decode: Callable[[], bool], answer: Future[Any]) -> None:
        """Add an upload.

        Args:
            decode: is called in one of the threads. It returns whether its image is in the network's queue: then it has
                its place until `free` is called, else its place is free at once.
            answer: fails if `decode` does. When it is cancelled while the upload waits, the upload is forgotten.
        """
        with self._lock:
            self._waiting[answer] = decode
        answer.add_done_callback(self._forget)
        if self._stopped:
            answer.cancel()
        self._begin()

    def free(self, places: int) -> None:
        """Free the places of images that the network has taken."""
        with self._lock:
            self._places += places
        self._begin()

    def stop(self) -> None:
        """Cancel the answers of the uploads that wait, and take no more."""
        self._stopped = True
        for answer in list(self._waiting):
            answer.cancel()

    def _forget(self, answer: Future[Any]) -> None:
        with self._lock:
            self._waiting.pop(answer, None)

    def _begin(self) -> None:
        """Hand over as many uploads as there are places."""
        while True:
            with self._lock:
                if not self._waiting or self._places < 1 or self._stopped:
                    return
                answer = next(iter(self._waiting))
                decode = self._waiting.pop(answer)
                self._places -= 1
            try:
                decoding = self._threads.submit(decode)
            except RuntimeError:  # the server has just stopped
                answer.cancel()
                return
            decoding.add_done_callback(partial(self._decoded, answer))

    def _decoded(self, answer: Future[Any], decoding: Future[bool]) -> None:
        _pass_on(answer, decoding)
        if decoding.cancelled() or decoding.exception() or not decoding.result():
            self.free(1)


def _pass_on(answer: Future[Any], decoding: Future[bool]) -> None:
    """Fail an answer whose image was not decoded; without the local variables of the frames, the upload among them."""
    if decoding.cancelled():  # the server stops
        answer.cancel()
    elif error := decoding.exception():
        traceback.clear_frames(error.__traceback__)
        with contextlib.suppress(InvalidStateError):  # given up, or the server stops
            answer.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))
