"""Functions for the workers are nested: those travel by value, so no worker has to find this file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobilenext.errors import ImageError, WorkerDied
from mobilenext.machine import pool
from mobilenext.machine.cores import available_cores
from mobilenext.machine.pool import Report, WorkerPool

pytestmark = pytest.mark.usefixtures("fresh_workers")  # as users have them


def test_the_order_is_kept_whatever_each_item_takes() -> None:
    def slow_when_even(number: int) -> tuple[int, int]:
        time.sleep(0.05 if number % 2 == 0 else 0)
        return number, os.getpid()

    with WorkerPool(2) as pool:
        results = list(pool.map(slow_when_even, range(40)))
    assert [number for number, _ in results] == list(range(40))
    processes = {process for _, process in results}
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_only_so_many_items_are_under_way() -> None:
    taken: list[int] = []

    def items() -> object:
        for number in range(100):
            taken.append(number)
            yield number

    with WorkerPool(1) as pool:
        results = pool.map(lambda number: number, items())
        assert next(results) == 0
        assert len(taken) <= 4
        assert list(results) == list(range(1, 100))


def test_nothing_in_nothing_out() -> None:
    with WorkerPool(2) as pool:
        assert list(pool.map(str, [])) == []


def test_a_started_call_works_while_its_caller_does() -> None:
    def fail_later() -> None:
        time.sleep(0.2)
        raise ImageError("a.jpg: empty")

    with WorkerPool(1) as pool:
        pool.call(os.getpid)
        process, failure = pool.start(os.getpid), pool.start(fail_later)
        assert process() != os.getpid()
        with pytest.raises(ImageError, match=r"a\.jpg: empty"):
            failure()


def test_an_idle_worker_ends_and_another_takes_its_place() -> None:
    with WorkerPool(1, idle_s=0.3) as pool:
        first = pool.call(os.getpid)
        until = time.monotonic() + 30
        while Path(f"/proc/{first}").exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert not Path(f"/proc/{first}").exists()
        assert pool.call(os.getpid) != first


def test_call_and_environment() -> None:
    with WorkerPool(1, {"MOBILENEXT_TEST": "a value"}) as pool:
        assert pool.call(divmod, 17, 5) == (3, 2)
        assert pool.call(lambda: os.environ["MOBILENEXT_TEST"]) == "a value"
    assert "MOBILENEXT_TEST" not in os.environ


@pytest.mark.parametrize("error", [ImageError("a/b.png: broken, with ü"), ValueError("a bug"), KeyError("name")])
def test_exceptions_come_back_as_they_were_raised(error: Exception) -> None:
    def fail_at_five(number: int) -> int:
        if number == 5:
            raise error
        return number

    done = []
    with pytest.raises(type(error)) as caught, WorkerPool(2) as pool:  # noqa: PT012
        for number in pool.map(fail_at_five, range(100)):
            done.append(number)
    assert caught.type is type(error)
    assert str(caught.value) == str(error)
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_worker_ends_the_run(number: int) -> None:
    def die_at_seven(item: int) -> int:
        if item == 7:
            os.kill(os.getpid(), number)
        time.sleep(0.01)
        return item

    with pytest.raises(WorkerDied, match=r"ended unexpectedly.*fewer --workers"), WorkerPool(2) as pool:
        list(pool.map(die_at_seven, range(1000)))


def test_workers_leave_ctrl_c_to_the_parent() -> None:
    def interrupt_yourself() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "alive"

    with WorkerPool(1) as pool:
        assert pool.call(interrupt_yourself) == "alive"


def test_an_error_does_not_wait_for_what_the_workers_still_do() -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), WorkerPool(1) as pool:  # noqa: PT012
        results = pool.map(lambda seconds: time.sleep(seconds), [0, 3600])
        next(results)
        raise KeyboardInterrupt
    assert time.monotonic() - started < 1800


def _reporting(total: int, report: Report) -> int:
    for done in range(1, total + 1):
        report(done, total)
        time.sleep(0.3)
    return total * 10


def test_a_watched_call_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with WorkerPool(1) as pool:
        result = pool.call_watched(
            _reporting, 4, scratch=tmp_path, progress=lambda done, total: told.append((done, total))
        )
        assert result == 40
        assert told == sorted(told)
        assert {total for _, total in told} == {4}
        assert len(set(told)) >= 2  # it was looked at while it ran
        (tmp_path / "progress").unlink()
        assert pool.call_watched(_reporting, 1, scratch=tmp_path, progress=None) == 10
    assert list(tmp_path.iterdir()) == []  # where nobody wants to know, nothing is written


def test_a_report_that_is_just_being_written(tmp_path: Path) -> None:
    report = Report(tmp_path / "progress")
    assert report.read() is None
    report(3, 7)
    assert report.read() == (3, 7)
    for text in ("", "3", "3 x"):
        (tmp_path / "progress").write_text(text)
        assert report.read() is None


def test_workers_of_launched_processes_have_different_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pools, as those of two processes of Paddle's launcher on this machine; each worker has cores of its own."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core cannot be divided")
    launched = {"PADDLE_TRAINERS_NUM": "2", "PADDLE_LOCAL_SIZE": "2", "PADDLE_TRAINER_ENDPOINTS": "host:1,host:2"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    names = [pool._name_of_claims() for _ in range(2)]
    assert names[0] == names[1]
    with WorkerPool(1, threads=1) as first, WorkerPool(1, threads=1) as second:
        bound = [each.call(os.sched_getaffinity, 0) for each in (first, second)]
    assert [len(own) for own in bound] == [1, 1]
    assert not bound[0] & bound[1]
    monkeypatch.setenv("PADDLE_TRAINER_ENDPOINTS", "host:3,host:4")
    assert pool._name_of_claims() != names[0], "another run on this machine"
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "1")
    assert pool._name_of_claims() != pool._name_of_claims(), "pools of processes that nobody launched together"


def test_available_cores() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """kill -9 leaves the parent no time to tell them."""
    script = (
        "import os, time\n"
        "from mobilenext.machine.pool import WorkerPool\n"
        "with WorkerPool(2) as pool:\n"
        "    print(pool.call(os.getpid), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)  # it is there
        parent.kill()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the worker is still there ten seconds later")
