"""Write the tables of the documents from results/ and the cards, so that no number in them is typed.

Pages in Chinese (docs/cn, README_cn.md) have the same tables with translated heads, words and notes.

python scripts/update_tables.py            # rewrite
python scripts/update_tables.py --check    # exit 1 when a document is out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from document_tables import accuracy, detection, experiments, phone, roads, speed, tipc, training
from document_tables.chinese import chinese
from document_tables.results import ROOT, load
from gradient_confusion import confusion_table
from mobilenext.models.tables import cells_table, detectors_table, models_table, variants_table
from mobilenext.quantization.tables import quantization_table
from mobilenext.report.bench_report import bench_note, bench_table
from mobilenext.report.names import network_name
from mobilenext.runs.tables import result_table

FOLDERS = (".", "docs", "docs/cn", "test_tipc", "test_tipc/docs")
BLOCKS: dict[str, Callable[[], str]] = {  # by the name in the document's marks
    "models": models_table,
    "detectors": detectors_table,
    "variants": variants_table,
    "cells": cells_table,
    "bccd": detection.bccd,
    "bccd_runtimes": detection.bccd_runtimes,
    "bench_detection": detection.bench_detection,
    "detection_speed": detection.detection_speed,
    "parity": accuracy.parity,
    "reproduced": accuracy.reproduced,
    "bench": speed.bench,
    "photos": speed.photos,
    "scale": speed.scale,
    "start_up": speed.start_up,
    "sensitivity": accuracy.sensitivity,
    "goldens": accuracy.goldens,
    "tipc_models": tipc.tipc_models,
    "tipc_modes": tipc.tipc_modes,
    "tipc_further": tipc.tipc_further,
    "tipc_steps": tipc.tipc_steps,
    "reproduction": accuracy.reproduction,
    "reproduction_losses": accuracy.reproduction_losses,
    "reproduction_variances": accuracy.reproduction_variances,
    "family": speed.family,
    "roads": roads.roads,
    "bench_note": lambda: bench_note(load("bench_batch1.json")),
    "bench_batch1": lambda: speed.by_runtime(load("bench_batch1.json")["rows"], network_name, "batch 1"),
    "bench_batch32": lambda: speed.by_runtime(load("bench_batch32.json")["rows"], network_name, "batch 32"),
    "bench_divisors": lambda: speed.by_runtime(
        load("bench_divisors.json")["rows"], lambda row: f"1/{row['identity_divisor']}", "shortcut of"
    ),
    "bench_plain": speed.bench_plain,
    "bench_int8": lambda: bench_table(load("bench_int8.json")),
    "quantization": lambda: quantization_table([load("tiny20_int8.json"), load("nips17_int8.json")]),
    "precision": accuracy.precision,
    "int8_settings": accuracy.int8_settings,
    "int8_processors": speed.int8_processors,
    "phone_files": phone.phone_files,
    "mnn_int8": phone.mnn_int8,
    "recipes": training.recipes,
    "bench_train": speed.bench_train,
    "two_processes": speed.two_processes,
    "operators": speed.operators,
    "serving": speed.serving,
    "search_step": speed.search_step,
    "trained": training.trained,
    "claim": training.claim,
    "tiny20_pairs": experiments.pairs,
    "tiny20_variants": experiments.variant_runs,
    "search_swap": experiments.swap,
    "search_cells": experiments.cells,
    "search_blocks": experiments.blocks,
    "claim_int8": training.claim_int8,
    "faithfulness": accuracy.faithfulness,
    "gradient_confusion": lambda: confusion_table(load("gradient_confusion.json")),
    "quickstart": lambda: result_table(load("quickstart.json")),
}


def rewritten(text: str, translate: Callable[[str], str]) -> str:
    """Return `text` with every block between its begin and end marks made anew, and translated."""
    return re.sub(
        r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)",
        lambda block: f"{block[1]}{translate(BLOCKS[block[2]]())}\n{block[3]}",
        text,
        flags=re.DOTALL,
    )


def main() -> int:
    stale = []
    for path in sorted({path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md")}):
        before = path.read_text(encoding="utf-8")
        is_chinese = path.parent.name == "cn" or path.stem.endswith("_cn")
        after = rewritten(before, chinese if is_chinese else str)
        if before != after:
            stale.append(str(path.relative_to(ROOT)))
            if "--check" not in sys.argv:
                path.write_text(after, encoding="utf-8")
    print("\n".join(stale) or "all tables are up to date")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
