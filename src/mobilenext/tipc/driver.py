"""Run a chain, and hold every step to what it left, not to its exit code alone.

    prepare -> train -> eval -> export -> infer ... -> predict, evaluate (what the inferences have to equal)

Each step has its own log. The chain fails, and says in which step and why, when a command fails, when what it should
have left is not there, when an image has no prediction, or when two ways to the same image disagree.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobilenext.data import find_images
from mobilenext.errors import CheckFailed, DataError, MobileNeXtError, OutputError, UsageError
from mobilenext.export.images import sample_photo_files
from mobilenext.export.sidecar import SIDECAR, read_sidecar
from mobilenext.json_files import check, many, number, parse, read_bytes, record, text, whole
from mobilenext.machine.environment import environment
from mobilenext.origin import now, origin
from mobilenext.runs.journal import RESULT, read_predictions
from mobilenext.runs.result import read_result
from mobilenext.runs.run_folder import LOG, write_json
from mobilenext.runtime import resolve_device
from mobilenext.tipc.compare import Answer, disagreements, read_answers
from mobilenext.tipc.config import PADDLECLAS, Config, check_mode, read_config
from mobilenext.tipc.flags import NULL
from mobilenext.tipc.plan import EVAL, EXPORT, INFER, TRAIN, Step, gpu_rows, steps_of
from mobilenext.tipc.prepare import words_of
from mobilenext.tipc.verbs import EVALUATION
from mobilenext.weights.read import with_suffix

log = logging.getLogger(__name__)
PREPARE, PREDICT, EVALUATE, COMPARE = "prepare", "predict", "evaluate", "compare"
OUTPUT = Path("test_tipc/output")
RESULTS = Path("test_tipc/results")
SUMMARY, STATUS = "summary.json", "results_python.log"
# Of a probability, between two engines that compute in float32, and where one is quantised.
ALLOWED = {"fp32": 1e-4}
ALLOWED_ELSE = 1e-2
_LOG_FIELDS = ("loss", "avg_reader_cost", "avg_batch_cost", "avg_ips")
_SHOWN = 3
_CLOCK = 1.0  # seconds by which a file system's clock may be behind


@dataclass
class Outcome:
    """What came of one step."""

    kind: str
    command: str
    log: Path
    status: str  # passed | failed | not run
    seconds: float = 0.0
    said: str = ""  # what was found, or what is wrong
    step: Step | None = None  # of the plan; None where the driver added it


@dataclass
class Chain:
    """A run of a configuration in a mode."""

    config: Config
    mode: str
    output: Path
    keep_going: bool
    timeout: float | None
    started: str = field(default_factory=now)
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(outcome.status == "passed" for outcome in self.outcomes)


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
        config_file: in any of the three layouts; layout: None takes it from the file's name and length.
        mode: one of the drivers' modes.
        output: the folder for runs and logs; None: ``test_tipc/output/<model>/<mode>``.
        data: an archive or folder to prepare the data from; None: the digits.
        prepare: whether to make data and weights first.
        keep_going: run what can still be run after a failure, instead of stopping.
        timeout: seconds for a command; None: any.

    Returns:
        What is written to ``summary.json``: every step, its command, log, status and what was found.

    Raises:
        UsageError: a mode, a layout or a device that is not there; no interpreter of that name.
        DataError: a configuration that cannot be used. OutputError: the folder cannot be written.
        CheckFailed: a step has failed; the message names it. The summary is written all the same.
    """
    check_mode(mode)
    config = read_config(Path(config_file), layout)
    _check_interpreter(config)
    for line in gpu_rows(config):
        try:
            resolve_device("gpu")
        except UsageError as error:
            raise UsageError(f"{config.path}, line {line.number} ({line.key}:{line.value}): {error}") from error
    folder = Path(output) if output else OUTPUT / config.value("model_name") / mode
    if config.layout.name == PADDLECLAS:
        folder = folder.absolute()  # its driver infers from another folder
    steps = steps_of(config, mode, folder)
    chain = Chain(config, mode, folder, keep_going, timeout)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in (folder / STATUS, folder / SUMMARY, *(step.log for step in steps)):  # of an earlier run
            left.unlink(missing_ok=True)
        log.info("%s (%s layout), %s: %d commands", config.path, config.layout.name, mode, len(steps))
        started = time.perf_counter()
        if prepare:
            _prepare(chain, data)
        for step in steps:
            _run_step(chain, step)
        _check_inferences(chain)
        summary = _summary(chain, len(steps), time.perf_counter() - started)
        write_json(folder / SUMMARY, summary)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}; choose another output") from error
    return summary


