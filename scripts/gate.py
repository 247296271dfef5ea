"""Record what the commands write, and check that they still write the same: the gate of a change of the code's layout.

Source    the installed command `mobilenext`, run in a temporary folder with a source folder of the caller's choice
Expected  `gate: equal`, exit 0; a difference is printed as `path: stored / now`, exit 1
Cost      about 2 minutes on one core
Command   python scripts/gate.py check [PART ...]
          python scripts/gate.py record [PART ...] --source OLD_CHECKOUT/src

Parts, one file each in tests/goldens/gate:

    help      --help of the command, of every verb and of the TIPC adapter; the tables of `list` and `recipes`
    convert   weights in PyTorch's names to ours, to .pdparams and back: tensors, metadata, certificates
    train     15 steps on digits, killed (SIGKILL) after a checkpoint in the second epoch and resumed: every tensor, the
              log, run.json, result.json
    evaluate  digits in ONNX Runtime; tiny20 in Paddle on generated pictures, stopped by a damaged one and resumed
    export    one export of each format: digests of the files and the fields of version 1 of the sidecar. All files are
              the same, byte for byte, every time, but .pdmodel: Paddle writes the files and lines of its callers into
              it (op_callstack), which are left out
    report    charts (Vega-Lite), tables and tiles of the page of the stored train and evaluate parts, with thumbnails

Everything goes through commands and files, so that the modules behind them may move. A tensor is stored as its type,
shape and the first 16 digits of its SHA-256. Times, speeds and the environment are replaced by
fixed values, so that their places in the files are checked, too.

Numbers depend on the instructions of the processor and on the versions of the libraries. On another processor train,
evaluate and export cannot be compared exactly: `check` says so and exits 2. There, check out the commit that the change
starts from, and record these parts from it: `git worktree add OLD COMMIT`, `gate.py record --source OLD/src`.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gate_parts import GOLDENS, PARTS, ROOT, Workshop, read_golden

NUMERIC = ("train", "evaluate", "export")  # their numbers depend on the processor


def layout(value: Any, indent: int = 0) -> str:
    """JSON with a line for whatever fits into one, so that a difference can be read."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or len(line) + indent <= 160:
        return line
    pad = "\n" + " " * (indent + 1)
    if isinstance(value, dict):
        inner = [
            f"{json.dumps(name, ensure_ascii=False)}: {layout(entry, indent + 1)}" for name, entry in value.items()
        ]
        return "{" + pad + f",{pad}".join(inner) + "\n" + " " * indent + "}"
    return "[" + pad + f",{pad}".join(layout(entry, indent + 1) for entry in value) + "\n" + " " * indent + "]"


def differences(path: str, stored: Any, now: Any) -> Iterator[str]:
    """Yield a line, `path: stored / now`, for each place where two values of JSON differ; text as a unified diff."""
    if isinstance(stored, dict) and isinstance(now, dict):
        for name in [*stored, *(name for name in now if name not in stored)]:
            if name not in now:
                yield f"{path}/{name}: {shown(stored[name])} / missing"
            elif name not in stored:
                yield f"{path}/{name}: missing / {shown(now[name])}"
            else:
                yield from differences(f"{path}/{name}", stored[name], now[name])
    elif isinstance(stored, list) and isinstance(now, list):
        if stored and now and all(isinstance(line, str) for line in [*stored, *now]):
            for line in difflib.unified_diff(stored, now, "stored", "now", lineterm="", n=0):
                yield f"{path}: {line}"
            return
        if len(stored) != len(now):
            yield f"{path}: {len(stored)} entries / {len(now)} entries"
        for place, (one, other) in enumerate(zip(stored, now, strict=False)):
            yield from differences(f"{path}[{place}]", one, other)
    elif json.dumps(stored) != json.dumps(now):  # so that 1, 1.0 and true are three values
        yield f"{path}: {shown(stored)} / {shown(now)}"


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}..."


def machine(shop: Workshop) -> dict[str, Any]:
    """The processor and the versions that the numbers depend on."""
    facts = json.loads(shop.run("info", "--json"))
    return {
        name: fact for name, fact in facts.items() if name not in ("cores", "memory_gib", "load_average", "governor")
    }


def record(parts: Iterable[str], shop: Workshop) -> int:
    GOLDENS.mkdir(parents=True, exist_ok=True)
    for part in parts:
        started = time.monotonic()
        content = {"made_on": machine(shop), "values": PARTS[part](shop)}
        (GOLDENS / f"{part}.json").write_text(layout(content) + "\n")
        print(f"{part}: recorded, {time.monotonic() - started:.0f} s", flush=True)
    return 0


def check(parts: Iterable[str], shop: Workshop, most: int) -> int:
    here, different, skipped = machine(shop), 0, 0
    for part in parts:
        started, golden = time.monotonic(), read_golden(part)
        there = golden["made_on"]
        if part in NUMERIC and any(here[fact] != there[fact] for fact in ("processor", "processor_features")):
            skipped += 1
            print(
                f"{part}: not compared. It was recorded on {there['processor']} {there['processor_features']}; this is"
            )
            print(f"  {here['processor']} {here['processor_features']}, and numbers depend on it. Record it here, from")
            print(f"  the commit that the change starts from: gate.py record {part} report --source OLD_CHECKOUT/src")
            continue
        lines = list(differences(part, golden["values"], PARTS[part](shop)))
        versions = [f"{name} {there.get(name)} / {fact}" for name, fact in here.items() if fact != there.get(name)]
        if lines and versions:
            print(f"{part}: recorded with other versions: {', '.join(versions)}")
        for line in lines[:most]:
            print(line)
        if len(lines) > most:
            print(f"{part}: {len(lines) - most} more; --most {len(lines)} shows all")
        print(
            f"{part}: {f'{len(lines)} differences' if lines else 'equal'}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
        different += bool(lines)
    print(
        f"gate: {different} parts differ"
        if different
        else f"gate: {skipped} not compared"
        if skipped
        else "gate: equal"
    )
    return 1 if different else 2 if skipped else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("record", "check"))
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--source", type=Path, default=ROOT / "src", help="folder of the sources to run (default: src)")
    parser.add_argument("--most", type=int, default=40, help="lines of differences of a part to print (default: 40)")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    parts = [part for part in PARTS if part in options.parts or not options.parts]
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        shop = Workshop(options.source, Path(folder))
        return record(parts, shop) if options.action == "record" else check(parts, shop, options.most)


if __name__ == "__main__":
    sys.exit(main())
