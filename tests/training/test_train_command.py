"""Through the installed command, as a user meets it. That no traceback is printed, the fixture checks."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from in_process import run_in_one_copy
from warm import WarmCommands

Run = Callable[..., CompletedProcess[str]]
X035 = ("--model", "mobilenext_x0_35")
DIGITS = ("--weights", "mobilenext_x0_35.digits")  # ten classes, comes with the package
SHORT = ("--recipe", "tiny", "--set", "epochs=1", "--set", "warmup_epochs=0", "--set", "batch_size=2")
SMALL = (*SHORT, "--set", "image_size=32")


@dataclass(frozen=True)
class Places:
    """What the cases name; they must not write into it."""

    data: Path  # seven training images of three classes, three for the validation
    other: Path  # the same with other labels
    gap: Path  # the same without class 1
    broken: Path  # the same with two training images that cannot be read
    run: Path  # a finished run on `data`
    fresh: Path  # a copy of it


def write_data(root: Path, labels: tuple[int, ...] = (0, 1, 2, 0, 1, 2, 0), broken: tuple[int, ...] = ()) -> Path:
    (root / "imgs").mkdir(parents=True)
    for number in range(10):
        path = root / "imgs" / f"{number}.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
        if number in broken:
            path.write_bytes(path.read_bytes()[:90])
    (root / "train_list.txt").write_text("".join(f"{number}.png {label}\n" for number, label in enumerate(labels)))
    (root / "val_list.txt").write_text("".join(f"{7 + label}.png {label}\n" for label in sorted(set(labels))))
    return root


def contents(folder: Path) -> dict[str, str]:
    """A checksum of every file; what is only said may be added to the log."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
        if path.name != "train.log"
    }


@pytest.fixture(scope="module")
def places(mobilenext: Run, tmp_path_factory: pytest.TempPathFactory) -> Places:
    folder = tmp_path_factory.mktemp("train")
    data = write_data(folder / "data")
    run = folder / "run"
    done = mobilenext("train", data, *X035, *SMALL, "-o", run)
    assert done.returncode == 0, done.stderr
    return Places(
        data=data,
        other=write_data(folder / "other", (0, 1, 2, 0, 1, 2, 1)),
        gap=write_data(folder / "gap", (0, 0, 2, 0, 2, 2, 0)),
        broken=write_data(folder / "broken", broken=(2, 4)),
        run=run,
        fresh=shutil.copytree(run, folder / "copy"),
    )


# --- bad input: words of the command, its exit code and what it says


def train(*words: object) -> tuple[object, ...]:
    return ("train", "DATA", "-o", "OUT/new/run", *words)