def failure_of(summary: Mapping[str, Any]) -> CheckFailed | None:
    """The failure that a summary tells of."""
    failed = [step for step in summary["steps"] if step["status"] == "failed"]
    if summary["passed"]:
        return None
    said = "; ".join(f"{step['kind']}: {step['said']} (log: {step['log']})" for step in failed)
    return CheckFailed(f"{summary['config']}, {summary['mode']}: {said}")


def _check_interpreter(config: Config) -> None:
    line = config["python"]
    name = shlex.split(line.value)[0]
    if shutil.which(name, path=_environment()["PATH"]) is None:
        raise UsageError(
            f"{config.path}, line {line.number}: no interpreter {name!r} is found; name one that has mobilenext "
            f"installed, such as {sys.executable}"
        )


def _environment(devices: str | None = None) -> dict[str, str]:
    """For a command: ``python`` is this one, unless a path says otherwise."""
    values = dict(os.environ)
    values["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), values.get("PATH", "")])
    values.pop("CUDA_VISIBLE_DEVICES", None)
    if devices is not None:
        values["CUDA_VISIBLE_DEVICES"] = devices
    return values


# Running.


def _prepare(chain: Chain, data: str | os.PathLike[str] | None) -> None:
    words = [str(chain.config.path), chain.mode, *([os.fspath(data)] if data else [])]
    command = f"{chain.config.value('python')} -m mobilenext.tipc prepare {shlex.join(words)}"
    _run(chain, PREPARE, command, chain.output / "prepare.log")


def _run_step(chain: Chain, step: Step) -> None:
    if reason := _not_made(chain, step):
        chain.outcomes.append(Outcome(step.kind, step.command, step.log, "not run", said=reason, step=step))
        return
    began = time.time()
    outcome = _run(chain, step.kind, step.command, step.log, step)
    if outcome.status != "passed":
        return
    check = {TRAIN: _check_train, EVAL: _check_eval, EXPORT: _check_export, INFER: _check_infer}[step.kind]
    try:
        outcome.said = check(step, began)
    except MobileNeXtError as error:
        outcome.status, outcome.said = "failed", str(error)
    _say(outcome)


def _not_made(chain: Chain, step: Step) -> str | None:
    """Why a step is not run: an earlier one has failed."""
    failed = [outcome for outcome in chain.outcomes if outcome.status == "failed"]
    if failed and (not chain.keep_going or failed[0].kind == PREPARE):
        return f"stopped after {failed[0].kind}"
    for outcome in chain.outcomes:
        made = outcome.step
        if made is None or outcome.status == "passed":
            continue
        if made.kind == TRAIN and made.weights == step.weights:
            return f"there is no {step.weights}: {TRAIN} did not succeed"
        if made.kind == EXPORT and step.kind == INFER and made.exported == step.exported:
            return f"there is no export in {step.exported}: {EXPORT} did not succeed"
    return None


def _run(chain: Chain, kind: str, command: str, log_file: Path, step: Step | None = None) -> Outcome:
    """Run a command as the drivers do, by the shell; its output goes to a log."""
    outcome = Outcome(kind, command, log_file, "passed", step=step)
    chain.outcomes.append(outcome)
    folder = step.folder if step else "."
    started = time.perf_counter()
    if not Path(folder).is_dir():
        outcome.status, outcome.said = "failed", f"there is no folder {folder}, from which this driver runs it"
        _say(outcome)
        return outcome
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("wb") as stream:
        process = subprocess.Popen(
            ["bash", "-c", command], stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=folder,
            env=_environment(step.devices if step else None), start_new_session=True,
        )  # fmt: skip
        try:
            code: int | None = process.wait(chain.timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:  # out of time, or Ctrl-C here
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    outcome.seconds = round(time.perf_counter() - started, 2)
    if code != 0:
        outcome.status = "failed"
        how = f"exit code {code}" if code is not None else f"not done after {chain.timeout:g} s"
        outcome.said = f"{how}: {_last_words(log_file)}"
    _write_status(chain, outcome)
    if code != 0 or step is None:
        _say(outcome)
    return outcome


def _last_words(log_file: Path) -> str:
    """What the command says is wrong, else its last line."""
    lines = [line.strip() for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("mobilenext: ")]
    return (said or lines or ["no output"])[-1].removeprefix("mobilenext: ")[:500]


def _write_status(chain: Chain, outcome: Outcome) -> None:
    """A line as the official drivers write it, for those who search for it."""
    word = "successfully" if outcome.status == "passed" else "failed"
    model = chain.config.value("model_name")
    with (chain.output / STATUS).open("a", encoding="utf-8") as stream:
        stream.write(f" Run {word} with command - {model} - {outcome.command} - {outcome.log} ! \n")


def _say(outcome: Outcome) -> None:
    log.info("%-8s %-8s %6.1f s  %s", outcome.kind, outcome.status, outcome.seconds, outcome.said)


# What a step must have left.


def _left(path: Path, began: float) -> Path:
    """The file, which a command that `began` then must have written."""
    if not path.is_file():
        raise CheckFailed(f"it left no {path}")
    if path.stat().st_mtime < began - _CLOCK:
        raise CheckFailed(f"it left {path} as it was: that file is of an earlier run")
    return path


def _check_train(step: Step, began: float) -> str:
    _left(with_suffix(step.weights), began)
    train_log = _left(step.weights.parent / LOG, began)
    lines = train_log.read_text(errors="replace").splitlines()
    steps = [line for line in lines if all(f"{name}: " in line for name in _LOG_FIELDS)]
    if not steps:
        raise CheckFailed(f"{train_log} has no line with {', '.join(_LOG_FIELDS)}")
    loss = re.search(r"loss: (\S+?),", steps[-1])
    return f"{len(steps)} lines of steps, the last with loss {loss[1] if loss else '?'}"


def _check_eval(step: Step, began: float) -> str:
    result = read_result(_left(step.weights.parent / EVALUATION / RESULT, began))
    return f"top-1 {result['correct_top1']} of {result['images']} images"


def _check_export(step: Step, began: float) -> str:
    assert step.exported is not None
    _left(step.exported / SIDECAR, began)
    sidecar = read_sidecar(step.exported)
    return f"{sidecar.file}, {sidecar.precision}, {len(sidecar.files)} files"


def _check_infer(step: Step, began: float) -> str:
    expected = [name for name, _ in _images_of(step)]
    answers = read_answers(step.log)
    lacking = [name for name in expected if name not in answers]
    unknown = [name for name in answers if name not in set(expected)]
    for problem, names in (("have no prediction", lacking), ("are predicted and are not there", unknown)):
        if names:
            raise CheckFailed(f"{len(names)} of {len(expected)} images {problem}: {', '.join(names[:_SHOWN])}")
    different = len(set(answers.values()))
    alike = "; all alike, so that comparing them shows little" if different == 1 < len(answers) else ""
    return f"{len(answers)} images, {different} different answers{alike}"


def _images_of(step: Step) -> list[tuple[str, Path]]:
    """The images that an inference has to answer for: their names in its output, and their files."""
    if step.images is None:
        return [(path.name, path) for path in sample_photo_files()]
    given = Path(step.folder) / step.images
    return [
        (path.relative_to(given).as_posix() if given.is_dir() else path.name, path) for path in find_images([given])
    ]


# Infer equals predict equals evaluate.


def _check_inferences(chain: Chain) -> None:
    """Compare every inference with the training engine's prediction, and with the evaluation, of the same images."""
    if not chain.passed and not chain.keep_going:
        return
    groups: dict[tuple[Path | None, str | None], list[Step]] = {}
    for outcome in chain.outcomes:
        step = outcome.step
        if step and step.kind == INFER and outcome.status == "passed":
            groups.setdefault((step.exported, step.images), []).append(step)
    for place, group in enumerate(groups.values()):
        suffix = f"_{place}" if len(groups) > 1 else ""
        quantized = _precision(group[0]) == "int8"
        file = str(group[0].exported if quantized else with_suffix(group[0].weights))
        # Of float32, the training engine is asked; an int8 folder can only be compared with itself.
        what = f"--{'exported' if quantized else 'weights'} {shlex.quote(file)}"
        what += "" if quantized else " --runtime paddle"
        references = {
            PREDICT: _predicted(chain, group[0], what, suffix),
            EVALUATE: _evaluated(chain, group[0], what, suffix, quantized),
        }
        for name, answers in references.items():
            if answers is not None:
                _compare(chain, group, name, answers)
        if not quantized:
            _compare_with_committed(chain, group)


def _compare_with_committed(chain: Chain, group: Sequence[Step]) -> None:
    """With the results that are kept for this model and mode, where they are of the same images."""
    file = RESULTS / f"{chain.config.value('model_name')}_{chain.mode}_fp32.txt"
    if not file.is_file():
        return
    answers = read_answers(file, only=True)
    if set(answers) <= {name for name, _ in _images_of(group[0])}:
        _compare(chain, group, str(file), answers, everything=True)
    else:
        log.info("%s is of other images, and not compared", file)


def _precision(step: Step) -> str:
    assert step.exported is not None
    return read_sidecar(step.exported).precision


_PREDICTED = {"rows": many(record({"path": text(), "classes": many(whole(0)), "scores": many(number(0, 1))}))}


def _predicted(chain: Chain, step: Step, what: str, suffix: str) -> dict[str, Answer] | None:
    images = _images_of(step)
    given = [str(path) for _, path in images] if step.images is None else [str(Path(step.folder) / step.images)]
    found = chain.output / f"predict{suffix}.json"
    verb = f"{chain.config.value('python')} -m mobilenext predict"
    command = f"{verb} {shlex.join(given)} {what} --json > {shlex.quote(str(found))}"
    if _run(chain, PREDICT, command, chain.output / f"predict{suffix}.log").status != "passed":
        return None
    names = {str(path): name for name, path in images}
    rows = parse(read_bytes(found), str(found))
    check({"rows": rows}, _PREDICTED, str(found))
    return {names[row["path"]]: Answer(tuple(row["classes"]), tuple(row["scores"])) for row in rows}


def _evaluated(chain: Chain, step: Step, what: str, suffix: str, quantized: bool) -> dict[str, Answer] | None:
    """From the chain's own evaluation, or from one that is made now; None where the images have no labels."""
    if step.images is None or chain.config.value("eval") == NULL:
        return None
    folder = step.weights.parent / EVALUATION
    data = Path(words_of(chain.config, "eval", "eval").get("data", ""))
    if quantized or not any(outcome.kind == EVAL for outcome in chain.outcomes):
        folder = chain.output / f"evaluation{suffix}"
        shutil.rmtree(folder, ignore_errors=True)
        command = (
            f"{chain.config.value('python')} -m mobilenext evaluate {shlex.quote(str(data))} {what} "
            f"-o {shlex.quote(str(folder))}"
        )
        if _run(chain, EVALUATE, command, chain.output / f"evaluate{suffix}.log").status != "passed":
            return None
    images = {path.resolve(): name for name, path in _images_of(step)}
    answers = {}
    for row in read_predictions(folder):
        for path in (data / "imgs" / row.path, data / row.path):
            if name := images.get(path.resolve()):
                answers[name] = Answer(row.top5, row.scores)
    return answers


def _compare(
    chain: Chain, group: Sequence[Step], name: str, answers: Mapping[str, Answer], *, everything: bool = False
) -> None:
    """One outcome: all inferences of the group against `answers`."""
    problems, compared = [], 0
    for step in group:
        allowed = ALLOWED.get(_precision(step), ALLOWED_ELSE)
        found = read_answers(step.log)
        names = list(answers if everything else found)
        problems += [f"{step.log.name}: {each}" for each in disagreements(answers, found, allowed, names)]
        compared += len(names)
    if not compared:
        problems.append("nothing was compared")
    said = "; ".join(problems[:_SHOWN]) + (f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else "")
    outcome = Outcome(COMPARE, f"infer = {name}", chain.output / SUMMARY, "failed" if problems else "passed")
    outcome.said = said or f"{compared} predictions of {len(group)} inferences equal those of {name}"
    chain.outcomes.append(outcome)
    _say(outcome)


def _summary(chain: Chain, commands: int, seconds: float) -> dict[str, Any]:
    run = [each for each in chain.outcomes if each.step and each.status != "not run"]
    if len(run) != commands and chain.passed:
        raise DataError(f"{len(run)} of {commands} commands were run; this is a bug")
    return {
        "config": str(chain.config.path),
        "layout": chain.config.layout.name,
        "mode": chain.mode,
        "passed": chain.passed,
        "commands": commands,
        "commands_run": len(run),
        "commands_passed": sum(each.status == "passed" for each in run),
        "seconds": round(seconds, 1),
        "steps": [
            {
                "kind": each.kind, "status": each.status, "seconds": each.seconds, "said": each.said,
                "command": each.command, "log": str(each.log),
            }
            for each in chain.outcomes
        ],
        **origin(chain.started),
        "environment": environment(),
    }  # fmt: skip
