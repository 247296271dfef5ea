"""Run Paddle's own TIPC drivers, unmodified, on our configurations.

    python scripts/official_drivers.py specification=DIR prod=DIR paddleclas=DIR [-o results/tipc_official.json]
    python scripts/official_drivers.py specification=DIR prod=DIR paddleclas=DIR --record

Each DIR holds a driver as its repository has it: test_train_inference_python.sh and common_func.sh. They are not a part
of this repository. What they run is done in a scratch folder with our test_tipc/ and deploy/.

Without --record every mode of every layout is run, and it is counted what the drivers' status logs say. With --record
nothing is computed: an interpreter that does nothing lets the drivers write the commands that they make of our
configurations into tests/test_tipc/official_commands.json, with which the tests compare ours.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mobilenext.machine.environment import environment
from mobilenext.origin import origin
from mobilenext.tipc.config import MODES, PADDLECLAS, PROD, SPECIFICATION

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "tests/test_tipc/official_commands.json"
DRIVER = "test_train_inference_python.sh"
MODEL = "mobilenext_x0_35"
BASIC = {
    SPECIFICATION: f"test_tipc/configs/{MODEL}/train_infer_python.txt",
    PROD: f"test_tipc/configs/{MODEL}/train_infer_python_prod.txt",
    PADDLECLAS: f"test_tipc/configs/paddleclas/{MODEL}_train_infer_python.txt",
}
FURTHER = (
    "infer_python_gpu",
    *(f"{n}_infer_python" for n in ("to_static", "two_processes", "ptq", "paddle2onnx", "legacy")),
)
# Rows of PaddleClas' layout that our configurations do not have: several GPUs, mixed precision, a graph, TensorRT.
MORE_ROWS = {
    4: "gpu_list:0|0,1", 6: "-o Global.auto_cast:null|fp16", 15: "trainer:norm_train|to_static_train",
    20: "to_static_train:-o Global.to_static=True", 41: "-o Global.use_gpu:True|False",
    43: "-o Global.cpu_num_threads:1", 44: "-o Global.batch_size:1", 45: "-o Global.use_tensorrt:False|True",
    46: "-o Global.use_fp16:False|True",
}  # fmt: skip


def scratch_repository(folder: Path, driver: Path) -> None:
    """What a driver needs: our files, and itself."""
    generated = shutil.ignore_patterns("data", "weights", "output", "quant_post_static_model")
    shutil.copytree(ROOT / "test_tipc", folder / "test_tipc", ignore=generated)
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    for script in (DRIVER, "common_func.sh"):
        shutil.copy(driver / script, folder / "test_tipc")


def run_driver(folder: Path, config: str, mode: str, path: str) -> tuple[list[tuple[bool, str]], int]:
    """Success and command of each line of the driver's status log, and the driver's exit code."""
    for left in folder.rglob("results_python.log"):
        left.unlink()
    done = subprocess.run(
        ["bash", f"test_tipc/{DRIVER}", config, mode], cwd=folder, env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    (status,) = folder.rglob("results_python.log")
    lines = [status_of(line) for line in status.read_text().splitlines()]
    commands = [(success, " ".join(command.replace(str(folder), "ROOT").split())) for success, command in lines]
    return commands, done.returncode


def status_of(line: str) -> tuple[bool, str]:
    """Success and command of a line of a status log.

    Drivers write "Run successfully with command - COMMAND! ", before it "MODEL - " (which may be empty) or not, and
    behind it " - X.log " or not; in color.

    Raises:
        ValueError: another line.
    """
    plain = re.sub(r"\x1b\[[\d;]*m", "", line).strip()
    match = re.fullmatch(r"Run (successfully|failed) with command -(?: \S* -| -)? (.*?)(?: - \S+\.log)? ?!", plain)
    if not match:
        raise ValueError(f"{plain!r} is no line of a status log")
    return match[1] == "successfully", match[2].strip()


def certify(drivers: dict[str, Path]) -> dict[str, Any]:
    rows = []
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for layout, driver in drivers.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            scratch_repository(folder, driver)
            for mode in MODES:
                prepare = ["bash", "test_tipc/prepare.sh", BASIC[layout], mode]
                subprocess.run(prepare, cwd=folder, env={**os.environ, "PATH": path}, check=True, capture_output=True)
                started = time.perf_counter()
                commands, code = run_driver(folder, BASIC[layout], mode, path)
                rows.append(
                    {
                        "layout": layout,
                        "config": BASIC[layout],
                        "mode": mode,
                        "successful": sum(success for success, _ in commands),
                        "failed": [command for success, command in commands if not success],
                        "exit_code": code,
                        "seconds": round(time.perf_counter() - started, 1),
                        "driver_sha256": hashlib.sha256((driver / DRIVER).read_bytes()).hexdigest(),
                    }
                )
                print({key: rows[-1][key] for key in ("layout", "mode", "successful", "failed", "seconds")}, flush=True)
    return {"rows": rows, **origin(), "environment": environment()}


def record(drivers: dict[str, Path]) -> list[dict[str, Any]]:
    wanted: list[tuple[str, str, str, dict[int, str]]] = [
        (layout, BASIC[layout], mode, {}) for layout in drivers for mode in MODES
    ]
    further = [BASIC[SPECIFICATION].replace("infer_python", name) for name in FURTHER]
    wanted += [(SPECIFICATION, config, MODES[0], {}) for config in further]
    wanted += [(SPECIFICATION, further[0], MODES[3], {}), (PADDLECLAS, BASIC[PADDLECLAS], MODES[0], MORE_ROWS)]
    entries = []
    with tempfile.TemporaryDirectory() as tools:
        for name in ("python", "sleep"):
            tool = Path(tools) / name
            tool.write_text("#!/bin/sh\nexit 0\n")
            tool.chmod(0o755)
        for layout, config, mode, changes in wanted:
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                scratch_repository(folder, drivers[layout])
                (folder / "test_tipc/quant_post_static_model").mkdir()  # PaddleClas' driver enters it
                lines = (folder / config).read_text().splitlines()
                for number, line in changes.items():
                    lines[number - 1] = line
                (folder / config).write_text("\n".join(lines) + "\n")
                commands, _ = run_driver(folder, config, mode, os.pathsep.join([tools, os.environ["PATH"]]))
            entry: dict[str, Any] = {"layout": layout, "config": config, "mode": mode}
            if changes:
                entry["changes"] = {str(number): line for number, line in changes.items()}
            entries.append({**entry, "commands": [command for _, command in commands]})
    return entries


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drivers", nargs=3, metavar="LAYOUT=DIR")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.relative_to(ROOT)} instead")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/tipc_official.json"))
    options = parser.parse_args()
    drivers = {layout: Path(folder) for layout, _, folder in (argument.partition("=") for argument in options.drivers)}
    if set(drivers) != set(BASIC):
        parser.error(f"expected {', '.join(f'{layout}=DIR' for layout in BASIC)}")
    if options.record:
        RECORD.write_text(json.dumps(record(drivers), indent=1) + "\n")
        return 0
    result = certify(drivers)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    return int(any(row["failed"] or not row["successful"] for row in result["rows"]))


if __name__ == "__main__":
    sys.exit(main())
