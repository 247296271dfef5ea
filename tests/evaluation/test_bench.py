from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from in_process import Here
from mobilenext.errors import OutputError, UsageError
from mobilenext.evaluation import bench as module
from mobilenext.evaluation import timing
from mobilenext.evaluation.bench import bench
from mobilenext.evaluation.timing import Timed, time_in_turns
from mobilenext.machine.packages import installed
from mobilenext.report.bench_report import bench_lines, bench_table, row_line, write_bench
from mobilenext.runtime import RuntimeSpec

NUMBERS = {
    "median_ms", "p10_ms", "p90_ms", "ms_per_image", "images_per_second", "times_first_row", "start_up_ms",
    "peak_memory_mib", "gmacs_per_second", "times_compute_floor",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def rows_here() -> Iterator[None]:
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
        image_size=32, identity_divisors=(1, 2),
    )  # fmt: skip


def test_every_combination_has_a_row(result: dict[str, Any]) -> None:
    rows = result["rows"]
    found = [(row["identity_divisor"], row["runtime"], row["engine"], row["batch_size"]) for row in rows]
    ways = [("paddle-inference", "onednn"), ("paddle", "eager")]
    assert found == [(divisor, *way, batch) for divisor in (1, 2) for way in ways for batch in (1, 2)]
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
    assert "mobilenext_x0_35, divisor 2, 32 px" in text
    assert "paddle-inference (onednn)" in text
    assert "interleaved rounds" in text
    if installed("vl_convert"):
        assert (tmp_path / "new" / "bench.png").read_bytes().startswith(b"\x89PNG")
    else:
        assert "pip install 'mobilenext[bench]'" in " ".join(said)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_bench(None, tmp_path / "file" / "out")


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