# Each in a process of its own.
BAD = {
    "resume with other data": (
        ("train", "OTHER", "--resume", "RUN"),
        2,
        "OTHER: its train part is not the run's: 7 im",
    ),
    "unreadable images": (
        ("train", "BROKEN", "-o", "OUT/new", *X035, *SMALL),
        3,
        "2 training images cannot be read; expected up to 0 (--max-unreadable):",
    ),
    "compare no folder": (
        ("compare", "RUN", "OUT/none"),
        3,
        "OUT/none: no such folder; expected the folder of a training run",
    ),
    "recipes of no name": (("recipes", "tyni"), 2, "unknown recipe 'tyni'; did you mean 'tiny'?"),
}
# One after another in one process: importing Paddle takes a second each time.
MORE = {
    "resume of no run": (("train", "--resume", "DATA"), 3, "as DATA; expected the folder of a training run"),
    "resume with a model": (
        ("train", "--resume", "RUN", *X035),
        2,
        "model cannot be changed when resuming; drop these",
    ),
    "large batch": (
        train(*X035, *SMALL, "--set", "batch_size=8"),
        2,
        "batch_size is 8, but there are 7 training images; choose up to that many (--set batch_size=...), or leave",
    ),
    "empty class": (("train", "GAP", "-o", "OUT/new", *X035, *SMALL), 3, "no training image of 1 of 3 classes: 1"),
    "unknown field": (train(*X035, "--set", "lrr=1"), 2, "no recipe has the field 'lrr'; did you mean 'lr'?"),
    "no number": (train(*X035, "--set", "lr=abc"), 2, "--set lr=abc: expected a number"),
    "unknown recipe": (train(*X035, "--recipe", "relased"), 2, "unknown recipe 'relased'; did you mean 'released'?"),
    "unknown model": (train("--model", "mobilenxt_x1_0"), 2, "did you mean 'mobilenext_x1_0'?"),
    "bf16": (
        train(*X035, *SMALL, "--set", "precision=bf16", "--device", "cpu"),
        2,
        "precision is bf16, which needs a G",
    ),
    "no output": (("train", "DATA", *X035), 2, "expected a data set and an output folder, or --resume with the folder"),
    "resume of no folder": (("train", "--resume", "OUT/none"), 3, "no run.json there; expected the folder of a traini"),
    "resume with an output": (
        ("train", "--resume", "RUN", "-o", "OUT/new"),
        2,
        "output cannot be changed when",
    ),
    "resume with a field": (
        ("train", "--resume", "RUN", "--set", "lr=1"),
        2,
        "settings cannot be changed when",
    ),
    "resume with a seed": (("train", "--resume", "RUN", "--seed", 0), 2, "seed cannot be changed when resuming"),
    "into a run": (("train", "DATA", *X035, *SMALL, "-o", "RUN"), 2, "holds a run already; go on with it by --resume"),
    "no finite number": (train(*X035, "--set", "lr=nan"), 2, "lr is nan; expected a finite number"),
    "no value": (train(*X035, "--set", "lr"), 2, "--set 'lr'; expected key=value, such as epochs=50"),
    "no model": (train(), 2, "no model; expected --model NAME, or --weights FILE to begin with"),
    "no weights": (train("--weights", "OUT/none.safetensors"), 3, "none.safetensors"),
    "no data": (("train", "OUT/none", "-o", "OUT/new", *X035), 3, "OUT/none: no such folder; expected a folder"),
    "nothing at all": (("train",), 2, "expected a data set and an output folder, or --resume with the folder of a run"),
    "below a file": (("train", "DATA", *X035, "-o", "DATA/val_list.txt/run"), 3, "choose another --output"),
    "divisor": (train(*X035, "--identity-divisor", 0), 2, "identity_divisor is 0; expected 1, 2, 3, 4 or 6"),
    "labels": (
        train(*X035, *SMALL, "--labels", "DATA/val_list.txt", "--num-classes", 2),
        3,
        "this is a list of images and labels",
    ),
    "classes": (train(*X035, *SMALL, "--num-classes", 2), 3, "the label 2 is too large"),
    "seed": (train(*X035, *SMALL, "--seed", -1), 2, "seed is -1; expected 0 "),
    "log": (train(*X035, *SMALL, "--log-every", 0), 2, "log_every is 0; expected 1 or more"),
    "time": (train(*X035, *SMALL, "--save-every", "nan"), 2, "save_every is nan; expected 0 or more"),
    "unreadable": (train(*X035, *SMALL, "--max-unreadable", -1), 2, "max_unreadable is -1; expected 0 or more"),
    "compare data": (("compare", "DATA"), 3, "as DATA; expected the folder of a training"),
}
CASES = {**BAD, **MORE}


@dataclass(frozen=True)
class Refusal:
    """What the command said, and the files that it left."""

    code: int
    stdout: str
    stderr: str
    left: list[str]
    message: str  # that is expected


