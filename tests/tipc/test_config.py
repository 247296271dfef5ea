"""Configurations: what is committed, and errors by their lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mobilenext.errors import DataError, UsageError
from mobilenext.models.cards import paper_models
from mobilenext.tipc.config import LAYOUTS, MODES, read_config

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "test_tipc/configs"
LONG = CONFIGS / "mobilenext_x1_0/train_infer_python.txt"
SHORT = CONFIGS / "mobilenext_x1_0/train_infer_python_prod.txt"


def test_the_committed_files_are_what_the_script_writes() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/tipc_configs.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, f"run `python scripts/tipc_configs.py`: {done.stdout}{done.stderr}"


def test_every_model_has_every_layout() -> None:
    for model in paper_models():
        names = [f"{model}/train_infer_python{kind}.txt" for kind in ("", "_gpu", "_prod")]
        names.append(f"paddleclas/{model}_train_infer_python.txt")
        configs = [read_config(CONFIGS / name) for name in names]
        assert [config.value("model_name") for config in configs] == [model] * 4
        assert [config.layout.name for config in configs] == ["specification", "specification", "prod", "paddleclas"]
    for path in CONFIGS.rglob("*.txt"):
        assert read_config(path).value("python") == "python"


def test_a_detector_has_the_basic_chain() -> None:
    config = read_config(CONFIGS / "ssdlite320_mobilenext_x0_35/train_infer_python.txt")
    assert (config.layout.name, config.value("model_name")) == ("specification", "ssdlite320_mobilenext_x0_35")


def test_positions() -> None:
    """Some fields of each layout, at the lines that the drivers read."""
    for layout, line, field in (
        ("specification", 7, "epochs"), ("specification", 24, "eval"), ("specification", 34, "other_export_1"),
        ("specification", 40, "infer"), ("specification", 48, "images"), ("prod", 14, "norm_train"),
        ("prod", 22, "norm_export"), ("prod", 27, "infer"), ("prod", 32, "benchmark"),
        ("paddleclas", 51, "infer_extra"),
    ):  # fmt: skip
        assert LAYOUTS[layout].fields[line] == field


def test_values_by_mode() -> None:
    config = read_config(LONG)
    assert [config.of_mode("epochs", mode) for mode in MODES] == ["8", "8", "5", ""]
    assert config["threads"].values == ("1", "2")
    assert not config["pretrained"].is_set
    assert config["threads"].is_set


def _edited(path: Path, tmp_path: Path, **changes: str) -> Path:
    lines = path.read_text().splitlines()
    for number, line in changes.items():
        lines[int(number[1:]) - 1] = line
    target = tmp_path / path.name
    target.write_bytes(("\n".join(lines) + "\n").encode())
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_13": ""}, "line 13 is blank: the drivers drop it, and every later line moves up"),
        ({"_13": "   "}, "line 13 is blank"),
        ({"_2": "model_name:x\r"}, "line 2 ends as on Windows"),
        ({"_3": "python"}, "line 3 is 'python'; expected key:value"),
        ({"_3": "python:C:/python"}, "line 3 has 2 colons; the drivers take what stands between the first two, 'C'"),
        ({"_12": "train_infer_img_dir:imgs/*.png"}, r"line 12 has one of \* \? \["),
        ({"_14": "norm:train"}, "line 14 is 'norm:train'; expected a heading"),
        ({"_4": "gpu_list:0,x"}, "line 4: gpu_list:0,x; expected -1, or numbers"),
        ({"_7": "--epochs:lite_train_lite_infr=1"}, "line 7: --epochs:lite_train_lite_infr=1; expected MODE=NUMBER"),
        ({"_9": "--batch-size:lite_train_lite_infer=0"}, "line 9: .*expected MODE=NUMBER"),
        ({"_15": "trainer:norm_trian"}, "line 15: trainer:norm_trian; expected some of norm_train, pact_train"),
        ({"_16": "norm_train:null"}, "line 16: norm_train:null; expected a norm train"),
        ({"_39": "infer_quant:Fasle"}, "line 39: infer_quant:Fasle; expected True or False"),
        ({"_42": "null:null"}, "line 42: null:null; expected a key"),
        ({"_43": "--cpu-threads:1|two"}, "line 43: .*expected whole numbers"),
        ({"_47": "null:null"}, "line 47: null:null; expected a flag for the model dir"),
        ({"_41": "--use-gpu:npu"}, "line 41: --use-gpu:npu; expected True or False or cpu or gpu"),
    ],
)
def test_errors_name_their_line(changes: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_config(_edited(LONG, tmp_path, **changes))


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    short = tmp_path / "train_infer_python.txt"
    short.write_text("\n".join(LONG.read_text().splitlines()[:48]))
    with pytest.raises(DataError, match="it ends after line 48; expected 51 lines"):
        read_config(short)
    short.write_text("\n".join(SHORT.read_text().splitlines()[:30]))
    with pytest.raises(DataError, match="it ends after line 30; expected 32 lines"):
        read_config(short)
    short.write_text("")
    with pytest.raises(DataError, match="it ends after line 0"):
        read_config(short)


def test_all_problems_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_config(_edited(LONG, tmp_path, _43="--cpu-threads:x", _44="--batch-size:y"))
    assert "line 43" in str(caught.value)
    assert "line 44" in str(caught.value)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_config(tmp_path / "train_infer_python.txt")
    binary = tmp_path / "train_x.txt"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot read"):
        read_config(binary)
    with pytest.raises(UsageError, match=r"layout is .prd.; expected specification.*did you mean 'prod'"):
        read_config(LONG, "prd")


def test_a_layout_that_is_asked_for() -> None:
    assert read_config(LONG, "paddleclas").layout.name == "paddleclas"
    with pytest.raises(DataError, match="prod layout, 32 lines"):
        read_config(LONG, "prod")
