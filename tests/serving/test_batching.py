from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

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


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 300))  # type: ignore[arg-type]


def test_everybody_gets_their_own_answer() -> None:
    async def scenario() -> None:
        networks = [Network(), Network()]
        batcher = Batcher(networks, max_batch=4)
        batcher.start()
        answers = await asyncio.gather(*(batcher.predict(image(number)) for number in range(50)))
        assert [(first[0], second) for first, second in answers] == [(number, 6 * number) for number in range(50)]
        assert sum(sum(network.calls) for network in networks) == 50
        await batcher.stop()

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

        asked = [asyncio.ensure_future(batcher.predict(image(number), finish)) for number in range(4)]
        await asyncio.sleep(0.05)
        network.go.set()
        first, failed, *others = await asyncio.gather(*asked, return_exceptions=True)
        assert sorted(network.calls) == [1, 3]
        assert isinstance(failed, ValueError)
        assert [value for value, _ in (first, *others)] == [0, 12, 18]
        assert all(name.startswith("network") for _, name in (first, *others))
        assert (await batcher.predict(image(5), finish))[0] == 30
        await batcher.stop()

    run(scenario)


def test_what_waits_is_taken_together_up_to_the_limit() -> None:
    async def scenario() -> None:
        network = Network(waits=True)
        batcher = Batcher([network], max_batch=4)
        batcher.start()
        asked = [asyncio.ensure_future(batcher.predict(image(number))) for number in range(1)]
        await asyncio.sleep(0.05)
        asked += [asyncio.ensure_future(batcher.predict(image(number))) for number in range(6)]
        await asyncio.sleep(0.05)
        network.go.set()
        await asyncio.gather(*asked)
        assert network.calls == [1, 4, 2]
        await batcher.stop()

    run(scenario)


def test_a_batch_lingers_for_more_but_not_for_ever() -> None:
    async def scenario() -> None:
        network = Network()
        batcher = Batcher([network], max_batch=3, max_wait_ms=200)
        batcher.start()
        asked = [asyncio.ensure_future(batcher.predict(image(0)))]
        await asyncio.sleep(0.02)
        asked.append(asyncio.ensure_future(batcher.predict(image(1))))
        await asyncio.gather(*asked)
        assert network.calls == [2]
        await batcher.stop()

    run(scenario)


def test_a_full_queue_refuses() -> None:
    async def scenario() -> None:
        network = Network(waits=True)
        batcher = Batcher([network], max_queue=2)
        batcher.start()
        asked = [asyncio.ensure_future(batcher.predict(image(0)))]
        await asyncio.sleep(0.05)  # it is in the network now
        asked += [asyncio.ensure_future(batcher.predict(image(number))) for number in (1, 2)]
        await asyncio.sleep(0.01)
        with pytest.raises(Problem) as refused:
            await batcher.predict(image(3))
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "1")
        network.go.set()
        assert len(await asyncio.gather(*asked)) == 3
        await batcher.stop()

    run(scenario)


def test_who_has_given_up_is_not_computed() -> None:
    async def scenario() -> None:
        network = Network(waits=True)
        batcher = Batcher([network])
        batcher.start()
        first = asyncio.ensure_future(batcher.predict(image(0)))
        await asyncio.sleep(0.05)
        second = asyncio.ensure_future(batcher.predict(image(1)))
        await asyncio.sleep(0.01)
        second.cancel()
        network.go.set()
        await first
        assert (await batcher.predict(image(2)))[0][0] == 2
        assert network.calls == [1, 1]
        await batcher.stop()

    run(scenario)


def test_a_failing_network_fails_the_request_and_not_the_server() -> None:
    async def scenario() -> None:
        network = Network(fails=True)
        batcher = Batcher([network])
        batcher.start()
        with pytest.raises(RuntimeError):
            await batcher.predict(image(0))
        network.fails = False
        assert (await batcher.predict(image(5)))[0][0] == 5
        await batcher.stop()

    run(scenario)


def test_stopping_answers_who_waits() -> None:
    async def scenario() -> None:
        network = Network(waits=True)
        batcher = Batcher([network])
        batcher.start()
        asked = [asyncio.ensure_future(batcher.predict(image(number))) for number in range(3)]
        await asyncio.sleep(0.05)
        await batcher.stop()
        network.go.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, Problem) and answer.status == 503 for answer in answers)

    run(scenario)