@pytest.fixture(scope="module")
def refusals(
    mobilenext: Run, warm_commands: WarmCommands, places: Places, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Refusal]:
    """Every case of CASES."""
    folder = tmp_path_factory.mktemp("bad")
    known = {"DATA": places.data, "OTHER": places.other, "GAP": places.gap, "BROKEN": places.broken, "RUN": places.run}
    outs = {case: folder / str(number) for number, case in enumerate(CASES)}
    written = {}
    for case, (words, _, message) in CASES.items():
        outs[case].mkdir()
        texts = [str(word) for word in (*words, message)]
        for name, path in {**known, "OUT": outs[case]}.items():
            for at, text in enumerate(texts):
                if text == name or text.startswith((f"{name}/", f"{name}:")):
                    texts[at] = str(path) + text.removeprefix(name)
        written[case] = texts

    def run(case: str) -> tuple[int, str, str]:
        done = mobilenext(*written[case][:-1], cwd=outs[case])
        return done.returncode, done.stdout, done.stderr

    with ThreadPoolExecutor(2) as threads:
        said = list(threads.map(run, BAD))
    together = {case: written[case][:-1] for case in MORE}
    done = dict(zip(BAD, said, strict=True)) | run_in_one_copy(together, outs, folder, warm_commands)
    return {
        case: Refusal(
            *done[case], sorted(str(path.relative_to(outs[case])) for path in outs[case].rglob("*")), texts[-1]
        )
        for case, texts in written.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case: str, refusals: dict[str, Refusal]) -> None:
    refusal = refusals[case]
    assert refusal.message in refusal.stderr
    assert refusal.code == CASES[case][1], refusal.stderr
    assert refusal.stdout == ""
    assert refusal.stderr.startswith("mobilenext: "), "nothing but the one sentence"
    assert refusal.stderr.count("mobilenext: ") == 1
    assert refusal.left == [], "nothing may be left behind"


def test_what_is_refused_changes_nothing(places: Places, refusals: dict[str, Refusal]) -> None:
    assert len(refusals) == len(BAD) + len(MORE)
    assert contents(places.run) == contents(places.fresh)
    kept = [f"imgs/{number}.png" for number in range(10)]
    for data in (places.data, places.other, places.gap, places.broken):
        assert sorted(contents(data)) == ["imgs", *kept, "train_list.txt", "val_list.txt"]


def test_unreadable_images_are_all_listed(places: Places, refusals: dict[str, Refusal]) -> None:
    listed = refusals["unreadable images"].stderr.splitlines()[1:]
    assert [line.strip().split(": ")[0] for line in listed] == [
        str(places.broken / "imgs" / name) for name in ("2.png", "4.png")
    ]


def test_few_images_and_weights_of_other_classes(mobilenext: Run, places: Places, tmp_path: Path) -> None:
    """Nothing but data and weights: the recipe, the classes and the batch follow from them."""
    done = mobilenext("train", places.data, *DIGITS, "--set", "epochs=2", "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    for sentence in (
        "batch: 2 images instead of the recipe's 64, since there are 7; the learning rate is scaled with it, 0.02 to ",
        "3 classes instead of the weights' 10: classifier.1.weight and classifier.1.bias are freshly initialized",
        "recipe: finetune (",
        f"data: 7 training and 3 validation images of {places.data}, ",
        "epoch 2/2, validation (ema): top-1 ",
    ):
        assert sentence in done.stderr
    assert "top-5" not in done.stderr, "of three classes"
    config = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (config["num_classes"], config["recipe"]["name"], config["recipe"]["batch_size"]) == (3, "finetune", 2)


