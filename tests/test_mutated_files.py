"""Whatever stands in a file that this program reads, it is used as it should be or refused with a sentence.

Each reader is called with changed forms of a file that it wrote, and what it accepts is used as the commands use it:
printed, put on the report page, gone on from. 200 forms of each in every run of the tests, 10,000 in the long one.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation_folders import write_evaluation
from mobilenext.classification import evaluation
from mobilenext.classification.metrics import Counts, Prediction
from mobilenext.classification.presentation import PRESENTATION
from mobilenext.classification.terminal import picture
from mobilenext.data import Preprocessing
from mobilenext.errors import MobileNeXtError
from mobilenext.evaluation.outcome import finished_result
from mobilenext.export.sidecar import SIDECAR, VERSION, read_sidecar
from mobilenext.files import sha256_of
from mobilenext.json_files import parse
from mobilenext.machine.packages import installed
from mobilenext.models.published import Download
from mobilenext.report import page
from mobilenext.report.images import Images
from mobilenext.report.inputs import read_inputs
from mobilenext.report.training_report import comparison_lines
from mobilenext.runs.comparison import comparison
from mobilenext.runs.journal import JOURNAL, Journal, line_of, read_predictions, setup_digest
from mobilenext.runs.log import Sums
from mobilenext.runs.run_folder import RunFolder, config_digest, read_config
from mobilenext.runs.tables import result_lines
from mobilenext.runs.training_run import read_run
from mobilenext.tipc.compare import disagreements, read_answers
from mobilenext.training.plan import new_plan, resumed_plan
from mobilenext.training.state import Position, read_state, write_state
from mobilenext.weights.metadata import CERTIFICATE, read_metadata
from mobilenext.weights.pretrained import locate
from mobilenext.weights.read import read_weights
from mobilenext.weights.record import FORMAT
from mobilenext.weights.verification import verify
from mutations import mutations

COUNTS = [200, pytest.param(10_000, marks=[pytest.mark.long])]
SETUP = {"num_classes": 3, "data_sha256": "0" * 64, "preprocessing": {"mean": [0.5, 0.5, 0.5]}}
DIGITS = "mobilenext_x0_35.digits"

Use = Callable[[], object]


def an_evaluation(folder: Path) -> Path:
    classes = ([0, 1, 2], [1, 0, 2], [2, 1, 0])
    best = [classes[place % 3] for place in range(9)]
    return write_evaluation(
        folder,
        [0, 1, 2] * 3,
        best[:3] + best[:1] * 6,
        [[0.7, 0.2, 0.1]] * 9,
        classes=3,
        names=["ant", "bee", "柠檬"],
        errors={4: "imgs/00004.png: the file is truncated"},
        setup_digest=setup_digest(SETUP),
        comparison={
            "dataset": "ImageNet-1k", "origin": "the authors", "expected_top1_percent": 60.0,
            "measured_top1_percent": 55.556, "verdict": "differs", "reason": "more than", "difference_points": -4.444,
        },
        diagnosis=["labels run from 1, not from 0"],
        workers=2,
        threads=1,
        batch_size=1,
        identity_divisor=1,
        started="2026-11-27T03:17:54Z",
        finished="2026-11-27T03:18:54Z",
        command="mobilenext evaluate photos",
    )  # fmt: skip


def a_journal(folder: Path) -> Path:
    rows = [Prediction(place, f"imgs/{place}.png", place % 3, (0, 1, 2), (0.5, 0.3, 0.2), 0.7) for place in range(6)]
    rows[4] = Prediction(4, "imgs/4.png", 1, (), (), None, "imgs/4.png: truncated", 12)
    folder.mkdir()
    lines = [{"digest": setup_digest(SETUP), "setup": SETUP}, *(row.to_dict() for row in rows)]
    (folder / JOURNAL).write_bytes(b"".join(map(line_of, lines)))
    return folder


def a_bench(folder: Path) -> Path:
    folder.mkdir()
    result = json.loads((Path(__file__).parents[1] / "results" / "bench_batch1.json").read_text())
    result["rows"] = result["rows"][:6]
    result["skipped"] = [{"network": "mobilenext_x1_0", "runtime": "ncnn", "reason": "it is not installed"}]
    (folder / "bench.json").write_text(json.dumps(result))
    return folder


def some_data(folder: Path) -> Path:
    (folder / "imgs").mkdir(parents=True)
    for number in range(6):
        pixels = np.full((16, 16, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(folder / "imgs" / f"{number}.png")
    for part in ("train", "val"):
        (folder / f"{part}_list.txt").write_text("".join(f"{number}.png {number % 3}\n" for number in range(6)))
    return folder


def a_run(folder: Path, data: Path) -> Path:
    """A run of two epochs of three steps, as far as its files go."""
    folder.mkdir()
    settings = ("epochs=2", "warmup_epochs=1", "batch_size=2")
    plan = new_plan(
        data, recipe="tiny", settings=settings, seed=1, model="mobilenext_x0_35", labels=("ant", "bee", "cow")
    )
    (folder / "run.json").write_text(json.dumps(plan.config, indent=1))
    counts = {"images": 6, "correct_top1": 3, "correct_top5": 6, "top1_percent": 50.0, "top5_percent": 100.0, "loss": 1}
    rows: list[dict[str, Any]] = []
    for epoch in (1, 2):
        for step in (1, 2, 3):
            place = {"epoch": epoch, "step": step, "global_step": 3 * epoch - 3 + step}
            rows.append(
                {"event": "step", **place, "loss": 2.5, "top1_percent": 50.0, "lr": 0.1, "images_per_second": 9}
            )
        rows.append({"event": "epoch", "epoch": epoch, "global_step": 3 * epoch, "lr": 0.1, "train_loss": 2.0})
        rows[-1] |= {"seconds": 2.5, "images_per_second": 9.0, "val": {"raw": counts, "ema": counts}}
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = {"best": {"epoch": 2, "kind": "raw", **counts}, "final": {"raw": counts, "ema": counts}}
    result |= {"images_per_second": 9.0, "train_seconds": 5.0, "finished": "2026-11-27T03:18:54Z"}
    (folder / "result.json").write_text(json.dumps(result))
    sums = Sums(3.0, {"correct": 1}, 4, 0.5, 0.1, 2)
    position = Position(
        1, 2, 5, sums, Sums(), 2.5, 10, {"epoch": 1, "kind": "ema", **counts}, {"raw": counts, "ema": counts},
        {"imgs/0.png": "imgs/0.png: truncated"},
    )  # fmt: skip
    write_state(folder / "checkpoint.safetensors", plan.digest, position, {"network": {"a": np.zeros(2, np.float32)}})
    return folder


def a_sidecar(folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"a network")
    record = {
        "model": "mobilenext_x1_0", "num_classes": 3, "identity_divisor": 1, "labels": ["ant", "bee", "cow"],
        "preprocessing": Preprocessing().to_dict(), "path": "a.safetensors", "sha256": "1" * 64, "source_name": "a.pth",
        "source_sha256": "2" * 64, "card": "mobilenext_x1_0.74_02", "kind": "raw", "notes": ["a note"],
    }  # fmt: skip
    values = {
        "version": VERSION, "format": "onnx", "file": "model.onnx", "precision": "fp32", "input": "image",
        "output": "logits", "outputs": [{"name": "logits", "shape": [3]}], "layout": "NCHW", "record": record,
        "self_check": [0.5, -1.5, 2.0],
        "files": {"model.onnx": sha256_of(folder / "model.onnx")}, "parity": {"images": 4}, "made_by": {"cores": 2},
    }  # fmt: skip
    (folder / SIDECAR).write_text(json.dumps(values, indent=1))
    return folder


def show(*folders: Path) -> None:
    """The whole page."""
    page.report_html(read_inputs(folders), Images(None))


def show_run(folder: Path) -> None:
    runs = [read_run(folder)]
    comparison_lines(runs)
    json.dumps(comparison(runs))
    show(folder)


def finished(folder: Path) -> None:
    result = finished_result(folder, SETUP)
    assert result is not None
    assert all(isinstance(line, str) for line in result_lines(result))


def go_on_evaluating(folder: Path) -> None:
    def read_row(value: Any, index: int) -> Prediction:
        return evaluation.read_row(value, index, SETUP, None)

    with Journal(folder, SETUP, read_row, resume=True) as journal:
        counts = Counts(3)
        for row in journal.rows:
            counts.add(row)
        if journal.rows:
            counts.summary()


def go_on_training(folder: Path) -> None:
    plan = resumed_plan(read_config(folder), None, str(folder / "run.json"))
    assert plan.recipe.scaled_lr < 1e30
    assert len(plan.digest) == 64


def sweep_log(folder: Path) -> None:
    with RunFolder(folder) as run:
        run.keep_log_until(3, 1)


def position_of(folder: Path) -> None:
    digest = config_digest(read_config(folder))
    position, _ = read_state(folder / "checkpoint.safetensors", digest, PRESENTATION.check_counts)
    json.dumps(asdict(position))


def answers(folder: Path) -> None:
    read = read_answers(folder / "predict.log")
    disagreements(read, read, 1e-4)


def certified(path: Path) -> None:
    file: Any = SimpleNamespace(path=path, format="paddle-pickle", metadata={}, sha256="3" * 64)
    read_metadata(file, file.path)


def verified(path: Path) -> None:
    problem = verify(path, Download("a.pth", "https://example.org/a.pth"))
    assert problem is None or "cannot be verified" in problem or "is not what was downloaded" in problem


READERS: dict[str, tuple[str, bool, Callable[[Path], Use]]] = {}  # the file, whether of lines, what is made and called


def reader(file: str, *, lines: bool = False) -> Callable[[Callable[[Path], Use]], Callable[[Path], Use]]:
    def keep(make: Callable[[Path], Use]) -> Callable[[Path], Use]:
        READERS[make.__name__] = file, lines, make
        return make

    return keep


@reader("result.json")
def report_of_a_result(folder: Path) -> Use:
    return functools.partial(show, an_evaluation(folder))


@reader("predictions.jsonl", lines=True)
def report_of_predictions(folder: Path) -> Use:
    return functools.partial(show, an_evaluation(folder))


@reader("result.json")
def comparison_of_two_results(folder: Path) -> Use:
    an_evaluation(folder)
    return lambda: show(folder, folder)


@reader("result.json")
def a_finished_evaluation_resumed(folder: Path) -> Use:
    return functools.partial(finished, an_evaluation(folder))


@reader("predictions.jsonl", lines=True)
def predictions_as_a_picture(folder: Path) -> Use:
    an_evaluation(folder)
    return lambda: picture(read_predictions(folder), 3, "utf-8")


@reader("journal.jsonl", lines=True)
def a_journal_resumed(folder: Path) -> Use:
    return functools.partial(go_on_evaluating, a_journal(folder))


@reader("bench.json")
def report_of_a_bench(folder: Path) -> Use:
    return functools.partial(show, a_bench(folder))


@reader("run.json")
def report_of_a_run(folder: Path) -> Use:
    return functools.partial(show_run, a_run(folder, some_data(folder.parent / "data")))


@reader("result.json")
def report_of_a_runs_result(folder: Path) -> Use:
    return functools.partial(show_run, a_run(folder, some_data(folder.parent / "data")))


@reader("log.jsonl", lines=True)
def report_of_a_runs_log(folder: Path) -> Use:
    return functools.partial(show_run, a_run(folder, some_data(folder.parent / "data")))


@reader("run.json")
def a_run_resumed(folder: Path) -> Use:
    return functools.partial(go_on_training, a_run(folder, some_data(folder.parent / "data")))


@reader("log.jsonl", lines=True)
def a_log_gone_on_with(folder: Path) -> Use:
    return functools.partial(sweep_log, a_run(folder, some_data(folder.parent / "data")))


@reader("mobilenext.json")
def a_sidecar_read(folder: Path) -> Use:
    return functools.partial(read_sidecar, a_sidecar(folder))


@reader("predict.log", lines=True)
def answers_of_a_driver(folder: Path) -> Use:
    folder.mkdir()
    (folder / "predict.log").write_text("[[3, 1], [0.75, 0.2]]\n" * 4)
    return lambda: answers_with_names(folder)


def answers_with_names(folder: Path) -> None:
    path = folder / "predict.log"
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(b"%d.png\t" % place + row for place, row in enumerate(rows)))
    answers(folder)


@reader("a.pdparams.certificate.json")
def a_certificate(folder: Path) -> Use:
    folder.mkdir()
    values = {"metadata": {"format": FORMAT, "model": "mobilenext_x1_0"}, "output": {"sha256": "3" * 64}}
    (folder / f"a.pdparams{CERTIFICATE}").write_text(json.dumps(values))
    return functools.partial(certified, folder / "a.pdparams")


@reader("a.pth.json")
def a_record_of_a_download(folder: Path) -> Use:
    folder.mkdir()
    (folder / "a.pth").write_bytes(b"weights")
    (folder / "a.pth.json").write_text(json.dumps({"sha256": hashlib.sha256(b"weights").hexdigest(), "url": "x"}))
    return functools.partial(verified, folder / "a.pth")


@reader("any.json")
def anything(folder: Path) -> Use:
    folder.mkdir()
    (folder / "any.json").write_text(json.dumps({"a": [1, 2.5, {"b": None}], "c": "text", "d": [[[]]]}))
    return lambda: json.dumps(parse((folder / "any.json").read_bytes(), "any.json"))


@pytest.fixture(autouse=True)
def fast_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vega itself is always the same, and so is the template: neither is made for every page."""
    if installed("jinja2") and installed("vl_convert"):
        import jinja2
        import vl_convert

        made = jinja2.Environment.from_string
        templates: dict[str, Any] = {}

        def from_string(environment: jinja2.Environment, source: str) -> Any:
            if source not in templates:
                templates[source] = made(environment, source)
            return templates[source]

        monkeypatch.setattr(jinja2.Environment, "from_string", from_string)
        monkeypatch.setattr(vl_convert, "javascript_bundle", lambda: "")


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", READERS)
def test_a_changed_file_is_used_or_refused(name: str, count: int, tmp_path: Path) -> None:
    file, lines, make = READERS[name]
    if name.startswith(("report", "comparison")) and not (installed("jinja2") and installed("vl_convert")):
        pytest.skip("the extra report is not installed")
    use, path = make(tmp_path / "made"), tmp_path / "made" / file
    whole = path.read_bytes()
    use()  # as it was written
    hold(whole, path, use, lines=lines, count=count, seed=name)


