"""Record what the commands write, and check that they still write the same: the gate of a change of the code's layout.

Source    the installed command `mobilenext`, run in a temporary folder with a source folder of the caller's choice
Expected  `gate: equal`, exit 0; a difference is printed as `path: stored / now`, exit 1
Cost      about 2 minutes on one core
Command   python scripts/gate.py check [PART ...]
          python scripts/gate.py record [PART ...] --source OLD_CHECKOUT/src

Parts, one file each in tests/goldens/gate:

    help      --help of the command, of every verb and of the TIPC adapter; the tables of `list` and `recipes`
    convert   weights in PyTorch's names to ours, to .pdparams and back: tensors, metadata, certificates
    train     15 steps on digits, killed (SIGKILL) after a checkpoint in the second epoch and resumed: every tensor, the
              log, run.json, result.json
    evaluate  digits in ONNX Runtime; tiny20 in Paddle on generated pictures, stopped by a damaged one and resumed
    export    one export of each format: digests of the files (all formats are written the same, byte for byte, every
              time) and the fields of version 1 of the sidecar
    report    charts (Vega-Lite), tables and tiles of the page of the stored train and evaluate parts, with thumbnails

Everything goes through commands and files, so that the modules behind them may move. A tensor is stored as its type,
shape and the first 16 digits of its SHA-256. Times, speeds and the environment are replaced by
fixed values, so that their places in the files are checked, too.

Numbers depend on the instructions of the processor and on the versions of the libraries. On another processor train,
evaluate and export cannot be compared exactly: `check` says so and exits 2. There, check out the commit that the change
starts from, and record these parts from it: `git worktree add OLD COMMIT`, `gate.py record --source OLD/src`.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[1]
GOLDENS = ROOT / "tests" / "goldens" / "gate"
NUMERIC = ("train", "evaluate", "export")  # their numbers depend on the processor
FORMATS = ("onnx", "paddle", "paddle-legacy", "openvino", "ncnn", "tflite")
SIDECAR_1 = ("format", "precision", "file", "input", "output", "layout", "record", "files", "self_check", "parity")
RECIPE = (
    *("epochs=3", "batch_size=32", "lr=0.04", "lr_batch_size=32", "warmup_epochs=1", "ema_decay=0.9", "image_size=32"),
    *("color_jitter=0.2", "mixup=0.2", "erasing=0.25", "rand_augment=rand-m9-n2"),
)

# What differs from one run to the next, and the value that takes its place.
_TIMES = (
    *("seconds", "reader_seconds", "train_seconds", "last_process_seconds", "reader_cost", "batch_cost"),
    *("images_per_second", "peak_memory_mib", "latency_ms", "median", "p10", "p90", "preprocessing_median"),
)
FIXED: dict[str, Any] = {
    **dict.fromkeys(_TIMES, 1.0),
    **dict.fromkeys(("started", "finished"), "2026-01-01T00:00:00Z"),
    "mobilenext": "0.1.0",
    "samples_ms": [1 + number / 100 for number in range(100)],
    "environment": {"mobilenext": "0.1.0", "processor": "a processor"},
}


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


def read_json(path: Path) -> Any:
    return fixed(json.loads(path.read_text()))


def read_rows(path: Path) -> list[Any]:
    return [fixed(json.loads(line)) for line in path.read_text().splitlines()]


def fixed(value: Any) -> Any:
    """Put the fixed values in the place of times and environments; one that is null stays."""
    if isinstance(value, dict):
        return {
            name: FIXED[name] if name in FIXED and inner is not None else fixed(inner) for name, inner in value.items()
        }
    return [fixed(inner) for inner in value] if isinstance(value, list) else value


def read_tensors(path: Path) -> dict[str, Any]:
    """The digests of all tensors of a safetensors file, and its metadata."""
    with safe_open(path, "np") as file:
        metadata = {
            name: json.loads(text) if text[0] in "{[" else text for name, text in file.metadata().items() if text
        }
        tensors = {name: describe(file.get_tensor(name)) for name in sorted(file.keys())}
    return {"metadata": dict(sorted(fixed(metadata).items())), "tensors": tensors}


def read_certificate(path: Path) -> dict[str, Any]:
    """A certificate, with a line for each tensor."""
    certificate: dict[str, Any] = read_json(path)
    certificate["tensors"] = [
        f"{row['source']} {row['source_shape']} -> {row['output']} {row['output_shape']}, "
        f"transposed: {row['transposed']}, {row['sha256'][:16]}"
        for row in certificate["tensors"]
    ]
    return certificate


def describe(array: np.ndarray[Any, Any]) -> str:
    return f"{array.dtype}{list(array.shape)} {digest(np.ascontiguousarray(array).tobytes())}"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def help_of_verbs(shop: Workshop) -> dict[str, Any]:
    overview = shop.run("--help")
    texts = {"mobilenext": overview}
    for verb in re.findall(r"^    ([a-z][a-z-]+)", overview.partition("COMMAND\n")[2], re.MULTILINE):
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
        values[name] = {
            "files": {path.name: digest(path.read_bytes()) for path in paths if path.name != "mobilenext.json"},
            "sidecar": {field: sidecar.get(field) for field in SIDECAR_1},
        }
    return values


class Page(HTMLParser):
    """The charts, tables and tiles of a report page."""

    def __init__(self) -> None:
        super().__init__()
        self.charts: list[Any] = []
        self.tables: list[dict[str, Any]] = []
        self.tiles: list[str] = []
        self._text: list[str] | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if tag in ("caption", "th", "td", "dt", "dd") or (tag == "script" and named.get("class") == "chart-spec"):
            self._text = []
        elif tag == "table":
            self.tables.append({"id": named.get("id"), "caption": "", "rows": []})
        elif tag == "tr":
            self.tables[-1]["rows"].append([])
        elif tag == "img" and self._text is not None:
            self._text.append(f"[image {digest((named.get('src') or '').encode())}] ")
        elif tag == "small" and self._text is not None:
            self._text.append(" | ")

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if self._text is None or tag not in ("caption", "th", "td", "dt", "dd", "script"):
            return
        text, self._text = "".join(self._text).strip(), None
        if tag == "script":
            self.charts.append(json.loads(text))
        elif tag == "caption":
            self.tables[-1]["caption"] = text
        elif tag in ("dt", "dd"):
            self.tiles.append(text)
        else:
            self.tables[-1]["rows"][-1].append(text)


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


PARTS: dict[str, Callable[[Workshop], dict[str, Any]]] = {
    "help": help_of_verbs,
    "convert": convert,
    "train": train,
    "evaluate": evaluate,
    "export": export,
    "report": report,  # the last: it reads what train and evaluate stored
}


def read_golden(part: str) -> dict[str, Any]:
    path = GOLDENS / f"{part}.json"
    if not path.exists():
        sys.exit(f"{path} is missing; record it: python scripts/gate.py record {part} --source OLD_CHECKOUT/src")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def layout(value: Any, indent: int = 0) -> str:
    """JSON with a line for whatever fits into one, so that a difference can be read."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or len(line) + indent <= 160:
        return line
    pad = "\n" + " " * (indent + 1)
    if isinstance(value, dict):
        inner = [
            f"{json.dumps(name, ensure_ascii=False)}: {layout(entry, indent + 1)}" for name, entry in value.items()
        ]
        return "{" + pad + f",{pad}".join(inner) + "\n" + " " * indent + "}"
    return "[" + pad + f",{pad}".join(layout(entry, indent + 1) for entry in value) + "\n" + " " * indent + "]"


