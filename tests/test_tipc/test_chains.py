"""Chains through ``test_tipc/run.py``: green ones in all layouts, and every way in which one must not pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mobilenext.machine.packages import installed
from tipc_repository import LONG, MODEL, PADDLECLAS, PROD, Repository

LITE, WHOLE_INFER = "lite_train_lite_infer", "whole_infer"


def _run(repository: Repository, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = repository.chain(*arguments)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done


def _kinds(summary: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["kind"], step["status"]) for step in summary["steps"]]


def _assert_green(repository: Repository, mode: str, expected: list[str]) -> dict[str, Any]:
    summary = repository.summary(mode)
    assert [kind for kind, _ in _kinds(summary)] == expected
    assert {status for _, status in _kinds(summary)} == {"passed"}
    assert summary["passed"]
    assert summary["commands"] == summary["commands_run"] == summary["commands_passed"]
    logs = {step["kind"]: repository.folder / step["log"] for step in summary["steps"]}
    assert all(log.stat().st_size for kind, log in logs.items() if kind != "predict")  # which has nothing to say
    status = (logs["predict"].parent / "results_python.log").read_text()
    assert "Run failed" not in status
    assert status.count("Run successfully with command") >= summary["commands"]
    return summary


@pytest.mark.long  # its steps one by one: tests/tipc/test_adapter.py; a chain that infers only: the quick one, below
def test_a_chain_of_the_specification(repository: Repository) -> None:
    words = [sys.executable, "test_tipc/run.py", LONG, LITE]
    done = subprocess.run(words, cwd=repository.folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    said = done.stdout
    kinds = ["prepare", "train", "eval", "export", "infer", "infer", "predict", "compare", "compare"]
    summary = _assert_green(repository, LITE, kinds)
    assert f"PASSED: {summary['commands']} of 5 commands successful" in said
    assert "80 predictions of 2 inferences equal those of predict" in said
    assert "80 predictions of 2 inferences equal those of evaluate" in said
    assert summary["environment"]["paddlepaddle"]
    for step in summary["steps"]:
        assert step["kind"] in said
        if step["kind"] == "infer":
            text = (repository.folder / step["log"]).read_text()
            assert text.count("\t[[") == 40
            assert "inference_time(ms): " in text
    # What an earlier run left does not make up for a command that leaves nothing.
    for line, step in (("_16", "norm_train"), ("_24", "eval"), ("_30", "norm_export")):
        config = repository.edit(LONG, **{"_16": "norm_train:touch.py", line: f"{step}:-c pass"})
        (repository.folder / "touch.py").write_text(
            "import pathlib, sys\n"
            "run = pathlib.Path(next(w.partition('=')[2] for w in sys.argv if w.startswith('--output-dir=')))\n"
            "[(run / name).touch() for name in ('best.safetensors', 'train.log')]\n"
        )
        said = _run(repository, config, LITE, "--no-prepare", code=1).stderr
        assert f"{step.removeprefix('norm_')}: it left " in said
        assert "that file is of an earlier run" in said


@pytest.mark.long
def test_a_chain_of_the_reference_repository(repository: Repository) -> None:
    """Its driver tells the inference no images after a training: the sample photos are predicted."""
    said = _run(repository, PROD, LITE, "-o", "prod").stdout
    summary = json.loads((repository.folder / "prod/summary.json").read_text())
    assert [kind for kind, _ in _kinds(summary)] == [
        "prepare", "train", "eval", "export", "infer", "predict", "compare",
    ]  # fmt: skip
    assert "2 predictions of 1 inferences equal those of predict" in said


@pytest.mark.long
@pytest.mark.skipif(not installed("paddle2onnx"), reason="the extra onnx is not installed")
def test_chains_of_paddleclas(repository: Repository) -> None:
    _run(repository, PADDLECLAS, LITE)
    _assert_green(
        repository, LITE, ["prepare", "train", "eval", "export", "infer", "predict", "compare", "compare"]
    )  # fmt: skip
    said = _run(repository, PADDLECLAS, WHOLE_INFER).stdout
    _assert_green(repository, WHOLE_INFER, ["prepare", "export", "infer", "predict", "evaluate", "compare", "compare"])
    assert "model.onnx, int8" in said
    assert "599 predictions of 1 inferences equal those of evaluate" in said


@pytest.mark.long
def test_whole_infer_equals_the_committed_results(repository: Repository) -> None:
    said = _run(repository, PROD, WHOLE_INFER).stdout
    summary = _assert_green(
        repository, WHOLE_INFER, ["prepare", "export", "infer", "predict", "evaluate", *["compare"] * 3]
    )
    assert f"equal those of test_tipc/results/{MODEL}_whole_infer_fp32.txt" in said
    reference = (repository.folder / f"test_tipc/results/{MODEL}_whole_infer_fp32.txt").read_text().splitlines()
    assert summary["steps"][-1]["said"].startswith(f"{len(reference)} predictions")
    log = next(step["log"] for step in summary["steps"] if step["kind"] == "infer")
    done = repository.tipc(
        "compare", f"--gt_file=test_tipc/results/{MODEL}_whole_infer_fp32.txt", f"--log_file={log}", "--atol", "1e-3"
    )
    assert f"{len(reference)} images as in" in done.stdout


# What must not pass. Nothing is trained here: an export lies there, or commands are stand-ins.


@pytest.fixture(scope="module")
def quick(small: str, exported: Path) -> dict[str, str]:
    """Lines that make whole_infer of the 32-line layout infer 40 images from the export that lies there."""
    return {
        "_17": f"eval:-m mobilenext.tipc eval --data={small}",
        "_20": "--save-inference-dir:exported",
        "_25": "infer_export:null",
        "_31": f"--image-dir:{small}/imgs/val",
    }


def _fail(repository: Repository, config: str, *arguments: object, code: int = 1) -> str:
    done = _run(repository, config, WHOLE_INFER, "-o", "failed", "--no-prepare", *arguments, code=code)
    return done.stderr.splitlines()[-1]


@pytest.fixture
def committed(repository: Repository, quick: dict[str, str]) -> Iterator[Path]:
    """The committed results of the 40 images, in place of all."""
    reference = repository.folder / f"test_tipc/results/{MODEL}_whole_infer_fp32.txt"
    kept = reference.read_text()
    names = {path.name for path in (repository.folder / "small/imgs/val").iterdir()}
    lines = [line for line in kept.splitlines(keepends=True) if line.partition("\t")[0] in names]
    assert len(lines) == 40
    reference.write_text("".join(lines))
    yield reference
    reference.write_text(kept)


def test_the_quick_chain_passes_as_it_is(repository: Repository, quick: dict[str, str], committed: Path) -> None:
    said = _run(repository, repository.edit(PROD, **quick), WHOLE_INFER, "-o", "passed", "--no-prepare").stdout
    assert f"40 predictions of 1 inferences equal those of {committed.relative_to(repository.folder)}" in said


def test_a_corrupted_checkpoint(repository: Repository) -> None:
    (repository.folder / "broken.safetensors").write_bytes(b"\x10" * 1000)
    config = repository.edit(PROD, _24="train_model:broken")
    said = _fail(repository, config)
    assert "whole_infer: export: exit code 3: broken" in said
    assert "(log: failed/export.log)" in said
    summary = json.loads((repository.folder / "failed/summary.json").read_text())
    assert _kinds(summary) == [("export", "failed"), ("infer", "not run")]
    assert summary["steps"][1]["said"] == "stopped after export"


def test_an_empty_folder_of_images(repository: Repository, quick: dict[str, str]) -> None:
    (repository.folder / "empty").mkdir(exist_ok=True)
    said = _fail(repository, repository.edit(PROD, **quick | {"_31": "--image-dir:empty"}))
    assert "infer: exit code 3: empty: no images in this folder" in said


def test_a_config_with_a_blank_line(repository: Repository) -> None:
    said = _run(repository, repository.edit(PROD, _18=""), WHOLE_INFER, code=3).stderr
    assert "cannot be used" in said
    assert "line 18 is blank" in said


def test_a_missing_interpreter(repository: Repository, quick: dict[str, str]) -> None:
    said = _fail(repository, repository.edit(PROD, **quick, _3="python:/opt/none/python3.7 -W ignore"), code=2)
    assert "line 3: no interpreter '/opt/none/python3.7' is found" in said


def test_an_interpreter_without_this_package(repository: Repository, quick: dict[str, str]) -> None:
    said = _fail(repository, repository.edit(PROD, **quick, _3="python:python -S -I"))
    assert "infer: exit code 1: " in said


def test_an_output_that_cannot_be_written(repository: Repository, quick: dict[str, str]) -> None:
    (repository.folder / "a-file").write_text("")
    config = repository.edit(PROD, **quick)
    done = _run(repository, config, WHOLE_INFER, "-o", "a-file/out", "--no-prepare", code=3)
    assert "cannot write to a-file/out: Not a directory; choose another output" in done.stderr


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="this user may write everywhere")
def test_a_read_only_output(repository: Repository, quick: dict[str, str]) -> None:
    folder = repository.folder / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    done = _run(
        repository, repository.edit(PROD, **quick), WHOLE_INFER, "-o", "read-only", "--no-prepare", code=3
    )  # fmt: skip
    assert "cannot write to read-only: Permission denied" in done.stderr


def test_an_unknown_mode_and_a_missing_file(repository: Repository) -> None:
    said = _run(repository, PROD, "lite_train", code=2).stderr
    assert "unknown mode 'lite_train'; did you mean 'lite_train_" in said
    assert "No such file" in _run(repository, "none/train_infer_python.txt", LITE, code=3).stderr
    assert "layout is 'x'" in _run(repository, PROD, LITE, "--layout", "x", code=2).stderr


def test_a_gpu_that_is_not_there(repository: Repository) -> None:
    said = _run(repository, f"test_tipc/configs/{MODEL}/train_infer_python_gpu.txt", LITE, code=2).stderr
    assert "line 4 (gpu_list:0|0,1)" in said
    assert "is a CPU build" in said


def test_a_missing_deploy_folder(repository: Repository, exported: Path) -> None:
    """PaddleClas' driver infers from there, and without it goes on in the wrong place."""
    (repository.folder / "quantize.py").write_text(
        "import pathlib, shutil\n"
        "target = pathlib.Path('made/quant_post_static_model')\n"
        "shutil.copytree('exported', target, dirs_exist_ok=True)\n"
        "(target / 'mobilenext.json').touch()\n"
    )
    config = repository.edit(PADDLECLAS, _34="kl_quant:quantize.py", _37="infer_model:made")
    folder = repository.folder / "deploy"
    folder.rmdir()
    try:
        said = _run(repository, config, WHOLE_INFER, "--no-prepare", "-o", "failed", code=1).stderr
    finally:
        folder.mkdir()
    assert "infer: there is no folder deploy, from which this driver runs it" in said


