"""An evaluation of ImageNet's size, simulated with links to a few photos: time, memory, journal, resume, long lists.

    python benchmarks/scale.py PHOTOS                       # results/bench_scale.json; about 25 minutes on two cores
    python benchmarks/scale.py PHOTOS --only lines -o FILE

PHOTOS is a folder of JPEG photos. The set has 50,000 hard links to copies of them in imgs/ and a val_list.txt of 1,000
classes; the network is mobilenext_x1_0 with random weights at 224 pixels, in the runtime that `evaluate` takes.

whole     one `mobilenext evaluate`: images/s, the memory of all its processes in each tenth of the run, the journal
resumed   the same, killed with SIGKILL in the middle and resumed: the seconds until the first image after the
          interruption is predicted, from the start of the command, beside those of a fresh start
launched  the same in two processes of `paddle.distributed.launch`
lines     a list of 1,000,000 lines, a link each: seconds and memory until the first image is predicted

That the predictions of the three runs are the same bytes is checked; else the command fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation import save_random_weights
from mobilenext.machine.environment import environment
from mobilenext.machine.pool import WorkerPool
from mobilenext.origin import origin
from mobilenext.runs.journal import JOURNAL, PREDICTIONS
from process_memory import MemoryOfTree
from result_tables import scale_table

MODEL, CLASSES = "mobilenext_x1_0", 1000
PARTS = ("whole", "resumed", "launched", "lines")
LAUNCHER = ("-m", "paddle.distributed.launch", "--nproc_per_node", "2")
EVERY = 0.05  # seconds between two looks at the journal


def make_set(photos: Path, images: int, folder: Path) -> Path:
    """Write a data set of hard links to copies of the photos: imgs/ and val_list.txt."""
    sources = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not sources:
        raise SystemExit(f"{photos} holds no JPEG file")
    (folder / "imgs").mkdir(parents=True)
    copies = [shutil.copy(path, folder / f"photo_{number}.jpg") for number, path in enumerate(sources)]
    with (folder / "val_list.txt").open("w") as file:
        for number in range(images):
            name = f"ILSVRC2012_val_{number + 1:08}.JPEG"
            os.link(copies[number % len(copies)], folder / "imgs" / name)
            file.write(f"{name} {number % CLASSES}\n")
    return folder


@dataclass
class Command:
    """An evaluation under way in a process group of its own."""

    process: subprocess.Popen[bytes]
    output: Path
    began: float
    memory: MemoryOfTree
    lines_read: int = 0  # of the journal
    bytes_read: int = 0

    @classmethod
    def start(cls, data: Path, weights: Path, output: Path, *options: str, program: Sequence[str] = ()) -> Command:
        """Start the command; `program` are the arguments of Python (default: the module)."""
        arguments = [*(program or ("-m", "mobilenext")), "evaluate", str(data), "--weights", str(weights)]
        log = output.with_suffix(".txt").open("ab")
        process = subprocess.Popen(
            [sys.executable, *arguments, "-o", str(output), *options], stdout=log, stderr=log, start_new_session=True
        )
        memory = MemoryOfTree(process.pid, every=0.5)
        memory.start()
        return cls(process, output, time.monotonic(), memory)

    def size(self) -> int:
        """Return the bytes of the journal."""
        try:
            return (self.output / JOURNAL).stat().st_size
        except OSError:
            return 0

    def rows(self) -> int:
        """Return the rows of the journal, of which only what is new is read; its first line is none."""
        if self.size() > self.bytes_read:
            with (self.output / JOURNAL).open("rb") as file:
                file.seek(self.bytes_read)
                content = file.read()
            self.bytes_read += len(content)
            self.lines_read += content.count(b"\n")
        return max(0, self.lines_read - 1)

    def wait_for(self, condition: Callable[[], bool]) -> float:
        """Wait until something is so; return the seconds since the start."""
        while not condition():
            if self.process.poll() is not None:
                raise SystemExit(f"the evaluation ended early; {self.output.with_suffix('.txt')} says why")
            time.sleep(EVERY)
        return time.monotonic() - self.began

    def first_row(self, before: int = 0) -> float:
        """Return the seconds until the journal has a row beside its first line, or beside what it had before."""
        if before:
            return self.wait_for(lambda: self.size() > before)
        return self.wait_for(lambda: self.rows() > 0)

    def kill(self) -> None:
        """Kill all its processes at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finish(self) -> dict[str, Any]:
        """Wait for the end; return the seconds it took and what it wrote."""
        code = self.process.wait()
        seconds = time.monotonic() - self.began
        if code:
            raise SystemExit(f"exit code {code}; {self.output.with_suffix('.txt')} says why")
        result = json.loads((self.output / "result.json").read_text())
        content = (self.output / PREDICTIONS).read_bytes()
        return {
            "seconds": seconds,
            "images": result["images"],
            "images_per_second": result["images_per_second"],
            "runtime": result["latency"]["runtime"],
            "processes": result["processes"],
            "peak_memory_mib": self.memory.peak_mib,
            "predictions_mib": len(content) / 2**20,
            "predictions_sha256": hashlib.sha256(content).hexdigest(),
        }


