"""What a successful command must have left: an exit code of 0 alone proves nothing."""

from __future__ import annotations

import re
from pathlib import Path

from chain.plan import EVAL, EXPORT, INFER, TRAIN, Step
from mobilenext.data import find_images
from mobilenext.errors import CheckFailed
from mobilenext.export.images import sample_photo_files
from mobilenext.export.sidecar import SIDECAR, read_sidecar
from mobilenext.runs.journal import RESULT
from mobilenext.runs.result import read_result
from mobilenext.runs.run_folder import LOG
from mobilenext.tasks import find_task
from mobilenext.tipc.compare import read_answers
from mobilenext.tipc.verbs import EVALUATION
from mobilenext.weights.read import with_suffix

SHOWN = 3  # names, or problems, in a message
_LOG_FIELDS = ("loss", "avg_reader_cost", "avg_batch_cost", "avg_ips")
_CLOCK = 1.0  # seconds by which a file system's clock may be behind


def check_step(step: Step, began: float) -> str:
    """Check the files and lines that a step has left, and return what they contain in a few words.

    Args:
        step: of the plan, which has exited with 0.
        began: the time when it was started; older files are of an earlier run.

    Raises:
        CheckFailed: something is missing, old or incomplete. DataError: something cannot be read.
    """
    check = {TRAIN: _check_train, EVAL: _check_eval, EXPORT: _check_export, INFER: _check_infer}[step.kind]
    return check(step, began)


def images_of(step: Step) -> list[tuple[str, Path]]:
    """Return the images that an inference has to answer for: their names in its output, and their files."""
    if step.images is None:
        return [(path.name, path) for path in sample_photo_files()]
    named = Path(step.folder) / step.images
    return [
        (path.relative_to(named).as_posix() if named.is_dir() else path.name, path) for path in find_images([named])
    ]


def _fresh(path: Path, began: float) -> Path:
    """Return the file, which a command that `began` then must have written."""
    if not path.is_file():
        raise CheckFailed(f"it left no {path}")
    if path.stat().st_mtime < began - _CLOCK:
        raise CheckFailed(f"it left {path} as it was: that file is of an earlier run")
    return path


def _check_train(step: Step, began: float) -> str:
    _fresh(with_suffix(step.weights), began)
    train_log = _fresh(step.weights.parent / LOG, began)
    lines = train_log.read_text(errors="replace").splitlines()
    steps = [line for line in lines if all(f"{name}: " in line for name in _LOG_FIELDS)]
    if not steps:
        raise CheckFailed(f"{train_log} has no line with {', '.join(_LOG_FIELDS)}")
    loss = re.search(r"loss: (\S+?),", steps[-1])
    return f"{len(steps)} lines of steps, the last with loss {loss[1] if loss else '?'}"


def _check_eval(step: Step, began: float) -> str:
    result = read_result(_fresh(step.weights.parent / EVALUATION / RESULT, began))
    task = find_task(result.get("task"))
    measured = task.presentation.measured(result)
    divided = "/" in measured.counts
    score = measured.counts.replace("/", " of ") if divided else f"{measured.text} on {result['images']}"
    return f"{task.metric.display} {score} images"


def _check_export(step: Step, began: float) -> str:
    assert step.exported is not None
    _fresh(step.exported / SIDECAR, began)
    sidecar = read_sidecar(step.exported)
    return f"{sidecar.file}, {sidecar.precision}, {len(sidecar.files)} files"


def _check_infer(step: Step, began: float) -> str:
    expected = [name for name, _ in images_of(step)]
    answers = read_answers(step.log)
    missing = [name for name in expected if name not in answers]
    unknown = [name for name in answers if name not in set(expected)]
    for problem, names in (("have no prediction", missing), ("are predicted and are not there", unknown)):
        if names:
            raise CheckFailed(f"{len(names)} of {len(expected)} images {problem}: {', '.join(names[:SHOWN])}")
    different = len({str(answer.columns()) for answer in answers.values()})
    alike = "; all alike, so that comparing them shows little" if different == 1 < len(answers) else ""
    return f"{len(answers)} images, {different} different answers{alike}"
