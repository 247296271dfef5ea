"""Read what the commands wrote, for scripts/gate.py: times replaced by fixed values, tensors by digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

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


def digest_of_model(path: Path) -> str:
    """The digest of a model file; of a .pdmodel without `op_callstack`, the files and lines that called Paddle."""
    content = path.read_bytes()
    return digest(b"".join(_program(content, (1, 4, 4))) if path.suffix == ".pdmodel" else content)


def _program(message: bytes, nested: tuple[int, ...]) -> Iterator[bytes]:
    """Yield the fields of a ProgramDesc (protobuf); `nested` leads to the attributes: blocks, their ops, their attrs.

    Lengths of nested messages are left out, because they count the call stack.
    """
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place, value, shift = place + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while place < len(message):
        tag = varint()
        number, wire = tag >> 3, tag & 7
        start = place
        size = varint() if wire in (0, 2) else {1: 8, 5: 4}[wire]
        if wire != 0:  # a varint is its own content
            start, place = place, place + size
        content = message[start:place]
        if nested and number == nested[0]:
            if len(nested) > 1 or b"op_callstack" not in content[:20]:
                yield b"%d{" % number
                yield from _program(content, nested[1:])
                yield b"}"
        else:
            yield b"%d:%d:" % (number, len(content)) + content


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
