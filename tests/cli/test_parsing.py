from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from mobilenext.cli.program import VERBS, parser

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


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("bench --threads 1,2 --threads 4", {"threads": [1, 2, 4], "batch_size": [1]}),
        ("bench --threads 1 2 --batch-size 1,32", {"threads": [1, 2], "batch_size": [1, 32]}),
        ("bench --model a,b c --model d --runtime all", {"model": ["a", "b", "c", "d"], "runtime": ["all"]}),
        ("export -o x --images a.png,b.png", {"images": ["a.png", "b.png"]}),
        ("quantize -o x --calibration d --keep-float a,b", {"keep_float": ["a", "b"]}),
        ("serve --model a,b --model c --allow-host h,i", {"model": ["a", "b", "c"], "allow_host": ["h", "i"]}),
        ("serve --image-formats png --image-formats gif", {"formats": "png,gif"}),
        ("report --weights a,b --weights c run", {"weights": ["a", "b", "c"], "runs": ["run"]}),
        ("train d --set lr=1,epochs=2 --set seed=3", {"settings": ["lr=1", "epochs=2", "seed=3"], "data": "d"}),
        ("train d --set milestones=1,2", {"settings": ["milestones=1,2"]}),
        ("train d --train-split a --train-split b,c", {"train_split": "a,b,c"}),
        ("check-data d", {"settings": None}),
        ("search d --budget 3,4 --budget 5 --operators darts", {"budget": "3,4,5", "operators": "darts"}),
    ],
)
def test_several_values_by_commas_blanks_and_repetition(words: str, values: dict[str, Any]) -> None:
    for _ in range(2):  # what one call appends is no default of the next
        options = vars(parser().parse_args(words.split()))
        assert {name: options[name] for name in values} == values


def test_a_file_with_a_comma_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a,b.onnx").touch()
    assert parser().parse_args(["bench", "--onnx", f"{tmp_path}/a,b.onnx"]).onnx == [f"{tmp_path}/a,b.onnx"]


@pytest.mark.parametrize("words", ["bench --model a,,b", "bench --threads 1,", "serve --onnx ,"])
def test_a_list_with_a_gap_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(words) == 2
    assert "with commas between them" in capsys.readouterr().err


def test_earlier_names_and_underscores(capsys: pytest.CaptureFixture[str]) -> None:
    """Work, and are in no help."""
    quantize = ["quantize", "-o", "x", "--calibration", "d"]
    options = parser().parse_args([*quantize, "--calibration_images", "8", "--max_drop=2"])
    assert (options.calibration_images, options.max_drop) == (8, 2.0)
    assert parser().parse_args(quantize).calibration_images == 256
    assert parser().parse_args(["serve", "--formats", "PNG"]).formats == "PNG"
    assert parser().parse_args(["check_data", "d", "--no_decode"]).no_decode
    assert parser().parse_args(["evaluate", "--", "--a_b"]).data == "--a_b", "no option behind two dashes"
    assert parser().parse_args(["train", "d", "--val_list=a_b c"]).val_list == "a_b c"
    for verb in ("quantize", "serve"):
        assert exit_code(f"{verb} --help") == 0
    helps = capsys.readouterr().out
    assert "--num-calibration-images" in helps
    assert "--image-formats" in helps
    assert not re.search(r"--calibration-images|--formats|SUPPRESS", helps)


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ("evalute", ["mobilenext: error: unknown command 'evalute'; did you mean evaluate?"]),
        ("xyz --json", ["mobilenext: error: unknown command 'xyz'"]),
        ("--vresion", ["mobilenext: error: unrecognized arguments: --vresion; did you mean --version?"]),
        ("train d --wieghts w", ["usage: mobilenext train [DATA] [OPTION ...]", "did you mean --weights?"]),
        ("evaluate d --batch 3", ["mobilenext evaluate: error:", "--batch; did you mean --batch-size?"]),
        ("predict a --topl=3 --jsn", ["unrecognized arguments: --topl --jsn; did you mean --topk, --json?"]),
        ("explain a -o b -topk 5", ["unrecognized arguments: -topk 5; did you mean --topk?"]),
        ("convert a --ouput b", ["usage: mobilenext convert SOURCE -o FILE [OPTION ...]", "did you mean --output?"]),
        ("convert", ["the following arguments are required: SOURCE, -o/--output", "`mobilenext convert --help`"]),
        ("predict a --clp", ["did you mean --clip?"]),
        ("list --zzzzzzz", ["unrecognized arguments: --zzzzzzz\n"]),
        ("quantize --calibration-image 3", ["did you mean --num-calibration-images?"]),
    ],
)
def test_what_is_not_understood(words: str, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("usage: mobilenext ")
    assert len(printed.err.splitlines()) == 3
    for line in lines:
        assert line in printed.err


def test_help_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments on standard error, as it was no command; each verb stands in one group."""
    codes = [exit_code(words) for words in ("", "help", "--help")]
    printed = capsys.readouterr()
    assert codes == [2, 0, 0]
    assert printed.out == 2 * printed.err
    listed = re.findall(r"^  ([a-z][a-z-]+) ", printed.err, re.MULTILINE)
    assert sorted(listed) == sorted(VERBS)
    for variable in ("MOBILENEXT_HOME", "MOBILENEXT_OFFLINE", "exit codes:"):
        assert variable in printed.err
    assert exit_code("help evaluate") == exit_code("evaluate --help --nonsense") == 0
    first, second = capsys.readouterr().out.split("usage: ")[1:]
    assert first == second


@pytest.mark.parametrize("verb", VERBS)
def test_examples(verb: str) -> None:
    """There are two or three, and the parser understands them."""
    examples = VERBS[verb].examples
    assert len(examples) in (2, 3)
    for example in examples:
        words = shlex.split(re.split(r" [<>] ", example)[0], comments=True)
        assert parser().parse_args(words).verb == verb


def exit_code(words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(words.split())
    return int(str(caught.value.code))