def hold(whole: bytes, path: Path, use: Use, *, lines: bool, count: int, seed: str, wrap: Any = bytes) -> None:
    logging.disable(logging.CRITICAL)
    try:
        for place, content in enumerate(mutations(whole, lines=lines, count=count, seed=seed)):
            path.write_bytes(wrap(content))
            try:
                use()
            except MobileNeXtError:
                continue
            except Exception as error:
                pytest.fail(f"mutation {place} of {seed}: {type(error).__name__}: {error}: {content[:2000]!r}")
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("count", COUNTS)
def test_a_changed_position_of_a_checkpoint_is_refused_or_one(count: int, tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run", some_data(tmp_path / "data"))
    path = folder / "checkpoint.safetensors"
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:end])

    def wrap(position: bytes) -> bytes:
        metadata = {**header["__metadata__"], "position": position.decode(errors="replace")}
        text = json.dumps({**header, "__metadata__": metadata}).encode()
        return len(text).to_bytes(8, "little") + text + whole[end:]

    position = header["__metadata__"]["position"].encode()
    use = functools.partial(position_of, folder)
    hold(position, path, use, lines=False, count=count, seed="position", wrap=wrap)

    def headed(text: bytes) -> bytes:
        return len(text).to_bytes(8, "little") + text + whole[end:]

    hold(whole[8:end], path, use, lines=False, count=count, seed="header", wrap=headed)


@pytest.mark.parametrize("count", [50, COUNTS[1]])
def test_changed_metadata_of_weights_are_refused_or_used(count: int, tmp_path: Path) -> None:
    whole = locate(DIGITS, None).read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:end])
    stored = header["__metadata__"]
    in_json = [name for name, text in stored.items() if text[0] in "[{"]
    assert "preprocessing" in in_json

    def wrap(content: bytes) -> bytes:
        try:
            values = dict(json.loads(content))
        except (ValueError, TypeError, RecursionError):
            values = {**stored, "preprocessing": content.decode(errors="replace")}
        metadata = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
        text = json.dumps({**header, "__metadata__": metadata}).encode()
        return len(text).to_bytes(8, "little") + text + whole[end:]

    path = tmp_path / "a.safetensors"
    values = {name: json.loads(text) if name in in_json else text for name, text in stored.items()}
    use = functools.partial(read_weights, path)
    hold(json.dumps(values).encode(), path, use, lines=False, count=count, seed="metadata", wrap=wrap)
