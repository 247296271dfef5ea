"""Two processes that know of each other, as a launcher would start them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from mobilenext.machine.process_environment import FAST_PROCESS
from warm import WarmCommands, WarmProcess

CLI = "mobilenext.cli"
Two = Callable[..., "AbstractContextManager[list[WarmProcess]]"]
Both = Callable[..., list[str]]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def two(warm_commands: WarmCommands) -> Two:
    """Two processes that know of each other, without a launcher; none outlives the block.

    They have the environment of worker processes, as commands that import Paddle by themselves give it to themselves.
    """

    @contextmanager
    def begin(words: list[str], program: str = CLI) -> Iterator[list[WarmProcess]]:
        processes, port = [], free_port()
        for rank in (0, 1):
            environment = os.environ | FAST_PROCESS | {
                "PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": "2", "PADDLE_DISTRI_BACKEND": "gloo",
                "PADDLE_CURRENT_ENDPOINT": "x", "PADDLE_MASTER": f"127.0.0.1:{port}", "OMP_NUM_THREADS": "1",
            }  # fmt: skip
            processes.append(warm_commands.start(words, program=program, environment=environment))
        try:
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.communicate()

    return begin


@pytest.fixture(scope="session")
def both(two: Two) -> Both:
    """Run two processes to their end; what each of them said."""

    def run(words: list[str], program: str = CLI) -> list[str]:
        with two(words, program) as processes:
            said = ["".join(process.communicate(timeout=300)) for process in processes]
            assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
        return said

    return run
