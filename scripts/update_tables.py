"""Write the tables of the documents from results/ and the cards, so that no number in them is typed.

python scripts/update_tables.py            # rewrite
python scripts/update_tables.py --check    # exit 1 when a document is out of date
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mobilenext.report.tables import evaluation_table, models_table, result_table, table

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "README_cn.md", "docs/accuracy.md", "docs/paper_and_code.md")


def _load(name: str) -> Any:
    return json.loads((ROOT / "results" / name).read_text())


def parity() -> str:
    rows = [
        [
            row["weights"],
            row["runtime"],
            f"{row['correct_top1']} / {row['correct_top5']}",
            f"{row['pytorch_correct_top1']} / {row['pytorch_correct_top5']}",
            f"{row['equal_predictions']} of {row['images']}",
            f"{row['largest_difference_of_std']:.1e}",
        ]
        for row in _load("tiny20_parity.json")["rows"]
    ]
    heading = [
        "weights",
        "runtime",
        "correct top-1 / top-5",
        "in PyTorch",
        "equal predictions",
        "largest logit difference, of std",
    ]
    return table(heading, rows)


def bench() -> str:
    result = _load("bench_evaluation.json")
    where = result["environment"]
    note = (
        f"Medians of {len(result['rounds'])} rounds on {where['cores']} cores, {where['processor']}, "
        f"Paddle {where['paddlepaddle']}; the single image with one thread."
    )
    return evaluation_table(result) + "\n\n" + note


def sensitivity() -> str:
    results = _load("sensitivity.json")["rows"]
    base = results[0]["top1_percent"]
    rows = [
        [row["change"], f"{row['top1_percent']:.1f} %", f"{row['top1_percent'] - base:+.1f}" if index else "-"]
        for index, row in enumerate(results)
    ]
    return table(["preprocessing", "top-1", "points"], rows)


def goldens() -> str:
    rows = [
        [
            row["recording"],
            f"{row['float32_difference']:.1e}",
            f"{row['float64_difference']:.1e}",
            f"{row['rounding']:.1e}",
        ]
        for row in _load("goldens.json")["rows"]
    ]
    heading = [
        "recording",
        "Paddle float32 to PyTorch float32",
        "float64 to PyTorch float32",
        "Paddle float32 to float64",
    ]
    return table(heading, rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "models": models_table,
    "parity": parity,
    "bench": bench,
    "sensitivity": sensitivity,
    "goldens": goldens,
    "quickstart": lambda: result_table(_load("quickstart.json")),
}


def rewritten(text: str) -> str:
    """`text` with every block between its begin and end marks made anew."""
    return re.sub(
        r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)",
        lambda found: f"{found[1]}{BLOCKS[found[2]]()}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def main() -> int:
    stale = []
    for name in DOCUMENTS:
        before = (ROOT / name).read_text(encoding="utf-8")
        after = rewritten(before)
        if before != after:
            stale.append(name)
            if "--check" not in sys.argv:
                (ROOT / name).write_text(after, encoding="utf-8")
    print("\n".join(stale) or "all tables are up to date")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
