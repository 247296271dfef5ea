"""How a network is run, with defaults for every option that was not set."""

from __future__ import annotations

from dataclasses import dataclass

from mobilenext.errors import UsageError
from mobilenext.machine.cores import available_cores
from mobilenext.machine.process_environment import compute_environment
from mobilenext.machine.ranks import launched_here
from mobilenext.runtime import resolve_device
from mobilenext.sources.options import Execution


@dataclass(frozen=True)
class Choice:
    """How a network is run. What is divided among processes and batches must not change any count."""

    runtime: str = "auto"
    engine: str = "auto"
    device: str = "cpu"
    threads: int = 1  # of each process
    precision: str | None = None  # None: that of the files
    workers: int = 1  # processes
    batch_size: int = 1  # images of one call

    def environment(self) -> dict[str, str]:
        """Return the environment of the processes, which libraries read when they are loaded."""
        return compute_environment(self.threads)


def choose(execution: Execution, workers: int | None = None) -> Choice:
    """Fill in what was not asked for: on a CPU one single-threaded process for each core, one image at a time.

    Several processes that Paddle's launcher has started on this machine share its cores.

    Raises:
        UsageError: a number below one, more threads than cores, or a device that is not there.
    """
    threads, batch_size = execution.get("threads"), execution.get("batch_size")
    check_positive(workers=workers, threads=threads, batch_size=batch_size)
    device = resolve_device(execution.get("device", "auto"))
    cores = max(1, available_cores() // launched_here())
    threads = threads or 1
    if device == "cpu" and threads > cores:
        raise UsageError(f"threads is {threads}, but this process may use {cores} cores; choose up to {cores}")
    return Choice(
        runtime=execution.get("runtime", "auto"),
        engine=execution.get("engine", "auto"),
        device=device,
        threads=threads,
        precision=execution.get("precision"),
        workers=workers or (max(1, cores // threads) if device == "cpu" else min(8, cores)),
        batch_size=batch_size or (1 if device == "cpu" else 64),
    )


def choose_one(execution: Execution) -> Choice:
    """Fill in for a network that runs in this process: one thread and one image at a time, if not asked otherwise.

    Raises:
        UsageError: a number below one, or a device that is not there.
    """
    threads, batch_size = execution.get("threads"), execution.get("batch_size")
    check_positive(threads=threads, batch_size=batch_size)
    return Choice(
        runtime=execution.get("runtime", "auto"),
        engine=execution.get("engine", "auto"),
        device=resolve_device(execution.get("device", "auto")),
        threads=threads or 1,
        precision=execution.get("precision"),
        batch_size=batch_size or 1,
    )


def check_positive(**numbers: int | None) -> None:
    """Raise UsageError for a number that is given and is not a whole number from 1 up."""
    for name, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UsageError(f"{name} is {value!r}; expected a whole number from 1 up")
