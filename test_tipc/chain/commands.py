"""Run the commands of a chain as the official drivers do: by the shell, each with a log and a line in a status file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from chain.outcomes import FAILED, PASSED, Chain, Outcome
from chain.plan import Step

STATUS = "results_python.log"


def environment_of_commands(devices: str | None = None) -> dict[str, str]:
    """Return the environment of a command, in which ``python`` is this interpreter unless a path names another.

    Args:
        devices: the value of CUDA_VISIBLE_DEVICES; None unsets it.
    """
    values = dict(os.environ)
    values["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), values.get("PATH", "")])
    values.pop("CUDA_VISIBLE_DEVICES", None)
    if devices is not None:
        values["CUDA_VISIBLE_DEVICES"] = devices
    return values


def run_command(chain: Chain, kind: str, command: str, log_file: Path, step: Step | None = None) -> Outcome:
    """Run a command; its output goes to a log, and its outcome to those of the chain.

    The exit code alone decides here. A step of the plan that succeeds is not logged yet: its result is to be checked.
    """
    outcome = Outcome(kind, command, log_file, PASSED, step=step)
    chain.outcomes.append(outcome)
    folder = step.folder if step else "."
    if not Path(folder).is_dir():
        outcome.fail(f"there is no folder {folder}, from which this driver runs it")
        outcome.report()
        return outcome
    log_file.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    code = _exit_code(command, log_file, folder, step.devices if step else None, chain.timeout)
    outcome.seconds = round(time.perf_counter() - started, 2)
    if code != 0:
        how = f"exit code {code}" if code is not None else f"not done after {chain.timeout:g} s"
        outcome.fail(f"{how}: {_last_words(log_file)}")
    _write_status(chain, outcome)
    if outcome.status == FAILED or step is None:
        outcome.report()
    return outcome


def _exit_code(command: str, log_file: Path, folder: str, devices: str | None, timeout: float | None) -> int | None:
    """Run a command in a process group of its own; its exit code, or None where it was killed after `timeout`."""
    with log_file.open("wb") as stream:
        process = subprocess.Popen(
            ["bash", "-c", command], stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=folder,
            env=environment_of_commands(devices), start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:  # out of time, or Ctrl-C here; the group has its children too
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _last_words(log_file: Path) -> str:
    """Return the last error message of our own in a log, else its last line."""
    lines = [line.strip() for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
    messages = [line for line in lines if line.startswith("mobilenext: ")]
    return (messages or lines or ["no output"])[-1].removeprefix("mobilenext: ")[:500]


def _write_status(chain: Chain, outcome: Outcome) -> None:
    """Append a line as the official drivers write it, for tools that search for it."""
    word = "successfully" if outcome.status == PASSED else "failed"
    model = chain.config.value("model_name")
    with (chain.output / STATUS).open("a", encoding="utf-8") as stream:
        stream.write(f" Run {word} with command - {model} - {outcome.command} - {outcome.log} ! \n")
