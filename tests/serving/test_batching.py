from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: the extra serve")
from mobilenext.serving.batching import Batcher
from mobilenext.serving.problems import Problem


class Network:
    """Answers with its input and its double; remembers the size of each call, and waits for `go`."""

    def __init__(self, *, waits: bool = False, fails: bool = False) -> None:
        self.calls: list[int] = []
        self.go = threading.Event()
        self.fails = fails
        if not waits:
            self.go.set()

    def predict(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        self.calls.append(len(batch))
        self.go.wait(300)
        if self.fails:
            raise RuntimeError("no")
        return batch.reshape(len(batch), -1), 2 * batch.sum(axis=(1, 2, 3))


def image(value: int) -> np.ndarray:
    return np.full((3, 1, 1), value, np.float32)


def rows(outputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return outputs


async def ask(batcher: Batcher, picture: np.ndarray, finish: Callable[..., Any] = rows) -> Any:
    answer: Future[Any] = Future()
    batcher.put(picture, finish, answer)
    return await asyncio.wrap_future(answer)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 300))  # type: ignore[arg-type]


def test_everybody_gets_their_own_answer() -> None:
    async def scenario() -> None:
        networks = [Network(), Network()]
        batcher = Batcher(networks, max_batch=4)
        batcher.start()
        answers = await asyncio.gather(*(ask(batcher, image(number)) for number in range(50)))
        assert [(first[0], second) for first, second in answers] == [(number, 6 * number) for number in range(50)]
        assert sum(sum(network.calls) for network in networks) == 50
        batcher.stop()

    run(scenario)


def test_answers_are_finished_in_the_networks_thread_and_fail_alone() -> None:
    async def scenario() -> None:
        network = Network(waits=True)
        batcher = Batcher([network], max_batch=3)
        batcher.start()

        def finish(rows: tuple[np.ndarray, ...]) -> tuple[float, str]:
            if rows[1] == 6:
                raise ValueError("of this image")
            return float(rows[1]), threading.current_thread().name

        asked = [asyncio.ensure_future(ask(batcher, image(number), finish)) for number in range(4)]
        await asyncio.sleep(0.05)
        network.go.set()
        first, failed, *others = await asyncio.gather(*asked, return_exceptions=True)
        assert sorted(network.calls) == [1, 3]
        assert isinstance(failed, ValueError)
        assert [value for value, _ in (first, *others)] == [0, 12, 18]
        assert all(name.startswith("network") for _, name in (first, *others))
        assert (await ask(batcher, image(5), finish))[0] == 30
        batcher.stop()

    run(scenario)


def test_what_waits_is_taken_together_up_to_the_limit() -> None:
    async def scenario() -> None:
        network = Network(waits=True)
        batcher = Batcher([network], max_batch=4)
        batcher.start()
        asked = [asyncio.ensure_future(ask(batcher, image(number))) for number in range(1)]
        await asyncio.sleep(0.05)
        asked += [asyncio.ensure_future(ask(batcher, image(number))) for number in range(6)]
        await asyncio.sleep(0.05)
        network.go.set()
        await asyncio.gather(*asked)
        assert network.calls == [1, 4, 2]
        batcher.stop()

    run(scenario)


def test_a_batch_lingers_for_more_but_not_for_ever() -> None:
    async def scenario() -> None:
        network = Network()
        batcher = Batcher([network], max_batch=3, max_wait_ms=200)
        batcher.start()
        asked = [asyncio.ensure_future(ask(batcher, image(0)))]
        await asyncio.sleep(0.02)
        asked.append(asyncio.ensure_future(ask(batcher, image(1))))
        await asyncio.gather(*asked)
        assert network.calls == [2]
        batcher.stop()

    run(scenario)


def test_who_has_given_up_is_not_computed() -> None:
    async def scenario() -> None:
        network = Network(waits=True)
        batcher = Batcher([network])
        batcher.start()
        first = asyncio.ensure_future(ask(batcher, image(0)))
        await asyncio.sleep(0.05)
        second = asyncio.ensure_future(ask(batcher, image(1)))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.sleep(0.01)
        network.go.set()
        await first
        assert (await ask(batcher, image(2)))[0][0] == 2
        assert network.calls == [1, 1]
        batcher.stop()

    run(scenario)


def test_a_failing_network_fails_the_request_and_not_the_server() -> None:
    async def scenario() -> None:
        network = Network(fails=True)
        batcher = Batcher([network])
        batcher.start()
        with pytest.raises(RuntimeError):
            await ask(batcher, image(0))
        network.fails = False
        assert (await ask(batcher, image(5)))[0][0] == 5
        batcher.stop()

    run(scenario)


