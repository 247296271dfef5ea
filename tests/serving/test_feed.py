"""Uploads that wait to be decoded."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: the extra serve")
from mobilenext.serving.feed import Feed


class Decoding:
    """Uploads whose decoding is noted, and waits for `go`."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.go = threading.Event()

    def add(self, feed: Feed, number: int, *, queued: bool = True) -> Future[Any]:
        answer: Future[Any] = Future()

        def decode() -> bool:
            self.begun.append(number)
            self.go.wait(60)
            return queued

        feed.add(decode, answer)
        return answer

    def wait_for(self, count: int) -> None:
        until = time.monotonic() + 60
        while len(self.begun) < count and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(0.02)  # for one too many


def test_no_more_are_decoded_than_the_network_takes() -> None:
    decoding = Decoding()
    decoding.go.set()
    with ThreadPoolExecutor(4) as threads:
        feed = Feed(threads, places=3)
        for number in range(8):
            decoding.add(feed, number)
        decoding.wait_for(3)
        assert sorted(decoding.begun) == [0, 1, 2]
        feed.free(2)
        decoding.wait_for(5)
        assert sorted(decoding.begun) == [0, 1, 2, 3, 4]
        assert feed.waiting == 3
        feed.free(8)
        decoding.wait_for(8)
        assert sorted(decoding.begun) == list(range(8))


def test_a_place_is_free_when_nothing_was_queued_or_decoding_failed() -> None:
    def fail() -> bool:
        raise ValueError("no image")

    decoding = Decoding()
    decoding.go.set()
    with ThreadPoolExecutor(2) as threads:
        feed = Feed(threads, places=1)
        failed: Future[Any] = Future()
        decoding.add(feed, 0, queued=False)
        feed.add(fail, failed)
        decoding.add(feed, 1)
        decoding.add(feed, 2)
        decoding.wait_for(2)
        assert decoding.begun == [0, 1]
        with pytest.raises(ValueError, match="no image"):
            failed.result(60)


def test_who_gives_up_is_forgotten_and_the_others_keep_their_order() -> None:
    decoding = Decoding()
    with ThreadPoolExecutor(1) as threads:
        feed = Feed(threads, places=1)
        answers = [decoding.add(feed, number) for number in range(6)]
        for number in (1, 4):
            answers[number].cancel()
        assert feed.waiting == 3  # nothing keeps the uploads of those that gave up
        decoding.go.set()
        feed.free(9)
        decoding.wait_for(4)
        assert decoding.begun == [0, 2, 3, 5]


def test_a_model_whose_network_is_behind_does_not_stop_another() -> None:
    decoding = Decoding()
    decoding.go.set()
    with ThreadPoolExecutor(1) as threads:
        behind, idle = Feed(threads, places=1), Feed(threads, places=1)
        for number in range(5):
            decoding.add(behind, number)
        decoding.add(idle, 10)
        decoding.wait_for(2)
        assert decoding.begun == [0, 10]


def test_stopping_cancels_who_waits() -> None:
    decoding = Decoding()
    threads = ThreadPoolExecutor(1)
    feed = Feed(threads, places=3)
    answers = [decoding.add(feed, number) for number in range(5)]
    decoding.wait_for(1)
    feed.stop()
    threads.shutdown(wait=False, cancel_futures=True)
    decoding.go.set()
    late = decoding.add(feed, 9)
    assert late.cancelled()
    feed.free(9)
    for answer in (*answers[1:], late):  # the first is being decoded
        with pytest.raises(CancelledError):
            answer.result(60)
    assert decoding.begun == [0]
