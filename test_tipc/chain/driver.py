"""Run a chain, and check what every step left, not its exit code alone.

    prepare -> train -> eval -> export -> infer ... -> predict, evaluate (which the inferences have to equal)

Each step has its own log. The chain fails, and says in which step and why, when a command fails, when what it should
have left is not there, when an image has no prediction, or when two ways to the same image disagree.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chain.checks import check_step
from chain.commands import STATUS, environment_of_commands, run_command
from chain.comparison import compare_inferences
from chain.outcomes import FAILED, NOT_RUN, PASSED, PREPARE, SUMMARY, Chain, Outcome
from chain.plan import EXPORT, INFER, TRAIN, Step, gpu_rows, steps_of
from mobilenext.errors import CheckFailed, DataError, MobileNeXtError, OutputError, UsageError
from mobilenext.machine.environment import environment
from mobilenext.origin import origin
from mobilenext.runs.run_folder import write_json
from mobilenext.runtime import resolve_device
from mobilenext.tipc.config import PADDLECLAS, Config, check_mode, read_config

log = logging.getLogger(__name__)
OUTPUT = Path("test_tipc/output")


def run_chain(
    config_file: str | os.PathLike[str],
    mode: str,
    *,
    layout: str | None = None,
    output: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    prepare: bool = True,
    keep_going: bool = False,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Run all commands of a configuration, in the current folder, and check what each left.

    Args:
        config_file: a configuration in any of the three layouts.
        mode: one of the drivers' modes.
        layout: of the configuration; None takes it from the file's name and length.
        output: the folder for runs and logs; None: ``test_tipc/output/<model>/<mode>``.
        data: an archive or folder to prepare the data from; None: the digits.
        prepare: whether to make data and weights first.
        keep_going: run what can still be run after a failure, instead of stopping.
        timeout: seconds for a command; None: any.

    Returns:
        What is written to ``summary.json``: every step, its command, log, status and what was found. A failed step is
        recorded there; `failure_of` makes an exception of it.

    Raises:
        UsageError: a mode, a layout or a device that is not there; no interpreter of that name.
        DataError: a configuration that cannot be used. OutputError: the folder cannot be written.
    """
    check_mode(mode)
    config = read_config(Path(config_file), layout)
    _check_interpreter(config)
    _check_devices(config)
    folder = Path(output) if output else OUTPUT / config.value("model_name") / mode
    if config.layout.name == PADDLECLAS:
        folder = folder.absolute()  # its driver infers from another folder
    steps = steps_of(config, mode, folder)
    chain = Chain(config, mode, folder, keep_going, timeout)
    try:
        summary = _run_steps(chain, steps, prepare, data)
        write_json(folder / SUMMARY, summary)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}; choose another output") from error
    return summary


def failure_of(summary: Mapping[str, Any]) -> CheckFailed | None:
    """Return the failure that a summary records, with its steps and logs; None where the chain has passed."""
    if summary["passed"]:
        return None
    failed = [step for step in summary["steps"] if step["status"] == FAILED]
    messages = "; ".join(f"{step['kind']}: {step['said']} (log: {step['log']})" for step in failed)
    return CheckFailed(f"{summary['config']}, {summary['mode']}: {messages}")


def _check_interpreter(config: Config) -> None:
    line = config["python"]
    name = shlex.split(line.value)[0]
    if shutil.which(name, path=environment_of_commands()["PATH"]) is None:
        raise UsageError(
            f"{config.path}, line {line.number}: no interpreter {name!r} is found; name one that has mobilenext "
            f"installed, such as {sys.executable}"
        )


def _check_devices(config: Config) -> None:
    for line in gpu_rows(config):
        try:
            resolve_device("gpu")
        except UsageError as error:
            raise UsageError(f"{config.path}, line {line.number} ({line.key}:{line.value}): {error}") from error


def _run_steps(
    chain: Chain, steps: Sequence[Step], prepare: bool, data: str | os.PathLike[str] | None
) -> dict[str, Any]:
    """Run every step and the comparisons; the summary."""
    chain.output.mkdir(parents=True, exist_ok=True)
    for file in (chain.output / STATUS, chain.output / SUMMARY, *(step.log for step in steps)):  # of an earlier run
        file.unlink(missing_ok=True)
    log.info("%s (%s layout), %s: %d commands", chain.config.path, chain.config.layout.name, chain.mode, len(steps))
    started = time.perf_counter()
    if prepare:
        words = [str(chain.config.path), chain.mode, *([os.fspath(data)] if data else [])]
        command = f"{chain.config.value('python')} -m mobilenext.tipc prepare {shlex.join(words)}"
        run_command(chain, PREPARE, command, chain.output / "prepare.log")
    for step in steps:
        _run_step(chain, step)
    compare_inferences(chain)
    return _summary(chain, len(steps), time.perf_counter() - started)


def _run_step(chain: Chain, step: Step) -> None:
    """Run a step and check what it left, unless an earlier failure forbids it."""
    if reason := _reason_not_to_run(chain, step):
        chain.outcomes.append(Outcome(step.kind, step.command, step.log, NOT_RUN, message=reason, step=step))
        return
    began = time.time()
    outcome = run_command(chain, step.kind, step.command, step.log, step)
    if outcome.status != PASSED:
        return
    try:
        outcome.message = check_step(step, began)
    except MobileNeXtError as error:
        outcome.fail(str(error))
    outcome.report()


def _reason_not_to_run(chain: Chain, step: Step) -> str | None:
    """Return which failure keeps a step from running: any one, or with `keep_going` one that it depends on."""
    failures = [outcome for outcome in chain.outcomes if outcome.status == FAILED]
    if failures and (not chain.keep_going or failures[0].kind == PREPARE):
        return f"stopped after {failures[0].kind}"
    for outcome in chain.outcomes:
        earlier = outcome.step
        if earlier is None or outcome.status == PASSED:
            continue
        if earlier.kind == TRAIN and earlier.weights == step.weights:
            return f"there is no {step.weights}: {TRAIN} did not succeed"
        if earlier.kind == EXPORT and step.kind == INFER and earlier.exported == step.exported:
            return f"there is no export in {step.exported}: {EXPORT} did not succeed"
    return None


def _summary(chain: Chain, commands: int, seconds: float) -> dict[str, Any]:
    outcomes = [outcome for outcome in chain.outcomes if outcome.step and outcome.status != NOT_RUN]
    if len(outcomes) != commands and chain.passed:
        raise DataError(f"{len(outcomes)} of {commands} commands were run; this is a bug")
    return {
        "config": str(chain.config.path),
        "layout": chain.config.layout.name,
        "mode": chain.mode,
        "passed": chain.passed,
        "commands": commands,
        "commands_run": len(outcomes),
        "commands_passed": sum(outcome.status == PASSED for outcome in outcomes),
        "seconds": round(seconds, 1),
        "steps": [
            {
                "kind": outcome.kind, "status": outcome.status, "seconds": outcome.seconds, "said": outcome.message,
                "command": outcome.command, "log": str(outcome.log),
            }
            for outcome in chain.outcomes
        ],
        **origin(chain.started),
        "environment": environment(),
    }  # fmt: skip
