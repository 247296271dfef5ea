"""``bench``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mobilenext.cli.options import (
    BATCH_SIZE,
    ENGINE,
    EXPORTED,
    IDENTITY_DIVISOR,
    IMAGE_FILES,
    IMAGE_SIZE,
    JSON,
    MODEL,
    ONNX,
    OUTPUT,
    PRECISION,
    RUNTIME,
    RUNTIME_NAMES,
    THREADS,
    WEIGHTS,
    add_flags,
    print_report,
)  # fmt: skip
from mobilenext.cli.parsing import numbers
from mobilenext.cli.verb import Verb
from mobilenext.machine.stopping import first_signal


def _declare(command: argparse.ArgumentParser) -> None:
    listed: dict[str, Any] = {"default": [1], "metavar": "N,N"}
    runtimes = f"runtimes: auto (default), all, NAME:ENGINE, or some of {RUNTIME_NAMES}"
    add_flags(
        command,
        MODEL.several(help="names from `mobilenext list`, or model.tag"),
        WEIGHTS(help="checkpoint file or tag (default: random initialization)"),
        EXPORTED.several(help="folders written by `mobilenext export`"),
        ONNX.several(help="ONNX files"),
        RUNTIME.several(default=["auto"], help=runtimes),
        ENGINE(help="engine of paddle-inference: openvino, onednn or native (default: auto)"),
        PRECISION,
        THREADS.several(numbers, **listed, help="numbers of threads, one row each (default: 1)"),
        BATCH_SIZE.several(numbers, **listed, help="batch sizes, one row each (default: 1)"),
        IDENTITY_DIVISOR.several(numbers, **listed, help="identity divisors, one row each (default: 1)"),
        IMAGE_SIZE(help="side of the input in pixels (default: that of the weights, or 224)"),
        IMAGE_FILES(help="images to show the networks, in turns (default: noise)"),
    )
    command.add_argument(
        "--samples", type=int, default=50, metavar="N", help="timed calls per row (default: 50, at least 30)"
    )
    add_flags(command, OUTPUT(help="folder for bench.json, bench.md and bench.png (default: none is written)"), JSON)


def _bench(options: argparse.Namespace) -> int:
    from mobilenext.evaluation.bench import bench
    from mobilenext.machine.console import progress_bar
    from mobilenext.report.bench_report import bench_lines, row_line, write_bench

    output = Path(options.output) if options.output else None
    with _writable(output, write_bench), progress_bar(unit=" rows") as progress:
        result = bench(
            models=options.model,
            weights=options.weights,
            exported=options.exported,
            onnx=options.onnx,
            runtimes=options.runtime,
            engine=options.engine,
            precision=options.precision,
            threads=options.threads,
            batch_sizes=options.batch_size,
            identity_divisors=options.identity_divisor,
            image_size=options.image_size,
            images=options.images,
            samples=options.samples,
            progress=progress,
            on_row=lambda row: logging.info("%s", row_line(row)),
        )
    print_report(bench_lines(result), options, result)
    if output:
        for note in write_bench(result, output):
            logging.info("%s", note)
    return 128 + (first_signal() or signal.SIGINT) if result["partial"] else 0


@contextlib.contextmanager
def _writable(output: Path | None, write: Callable[[None, Path], Any]) -> Iterator[None]:
    """Try to write before the work; where the work fails, remove the new folders again."""
    if output is None:
        yield
        return
    new = [folder for folder in (output, *output.parents) if not folder.exists()]
    write(None, output)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in new:
                folder.rmdir()
        raise


BENCH = Verb(
    "bench", "measure the latency of models and runtimes, interleaved in one run", _declare, _bench,
    (
        "bench --model mobilenext_x1_0,mobilenetv2_x1_0 --runtime all --threads 1,2 -o runs/bench",
        "bench --weights mobilenext_x1_0.safetensors --runtime onnxruntime --batch-size 1,32",
        "bench --exported exported/x1_0 int8/x1_0",
    ),
)  # fmt: skip