def whole(data: Path, weights: Path, folder: Path) -> dict[str, Any]:
    """Evaluate all in one go."""
    command = Command.start(data, weights, folder / "whole")
    first = command.first_row()
    row = command.finish()
    peaks = [0.0] * 10
    for moment, mib in command.memory.samples:
        share = (moment - command.began - first) / (row["seconds"] - first)
        if 0 <= share < 1:
            peaks[int(10 * share)] = max(peaks[int(10 * share)], mib)
    return {**row, "first_row_seconds": first, "peak_memory_mib_by_tenth": peaks}


def resumed(data: Path, weights: Path, folder: Path) -> dict[str, Any]:
    """Kill an evaluation in the middle, and resume it."""
    output = folder / "resumed"
    half = sum(1 for _ in (data / "val_list.txt").open()) // 2
    command = Command.start(data, weights, output)
    fresh = command.first_row()
    command.wait_for(lambda: command.rows() > half)
    command.kill()
    kept, size = command.rows(), command.size()
    again = Command.start(data, weights, output, "--resume")
    first = again.first_row(before=size)
    return {
        **again.finish(),
        "rows_kept": kept,
        "journal_mib": size / 2**20,
        "first_row_seconds": first,
        "fresh_first_row_seconds": fresh,
    }


def launched(data: Path, weights: Path, folder: Path) -> dict[str, Any]:
    """Evaluate in two processes of Paddle's launcher, which takes the installed command."""
    installed = Path(sys.executable).with_name("mobilenext")
    program = (*LAUNCHER, "--log_dir", str(folder / "launcher"), str(installed))
    return Command.start(data, weights, folder / "launched", program=program).finish()


def lines(photos: Path, number: int, weights: Path, folder: Path) -> dict[str, Any]:
    """Wait for the first image of a long list."""
    data = make_set(photos, number, folder / "long")
    command = Command.start(data, weights, folder / "lines")
    seconds = command.first_row()
    peak = command.memory.peak_mib
    command.kill()
    return {"lines": number, "first_row_seconds": seconds, "peak_memory_mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--only", choices=PARTS, help="one of the parts (default: all)")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/bench_scale.json"))
    options = parser.parse_args()
    parts = (options.only,) if options.only else PARTS
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, weights = Path(name), Path(name) / "random.pdparams"
        with WorkerPool(1) as single:  # this process stays small
            single.call(save_random_weights, weights)
        data = make_set(options.photos, options.images, folder / "data")
        for part in parts:
            if part == "lines":
                rows[part] = lines(options.photos, options.lines, weights, folder)
            else:
                rows[part] = {"whole": whole, "resumed": resumed, "launched": launched}[part](data, weights, folder)
            print(f"{part}: {rows[part]}", file=sys.stderr, flush=True)
    if len({row["predictions_sha256"] for row in rows.values() if "predictions_sha256" in row}) > 1:
        raise SystemExit("the runs predicted different things")
    result = {"model": MODEL, "image_size": 224, "photos": options.photos.name, **rows}
    result |= {**origin(), "environment": environment()}
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    if not options.only:
        print(scale_table(result))


if __name__ == "__main__":
    main()