_PREDICTS_ALWAYS_THE_SAME = """
import pathlib, sys
folder = next(word.partition("=")[2] for word in sys.argv if word.startswith("--image-dir="))
for path in sorted(pathlib.Path(folder).iterdir()):
    print(f"{path.name}\\t[[1, 2], [0.6, 0.4]]")
"""


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("", "infer: 40 of 40 images have no prediction: digit_1198.png, digit_1199.png"),
        ("print('digit_1198.png')", "infer: 40 of 40 images have no prediction"),
        ("print('digit_1198.png\\t[[1], [0.5]]')", "infer: 39 of 40 images have no prediction"),
        (_PREDICTS_ALWAYS_THE_SAME + "print('more.png\\t[[1], [0.5]]')", "1 of 40 images are predicted and are not"),
        (_PREDICTS_ALWAYS_THE_SAME, "compare: norm_train_python_infer_cpu_batchsize_4.log: digit_1198.png: 2 classes"),
        ("import sys; sys.exit(5)", "infer: exit code 5: no output"),
        ("raise SystemExit('mobilenext: the reason')", "infer: exit code 1: the reason"),
    ],
)
def test_an_inference_that_only_seems_to_work(
    repository: Repository, quick: dict[str, str], script: str, message: str
) -> None:
    (repository.folder / "fake.py").write_text(script)
    assert message in _fail(repository, repository.edit(PROD, **quick, _27="inference:fake.py"))


