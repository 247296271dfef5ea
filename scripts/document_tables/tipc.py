"""Tables of the chains of TIPC (test_tipc)."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from document_tables.results import ROOT, load
from mobilenext.drawing.markdown import table

_BASIC_ENDS = ("train_infer_python.txt", "train_infer_python_prod.txt")


def tipc_models() -> str:
    """Return the basic chain of every model, in the lite mode."""
    result = load("tipc.json")
    rows = [row for row in result["rows"] if _is_basic(row) and row["mode"] == "lite_train_lite_infer"]
    heading = ["model", "commands", "s", "score after it", "different answers", "infer = predict, evaluate"]
    where = result["environment"]
    note = (
        f"{where['cores']} cores of {where['processor']}, Paddle {where['paddlepaddle']}; a few epochs on 160 digits, "
        "or of the detector on 32 pictures with digits."
    )
    cells = [
        [
            Path(row["config"]).parent.name,
            f"{row['commands_passed']} of {row['commands']}",
            f"{row['seconds']:.0f}",
            next(step["said"] for step in row["steps"] if step["kind"] == "eval"),
            re.findall(r"(\d+) different", next(step["said"] for step in row["steps"] if step["kind"] == "infer"))[0],
            " and ".join(step["status"] for step in row["steps"] if step["kind"] == "compare"),
        ]
        for row in rows
    ]
    return table(heading, cells) + "\n\n" + note


def tipc_modes() -> str:
    """Return one model in every layout and mode, by our driver and by the official ones."""
    rows = [row for row in load("tipc.json")["rows"] if row["config"].endswith(_BASIC_ENDS)]
    ours = {(row["layout"], row["mode"]): row for row in rows if "/mobilenext_x0_35" in row["config"]}
    cells = []
    for row in load("tipc_official.json")["rows"]:
        own = ours[row["layout"], row["mode"]]
        cells.append(
            [
                row["layout"],
                row["mode"],
                f"{row['successful']} successful, {len(row['failed'])} failed",
                f"{own['commands_passed']} of {own['commands']}, {'passed' if own['passed'] else 'FAILED'}",
                f"{own['seconds']:.0f}",
            ]
        )
    return table(["layout", "mode", "the official driver, unmodified", "`test_tipc/run.py`", "s"], cells)


def tipc_further() -> str:
    """Return the chains beside the basic one."""
    rows = [row for row in load("tipc.json")["rows"] if not Path(row["config"]).name.endswith(_BASIC_ENDS)]
    cells = [
        [
            Path(row["config"]).name.removeprefix("train_").removesuffix("_infer_python.txt"),
            f"{row['commands_passed']} of {row['commands']}",
            f"{row['seconds']:.0f}",
            "; ".join(step["said"] for step in row["steps"] if step["kind"] in ("eval", "export")),
        ]
        for row in rows
    ]
    return table(["chain", "commands", "s", "what was found"], cells)


def tipc_steps() -> str:
    """Return what a chain prints."""
    sys.path.append(str(ROOT / "test_tipc"))
    from chain.report import chain_lines

    row = next(row for row in load("tipc.json")["rows"] if _is_basic(row) and "/mobilenext_x0_35" in row["config"])
    return "```\n" + "\n".join(chain_lines(row)) + "\n```"


def _is_basic(row: Mapping[str, Any]) -> bool:
    return row["layout"] == "specification" and Path(row["config"]).name == "train_infer_python.txt"
