"""Files of JSON with something wrong in them: values that are odd, names that are gone, bytes that were changed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, "", "x", "a\0b", "\ud800", "\udcff", "../../x", "e" * 20_000, "'\"<b>{{7*7}}\n", [], {}, [[]],
    [None], ["a"], {"a": 1}, {"": {}}, -1, 0, 1, 2, 3, 7, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**400,
    1e308, -1e308, 1e-308, -0.0, 0.5, 1.5, "@1e999", "@-1e999", "@NaN", "@Infinity", "@deep", "@deeper", "@digits",
)  # fmt: skip
_AS_TEXT = {"@deep": "[" * 70 + "]" * 70, "@deeper": '{"a":' * 100_000, "@digits": "9" * 5000}


def mutations(content: bytes, *, lines: bool, count: int, seed: str) -> Iterator[bytes]:
    """`count` changed forms of a file that holds JSON, or with `lines` JSON on every line; always the same ones."""
    draw = random.Random(seed)
    for _ in range(count):
        yield _bytes(content, draw) if draw.random() < 0.3 else _values(content, draw, lines=lines)


def _bytes(content: bytes, draw: random.Random) -> bytes:
    """Bytes flipped, left out, put twice, or the end cut off."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        start = draw.randrange(len(changed) + 1)
        end = min(len(changed), start + draw.choice((1, 1, 4, 40)))
        match draw.randrange(6):
            case 0 if start < len(changed):
                changed[start] ^= 1 << draw.randrange(8)
            case 1:
                del changed[start:end]
            case 2:
                changed[start:start] = changed[start:end]
            case 3:
                del changed[start:]
            case 4:
                changed[start:end] = draw.randbytes(end - start)
            case 5:
                changed[start:start] = draw.choice(
                    (b"\0", b"[", b'{"a":', b'"', b",", b"\xef\xbb\xbf", b"\n", b"1e999")
                )
    return bytes(changed)


def _values(content: bytes, draw: random.Random, *, lines: bool) -> bytes:
    """One value, or a few, replaced, left out, or put twice."""
    if not lines:
        return _one(content, draw)
    rows = content.splitlines(keepends=True)
    place = draw.randrange(len(rows))
    match draw.randrange(8):
        case 0:
            rows.pop(place)
        case 1:
            rows.insert(draw.randrange(len(rows)), rows[place])
        case 2:
            rows[place] = draw.choice((b"\n", b"null\n", b"[]\n", b"7\n", b"[" * 100_000 + b"\n"))
        case _:
            rows[place] = _one(rows[place], draw)
    return b"".join(rows)


def _one(content: bytes, draw: random.Random) -> bytes:
    value = copy.deepcopy(json.loads(content))
    places = list(_places(value))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        holder, key = draw.choice(places)
        if draw.random() < 0.15 and key in (holder if isinstance(holder, dict) else range(len(holder))):
            del holder[key]
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = copy.deepcopy(draw.choice(ODD))
    if draw.random() < 0.03:
        value = copy.deepcopy(draw.choice(ODD))
    text = json.dumps(value)
    for odd in ODD:
        if isinstance(odd, str) and odd.startswith("@"):
            text = text.replace(json.dumps(odd), _AS_TEXT.get(odd, odd[1:]))
    if draw.random() < 0.02:
        text = text.replace('{"', '{"model": 1, "', 1)  # a name that is there twice
    return (text + "\n" * content.endswith(b"\n")).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value in a record or a list."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(inner):
        yield value, key
        yield from _places(item)
