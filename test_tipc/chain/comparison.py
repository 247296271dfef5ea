"""Infer equals predict equals evaluate: every inference against other ways to an answer for the same images."""

from __future__ import annotations

import logging
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from chain.checks import SHOWN, images_of
from chain.commands import run_command
from chain.outcomes import COMPARE, EVALUATE, FAILED, PASSED, PREDICT, SUMMARY, Chain, Outcome
from chain.plan import EVAL, INFER, Step
from mobilenext.comparable import Comparable
from mobilenext.errors import DataError
from mobilenext.export.sidecar import read_sidecar
from mobilenext.json_files import Unfit, check, many, parse, read_bytes, record, text
from mobilenext.runs.journal import read_predictions
from mobilenext.tipc.compare import comparison_of, disagreements, read_answers
from mobilenext.tipc.flags import NULL
from mobilenext.tipc.prepare import words_of
from mobilenext.tipc.verbs import EVALUATION
from mobilenext.weights.read import with_suffix

log = logging.getLogger(__name__)
RESULTS = Path("test_tipc/results")  # committed predictions
# Of a probability, between two engines that compute in float32, and where one is quantized.
ALLOWED = {"fp32": 1e-4}
ALLOWED_ELSE = 1e-2
_PREDICTED = {"rows": many(record({"path": text()}))}


def compare_inferences(chain: Chain) -> None:
    """Compare every inference with the training engine's prediction, and with the evaluation, of the same images."""
    if not chain.passed and not chain.keep_going:
        return
    groups: dict[tuple[Path | None, str | None], list[Step]] = {}
    for outcome in chain.outcomes:
        step = outcome.step
        if step and step.kind == INFER and outcome.status == PASSED:
            groups.setdefault((step.exported, step.images), []).append(step)
    for position, group in enumerate(groups.values()):
        suffix = f"_{position}" if len(groups) > 1 else ""
        quantized = _precision(group[0]) == "int8"
        # An int8 folder can only be compared with itself; of float32, the training engine is the reference.
        if quantized:
            network = f"--exported {shlex.quote(str(group[0].exported))}"
        else:
            network = f"--weights {shlex.quote(str(with_suffix(group[0].weights)))} --runtime paddle"
        references = {
            PREDICT: _predictions(chain, group[0], network, suffix),
            EVALUATE: _evaluation(chain, group[0], network, suffix, quantized),
        }
        for name, answers in references.items():
            if answers is not None:
                _compare(chain, group, name, answers)
        if not quantized:
            _compare_with_committed(chain, group)


def _compare_with_committed(chain: Chain, group: Sequence[Step]) -> None:
    """Compare with the committed results of this model and mode, where they are of the same images."""
    file = RESULTS / f"{chain.config.value('model_name')}_{chain.mode}_fp32.txt"
    if not file.is_file():
        return
    answers = read_answers(file, only=True)
    if set(answers) <= {name for name, _ in images_of(group[0])}:
        _compare(chain, group, str(file), answers, everything=True)
    else:
        log.info("%s is of other images, and not compared", file)


def _precision(step: Step) -> str:
    assert step.exported is not None
    return read_sidecar(step.exported).precision


def _task(step: Step) -> str | None:
    assert step.exported is not None
    return read_sidecar(step.exported).record.task


def _predictions(chain: Chain, step: Step, network: str, suffix: str) -> dict[str, Comparable] | None:
    """Predict the images of an inference by ``mobilenext predict``; None where that fails."""
    images = images_of(step)
    paths = [str(path) for _, path in images] if step.images is None else [str(Path(step.folder) / step.images)]
    file = chain.output / f"predict{suffix}.json"
    verb = f"{chain.config.value('python')} -m mobilenext predict"
    command = f"{verb} {shlex.join(paths)} {network} --json > {shlex.quote(str(file))}"
    if run_command(chain, PREDICT, command, chain.output / f"predict{suffix}.log").status != PASSED:
        return None
    names = {str(path): name for name, path in images}
    rows = parse(read_bytes(file), str(file))
    check({"rows": rows}, _PREDICTED, str(file))
    comparison = comparison_of(_task(step))
    try:
        return {names[row["path"]]: comparison.of_answer(row) for row in rows}
    except Unfit as error:
        raise DataError(f"{file}: {error}") from error


def _evaluation(chain: Chain, step: Step, network: str, suffix: str, quantized: bool) -> dict[str, Comparable] | None:
    """Read the chain's own evaluation, or make one now; None where the images have no labels."""
    if step.images is None or chain.config.value("eval") == NULL:
        return None
    folder = step.weights.parent / EVALUATION
    data = Path(words_of(chain.config, "eval", "eval").get("data", ""))
    if quantized or not any(outcome.kind == EVAL for outcome in chain.outcomes):
        folder = chain.output / f"evaluation{suffix}"
        shutil.rmtree(folder, ignore_errors=True)
        command = (
            f"{chain.config.value('python')} -m mobilenext evaluate {shlex.quote(str(data))} {network} "
            f"-o {shlex.quote(str(folder))}"
        )
        if run_command(chain, EVALUATE, command, chain.output / f"evaluate{suffix}.log").status != PASSED:
            return None
    images = {path.resolve(): name for name, path in images_of(step)}
    answers = {}
    comparison = comparison_of(_task(step))
    for row in read_predictions(folder, _task(step)):
        for path in (data / "imgs" / row.path, data / row.path):
            if name := images.get(path.resolve()):
                answers[name] = comparison.of_row(row)
    return answers


def _compare(
    chain: Chain, group: Sequence[Step], name: str, answers: Mapping[str, Comparable], *, everything: bool = False
) -> None:
    """Add one outcome: all inferences of the group compared with `answers`, or with those of the same images."""
    problems, compared = [], 0
    for step in group:
        allowed = ALLOWED.get(_precision(step), ALLOWED_ELSE)
        inferred = read_answers(step.log)
        names = list(answers if everything else inferred)
        problems += [f"{step.log.name}: {problem}" for problem in disagreements(answers, inferred, allowed, names)]
        compared += len(names)
    if not compared:
        problems.append("nothing was compared")
    outcome = Outcome(COMPARE, f"infer = {name}", chain.output / SUMMARY, FAILED if problems else PASSED)
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        outcome.message = "; ".join(problems[:SHOWN]) + more
    else:
        outcome.message = f"{compared} predictions of {len(group)} inferences equal those of {name}"
    chain.outcomes.append(outcome)
    outcome.report()
