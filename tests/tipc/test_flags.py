"""The forms in which drivers write a flag."""

from __future__ import annotations

import logging

import pytest

from mobilenext.errors import UsageError
from mobilenext.tipc.flags import Option, boolean, count, number, parse, points
from mobilenext.tipc.options import OPTIONS, WITHOUT_EFFECT

TRAIN = (OPTIONS["train"], WITHOUT_EFFECT["train"])
INFER = (OPTIONS["infer"], WITHOUT_EFFECT["infer"])


@pytest.mark.parametrize(
    "words",
    [
        ["--batch-size=4"],
        ["--batch_size", "4"],
        ["--Batch-Size=4"],
        ["batch_size=4"],
        ["-o", "Global.batch_size=4"],
        ["Global.batch_size=4"],
        ["train_batch_size=4"],
        ["-o", "DataLoader.Train.sampler.batch_size=4"],
        ["--batch-size=2", "--batch_size=4"],
        ["null=null", "--batch-size=4", "--pretrained=null", "--null=null"],
    ],
)
def test_forms_of_one_flag(words: list[str]) -> None:
    assert parse(words, *TRAIN) == {"batch_size": 4}


def test_layouts_of_a_training() -> None:
    specification = ["use_gpu=False", "output_dir=./o", "epoch_num=1", "train_batch_size=4"]
    specification += ["Global.use_amp=True", "Global.scale_loss=1024.0", "Global.use_dynamic_loss_scaling=True"]
    assert parse(specification, *TRAIN) == {
        "use_gpu": False, "output": "./o", "epochs": 1, "batch_size": 4, "amp": True,
    }  # fmt: skip
    paddleclas = ["-o", "Global.device=cpu", "-o", "Global.output_dir=/a,b/c.log", "-o", "Global.epochs=2"]
    paddleclas += ["-o", "AMP.scale_loss=128", "-o", "AMP.use_dynamic_loss_scaling=False", "-o", "AMP.level=O2"]
    paddleclas += ["-o", "AMP.use_amp=False", "-o", "Global.print_mem_info=True", "-o", "Global.log_ranks=0,1"]
    assert parse(paddleclas, *TRAIN) == {
        "device": "cpu", "above_output": "/a,b/c.log", "epochs": 2, "amp": False,
    }  # fmt: skip


def test_what_has_no_effect_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert parse(["-o", "Global.print_mem_info=True"], *TRAIN) == {}
    assert "Global.print_mem_info=True has no effect: the last line of the log" in caplog.text


def test_settings_are_kept_all() -> None:
    words = ["--set=crop=pad", "--set", "lr=0.1"]
    assert parse(words, *TRAIN) == {"settings": ["crop=pad", "lr=0.1"]}


@pytest.mark.parametrize(("text", "value"), [("True", True), ("true", True), ("FALSE", False), ("0", False)])
def test_booleans(text: str, value: bool) -> None:
    assert parse([f"--use-mkldnn={text}"], *INFER) == {"mkldnn": value}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epoch=1", "--epochss=2"], "unknown key '--epochss'; did you mean 'epochs'"),
        (["-o", "Global.pretraind_model=x"], "unknown key 'Global.pretraind_model'; did you mean 'global.pretrained_"),
        (["--epochs=0"], "--epochs is '0'; expected a whole number from 1 up"),
        (["--epochs=one"], "expected a whole number from 1 up"),
        (["--use-gpu=Fasle"], "--use-gpu is 'Fasle'; expected True or False"),
        (["--epochs="], "--epochs has no value"),
        (["--epochs"], "'--epochs': expected a value behind it"),
        (["--epochs", "--device=cpu"], "'--epochs': expected a value behind it"),
        (["config.yaml"], "'config.yaml': expected --key=value"),
        (["-o"], "-o is the last word"),
        (["-o", "Global.epochs"], "-o Global.epochs: expected KEY=VALUE"),
    ],
)
def test_what_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(words, *TRAIN)


def test_readers() -> None:
    assert (boolean("Yes"), count("3"), number("0"), points("1e-3"), points("2.5")) == (True, 3, 0, 1e-3, 2.5)
    for read, text in ((number, "-1"), (points, "-1"), (points, "nan"), (points, "inf"), (count, "1.5")):
        with pytest.raises(ValueError, match="number"):
            read(text)


def test_keys_are_not_ambiguous() -> None:
    for verb, options in OPTIONS.items():
        keys = [key.lstrip("-").lower().replace("-", "_") for option in options for key in option.keys]
        ignored = [key.lstrip("-").lower().replace("-", "_") for key in WITHOUT_EFFECT[verb]]
        assert len(set(keys) | set(ignored)) == len(keys) + len(ignored), verb
    assert Option("x", ("--x",)).read("text") == "text"
