"""Walk a road of the documents as its reader does, and write how long it takes to results/roads.json.

    python scripts/walk_roads.py evaluation --data DATA --checkpoint MODEL_BEST.pth.tar
    python scripts/walk_roads.py photos --data PHOTOS
    python scripts/walk_roads.py boxes --data CELLS --add 'train=--set epochs=4 --set warmup_epochs=0.5'
    python scripts/walk_roads.py notebook

The commands are read from the page, so that a page whose commands do not work fails here. They run in a clone of this
checkout's last commit, a new virtual environment, and a home that is empty. The reader's data are links with the names
that the page gives them. A server is asked by the page's own `curl` and stopped. Where `quantize` says that this
processor has no int8, the commands that the page names for that case take its place.

Written are the commands with their seconds, the size of the environment, and the words of the page outside code
(of a page in Chinese its characters), up to the end of the section with the commands.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenext.machine.environment import environment
from mobilenext.origin import origin

ROOT = Path(__file__).parents[1]
NO_INT8 = "int8 was asked for, but this processor has none of"
SERVING = "Ctrl-C stops"
SERVER_S = 120


@dataclass(frozen=True)
class Road:
    """Where the commands of a road are written.

    Args:
        page: the document.
        data: the name that the page gives to the reader's data; empty: none are needed.
        install: how the installing command begins.
        begin: how the first command of the road begins.
        commands: how many there are.
        section: that has the commands, and to whose end the page is read; None: the whole page.
        checkpoint: the name that the page gives to the reader's checkpoint, if one is needed.
    """

    page: str
    data: str
    install: str
    begin: str
    commands: int
    section: str | None = None
    checkpoint: str | None = None


ROADS = {
    "evaluation": Road(
        "README_cn.md", "DATA", "pip install -r requirements.txt", "mobilenext check-data", 4, "模型评估",
        "model_best.pth.tar",
    ),
    "photos": Road("docs/photos.md", "photos", "pip install", "mobilenext check-data", 4),
    "boxes": Road("docs/boxes.md", "cells", "pip install", "mobilenext check-data", 4),
    "notebook": Road("docs/sandglass.ipynb", "", "pip install", "jupyter notebook", 1),
}  # fmt: skip


def text_of(page: Path) -> str:
    """Return the Markdown of a document, or of a notebook's cells of text."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def code_of(text: str) -> list[str]:
    """Return the lines of all indented blocks and of all commands within a sentence, in order, joined where cut."""
    pattern = r"^    (\S.*?)(?:\s+#.*)?$|`((?:pip|mobilenext|curl) [^`]+)`"
    lines = re.findall(pattern, text.replace("\\\n", " "), re.MULTILINE)
    return [re.sub(r"\s+", " ", block or inline).strip() for block, inline in lines]


