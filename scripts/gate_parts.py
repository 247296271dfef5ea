"""The parts of scripts/gate.py: each runs commands in a temporary folder and returns what they wrote."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

from gate_files import Page, describe, digest_of_model, read_certificate, read_json, read_rows, read_tensors

ROOT = Path(__file__).resolve().parents[1]
GOLDENS = ROOT / "tests" / "goldens" / "gate"
FORMATS = ("onnx", "paddle", "paddle-legacy", "openvino", "ncnn", "tflite", "mnn")
SIDECAR_1 = ("format", "precision", "file", "input", "output", "layout", "record", "files", "self_check", "parity")
RECIPE = (
    *("epochs=3", "batch_size=32", "lr=0.04", "lr_batch_size=32", "warmup_epochs=1", "ema_decay=0.9", "image_size=32"),
    *("color_jitter=0.2", "mixup=0.2", "erasing=0.25", "rand_augment=rand-m9-n2"),
)


class Workshop:
    """A temporary folder in which the command runs, with the sources of `source`."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source, self.folder = source.resolve(), folder.resolve()
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        plain = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHON_COLORS": "0", "LC_ALL": "C.UTF-8"}
        own = {"MOBILENEXT_HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp")}
        self.environment = os.environ | plain | own | {"PYTHONPATH": str(self.source), "OMP_NUM_THREADS": "1"}
        self.command = str(Path(sys.executable).with_name("mobilenext"))

    def run(self, *arguments: str, code: int = 0, command: Sequence[str] = ()) -> str:
        """Run the command and return its standard output; another exit code than `code` ends the gate."""
        line = [*(command or [self.command]), *arguments]
        finished = subprocess.run(line, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        if finished.returncode != code:
            sys.exit(f"{' '.join(line)}: exit {finished.returncode}, not {code}\n{finished.stdout}{finished.stderr}")
        return finished.stdout

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        line = [self.command, *arguments]
        return subprocess.Popen(
            line, cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def digits(self) -> str:
        """The folder of 160 digits to train on and 80 to validate on, written as the quickstart writes them."""
        digits, folder = load_digits(), self.folder / "digits"
        (folder / "imgs").mkdir(parents=True, exist_ok=True)
        for part, places in {"train": range(160), "val": range(1198, 1278)}.items():
            for place in places:
                pixels = (digits.images[place] * (255 / 16)).round().astype("uint8")  # [8, 8]
                Image.fromarray(pixels).save(folder / "imgs" / f"digit_{place:04}.png")
            lines = [f"digit_{place:04}.png {digits.target[place]}\n" for place in places]
            (folder / f"{part}_list.txt").write_text("".join(lines))
        (folder / "labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
        return folder.name

    def pictures(self) -> str:
        """The folder of 60 pictures of coarse random squares in three sizes, labeled with the 20 classes of tiny20."""
        folder = self.folder / "pictures"
        (folder / "imgs").mkdir(parents=True, exist_ok=True)
        for number in range(60):
            coarse = np.random.default_rng(number).integers(0, 256, (6, 5 + number % 3, 3), dtype=np.uint8)
            pixels = coarse.repeat(12, axis=0).repeat(12, axis=1)  # [72, 60 to 84, 3]
            Image.fromarray(pixels).save(folder / "imgs" / f"picture_{number:02}.png")
        (folder / "val_list.txt").write_text(
            "".join(f"picture_{number:02}.png {number % 20}\n" for number in range(60))
        )
        return folder.name


def help_of_verbs(shop: Workshop) -> dict[str, Any]:
    overview = shop.run("--help")
    texts = {"mobilenext": overview}
    for verb in re.findall(r"^  ([a-z][a-z-]+) ", overview, re.MULTILINE):
        texts[f"mobilenext {verb}"] = shop.run(verb, "--help")
    texts["python -m mobilenext.tipc"] = shop.run("--help", command=[sys.executable, "-m", "mobilenext.tipc"])
    tables = {"list": shop.run("list"), "recipes": shop.run("recipes"), "recipes tiny": shop.run("recipes", "tiny")}
    return {name: text.splitlines() for name, text in {**texts, **tables}.items()}


def convert(shop: Workshop) -> dict[str, Any]:
    sys.path.append(str(ROOT / "tests"))
    from golden import formula_weights, recording  # the recorded PyTorch networks, and the formula of their weights

    values: dict[str, Any] = {}
    for name, recorded in {"x0_35": "mobilenext_x0.35_20classes_64px", "s": "mobilenext_s"}.items():
        keys = [(key, list(shape)) for key, shape in recording(recorded)[0]["keys"]]
        save_file(formula_weights(keys, recorded), shop.folder / f"{name}.pytorch.safetensors")
        ours, back, pdparams, again = (
            f"{name}.{kind}" for kind in ("safetensors", "back.safetensors", "pdparams", "again.safetensors")
        )
        shop.run("convert", f"{name}.pytorch.safetensors", "-o", ours, "--image-size", "64")
        shop.run("convert", ours, "-o", back, "--to", "pytorch")
        files = [ours, back]
        if name == "x0_35":
            shop.run("convert", ours, "-o", pdparams)
            shop.run("convert", pdparams, "-o", again)
            content = pickle.loads((shop.folder / pdparams).read_bytes())  # written a moment ago, by us
            values[pdparams] = {key: describe(np.asarray(tensor)) for key, tensor in sorted(content.items())}
            files.append(again)
        for file in files:
            values[file] = read_tensors(shop.folder / file)
        for file in (*files, *([pdparams] if name == "x0_35" else [])):
            values[f"{file}.certificate.json"] = read_certificate(shop.folder / f"{file}.certificate.json")
    return values


def train(shop: Workshop) -> dict[str, Any]:
    data, folder = shop.digits(), shop.folder / "run"
    settings = [word for setting in RECIPE for word in ("--set", setting)]
    model = ("--model", "mobilenext_x0_35", "--recipe", "tiny", "--labels", f"{data}/labels.txt")
    often = ("--log-every", "1", "--save-every", "0", "--threads", "1")
    process = shop.start("train", data, *model, *settings, *often, "-o", "run")
    log = folder / "log.jsonl"
    while process.poll() is None and not (log.exists() and '"global_step": 7,' in log.read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL or not (folder / "checkpoint.safetensors").exists():
        sys.exit(f"train: it ended with {process.returncode} before it could be killed after a checkpoint")
    shop.run("train", "--resume", "run", *often)
    weights = ("best", "last", "last_ema", "checkpoint")
    configuration = read_json(folder / "run.json")
    configuration["data_folder"]["root"] = "DATA"  # an absolute path
    return {
        "run.json": configuration,
        "result.json": read_json(folder / "result.json"),
        "log.jsonl": read_rows(log),
        **{f"{name}.safetensors": read_tensors(folder / f"{name}.safetensors") for name in weights},
    }


def evaluate(shop: Workshop) -> dict[str, Any]:
    model, one = ("--model", "mobilenext_x0_35", "--weights"), ("--workers", "1", "--threads", "1")
    shop.run("evaluate", shop.digits(), *model, "digits", "--runtime", "onnxruntime", *one, "-o", "digits_run")
    pictures = shop.pictures()
    damaged = shop.folder / pictures / "imgs" / "picture_40.png"
    damaged.write_bytes(damaged.read_bytes()[:150])
    tiny20 = ("evaluate", pictures, *model, "tiny20", "--runtime", "paddle", *one, "-o", "tiny20_run")
    shop.run(*tiny20, code=3)
    journal = read_rows(shop.folder / "tiny20_run" / "journal.jsonl")
    shop.run(*tiny20, "--resume", "--unreadable", "wrong")
    files = {"tiny20_run/journal.jsonl": journal}
    for run in ("digits_run", "tiny20_run"):
        files[f"{run}/predictions.jsonl"] = read_rows(shop.folder / run / "predictions.jsonl")
        files[f"{run}/result.json"] = read_json(shop.folder / run / "result.json")
    return files


def export(shop: Workshop) -> dict[str, Any]:
    images = [f"{shop.digits()}/imgs/digit_{place:04}.png" for place in range(1198, 1206)]
    values = {}
    for name in FORMATS:
        weights = ("--model", "mobilenext_x0_35", "--weights", "digits", "--images", *images)
        shop.run("export", *weights, "--format", name, "-o", name)
        paths = sorted((shop.folder / name).iterdir())
        sidecar = read_json(shop.folder / name / "mobilenext.json")
        for file, stored in sidecar["files"].items():
            actual = hashlib.sha256((shop.folder / name / file).read_bytes()).hexdigest()
            sidecar["files"][file] = "sha256 of the file" if stored == actual else "of another file"
        values[name] = {
            "files": {path.name: digest_of_model(path) for path in paths if path.name != "mobilenext.json"},
            "sidecar": {field: sidecar.get(field) for field in SIDECAR_1},
        }
    return values


def report(shop: Workshop) -> dict[str, Any]:
    stored = {f"run/{name}": content for name, content in read_golden("train")["values"].items()}
    for name, content in {**stored, **read_golden("evaluate")["values"]}.items():
        path = shop.folder / "stored" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl" and path.name != "journal.jsonl":
            path.write_text("".join(f"{json.dumps(row)}\n" for row in content))
        elif path.suffix == ".json":
            path.write_text(json.dumps(content))
    folders = [f"stored/{name}" for name in ("digits_run", "tiny20_run", "run")]
    shop.run("report", *folders, "--data", shop.pictures(), "-o", "page.html")
    page = Page()
    page.feed((shop.folder / "page.html").read_text())
    return {"charts": page.charts, "tables": page.tables, "tiles": page.tiles}


def read_golden(part: str) -> dict[str, Any]:
    path = GOLDENS / f"{part}.json"
    if not path.exists():
        sys.exit(f"{path} is missing; record it: python scripts/gate.py record {part} --source OLD_CHECKOUT/src")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


PARTS: dict[str, Callable[[Workshop], dict[str, Any]]] = {
    "help": help_of_verbs,
    "convert": convert,
    "train": train,
    "evaluate": evaluate,
    "export": export,
    "report": report,  # the last: it reads what train and evaluate stored
}