def test_a_training_that_leaves_nothing(repository: Repository) -> None:
    config = repository.edit(PROD, _14="norm_train:-c pass")
    done = _run(repository, config, LITE, "-o", "failed", "--no-prepare", code=1)
    assert "train: it left no failed/norm_train_gpus_-1/best.safetensors" in done.stderr


def test_going_on_after_a_failure(repository: Repository, exported: Path) -> None:
    """What does not depend on what failed is run; what does is not, and says so."""
    (repository.folder / "train.py").write_text(
        "import pathlib, shutil, sys\n"
        "run = pathlib.Path(next(w.partition('=')[2] for w in sys.argv if w.startswith('--output-dir=')))\n"
        "run.mkdir(parents=True, exist_ok=True)\n"
        f"shutil.copy('test_tipc/weights/{MODEL}.safetensors', run / 'best.safetensors')\n"
        "(run / 'train.log').write_text('loss: 1.0, avg_reader_cost: 0 s, avg_batch_cost: 1 s, avg_ips: 1 images/s')\n"
    )
    lines = {"_14": "norm_train:train.py", "_17": "eval:-c nonsense"}
    config = repository.edit(PROD, **lines)
    stopped = _run(repository, config, LITE, "-o", "stopped", "--no-prepare", code=1)
    assert "eval: exit code 1: NameError: name 'nonsense' is not defined" in stopped.stderr
    summary = json.loads((repository.folder / "stopped/summary.json").read_text())
    assert [status for _, status in _kinds(summary)] == ["passed", "failed", "not run", "not run"]
    _run(repository, config, LITE, "-o", "stopped", "--no-prepare", "--keep-going", code=1)
    summary = json.loads((repository.folder / "stopped/summary.json").read_text())
    assert _kinds(summary)[:4] == [("train", "passed"), ("eval", "failed"), ("export", "passed"), ("infer", "passed")]
    assert not summary["passed"]

    config = repository.edit(PROD, _14="norm_train:-c nonsense")
    _run(repository, config, LITE, "-o", "none", "--no-prepare", "--keep-going", code=1)
    summary = json.loads((repository.folder / "none/summary.json").read_text())
    assert [status for _, status in _kinds(summary)] == ["failed", "not run", "not run", "not run"]
    assert summary["steps"][1]["said"] == "there is no none/norm_train_gpus_-1/best.safetensors: train did not succeed"


def test_a_command_that_takes_too_long(repository: Repository, quick: dict[str, str]) -> None:
    (repository.folder / "slow.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    config = repository.edit(PROD, **quick, _27="inference:slow.py")
    assert "infer: not done after 1 s: begun" in _fail(repository, config, "--timeout", "1")


@pytest.mark.long
def test_a_result_that_differs_from_the_committed_one(
    repository: Repository, quick: dict[str, str], committed: Path
) -> None:
    committed.write_text(committed.read_text().replace("[[8, ", "[[9, ", 1))
    said = _fail(repository, repository.edit(PROD, **quick))
    assert "compare: norm_train_python_infer_cpu_batchsize_4.log: " in said