def differences(path: str, stored: Any, now: Any) -> Iterator[str]:
    """Yield a line, `path: stored / now`, for each place where two values of JSON differ; text as a unified diff."""
    if isinstance(stored, dict) and isinstance(now, dict):
        for name in [*stored, *(name for name in now if name not in stored)]:
            if name not in now:
                yield f"{path}/{name}: {shown(stored[name])} / missing"
            elif name not in stored:
                yield f"{path}/{name}: missing / {shown(now[name])}"
            else:
                yield from differences(f"{path}/{name}", stored[name], now[name])
    elif isinstance(stored, list) and isinstance(now, list):
        if stored and now and all(isinstance(line, str) for line in [*stored, *now]):
            for line in difflib.unified_diff(stored, now, "stored", "now", lineterm="", n=0):
                yield f"{path}: {line}"
            return
        if len(stored) != len(now):
            yield f"{path}: {len(stored)} entries / {len(now)} entries"
        for place, (one, other) in enumerate(zip(stored, now, strict=False)):
            yield from differences(f"{path}[{place}]", one, other)
    elif json.dumps(stored) != json.dumps(now):  # so that 1, 1.0 and true are three values
        yield f"{path}: {shown(stored)} / {shown(now)}"


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}..."


def machine(shop: Workshop) -> dict[str, Any]:
    """The processor and the versions that the numbers depend on."""
    facts = json.loads(shop.run("info", "--json"))
    return {
        name: fact for name, fact in facts.items() if name not in ("cores", "memory_gib", "load_average", "governor")
    }


def record(parts: Iterable[str], shop: Workshop) -> int:
    GOLDENS.mkdir(parents=True, exist_ok=True)
    for part in parts:
        started = time.monotonic()
        content = {"made_on": machine(shop), "values": PARTS[part](shop)}
        (GOLDENS / f"{part}.json").write_text(layout(content) + "\n")
        print(f"{part}: recorded, {time.monotonic() - started:.0f} s", flush=True)
    return 0


def check(parts: Iterable[str], shop: Workshop, most: int) -> int:
    here, different, skipped = machine(shop), 0, 0
    for part in parts:
        started, golden = time.monotonic(), read_golden(part)
        there = golden["made_on"]
        if part in NUMERIC and any(here[fact] != there[fact] for fact in ("processor", "processor_features")):
            skipped += 1
            print(
                f"{part}: not compared. It was recorded on {there['processor']} {there['processor_features']}; this is"
            )
            print(f"  {here['processor']} {here['processor_features']}, and numbers depend on it. Record it here, from")
            print(f"  the commit that the change starts from: gate.py record {part} report --source OLD_CHECKOUT/src")
            continue
        lines = list(differences(part, golden["values"], PARTS[part](shop)))
        versions = [f"{name} {there.get(name)} / {fact}" for name, fact in here.items() if fact != there.get(name)]
        if lines and versions:
            print(f"{part}: recorded with other versions: {', '.join(versions)}")
        for line in lines[:most]:
            print(line)
        if len(lines) > most:
            print(f"{part}: {len(lines) - most} more; --most {len(lines)} shows all")
        print(
            f"{part}: {f'{len(lines)} differences' if lines else 'equal'}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
        different += bool(lines)
    print(
        f"gate: {different} parts differ"
        if different
        else f"gate: {skipped} not compared"
        if skipped
        else "gate: equal"
    )
    return 1 if different else 2 if skipped else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("record", "check"))
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--source", type=Path, default=ROOT / "src", help="folder of the sources to run (default: src)")
    parser.add_argument("--most", type=int, default=40, help="lines of differences of a part to print (default: 40)")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    parts = [part for part in PARTS if part in options.parts or not options.parts]
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        shop = Workshop(options.source, Path(folder))
        return record(parts, shop) if options.action == "record" else check(parts, shop, options.most)


if __name__ == "__main__":
    sys.exit(main())
