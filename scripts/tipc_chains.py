"""Run every chain that can run here, one after the other, and keep what each came to.

    python scripts/tipc_chains.py [-o results/tipc.json] [--only TEXT]   # the others' results stay as they are

The basic chain of every model and of one detector in the lite mode; of one model, every mode in all three layouts, and
every further chain. Each by `test_tipc/run.py`, in a scratch folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mobilenext.json_files import parse, read_json
from mobilenext.machine.environment import environment
from mobilenext.models.cards import paper_models
from mobilenext.origin import origin
from mobilenext.tipc.config import MODES

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = Path("test_tipc/configs")
MODEL, DETECTOR = "mobilenext_x0_35", "ssdlite320_mobilenext_x0_35"
KEPT = ("config", "layout", "mode", "passed", "commands", "commands_passed", "seconds")


def chains() -> list[tuple[Path, str]]:
    """Configuration and mode of each."""
    models = [*paper_models(), DETECTOR]
    basic = [(CONFIGS / model / "train_infer_python.txt", MODES[0]) for model in models]
    here = CONFIGS / MODEL
    layouts = (
        here / "train_infer_python.txt",
        here / "train_infer_python_prod.txt",
        CONFIGS / "paddleclas" / f"{MODEL}_train_infer_python.txt",
    )
    modes = [(config, mode) for config in layouts for mode in MODES]
    names = (path.name for path in sorted((ROOT / here).iterdir()))
    further = [(here / name, MODES[0]) for name in names if not name.startswith("train_infer_python")]
    return list(dict.fromkeys([*basic, *modes, *further]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("results/tipc.json"))
    parser.add_argument("--only", default="", help="chains whose configuration has this in its path")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        generated = shutil.ignore_patterns("data", "weights", "output", "quant_post_static_model")
        shutil.copytree(ROOT / "test_tipc", folder / "test_tipc", ignore=generated)
        shutil.copytree(ROOT / "deploy", folder / "deploy")
        for config, mode in chains():
            if options.only not in str(config):
                continue
            command = [sys.executable, "test_tipc/run.py", str(config), mode, "--json"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if not done.stdout:
                sys.exit(done.stderr)
            summary = parse(done.stdout.encode(), "the summary of a chain")
            steps = [{name: step[name] for name in ("kind", "status", "seconds", "said")} for step in summary["steps"]]
            rows.append({name: summary[name] for name in KEPT} | {"steps": steps})
            print({name: summary[name] for name in KEPT}, flush=True)
    if options.only:
        fresh = {(row["config"], row["mode"]): row for row in rows}
        before = read_json(options.output)["rows"]
        rows = [fresh.pop((row["config"], row["mode"]), row) for row in before] + list(fresh.values())
    options.output.write_text(json.dumps({"rows": rows, **origin(), "environment": environment()}, indent=1) + "\n")
    return int(not all(row["passed"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