def words_of(text: str) -> int:
    """Return how many words are read outside code: a character of Chinese is one."""
    prose = re.sub(r"(?s:```.*?```|<!--.*?-->)|^    .*$|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.MULTILINE)
    return len(re.findall(r"[一-鿿]|[^\W一-鿿]+(?:['’.-][^\W一-鿿]+)*", prose))


def commands_of(road: Road) -> tuple[str, list[str], list[str], int]:
    """Return the installing command, those of the road, all code of its page's section, and the words to its end."""
    text = text_of(ROOT / road.page)
    before, part = ("", text) if road.section is None else text.split(f"\n## {road.section}\n")
    part = part if road.section is None else part.split("\n## ")[0]
    code = code_of(part)
    installing = next(line for line in code_of(text) if line.startswith(road.install))
    first = next(index for index, line in enumerate(code) if line.startswith(road.begin))
    return installing, code[first : first + road.commands], code, words_of(before + part)


class Reader:
    """Runs commands in a folder with the clone and its environment, and keeps what each took."""

    def __init__(self, folder: Path, additions: dict[str, str]) -> None:
        self.folder, self.additions = folder, additions
        self.rows: list[dict[str, Any]] = []
        (folder / "home").mkdir()
        kept = {"LANG": "C.UTF-8", "PATH": f"{folder}/clone/.venv/bin:{os.environ['PATH']}"}
        network = {name: value for name, value in os.environ.items() if re.match(r"(?i)(pip_|.*_proxy$|ssl_)", name)}
        self.variables = {**network, **kept, "HOME": str(folder / "home")}
        self.output = ""  # of the last command

    def run(self, command: str, inside: str = "work", *, may_fail: bool = False) -> int:
        """Run a command in a folder; return its exit code, which is 0 unless it may fail."""
        verb = command.split()[1] if command.startswith("mobilenext ") else ""
        full = f"{command} {self.additions[verb]}" if verb in self.additions else command
        print(f"$ {full}", flush=True)
        started = time.perf_counter()
        process = subprocess.run(
            full, shell=True, cwd=self.folder / inside, env=self.variables, executable="/bin/bash",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._done(full, started, process.returncode, process.stdout)
        if process.returncode and not may_fail:
            raise SystemExit(f"exit code {process.returncode}: {full}")
        return process.returncode

    def serve(self, command: str, request: str) -> None:
        """Start a server, send it the page's request, and stop it."""
        print(f"$ {command}", flush=True)
        started = time.perf_counter()
        with (self.folder / "server.log").open("wb") as file:
            server = subprocess.Popen(
                ["/bin/bash", "-c", f"exec {command}"], cwd=self.folder / "work", env=self.variables, stderr=file
            )
        try:
            while SERVING not in (log := (self.folder / "server.log").read_text()):
                if server.poll() is not None or time.perf_counter() - started > SERVER_S:
                    raise SystemExit(f"the server did not start: {log}")
                time.sleep(0.1)
            self._done(command, started, 0, log)
            self.run(request.replace("curl ", "curl -sS --fail-with-body ", 1))
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(SERVER_S)
        if code not in (0, 128 + signal.SIGTERM, -signal.SIGTERM):
            raise SystemExit(f"the server ended with exit code {code}")

    def _done(self, command: str, started: float, code: int, output: str) -> None:
        seconds = round(time.perf_counter() - started, 1)
        self.output = output
        print(f"{output.rstrip()}\n[exit code {code}, {seconds} s]", flush=True)
        self.rows.append({"command": command, "seconds": seconds, "exit_code": code})


def walk(road: Road, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Walk a road in a folder; return what is written of it."""
    installing, commands, code, words = commands_of(road)
    reader = Reader(folder, dict(addition.split("=", 1) for addition in options.add))
    reader.run(f"git clone --quiet {shlex.quote(str(ROOT))} clone", ".")
    (folder / "work").mkdir()
    if road.data:
        (folder / "work" / road.data).symlink_to(Path(options.data).resolve())
    if road.checkpoint:
        (folder / "work" / road.checkpoint).symlink_to(Path(options.checkpoint).resolve())
    reader.run("python3 -m venv .venv", "clone")
    reader.run(installing, "clone")
    size = subprocess.run(["du", "-sm", folder / "clone" / ".venv"], capture_output=True, text=True, check=True)
    for command in commands:
        step(reader, command, code)
    rows = [{**row, "command": row["command"].replace(str(ROOT), "ADDRESS")} for row in reader.rows]
    minutes = round(sum(row["seconds"] for row in rows) / 60, 1)
    return {
        "page": road.page, "words": words, "minutes": minutes,
        "environment_mb": int(size.stdout.split()[0]), "added": options.add, "commands": rows,
        **origin(), "environment": environment(),
    }  # fmt: skip


def step(reader: Reader, command: str, code: list[str]) -> None:
    """Run one command of a page, or what the page says in its place."""
    if command.startswith("jupyter notebook "):
        notebook = f"../clone/{command.split()[-1]}"
        reader.run(f"jupyter nbconvert --to notebook --execute --output-dir . {notebook}")
    elif command.startswith("mobilenext quantize"):
        if reader.run(command, may_fail=True) and NO_INT8 not in reader.output:
            raise SystemExit("quantize failed")
    elif command.startswith("mobilenext serve"):
        if reader.rows[-1]["exit_code"]:  # without int8: the export that the page names for this case
            exporting = next(index for index, line in enumerate(code) if line.startswith("mobilenext export"))
            reader.run(code[exporting])
            command = code[exporting + 1]
        reader.serve(command, next(line for line in code if line.startswith("curl")))
    else:
        reader.run(command)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("road", choices=ROADS)
    options.add_argument("--data", help="the reader's data")
    options.add_argument("--checkpoint", help="the reader's PyTorch checkpoint")
    options.add_argument("--add", action="append", default=[], metavar="VERB=OPTIONS", help="options to shorten a run")
    options.add_argument("-o", "--output", default=str(ROOT / "results" / "roads.json"))
    arguments = options.parse_args()
    road = ROADS[arguments.road]
    for name, needed in (("data", road.data), ("checkpoint", road.checkpoint)):
        if needed and not getattr(arguments, name):
            options.error(f"the road {arguments.road} needs --{name}: its page calls it {needed}")
    with tempfile.TemporaryDirectory(prefix="road-") as name:
        result = walk(road, Path(name), arguments)
    file = Path(arguments.output)
    roads = json.loads(file.read_text()) if file.exists() else {}
    ordered = {name: {**roads, arguments.road: result}.get(name) for name in ROADS}
    file.write_text(json.dumps({name: value for name, value in ordered.items() if value}, indent=1) + "\n")


if __name__ == "__main__":
    main()