def test_stopping_answers_who_waits() -> None:
    async def scenario() -> None:
        network = Network(waits=True)
        batcher = Batcher([network])
        batcher.start()
        asked = [asyncio.ensure_future(ask(batcher, image(number))) for number in range(3)]
        await asyncio.sleep(0.05)
        batcher.stop()
        network.go.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, Problem) and answer.status == 503 for answer in answers)

    run(scenario)


def test_after_the_stop_nothing_is_taken_and_the_threads_end() -> None:
    async def scenario() -> None:
        before = set(threading.enumerate())
        batcher = Batcher([Network(), Network()], max_batch=2, max_wait_ms=20)
        batcher.start()
        assert (await ask(batcher, image(1)))[0][0] == 1
        started = set(threading.enumerate()) - before
        assert len(started) == 2
        batcher.stop()
        with pytest.raises(Problem) as refused:
            await ask(batcher, image(2))
        assert refused.value.status == 503
        for thread in started:
            thread.join(60)
            assert not thread.is_alive()

    run(scenario)


def test_who_gives_up_while_a_batch_waits_for_more_is_left_out() -> None:
    async def scenario() -> None:
        network = Network()
        batcher = Batcher([network], max_batch=3, max_wait_ms=300)
        batcher.start()
        asked = [asyncio.ensure_future(ask(batcher, image(number))) for number in range(2)]
        await asyncio.sleep(0.05)
        asked[0].cancel()
        assert (await asked[1])[0][0] == 1
        assert network.calls == [1]
        batcher.stop()

    run(scenario)


def test_many_threads_put_and_none_is_lost() -> None:
    networks = [Network(), Network()]
    batcher = Batcher(networks, max_batch=2)
    batcher.start()
    answers: list[list[Future[Any]]] = [[Future() for _ in range(100)] for _ in range(8)]

    def putting(number: int) -> None:
        for index, answer in enumerate(answers[number]):
            batcher.put(image(100 * number + index), rows, answer)

    threads = [threading.Thread(target=putting, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = [answer.result(300)[0][0] for row in answers for answer in row]
    assert got == list(range(800))
    assert sum(sum(network.calls) for network in networks) == 800
    batcher.stop()


def test_one_of_two_networks_waits_for_a_batch() -> None:
    async def scenario() -> None:
        networks = [Network(), Network()]
        batcher = Batcher(networks, max_batch=2, max_wait_ms=60_000)
        batcher.start()
        await asyncio.sleep(0.05)
        asked = []
        for number in range(2):
            asked.append(asyncio.ensure_future(ask(batcher, image(number))))
            await asyncio.sleep(0.05)
        await asyncio.gather(*asked)
        assert sorted(networks[0].calls + networks[1].calls) == [2]
        batcher.stop()

    run(scenario)


def test_images_that_were_given_up_take_no_place_in_a_batch() -> None:
    async def scenario() -> None:
        network = Network(waits=True)
        taken: list[int] = []
        batcher = Batcher([network], max_batch=2, taken=taken.append)
        batcher.start()
        first = asyncio.ensure_future(ask(batcher, image(0)))
        await asyncio.sleep(0.05)
        given_up = [asyncio.ensure_future(ask(batcher, image(number))) for number in range(3)]
        kept = [asyncio.ensure_future(ask(batcher, image(number))) for number in (7, 8)]
        await asyncio.sleep(0.01)
        for task in given_up:
            task.cancel()
        await asyncio.sleep(0.01)
        network.go.set()
        await asyncio.gather(first, *kept)
        assert network.calls == [1, 2]
        assert sum(taken) == 6  # those that were given up have left the queue, too
        late: Future[Any] = Future()
        late.cancel()
        assert batcher.put(image(9), rows, late) is False
        assert batcher.put(image(9), rows, Future()) is True
        batcher.stop()

    run(scenario)


def test_a_batch_that_waits_for_more_has_left_the_queue() -> None:
    """So that the images that would fill it are decoded."""

    async def scenario() -> None:
        taken: list[int] = []
        batcher = Batcher([Network()], max_batch=3, max_wait_ms=60_000, taken=taken.append)
        batcher.start()
        asked = [asyncio.ensure_future(ask(batcher, image(number))) for number in range(2)]
        while sum(taken) < 2:
            await asyncio.sleep(0.01)
        asked.append(asyncio.ensure_future(ask(batcher, image(2))))
        await asyncio.gather(*asked)
        assert sum(taken) == 3
        batcher.stop()

    run(scenario)
