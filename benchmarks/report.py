"""The report page of a 50,000-image, 1,000-class evaluation, alone and two side by side: size, seconds, memory.

    python benchmarks/report.py [--rounds 3] [-o results/bench_report.json]

Each page is written by the command in a process of its own; the memory is that process's largest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mobilenext.machine.environment import environment
from mobilenext.origin import origin

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from evaluation_folders import write_large_evaluation


def measured(runs: list[Path], output: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "mobilenext", "report", *map(str, runs), "-o", str(output)]
    started = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return {"seconds": time.perf_counter() - started, "peak_memory_mib": usage.ru_maxrss / 1024}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("-o", "--output", type=Path, default=Path("results/bench_report.json"))
    arguments = options.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        runs = [write_large_evaluation(Path(folder) / f"run{seed}", seed=seed) for seed in range(2)]
        for count in (1, 2):
            page = Path(folder) / "report.html"
            times = [measured(runs[:count], page) for _ in range(arguments.rounds)]
            rows.append(
                {
                    "evaluations": count,
                    "images": 50_000,
                    "classes": 1000,
                    "rounds": arguments.rounds,
                    "median_seconds": round(statistics.median(one["seconds"] for one in times), 2),
                    "slowest_seconds": round(max(one["seconds"] for one in times), 2),
                    "peak_memory_mib": round(max(one["peak_memory_mib"] for one in times), 1),
                    "page_bytes": page.stat().st_size,
                }
            )
            print(rows[-1])
    arguments.output.write_text(json.dumps({"rows": rows, **origin(), "environment": environment()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
