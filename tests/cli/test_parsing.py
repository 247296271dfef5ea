from __future__ import annotations

import pytest

from mobilenext.cli.program import parser

EVALUATE = ("evaluate", "data")
HALVES = ["0.5", "0.25", ".125"]


@pytest.mark.parametrize(
    "words",
    [
        ("--mean", *HALVES),
        ("--mean", ",".join(HALVES)),
        ("--mean", ", ".join(HALVES)),
        ("--mean", *(f"{number}," for number in HALVES)),
        ("--mean", " ".join(HALVES)),
        ("--mean=" + ",".join(HALVES),),
        [word for number in HALVES for word in ("--mean", number)],
        [f"--mean={number}" for number in HALVES],
    ],
)
def test_three_numbers_in_every_spelling(words: list[str]) -> None:
    for arguments in ((*EVALUATE, *words, "--onnx", "a.onnx"), ("evaluate", *words, "data", "--onnx", "a.onnx")):
        options = parser().parse_args(arguments)
        assert (options.data, options.mean, options.onnx) == ("data", [0.5, 0.25, 0.125], "a.onnx")


def test_numbers_that_are_no_triple(capsys: pytest.CaptureFixture[str]) -> None:
    options = parser().parse_args(["evaluate", "--mean", "-1,0,1e-3", "--std", "1", "2", "3", "7"])
    assert (options.mean, options.std, options.data) == ([-1, 0, 0.001], [1, 2, 3], "7"), "a folder may be called 7"
    for words in (("--mean", "0.5"), ("--mean", "1,2"), ("--mean", "1,2,3,4"), ("--mean", "a,b,c"), ("--mean",)):
        with pytest.raises(SystemExit):
            parser().parse_args([*EVALUATE, *words])
    capsys.readouterr()
    assert parser().parse_args(["bench", "--threads", "1,2"]).threads == (1, 2), "other options are as they were"
