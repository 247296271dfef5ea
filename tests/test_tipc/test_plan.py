"""The commands of a plan are those that the unmodified official drivers run.

official_commands.json was recorded from the status logs of these drivers, with an interpreter that does nothing:
Paddle's template (specification), its reference repository (prod) and PaddleClas. ROOT stands for the repository.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chain.plan import EXPORT, INFER, TRAIN, Step, gpu_rows, steps_of
from mobilenext.errors import UsageError
from mobilenext.tipc.config import read_config

ROOT = Path(__file__).parents[2]
RECORDED = json.loads((Path(__file__).parent / "official_commands.json").read_text())


def _words(command: str) -> list[str]:
    """Without the redirection to a log, and with paths in one spelling."""
    command = command.partition(" > ")[0].replace("=./", "=")
    return [word.rstrip("/") for word in command.split()]


def _outputs(entry: dict[str, Any]) -> Path:
    """The folder in which the driver of this layout works."""
    folder = Path("log" if entry["layout"] == "prod" else "test_tipc/output") / "mobilenext_x0_35" / entry["mode"]
    return "ROOT" / folder if entry["layout"] == "paddleclas" else folder


def _config(entry: dict[str, Any], tmp_path: Path) -> Any:
    lines = (ROOT / entry["config"]).read_text().splitlines()
    for number, line in entry.get("changes", {}).items():
        lines[int(number) - 1] = line
    path = tmp_path / Path(entry["config"]).name
    path.write_text("\n".join(lines) + "\n")
    return read_config(path)


@pytest.mark.parametrize(
    "entry", RECORDED, ids=[f"{Path(e['config']).stem}-{e['mode']}-{len(e['commands'])}" for e in RECORDED]
)
def test_commands_of_the_official_drivers(entry: dict[str, Any], tmp_path: Path) -> None:
    config = _config(entry, tmp_path)
    assert config.layout.name == entry["layout"]
    steps = steps_of(config, entry["mode"], _outputs(entry))
    expected = [_words(command) for command in entry["commands"]]
    # The recorded folders of PaddleClas are absolute, and so are not seen from deploy/ through "..".
    found = [_words(step.command.replace("=../ROOT/", "=ROOT/")) for step in steps]
    assert found == expected


@pytest.mark.parametrize("entry", RECORDED, ids=range(len(RECORDED)))
def test_logs_are_where_the_official_drivers_have_them(entry: dict[str, Any], tmp_path: Path) -> None:
    steps = steps_of(_config(entry, tmp_path), entry["mode"], _outputs(entry))
    for step, command in zip(steps, entry["commands"], strict=True):
        _, arrow, log = command.partition(" > ")
        if arrow:  # the training's output, and most of the 32-line driver's, goes to the terminal
            assert str(step.log) == log.removesuffix(" 2>&1").removeprefix("./")


def _steps(name: str, mode: str = "lite_train_lite_infer") -> list[Step]:
    return steps_of(read_config(ROOT / "test_tipc/configs" / name), mode, Path("out"))


def test_what_each_step_makes_and_reads() -> None:
    steps = _steps("paddleclas/mobilenext_x0_35_train_infer_python.txt")
    run = Path("out/norm_train_gpus_-1_autocast_null_nodes_1")
    assert {step.weights for step in steps} == {run / "mobilenext_x0_35" / "best.safetensors"}
    assert {step.exported for step in steps if step.kind in (EXPORT, INFER)} == {run}
    assert [step.folder for step in steps] == [".", ".", ".", *["deploy"] * 4]
    assert {step.images for step in steps if step.kind == INFER} == {"../test_tipc/data/imgs/val"}
    assert len({step.log for step in steps}) == len(steps)


def test_devices_of_gpu_rows() -> None:
    name = "mobilenext_x0_35/train_infer_python_gpu.txt"
    steps = _steps(name)
    assert {step.devices for step in steps if step.kind != TRAIN} == {"0"}
    launched = [step.command for step in steps if step.kind == TRAIN and "launch --gpus=0,1" in step.command]
    assert len(launched) == 2  # without and with mixed precision
    assert "Global.use_amp=True" in launched[1]
    assert [line.number for line in gpu_rows(read_config(ROOT / "test_tipc/configs" / name))] == [4, 41]
    assert not gpu_rows(read_config(ROOT / "test_tipc/configs/mobilenext_x0_35/train_infer_python.txt"))


def test_nothing_to_run_is_an_error(tmp_path: Path) -> None:
    lines = (ROOT / "test_tipc/configs/paddleclas/mobilenext_x0_35_train_infer_python.txt").read_text().splitlines()
    lines[33] = "kl_quant:null"
    path = tmp_path / "x_train_infer_python.txt"
    path.write_text("\n".join(lines))
    with pytest.raises(UsageError, match="whole_infer has no command to run"):
        steps_of(read_config(path), "whole_infer", tmp_path)


def test_unknown_modes_are_refused() -> None:
    for mode in ("lite_train_lite_infr", "klquant_whole_infer", ""):
        with pytest.raises(UsageError, match=r"unknown mode .*expected lite_train_lite_infer"):
            _steps("mobilenext_x0_35/train_infer_python.txt", mode)
