from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from in_process import Here
from mobilenext.errors import DataError, OutputError, UsageError
from mobilenext.evaluation import bench as module
from mobilenext.evaluation import timing
from mobilenext.evaluation.bench import bench
from mobilenext.evaluation.bench_networks import BenchNetwork, images_for, networks_of
from mobilenext.evaluation.timing import Timed, batches_of, time_in_turns
from mobilenext.machine.packages import installed
from mobilenext.report.bench_report import bench_lines, bench_table, row_line, write_bench
from mobilenext.runs.bench import read_bench
from mobilenext.runtime import RuntimeSpec
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import find_subject, weights_of
from mobilenext.weights.pretrained import BUNDLED

DETECTOR = "ssdlite320_mobilenext_x0_35.bccd"
NUMBERS = {
    "median_ms", "p10_ms", "p90_ms", "ms_per_image", "images_per_second", "times_first_row", "start_up_ms",
    "peak_memory_mib", "gmacs_per_second", "times_compute_floor",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def rows_here(written_once: None) -> Iterator[None]:
    """Rows in this process, not warmed up: fifteen others take over a minute. cli/test_command.py has two."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "WorkerPool", Here)
        patched.setattr(timing, "WorkerPool", Here)
        patched.setattr(timing, "warm_up", lambda: 0.001)
        patched.setattr(module, "gemm_gmacs", lambda threads: 50.0)
        yield
    gc.enable()  # which a row turns off


@pytest.fixture(scope="module")
def result(rows_here: None) -> dict[str, Any]:
    return bench(
        models=["mobilenext_x0_35"], runtimes=["paddle-inference:onednn", "paddle"], batch_sizes=(1, 2), samples=30,
        image_size=32,
    )  # fmt: skip


def test_every_combination_has_a_row(result: dict[str, Any]) -> None:
    rows = result["rows"]
    found = [(row["identity_divisor"], row["runtime"], row["engine"], row["batch_size"]) for row in rows]
    ways = [("paddle-inference", "onednn"), ("paddle", "eager")]
    assert found == [(1, *way, batch) for way in ways for batch in (1, 2)]
    assert result["skipped"] == []
    for row in rows:
        assert row["samples"] >= 30
        assert (row["threads"], row["image_size"], row["precision"]) == (1, 32, "fp32")
        assert all(row[name] > 0 for name in NUMBERS), row
        assert row["p10_ms"] <= row["median_ms"] <= row["p90_ms"]
        assert row["ms_per_image"] == pytest.approx(row["median_ms"] / row["batch_size"], abs=1e-3)
        assert row["mult_adds"] == rows[0]["mult_adds"] < 75_141_032, "of 32 pixels"
    assert rows[0]["times_first_row"] == 1
    assert result["environment"]["processor"]
    assert result["configuration"]["weights"] == "freshly initialised"


def test_the_files(result: dict[str, Any], tmp_path: Path) -> None:
    write_bench(None, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == [], "only tried"
    said = write_bench(result, tmp_path / "new")
    assert json.loads((tmp_path / "new" / "bench.json").read_text()) == result
    text = (tmp_path / "new" / "bench.md").read_text()
    assert bench_table(result) in text
    assert "mobilenext_x0_35, 32 px" in text
    assert "paddle-inference (onednn)" in text
    assert "interleaved rounds" in text
    if installed("vl_convert"):
        assert (tmp_path / "new" / "bench.png").read_bytes().startswith(b"\x89PNG")
    else:
        assert "pip install 'mobilenext[bench]'" in " ".join(said)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_bench(None, tmp_path / "file" / "out")


class _Logits:
    """In place of a classifier."""

    def predict(self, batch: Any) -> tuple[Any]:
        return (np.zeros((len(batch), 1000), np.float32),)


def test_each_divisor_has_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "open_runtime", lambda spec: _Logits())
    result = bench(
        models=["mobilenext_x0_35"], runtimes=["paddle"], batch_sizes=(1, 2), samples=30, image_size=32,
        identity_divisors=(1, 2),
    )  # fmt: skip
    found = [(row["identity_divisor"], row["batch_size"]) for row in result["rows"]]
    assert found == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert "mobilenext_x0_35, divisor 2, 32 px" in bench_table(result)


@pytest.mark.skipif(not installed("vl_convert"), reason="vl-convert is not installed (the extra bench)")
def test_many_rows_become_lines(result: dict[str, Any], tmp_path: Path) -> None:
    from mobilenext.report.bench_report import write_plot

    widths = ("mobilenext_x0_35", "mobilenext_x1_0", "mobilenetv2_x1_0")
    rows = [
        {**row, "network": name, "threads": threads, "identity_divisor": 1, "mult_adds": number * 10**8}
        for row in result["rows"]
        for threads in (1, 2)
        for number, name in enumerate(widths, start=1)
    ]
    write_plot({**result, "rows": rows}, tmp_path / "lines.png")
    assert (tmp_path / "lines.png").stat().st_size > 10_000


def test_rounds_go_over_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """No row is finished before the last has begun."""
    order: list[int] = []

    class Pool:
        count = 0

        def __init__(self, *arguments: Any) -> None:
            self.number = Pool.count
            Pool.count += 1

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *arguments: object) -> None: ...

        def call(self, function: Any, *arguments: Any) -> Any:
            if function is timing.burst:
                order.append(self.number)
                return [0.001 * (self.number + 1)] * arguments[0]
            return 1.0

    monkeypatch.setattr(timing, "WorkerPool", Pool)
    monkeypatch.setattr(timing, "GROUP", 3)
    network = Timed(RuntimeSpec("paddle", "eager", "cpu", 1, Path()), 1, 32)
    timings = list(time_in_turns([network] * 6, 33))
    assert order[:9] == [0, 1, 2] * 3
    assert order[15:] == [*[3, 4, 5] * 5, *[6, 7] * 5], "the later groups begin with the first row again"
    assert [len(one.seconds) for one in timings] == [35] * 6
    assert [one.first[0] for one in timings] == [0.001] * 3 + [0.004] * 2 + [0.007]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 10}, "samples is 10; expected at least 30"),
        ({"threads": (0,)}, "threads is 0"),
        ({"threads": (4096,)}, "threads is 4096, but this process may use"),
        ({"batch_sizes": (0,)}, "batch_size is 0"),
        ({"models": ()}, "nothing to measure"),
        ({"weights": "a", "models": ("mobilenext_x1_0", "mobilenext_s")}, "for 2 models"),
        ({"models": ("mobilenxt_x1_0",)}, "did you mean"),
        ({"runtimes": ("caffe",)}, "runtime is 'caffe'"),
        ({"runtimes": ("paddle:onednn",)}, "belongs to the runtime paddle-inference"),
    ],
)
def test_what_cannot_be_measured(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bench(**{"models": ("mobilenext_x0_35",), "image_size": 32, **options})


def test_weights_alone_say_what_they_are_of(tmp_path: Path) -> None:
    file = BUNDLED / "mobilenext_x0_35.digits.safetensors"
    (network,) = networks_of(tmp_path, {"weights": file})
    _, known = module._prepare(network, tmp_path / "prepared", Choice("paddle", "auto"), [])
    assert (known.name, known.image_size, known.identity_divisor, known.fresh) == (file.stem, 64, 1, False)
    assert known.mult_adds > 0


def test_all_says_what_it_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module._prepare

    class OnlyOneDNN(Here):
        def call(self, function: Any, *arguments: Any) -> Any:
            if function is real and arguments[2].engine != "onednn":
                raise UsageError("not here")
            return function(*arguments)

    monkeypatch.setattr(module, "WorkerPool", OnlyOneDNN)
    monkeypatch.setattr(module, "installed", lambda package: package == "paddle")
    result = bench(models=["mobilenext_x0_35"], runtimes=["all"], samples=30, image_size=32)
    assert [row["engine"] for row in result["rows"]] == ["onednn"]
    assert [(entry["runtime"], entry["reason"]) for entry in result["skipped"]] == [
        ("paddle-inference openvino", "not here"),
        ("paddle-inference native", "not here"),
        ("paddle auto", "not here"),
    ]
    assert "skipped: mobilenext_x0_35, paddle auto: not here" in bench_lines(result)


class _Interrupted(Here):
    """A worker in which Ctrl-C comes at the burst with a number."""

    bursts, at = 0, 0

    def call(self, function: Any, *arguments: Any) -> Any:
        if function is timing.burst:
            _Interrupted.bursts += 1
            if _Interrupted.bursts == _Interrupted.at:
                raise KeyboardInterrupt
        return function(*arguments)


def test_rows_come_as_they_are_measured_and_ctrl_c_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WorkerPool", _Interrupted)
    monkeypatch.setattr(timing, "open_runtime", lambda spec: _Logits())
    options: dict[str, Any] = {"models": ["mobilenext_x0_35"], "runtimes": ["paddle"], "samples": 30, "image_size": 32}
    _Interrupted.at = 10  # two rows of five bursts: before the last one
    rows: list[dict[str, Any]] = []
    result = bench(**options, batch_sizes=(1, 2), on_row=rows.append)
    assert result["partial"] is True
    assert rows == result["rows"]
    assert [(row["batch_size"], row["samples"]) for row in rows] == [(1, 30), (2, 24)]
    assert any(line.startswith("PARTIAL") for line in bench_lines(result))
    assert row_line(rows[0]).startswith("mobilenext_x0_35, 32 px, paddle, 1 thread, batch 1: ")
    _Interrupted.bursts, _Interrupted.at = 0, 1
    with pytest.raises(KeyboardInterrupt):  # nothing was measured
        bench(**options)


def test_images_come_in_turns(tmp_path: Path) -> None:
    images = np.arange(3, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 4, 4), np.float32)
    np.save(tmp_path / "images.npy", images)
    timed = Timed(RuntimeSpec("paddle", "eager", "cpu", 1, tmp_path), 2, 4, tmp_path / "images.npy")
    assert [batch[:, 0, 0, 0].tolist() for batch in batches_of(timed)] == [[0, 1], [2, 0]]
    for number in range(40):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number:02}.png")
    names = [path.name for path in images_for([tmp_path])]
    assert (len(names), names[0], names[-1]) == (16, "00.png", "39.png")
    with pytest.raises(DataError, match="nowhere"):
        bench(models=["mobilenext_x0_35"], images=[tmp_path / "nowhere"])


class _Boxes:
    """In place of a detector: three boxes in a white picture, one in a black one, all of the first class."""

    def predict(self, batch: Any) -> tuple[Any, Any]:
        scores = np.tile(np.float32([20, 0, 0, 0]), (len(batch), 3234, 1))
        for picture, pixels in zip(scores, batch, strict=True):
            picture[[0, 1600, 3200][: 3 if pixels.mean() > 0 else 1], 1] = 20  # a half each, background and class
        return scores, np.zeros((len(batch), 3234, 4), np.float32)


def test_boxes_have_a_row_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(timing, "open_runtime", lambda spec: _Boxes())
    for name, color in (("a", "white"), ("b", "black")):
        Image.new("RGB", (30, 20), color).save(tmp_path / f"{name}.png")
    result = bench(models=[DETECTOR], runtimes=["paddle"], samples=30, images=[tmp_path])
    alone, whole = result["rows"]
    assert not alone.keys() & {"post_processing", "post_processing_ms", "amounts_per_image"}
    assert alone["mult_adds"] > 0
    assert whole["mult_adds"] is None, "nobody has counted what follows"
    assert (whole["post_processing"], whole["amounts_per_image"]) == ("boxes", {"candidates": 2, "boxes": 2})
    assert 0 < whole["post_processing_ms"] < whole["median_ms"]
    assert result["configuration"]["input"] == "2 images in turns, resident in memory: a.png, b.png"
    assert result["configuration"]["weights"] == "as given"
    write_bench(result, tmp_path / "out")
    assert read_bench(tmp_path / "out", "out").result == result
    head, _, *lines = bench_table(result).splitlines()
    assert head.rstrip(" |").endswith("| of it, post-processing | candidates | boxes")
    assert [line.split("|")[1].strip() for line in lines] == [
        "ssdlite320_mobilenext_x0_35, 320 px",
        "ssdlite320_mobilenext_x0_35, 320 px + boxes",
    ]


def test_boxes_of_fresh_weights_are_not_timed() -> None:
    subject = find_subject(model=DETECTOR)
    record, skipped = weights_of(subject).record(), list[dict[str, str]]()
    for _ in range(2):
        assert module._answering(BenchNetwork("a", subject, 1, 320, None, fresh=True), record, skipped) == []
    assert [entry["network"] for entry in skipped] == ["a + boxes"]