def test_a_run_that_does_not_begin_leaves_nothing(mobilenext: Run, places: Places, tmp_path: Path) -> None:
    """Though it has said something already."""
    done = mobilenext("train", places.broken, *DIGITS, "-o", tmp_path / "new" / "run")
    assert done.returncode == 3
    assert done.stderr.startswith("batch: 2 images instead of the recipe's 64")
    assert "mobilenext: 2 training images cannot be read" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_unreadable_images_that_may_be(mobilenext: Run, places: Places, tmp_path: Path) -> None:
    words = ("train", places.broken, *X035, *SMALL, "--set", "batch_size=7", "--max-unreadable", 2, "--json")
    done = mobilenext(*words, "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    broken = ["imgs/2.png", "imgs/4.png"]
    assert sorted(result["unreadable"]) == broken
    for name in broken:
        assert f"left out, unreadable: {name}" in done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result


# --- the other verbs


def test_recipes(mobilenext: Run) -> None:
    done = mobilenext("recipes")
    assert done.returncode == 0, done.stderr
    names = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    of_classifiers = ["paper", "released", "efficient", "efficient-aug", "finetune", "tiny"]
    of_detectors, of_cells = (
        ["ssdlite-voc", "ssdlite-coco", "ssdlite-small"],
        ["darts-cifar", "darts-imagenet", "darts-short"],
    )
    of_searches = ["darts", "short", "blocks"]
    assert names == [*of_classifiers, *of_cells, *of_detectors, *of_searches]
    assert done.stdout.count("mobilenext train ") == len(names) - len(of_searches)
    assert done.stdout.count("mobilenext search ") == len(of_searches)

    one = mobilenext("recipes", "tiny").stdout.splitlines()
    assert one[0] == "tiny"
    assert ["epochs", "44"] in [line.split() for line in one]


def test_recipes_as_json(mobilenext: Run) -> None:
    from mobilenext.classification.recipes import RECIPES, ClassificationRecipe

    done = mobilenext("recipes", "tiny", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (tiny,) = json.loads(done.stdout)
    assert (tiny["name"], tiny["epochs"], tiny["scale"]) == ("tiny", 44, [0.08, 1.0])
    assert ClassificationRecipe.from_dict(tiny) == RECIPES["tiny"]
    rows = json.loads(mobilenext("recipes", "--json").stdout)
    assert [row["name"] for row in rows][: len(RECIPES)] == list(RECIPES)


def test_photos_as_systems_leave_them(mobilenext: Run, places: Places, tmp_path: Path) -> None:
    """Divided by a share, with what a network drive leaves beside; gone on with where the photos have moved."""
    photos = tmp_path / "photos"
    for number in range(10):
        folder = photos / ("cat" if number % 2 else "dog")
        (folder / "@eaDir").mkdir(parents=True, exist_ok=True)
        shutil.copy(places.data / "imgs" / f"{number}.png", folder / f"{number}.png")
        shutil.copy(places.data / "imgs" / f"{number}.png", folder / "@eaDir" / f"{number}.png")
    done = mobilenext("train", photos, *X035, *SMALL, "-o", tmp_path / "no")
    assert done.returncode == 3
    assert "--val-split 0.2 divides them" in done.stderr
    (photos / "cat" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    done = mobilenext("train", photos, *X035, *SMALL, "--val-split", 0.4, "-o", tmp_path / "no")
    assert done.returncode == 3
    assert "cat/IMG_1.HEIC: HEIC is not read here; convert it to JPEG" in done.stderr
    (photos / "cat" / "IMG_1.HEIC").unlink()
    run = tmp_path / "run"
    done = mobilenext("train", photos, *X035, *SMALL, "--set", "lr=0.01", "--val-split", 0.4, "-o", run)
    assert done.returncode == 0, done.stderr
    assert "of 10 images, 4 validate: 0.4 of each class, drawn with seed 0" in done.stderr
    assert "2 entries that systems and programs leave beside data are ignored: @eaDir (2)" in done.stderr
    assert [len((run / f"{part}_list.txt").read_text().splitlines()) for part in ("train", "val")] == [6, 4]
    (run / "result.json").unlink()
    moved = photos.rename(tmp_path / "moved")
    done = mobilenext("train", "--resume", run)
    assert done.returncode == 3
    assert f"`mobilenext train NEW_DATA --resume {run}` goes on" in done.stderr
    assert mobilenext("train", moved, "--resume", run).returncode == 0
