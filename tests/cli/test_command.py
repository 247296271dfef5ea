"""Through the installed command, as a user meets it. That no traceback is printed, the fixture checks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import TYPE_CHECKING

import pytest

import mobilenext as package
from in_process import run_in_one_copy
from mobilenext.cli import main
from mobilenext.export.images import FEWEST
from mobilenext.machine.packages import installed
from warm import WarmCommands

if TYPE_CHECKING:
    from tests.conftest import World

Run = Callable[..., CompletedProcess[str]]
SMALL = ("--image-size", 32, "--crop-pct", 1)
EAGER = ("--runtime", "paddle")  # nothing is exported first
MODELS = 41


def test_help_and_version(mobilenext: Run, capsys: pytest.CaptureFixture[str]) -> None:
    done = mobilenext("--help")
    assert done.returncode == 0
    for verb in (
        *("list", "convert", "evaluate", "predict", "check-data", "quickstart", "info", "train", "export"),
        *("report", "explain", "diagram", "serve", "search", "quantize", "bench", "compare", "recipes"),
    ):
        assert verb in done.stdout.split()
        assert main((verb, "--help")) == 0
        assert capsys.readouterr().out.startswith(f"usage: mobilenext {verb} ")
    assert mobilenext("evaluate", "--help").stdout.startswith("usage: mobilenext evaluate ")
    assert mobilenext("--version").stdout == f"mobilenext {package.__version__}\n"


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("tipc", "CONFIG", "MODE", "--json"), "python test_tipc/run.py CONFIG MODE"),
        (("tipc", "--help"), "python test_tipc/run.py CONFIG MODE"),
        (("gradient-confusion", "DATA", "--model", "mobilenext_x0_35"), "python scripts/gradient_confusion.py DATA"),
        (("gradient-confusion",), "python scripts/gradient_confusion.py DATA"),
    ],
)
def test_a_verb_that_has_moved_names_its_command(
    words: tuple[str, ...], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"mobilenext: `mobilenext {words[0]}` is now `{command}" in printed.err


def test_the_options_of_evaluate(mobilenext: Run) -> None:
    text = mobilenext("evaluate", "--help").stdout
    names = (
        "model weights list image-size crop-pct interpolation mean std identity-divisor batch-size workers threads "
        "device runtime limit unreadable resume json output"
    )
    for name in names.split():
        assert f"--{name} " in text.replace("\n", " ") or f"--{name}]" in text


def test_help_imports_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys\nfrom mobilenext.cli import main\nmain(['evaluate', '--help'])\n"
        "heavy = {'paddle', 'numpy', 'PIL', 'loky', 'safetensors', 'httpx', 'tqdm'}\n"
        "print(sorted(heavy.intersection(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_list(mobilenext: Run) -> None:
    done = mobilenext("list")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert all(line.startswith("|") for line in lines[:2])
    (row,) = (line for line in lines if "| mobilenext_x0_35 " in line)
    assert "1.91 M" in row
    assert "75.1 M" in row
    assert "64.7 %" in row
    assert "none published" in next(line for line in lines if "mobilenext_x1_4 " in line)
    (detector,) = (line for line in lines if "| ssdlite320_mobilenext_x1_0 " in line)
    assert all(text in detector for text in ("3.48 M", "708.7 M", "72.6 %", "23.3 %"))
    assert done.stderr == ""

    rows = json.loads(mobilenext("list", "--json").stdout)
    assert len(rows) == MODELS
    by_name = {row["name"]: row for row in rows}
    assert by_name["mobilenext_x1_0"]["parameters"] == 3_535_416
    weights = by_name["mobilenext_x1_0"]["weights"]
    assert [card["tag"] for card in weights] == ["in1k", "in1k_half_id", "paddleclas"]
    assert weights[0]["published"]["top1_percent"] == 74.022


def test_info(mobilenext: Run) -> None:
    facts = json.loads(mobilenext("info", "--json").stdout)
    assert facts["mobilenext"] == package.__version__
    assert facts["cores"] >= 1
    assert f"python: {facts['python']}" in mobilenext("info").stdout


def test_info_of_a_model_and_of_weights(mobilenext: Run, world: World) -> None:
    card = json.loads(mobilenext("info", "ssdlite320_mobilenext_x1_0", "--json").stdout)
    assert (card["task"], card["parameters"], card["paper_coco_ap_percent"]) == ("detection", 3_476_308, 23.3)
    assert "paper_top1_percent" not in card
    facts = json.loads(mobilenext("info", world.weights, "--json").stdout)
    assert (facts["model"], facts["num_classes"], facts["task"]) == ("mobilenext_x0_35", 8, "classification")


def test_convert_there_and_back(mobilenext: Run, world: World, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    ours, theirs = tmp_path / "new" / "network.safetensors", tmp_path / "torch.safetensors"
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class number {number}\n" for number in range(8)))
    done = mobilenext("convert", world.weights, "-o", ours, "--labels", labels, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "mobilenext_x0_35, 8 classes" in done.stdout
    assert (tmp_path / "new" / "network.safetensors.certificate.json").is_file()
    done = mobilenext("convert", ours, "-o", theirs, "--to", "pytorch", "--json")
    certificate = json.loads(done.stdout)
    assert certificate["model"] == "mobilenext_x0_35"
    paddle, torch = load_file(ours), load_file(theirs)
    assert len(paddle) == len(torch) == len(certificate["tensors"])
    for row in certificate["tensors"]:
        before, after = paddle[row["source"]], torch[row["output"]]
        assert before.tobytes() == (after.T if before.ndim == 2 else after).tobytes()

    # What was stored with the weights need not be said again.
    image = world.data / world.names[0]
    (row,) = json.loads(mobilenext("predict", image, "--weights", ours, *EAGER, "--topk", 2, "--json").stdout)
    assert row["classes"] == world.ranking()[0][:2]
    assert row["labels"] == [f"class number {number}" for number in row["classes"]]


def test_evaluate_json(mobilenext: Run, world: World, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    done = mobilenext("evaluate", world.data, "--weights", world.weights, *SMALL, "--workers", 1, "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["images"], result["correct_top1"]) == (len(world.labels), world.correct(1))
    assert "| environment" in done.stderr
    assert "preprocessing: short side 32 bicubic, centre crop 32" in done.stderr
    assert list(here.iterdir()) == [], "no output was asked for"


def test_export_and_use_it(mobilenext: Run, world: World, few_images: Path, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    done = mobilenext(
        "export", "--weights", world.weights, *SMALL, "--format", "paddle-legacy", "-o", out, "--images", few_images,
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parity = json.loads(done.stdout)
    assert (parity["images"], [row["equal_top1"] for row in parity["runtimes"].values()]) == (FEWEST, [FEWEST])
    assert "| against Paddle on real images" in done.stderr
    done = mobilenext("evaluate", world.data, "--exported", out, "--workers", 1, "--json")
    assert json.loads(done.stdout)["correct_top1"] == world.correct(1), done.stderr
    done = mobilenext("predict", world.data / world.names[0], "--exported", out, "--json")
    assert json.loads(done.stdout)[0]["classes"] == world.ranking()[0][:5], done.stderr
    again = mobilenext("export", "--weights", world.weights, *SMALL, "-o", world.data, "--format", "paddle-legacy")
    assert (again.returncode, "is no earlier export" in again.stderr) == (2, True)


def test_bench_writes_its_files(mobilenext: Run, world: World, tmp_path: Path) -> None:
    """Of two rows, each in a process of its own."""
    done = mobilenext(
        "bench", "--model", "mobilenext_x0_35", "--image-size", 32, "--runtime", "paddle-inference:onednn", "--samples",
        30, "--batch-size", "1,2", "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "paddle-inference (onednn)" in done.stdout
    assert {"bench.json", "bench.md"} <= {path.name for path in (tmp_path / "out").iterdir()}
    rows = json.loads((tmp_path / "out" / "bench.json").read_text())["rows"]
    assert [row["batch_size"] for row in rows] == [1, 2]
    assert all(row["samples"] == 30 and row["peak_memory_mib"] > 0 and row["start_up_ms"] > 0 for row in rows)


def test_evaluate_with_limit(mobilenext: Run, world: World, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    done = mobilenext(
        "evaluate", world.data, "--weights", world.weights, *SMALL, "--workers", 1, "--limit", 10, "-o", out
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["evaluate.log", "predictions.jsonl", "result.json"]
    lines = done.stdout.splitlines()
    total = len(world.labels)
    assert lines[0] == f"PARTIAL: the first 10 of {total} images"
    assert lines[-1].startswith("PARTIAL")
    correct = sum(best[0] == label for best, label in zip(world.ranking()[:10], world.labels, strict=False))
    (row,) = (line for line in lines if " ms (p10 " in line)
    assert f"({correct}/10; " in row
    result = json.loads((out / "result.json").read_text())
    assert (result["partial"], result["images"], result["correct_top1"]) == (True, 10, correct)
    log = (out / "evaluate.log").read_text()
    assert "PARTIAL" in log
    assert "preprocessing: " in log
    assert "| environment" in log


def test_predict(mobilenext: Run, world: World, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in (1, 2):
        shutil.copy(world.data / world.names[number], folder / f"{number}.png")
    (folder / "notes.txt").touch()
    image = world.data / world.names[0]
    done = mobilenext("predict", image, folder, "--weights", world.weights, *SMALL, *EAGER, "--topk", 2)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[::3] == [str(image), str(folder / "1.png"), str(folder / "2.png")]
    for number in range(3):
        classes = [int(line.split()[-1]) for line in lines[3 * number + 1 : 3 * number + 3]]
        assert classes == world.ranking()[number][:2]


def test_predict_from_standard_input(world: World) -> None:
    import subprocess

    command = [sys.executable, "-m", "mobilenext", "predict", "-", "--weights", world.weights, *SMALL, *EAGER, "--json"]
    image = (world.data / world.names[3]).read_bytes()
    done = subprocess.run([*map(str, command)], input=image, capture_output=True, check=True)
    (row,) = json.loads(done.stdout)
    assert row["classes"][:2] == world.ranking()[3][:2]


def test_check_data(mobilenext: Run, world: World, tmp_path: Path) -> None:
    done = mobilenext("check-data", world.data, "--json", "--num-classes", 8)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    total = len(world.labels)
    assert (summary["images"], summary["decoded"], summary["unreadable"]) == (total, total, [])
    assert (summary["smallest_side"], summary["largest_side"]) == (40, 48)

    data = tmp_path / "data"
    shutil.copytree(world.data, data)
    broken = data / world.names[3]
    broken.write_bytes(broken.read_bytes()[:100])
    done = mobilenext("check-data", data)
    assert done.returncode == 3
    assert f"! {broken}: " in done.stdout
    assert f"decoded: {total - 1}\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("usable for evaluate: no (1 of ")
    done = mobilenext("check-data", data, "--no-decode")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "usable for evaluate: yes (not decoded)"


def test_check_data_of_parts(mobilenext: Run, world: World, tmp_path: Path) -> None:
    for part in ("Train", "Valid"):
        for number, name in enumerate(world.names[:4]):
            (tmp_path / part / f"class {number % 2}").mkdir(parents=True, exist_ok=True)
            shutil.copy(world.data / name, tmp_path / part / f"class {number % 2}")
    done = mobilenext("check-data", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        "! the validation part is Valid/",
        "usable for evaluate: yes",
        "usable for train: yes (4 training images, which were not decoded)",
    ]
    (tmp_path / "Train" / "class 0" / "a.CR2").write_bytes(b"II*\0\x10\0\0\0CR\2\0")
    done = mobilenext("check-data", tmp_path, "--no-decode", "--json")
    assert done.returncode == 3
    verdict = json.loads(done.stdout)["verdict"]
    assert verdict["evaluate"] == {"usable": True, "reason": "not decoded"}
    assert "a.CR2: camera raw is not read here; develop it" in verdict["train"]["reason"]
    assert mobilenext("check-data", tmp_path, "--split", "training", "--json").returncode == 3


# --- bad input


def evaluate(*words: object) -> tuple[object, ...]:
    return ("evaluate", "DATA", "-o", "OUT/new/out", *words)


W = ("--weights", "WEIGHTS")
# Each in a process of its own; the others one after another in one.
ALONE = ("a text file", "label out of range", "no command", "predict text", "few samples")
BAD = {
    "unknown model": (evaluate("--model", "mobilenxt_x1_0"), 2, "did you mean 'mobilenext_x1_0'?"),
    "no weights anywhere": (
        evaluate("--model", "mobilenext_x0_5"),
        2,
        "weights for mobilenext_x0_5; name a file with --weights",
    ),
    "nothing named": (evaluate(), 2, "expected --weights FILE, or --model NAME"),
    "missing file": (evaluate("--weights", "OUT/none.safetensors"), 3, "none.safetensors"),
    "unknown tag": (evaluate("--model", "mobilenext_x1_0", "--weights", "in2k"), 3, "did you mean 'in1k'?"),
    "a text file": (evaluate("--weights", "TEXT"), 3, "TEXT"),
    "another model": (evaluate(*W, "--model", "mobilenext_x1_0"), 3, "holds mobilenext_x0_35 (8 classes); asked for"),
    "label out of range": (evaluate(*W, *SMALL, "--list", "HIGH"), 3, "line 2: "),
    "files that are missing": (evaluate(*W, "--list", "LOST"), 3, "line 3: 'gone.png 1': no such file"),
    "empty folder": (("evaluate", "EMPTY", *W, "-o", "OUT/new/out"), 3, "this folder is empty"),
    "no folder": (("evaluate", "OUT/none", *W, "-o", "OUT/new/out"), 3, "no such folder"),
    "zero workers": (evaluate(*W, "--workers", 0), 2, "workers is 0; expected a whole number from 1 up"),
    "workers in words": (evaluate(*W, "--workers", "two"), 2, "invalid int value: 'two'"),
    "below a file": (("evaluate", "DATA", *W, "-o", "TEXT/out"), 3, "choose another --output"),
    "output is a file": (("evaluate", "DATA", *W, "-o", "TEXT"), 3, "choose another --output"),
    "gpu": (evaluate(*W, "--device", "gpu"), 2, "is a CPU build; use --device cpu"),
    "crop": (evaluate(*W, "--crop-pct", 1.5), 2, "crop_pct is 1.5; expected a fraction above 0 and up to 1"),
    "divisor": (evaluate(*W, "--identity-divisor", 0), 2, "divisor"),
    "engine of no such runtime": (
        evaluate(*W, "--runtime", "paddle", "--engine", "native"),
        2,
        "belongs to the runtime",
    ),
    "resume of nothing": (("evaluate", "DATA", *W, "--resume"), 2, "without an output folder"),
    "abbreviated": (evaluate(*W, "--batch", 3), 2, "unrecognized arguments: --batch; did you mean --batch-size?"),
    "no command": (("evalute",), 2, "unknown command 'evalute'; did you mean evaluate?"),
    "predict nothing": (("predict", "EMPTY", *W), 3, "no images in this folder"),
    "predict text": (("predict", "TEXT", *W, *SMALL), 3, "not an image"),
    "predict zero": (("predict", "DATA", *W, "--topk", 0), 2, "topk is 0"),
    "convert to nowhere": (("convert", "WEIGHTS", "-o", "OUT/x.pth"), 2, "suffix '.pth'; expected .safetensors"),
    "convert below a file": (("convert", "WEIGHTS", "-o", "TEXT/x.safetensors"), 3, "cannot write"),
    "few samples": (("bench", "--model", "mobilenext_x1_0", "--samples", 10), 2, "expected at least 30"),
    "no number of threads": (("bench", "--threads", "a"), 2, "'a'; expected whole numbers with commas"),
    "unknown format": (("export", *W, "--format", "onx", "-o", "OUT"), 2, "did you mean 'onnx'"),
    "int8 of weights": (evaluate(*W, *SMALL, "--precision", "int8"), 2, "needs calibration"),
    "exported of nothing": (("predict", "DATA", "--exported", "DATA"), 3, "this is a data set. Give it as DATA"),
    "check zero workers": (("check-data", "DATA", "--workers", 0), 2, "workers is 0"),
}


@pytest.fixture(scope="module")
def refusals(
    mobilenext: Run, warm_commands: WarmCommands, world: World, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[int, str, str, list[str]]]:
    """Every case of BAD: its exit code, what the command said, and the files that it left."""
    folder = tmp_path_factory.mktemp("bad")
    places = {"DATA": world.data, "WEIGHTS": world.weights, "TEXT": folder / "TEXT.pdparams", "EMPTY": folder / "empty"}
    places["EMPTY"].mkdir()
    places["TEXT"].write_text("this is not a checkpoint\n")
    first, second = (name.removeprefix("imgs/") for name in world.names[:2])
    places |= {"HIGH": folder / "high.txt", "LOST": folder / "lost.txt"}
    places["HIGH"].write_text(f"{first} 0\n{second} 8\n")
    places["LOST"].write_text(f"{first} 0\n{second} 1\ngone.png 1\n")

    commands, outs = {}, {case: folder / str(number) for number, case in enumerate(BAD)}
    for case, out in outs.items():
        out.mkdir()
        words = [str(word) for word in BAD[case][0]]
        for name, path in {**places, "OUT": out}.items():
            words = [str(path) + word.removeprefix(name) if word.split("/")[0] == name else word for word in words]
        commands[case] = words
    together = {case: words for case, words in commands.items() if case not in ALONE}
    done = run_in_one_copy(together, outs, folder, warm_commands)
    for case in ALONE:
        alone = mobilenext(*commands[case], cwd=outs[case])
        done[case] = alone.returncode, alone.stdout, alone.stderr
    return {
        case: (*done[case], sorted(str(path.relative_to(out)) for path in out.rglob("*"))) for case, out in outs.items()
    }


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, refusals: dict[str, tuple[int, str, str, list[str]]]) -> None:
    _, code, message = BAD[case]
    if case == "gpu":
        import paddle

        if paddle.device.is_compiled_with_cuda():
            pytest.skip("this build of Paddle has CUDA")
    returned, stdout, stderr, left = refusals[case]
    assert message in stderr
    assert returned == code, stderr
    assert stdout == ""
    assert left == [], "nothing may be left behind"


def test_an_output_that_may_not_be_written(mobilenext: Run, world: World, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write everywhere")
    done = mobilenext("evaluate", world.data, "--weights", world.weights, "-o", locked)
    assert done.returncode == 3
    assert "Permission denied" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk(mobilenext: Run, world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "evaluate.log").symlink_to("/dev/full")
    (out / "journal.jsonl").symlink_to("/dev/full")
    done = mobilenext("evaluate", world.data, "--weights", world.weights, *SMALL, "--workers", 1, "-o", out)
    assert done.returncode == 3
    assert f"mobilenext: cannot write to {out}" in done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["evaluate.log", "journal.jsonl"]


def test_an_error_midway_is_in_the_log(mobilenext: Run, world: World, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(world.data, data)
    (data / world.names[-1]).write_text("broken")
    done = mobilenext("evaluate", data, "--weights", world.weights, *SMALL, *EAGER, "-o", out, "--workers", 1)
    assert done.returncode == 3
    assert f"mobilenext: 1 image cannot be read:\n    {data / world.names[-1]}: " in done.stderr
    assert str(data / world.names[-1]) in (out / "evaluate.log").read_text()
    assert not (out / "result.json").exists()


@pytest.mark.parametrize(
    ("sent", "whole_group"),
    [
        (signal.SIGINT, True),
        pytest.param(signal.SIGINT, False, marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, True, marks=pytest.mark.long),
    ],
)
def test_ctrl_c_and_a_terminal_that_goes_away(
    sent: signal.Signals,
    whole_group: bool,
    mobilenext: Run,
    long_world: World,
    start: Callable[..., Popen[str]],
    wait_for_rows: Callable[[Path, int], None],
    tmp_path: Path,
) -> None:
    world = long_world
    words = ("evaluate", world.data, "--weights", world.weights, *SMALL, "--runtime", "paddle", "-o", tmp_path)
    process = start(*words, "--workers", 1)
    wait_for_rows(tmp_path / "journal.jsonl", 8)
    if whole_group:  # what a terminal does
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 128 + sent
    assert stderr.endswith(f"mobilenext: {'interrupted' if sent == signal.SIGINT else 'stopped by SIGHUP'}\n")
    assert "Traceback" not in stderr
    kept = (tmp_path / "journal.jsonl").read_bytes().count(b"\n") - 1
    assert 8 <= kept < len(world.labels)
    if (sent, whole_group) != (signal.SIGINT, True):
        return

    done = mobilenext(*words)
    assert done.returncode == 2
    assert f"unfinished evaluation of {kept} images: add --resume" in done.stderr
    done = mobilenext(*words, "--resume", "--workers", 1, "--batch-size", 7, "--json")
    result = json.loads(done.stdout)
    assert (result["images"], result["correct_top1"]) == (len(world.labels), world.correct(1))
    assert result["resumed_images"] == kept


def test_the_quickstart(mobilenext: Run, tmp_path: Path) -> None:
    """Ends with a picture of the result and, where its extra is installed, a page."""
    if not installed("sklearn"):
        pytest.skip("scikit-learn is not installed: the extra quickstart")
    done = mobilenext("quickstart", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "result.json").read_text())["correct_top1"] == 591  # results/quickstart.json
    assert "(591/599" in done.stdout
    assert len([line for line in done.stdout.splitlines() if re.search(r"\d+ of \d+$", line)]) == 10
    page = tmp_path / "report.html"
    if installed("vl_convert"):
        assert f"written: {page}" in done.stderr
        assert "data:image/jpeg;base64," in page.read_text(encoding="utf-8")
    else:
        assert "no report page: " in done.stderr
