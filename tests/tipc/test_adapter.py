"""The adapter's verbs through ``python -m mobilenext.tipc``, as the drivers call them."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from mobilenext.machine.packages import installed
from tipc_repository import LONG, MODEL, PROD, Repository

RUN = "test_tipc/output/x/norm_train_gpus_0,1_autocast_null.log"  # a folder, as the drivers name them
TRAIN = (
    *("train", f"--model={MODEL}", "--data=small", "--recipe=tiny", "--set=crop=random-resized", "--set=padding=0"),
    *("--set=warmup_epochs=0", "--use-gpu=False", "--epochs", "1", "--batch_size", "40", "null=null"),
)
VAL = "test_tipc/data/imgs/val"


@pytest.fixture
def lite(repository: Repository, small: str) -> Repository:
    return repository


@pytest.fixture(scope="module")
def trained(repository: Repository, small: str) -> Path:
    """A run; and a copy of it, named "again", for the training that takes its place."""
    folder = repository.folder / RUN
    repository.tipc(*TRAIN, f"--output-dir=./{RUN}")
    shutil.copytree(folder, repository.folder / "again")
    return folder


def test_train_eval_export_infer(lite: Repository, trained: Path) -> None:
    folder = trained
    assert (folder / "best.safetensors").is_file()
    line = next(each for each in (folder / "train.log").read_text().splitlines() if "step 4/4" in each)
    assert all(f"{name}: " in line for name in ("loss", "avg_reader_cost", "avg_batch_cost", "avg_ips"))

    done = lite.tipc("eval", f"--pretrained={RUN}/best", "--data", "small", "--device=cpu")  # without the suffix
    result = json.loads((folder / "evaluation/result.json").read_text())
    assert result["images"] == 40
    assert f"({result['correct_top1']}/40" in done.stdout

    lite.tipc("export", f"--pretrained={RUN}/best.safetensors", f"--save-inference-dir={RUN}")
    assert (folder / "inference.json").is_file()
    assert (folder / "inference.pdiparams").is_file()
    assert (folder / "best.safetensors").is_file()

    done = lite.tipc("infer", "--use_gpu=False", f"--model_dir={RUN}/", "--image_dir=small/imgs/val", "--batch_size=8")
    names = [row.partition("\t")[0] for row in done.stdout.splitlines()]
    assert names == sorted(path.name for path in (lite.folder / "small/imgs/val").iterdir())
    # The same from a folder beside, as one of the drivers does it.
    again = lite.tipc("infer", "-o", f"Global.inference_model_dir={folder}", "-o", "Global.infer_imgs=small/imgs/val")
    assert [row.partition("\t")[0] for row in again.stdout.splitlines()] == names


@pytest.mark.usefixtures("trained")
def test_a_second_training_replaces_the_first(lite: Repository) -> None:
    run = lite.folder / "again"
    first = (run / "best.safetensors").read_bytes()
    said = lite.tipc(*TRAIN, "--output-dir=again", "--seed=1").stderr
    assert "the earlier run in again is replaced" in said
    assert (run / "best.safetensors").read_bytes() != first
    assert (run / "train.log").read_text().count("finished: ") == 1


def test_paddleclas_output_folder_is_above_the_run(lite: Repository) -> None:
    said = lite.tipc(
        *TRAIN, "-o", f"Global.output_dir={lite.folder / 'a-b'}", "-o", "AMP.use_amp=False",
        "-o", "Global.print_mem_info=True", "-o", "Global.log_ranks=0,1",
    ).stderr  # fmt: skip
    assert "Global.print_mem_info=True has no effect" in said
    assert (lite.folder / "a-b" / MODEL / "train.log").is_file()
    assert (lite.folder / "a-b" / MODEL / "best.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((*TRAIN,), 2, "--output-dir is missing"),
        ((*TRAIN, "--output-dir=o", "--use-gpu=True"), 2, "is a CPU build; use --device cpu"),
        ((*TRAIN, "--output-dir=o", "Global.use_amp=True"), 2, "precision is fp16, which needs a GPU"),
        ((*TRAIN, "--output-dir=o", "--pretrained=none.safetensors"), 3, "none.safetensors"),
        (("eval", "--data=small"), 2, "--pretrained is missing"),
        (("eval", "--data=none", f"--pretrained=test_tipc/weights/{MODEL}"), 3, "none: no such folder"),
        (("export", "--pretrained=none", "--save-inference-dir=o"), 2, "'none' is no file"),
        (("infer",), 2, "--model-dir is missing"),
        (("infer", "--model_dir=none"), 3, "none: no such folder; expected an export"),
        (("infer", "--model_dir=small"), 3, "small has no mobilenext.json"),
        (("inferr",), 2, "unknown verb 'inferr'; did you mean 'infer'"),
        (("prepare", LONG), 2, "expected: prepare CONFIG MODE"),
        (("prepare", LONG, "lite"), 2, "unknown mode 'lite'"),
    ],
)
@pytest.mark.usefixtures("exported")
def test_what_is_refused(lite: Repository, words: tuple[str, ...], code: int, message: str) -> None:
    done = lite.tipc(*words, code=code)
    assert message in done.stderr
    assert not (lite.folder / "o").exists()


def test_help(lite: Repository) -> None:
    assert "--use-mkldnn" in lite.tipc("infer", "--help").stdout
    assert "PATH" not in lite.tipc().stdout


# Infer.


def _infer(repository: Repository, *words: object, code: int = 0) -> tuple[list[str], str]:
    done = repository.tipc("infer", "--model-dir=exported", *words, code=code)
    return done.stdout.splitlines(), done.stderr


@pytest.mark.usefixtures("exported")
def test_images_of_any_case_at_any_depth(repository: Repository, tmp_path: Path) -> None:
    files = sorted((repository.folder / VAL).iterdir())[:3]
    (tmp_path / "deep").mkdir()
    for file, name in zip(files, ("a.PNG", "deep/b.png", "c.Bmp"), strict=True):
        Image.open(file).convert("RGB").save(tmp_path / name)
    rows, _ = _infer(repository, f"--img-path={tmp_path}")
    assert [row.partition("\t")[0] for row in rows] == ["a.PNG", "c.Bmp", "deep/b.png"]
    (classes, scores) = json.loads(rows[0].partition("\t")[2])
    assert len(classes) == len(scores) == 5
    assert 0.2 < sum(scores) <= 1.00001
    single, _ = _infer(repository, f"--img-path={tmp_path / 'c.Bmp'}", "--topk=2")
    assert single[0].startswith("c.Bmp\t[[")
    assert len(json.loads(single[0].partition("\t")[2])[0]) == 2


@pytest.mark.usefixtures("exported")
def test_no_image_is_an_error(repository: Repository, tmp_path: Path) -> None:
    rows, said = _infer(repository, f"--image-dir={tmp_path}", code=3)
    assert rows == []
    assert "no images in this folder" in said


@pytest.mark.usefixtures("exported")
def test_an_unreadable_image_is_an_error_and_the_others_are_predicted(repository: Repository, tmp_path: Path) -> None:
    shutil.copy(next((repository.folder / VAL).iterdir()), tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"not an image")
    rows, said = _infer(repository, f"--image-dir={tmp_path}", "--batch-size=4", code=3)
    assert len(rows) == 1
    assert "b.png" in said


@pytest.mark.usefixtures("exported")
def test_without_images_the_sample_photos_are_taken(repository: Repository) -> None:
    rows, said = _infer(repository)
    assert [row.partition("\t")[0] for row in rows] == ["china.jpg", "flower.jpg"]
    assert "no images were named: the 2 sample photos" in said


def test_the_report_of_a_benchmark(lite: Repository, exported: Path) -> None:
    words = ("--image-dir=small/imgs/val", "--benchmark=True", "--use-mkldnn=False", "--cpu-threads=2")
    rows, _ = _infer(lite, *words)
    report = dict(row.split(": ", 1) for row in rows if "\t" not in row and ": " in row)
    assert report["runtime_device"] == "cpu"
    assert report["enable_mkldnn"] == "False"
    assert report["cpu_math_library_num_threads"] == "2"
    assert report["model_name"] == MODEL
    assert report["data_num"] == "40"
    milliseconds = [float(report[f"{name}_time(ms)"]) for name in ("preprocess", "inference", "postprocess")]
    assert all(value > 0 for value in milliseconds)
    assert float(report["total time spent(s)"]) == pytest.approx(40 * sum(milliseconds) / 1000, rel=0.05)
    assert float(report["cpu_rss(MB)"]) > 50


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--use-tensorrt=True",), "use_tensorrt=True needs a GPU"),
        (("--use-gpu=True",), "is a CPU build"),
        (("--precision=fp16",), "does not run a network in the format paddle in fp16 on cpu"),
        (("--precision=int8",), "is not quantized"),
        (("--batch-size=0",), "expected a whole number from 1 up"),
    ],
)
@pytest.mark.usefixtures("exported")
def test_combinations_that_cannot_work(repository: Repository, words: tuple[str, ...], message: str) -> None:
    assert message in _infer(repository, f"--image-dir={VAL}", *words, code=2)[1]


def test_engines(lite: Repository, exported: Path) -> None:
    """With oneDNN and without it, the same answers; of all digits, as many correct as when they were evaluated."""
    rows, _ = _infer(lite, f"--image-dir={VAL}", "--use_mkldnn=True", "--batch-size=64")
    best = {name: json.loads(answer)[0][0] for name, answer in (row.split("\t") for row in rows)}
    labels = dict(line.split() for line in (lite.folder / "test_tipc/data/val_list.txt").read_text().splitlines())
    correct = sum(str(best[name.removeprefix("val/")]) == label for name, label in labels.items())
    assert (correct, len(labels)) == (591, 599)  # results/quickstart.json
    rows, _ = _infer(lite, "--image-dir=small/imgs/val", "--use_mkldnn=False")
    assert {
        name: json.loads(answer)[0][0] for name, answer in (row.split("\t") for row in rows)
    }.items() <= best.items()


@pytest.mark.long  # with .pdmodel; in the usual tests it is ONNX, below
def test_another_format_takes_the_place_of_the_first(repository: Repository, exported: Path) -> None:
    folder = repository.folder / "formats"
    shutil.copytree(exported, folder)
    weights = f"--pretrained=test_tipc/weights/{MODEL}"
    repository.tipc("export", weights, "--save-inference-dir=formats", "--format=pdmodel")
    assert (folder / "inference.pdmodel").is_file()
    assert not (folder / "inference.json").exists()
    assert (folder / "best.safetensors").is_file()
    image = next((repository.folder / VAL).iterdir())
    done = repository.tipc("infer", "--model-dir=formats", f"--image-dir={image}", "--use-mkldnn=True")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.skipif(not installed("paddle2onnx"), reason="the extra onnx is not installed")
def test_onnx_takes_the_place_of_the_first(repository: Repository, exported: Path) -> None:
    folder = repository.folder / "onnx"
    shutil.copytree(exported, folder)
    weights = f"--pretrained=test_tipc/weights/{MODEL}"
    repository.tipc("export", weights, "--save-inference-dir=onnx", "--format=onnx")
    assert (folder / "model.onnx").is_file()
    assert not (folder / "inference.json").exists()
    assert not (folder / "inference.pdiparams").exists()
    assert (folder / "best.safetensors").is_file()
    image = next((repository.folder / VAL).iterdir())
    rows = repository.tipc("infer", "--model-dir=onnx", f"--image-dir={image}").stdout.splitlines()
    assert len(rows) == 1
    said = repository.tipc("infer", "--model-dir=onnx", f"--image-dir={image}", "--use-mkldnn=True", code=2).stderr
    assert "use_mkldnn=True belongs to Paddle Inference, and the folder holds onnx" in said


# Prepare.


def test_prepare_from_what_is_given(repository: Repository, tmp_path: Path) -> None:
    source = tmp_path / "mine"
    (source / "imgs/deep").mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (20, 20), (40 * number, 0, 0)).save(source / f"imgs/deep/{number}.png")
    for part in ("train", "val"):
        (source / f"{part}_list.txt").write_text("".join(f"deep/{n}.png {n % 2}\n" for n in range(6)))
    with tarfile.open(tmp_path / "mine.tar", "w") as archive:
        archive.add(source, "mine")
    config = repository.edit(LONG, _16="norm_train:-m mobilenext.tipc train --data=given")
    for given in (source, tmp_path / "mine.tar"):
        repository.tipc("prepare", config, "lite_train_lite_infer", given)
        lines = (repository.folder / "given/val_list.txt").read_text().splitlines()
        assert lines[0] == "val/deep_0.png 0"
        assert len(list((repository.folder / "given/imgs/val").iterdir())) == len(lines) == 6
    said = repository.tipc("prepare", config, "lite_train_lite_infer", config, code=3).stderr
    assert "cannot be unpacked" in said
    assert (repository.folder / "given/val_list.txt").is_file()  # what was there is kept


def test_prepare_replaces_only_what_it_made(repository: Repository) -> None:
    (repository.folder / "precious").mkdir()
    (repository.folder / "precious/photo.png").write_text("mine")
    config = repository.edit(LONG, _16="norm_train:-m mobilenext.tipc train --data=precious")
    said = repository.tipc("prepare", config, "lite_train_lite_infer", code=2).stderr
    assert "precious is there and has no prepared.json" in said
    assert (repository.folder / "precious/photo.png").read_text() == "mine"
    config = repository.edit(PROD, _14="norm_train:-m mobilenext.tipc train --model=x")
    assert "line 14: no --data=FOLDER" in repository.tipc("prepare", config, "whole_infer", code=2).stderr
    config = repository.edit(PROD, _14="norm_train:train.py")
    assert "line 14: 'train.py' does not run" in repository.tipc("prepare", config, "whole_infer", code=2).stderr
