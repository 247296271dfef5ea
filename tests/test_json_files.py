"""The one reader of JSON from outside: a value within bounds, or a DataError that says where and why not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mobilenext.errors import DataError
from mobilenext.json_files import (
    DEEPEST,
    INTEGERS,
    check,
    either,
    flag,
    many,
    named,
    number,
    optional,
    parse,
    read_json,
    read_json_lines,
    sha256,
    text,
    whole,
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1 is cut off"),
        (b'{"a": [1,', "line 1 is cut off"),
        (b'{\n "a": 1,\n "b": tru}', "line 3 is not JSON (Expecting value, column 7)"),
        (b'{"a": 1} {', "line 1 is not JSON (Extra data, column 10)"),
        (b'{"a":\n\n "\xff"}', "line 3 is not UTF-8 (invalid start byte, byte 9)"),
        (b"[" * 100_000, f"nested deeper than {DEEPEST} levels"),
        (b"[" * 100 + b"]" * 100, f"nested deeper than {DEEPEST} levels"),
        (b'{"a":' * 100_000, f"nested deeper than {DEEPEST} levels"),
        (b'{"a": {"b": [0, 1e999]}}', "a.b[1] is inf"),
        (b'{"a": -1e999}', "a is -inf"),
        (b'{"a": NaN}', "NaN is no number"),
        (b"[Infinity]", "Infinity is no number"),
        (b"-Infinity", "-Infinity is no number"),
        (b'{"a": 1' + b"0" * 400 + b"}", "a is an integer of 1329 bits"),
        (b'{"a": 1' + b"0" * 100_000 + b"}", "too long"),
        (b'{"a": 9223372036854775808}', "a is an integer of 64 bits"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the field 'c' stands there twice"),
        (b"\x00\x00\x00\x00", "line 1"),
        (b"{'a': 1}", "not JSON"),
    ],
)
def test_what_no_reader_wants_is_refused_with_its_place(content: bytes, said: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(content, "f.json", remedy="evaluate again")
    assert said in str(caught.value)
    assert str(caught.value).startswith("f.json is damaged: ")
    assert str(caught.value).endswith("evaluate again")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_what_json_and_editors_write_is_read(encoding: str) -> None:
    value = {"name": "柠檬 \U0001f34b", "deep": [[[[{"a": [None, True, -0.0, 1e308]}]]]], "most": INTEGERS - 1}
    assert parse(json.dumps(value, ensure_ascii=False).encode(encoding), "x") == value
    # A file name that is no text is written as escaped surrogates, and read as them.
    assert parse(rb'"a\udcff"', "x") == os.fsdecode(b"a\xff")


def test_fields_can_be_left_out_while_they_are_read() -> None:
    content = b'{"a": 1, "b": [{"a": [2], "c": 3}]}'
    assert parse(content, "x", leave_out=frozenset({"a"})) == {"b": [{"c": 3}]}
    with pytest.raises(DataError, match="the field 'a' stands there twice"):
        parse(b'{"a": 1, "a": 2}', "x", leave_out=frozenset({"a"}))


def test_as_deep_as_is_allowed_and_no_deeper() -> None:
    assert parse(b"[" * DEEPEST + b"1" + b"]" * DEEPEST, "x")
    with pytest.raises(DataError, match="deeper"):
        parse(b"[" * (DEEPEST + 1) + b"1" + b"]" * (DEEPEST + 1), "x")
    wide = b"[" + b",".join([b"[1]"] * 10_000) + b"]"  # many brackets are not deep
    assert len(parse(wide, "x")) == 10_000


@pytest.mark.parametrize(
    ("fields", "good", "bad"),
    [
        (whole(1), [1, 5], [0, -1, 1.0, True, "1", None, [], {}, 1 << 63, 10**400]),
        (whole(0, 9), [0, 9], [10, -1]),
        (whole(), [-(1 << 63)], [-(1 << 63) - 1]),
        (number(0, 1), [0, 1, 0.5, -0.0], [-0.1, 1.1, True, "0", float("nan"), float("inf"), 10**400]),
        (number(0, 1, finite=False), [1, float("nan"), float("inf")], [2, 10**400, "nan"]),
        (number(above=0), [1e-308], [0, 0.0, -1, float("inf")]),
        (text(), ["", "a", "柠檬 \udcff"], ["a\0b", "\ud800", None, 1, ["a"]]),
        (text("raw", "ema"), ["raw"], ["", "RAW", ["raw"], {}]),
        (flag(), [True, False], [0, 1, "true", None]),
        (sha256(), ["0f" * 32], ["0F" * 32, "0f" * 31, "", 0, None]),
        (many(number(), 3), [[1, 2, 3.5]], [[1, 2], [1, 2, "3"], "abc", {"a": 1}, [1, 2, 10**400]]),
        (many(whole(0), (0, 5)), [[], [1] * 5], [[1], [1] * 4]),
        (named(text()), [{}, {"a": "b"}], [[], {"a": 1}, {"a\0": "b"}, "a"]),
        (optional(whole(0)), [None, 0], [-1, "", False]),
        (either(text(), whole()), ["a", 1], [1.5, None, []]),
    ],
)
def test_a_declared_field_holds_what_was_declared(fields: object, good: list[object], bad: list[object]) -> None:
    for value in good:
        check({"a": {"b": value}}, {"a.b": fields}, "x")  # type: ignore[dict-item]
    for value in bad:
        with pytest.raises(
            DataError, match=r"^x is damaged: .*a\.b.* (is|holds) .*; expected .*; restore it"
        ) as caught:
            check({"a": {"b": value}}, {"a.b": fields}, "x")  # type: ignore[dict-item]
        assert len(str(caught.value)) < 200


def test_missing_and_misplaced_fields_are_named() -> None:
    fields = {"final.raw.images": whole(1), "rows": many(optional(whole())), "maybe.deep": optional(whole())}
    check({"final": {"raw": {"images": 1, "more": []}}, "rows": [], "other": object()}, fields, "x")
    for value, said in [
        ({"rows": []}, "x is damaged: final.raw.images is missing; expected a whole number from 1 up"),
        ({"final": {"raw": [1, 2]}}, "x is damaged: final.raw is [1, 2]; expected a record"),
        ({"final": 3}, "x is damaged: final is 3; expected a record"),
        (
            {"final": {"raw": {"images": 1}}, "rows": [None, "y"]},
            "damaged: rows[1] is 'y'; expected a whole number",
        ),
        ({"final": {"raw": {"images": 1}}, "rows": [], "maybe": 7}, "x is damaged: maybe is 7; expected a record"),
        ([1], "x is damaged: it is [1]; expected a record"),
        ("y" * 500, "expected a record"),
    ]:
        with pytest.raises(DataError) as caught:
            check(value, fields, "x")
        assert said in str(caught.value)


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tmp_path / "good.json"
    good.write_bytes(b'\xef\xbb\xbf{"a": 1, "more": {}}\r\n')
    assert read_json(good, {"a": whole(1)}) == {"a": 1, "more": {}}
    os.mkfifo(tmp_path / "pipe")  # nobody writes into it: opening it in the usual way waits for ever
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "closed").touch(0)
    for name, said in [
        ("none", "is missing"),
        ("good.json/x", "is missing"),
        ("pipe", "not a regular file"),
        (".", "not a regular file"),
        ("loop", "symbolic links"),
        ("a\0b", "no name of a file"),
        *([] if os.geteuid() == 0 else [("closed", "Permission denied")]),
    ]:
        with pytest.raises(DataError, match=said):
            read_json(tmp_path / name)
    with pytest.raises(DataError, match="not a regular file"):
        read_json(Path("/dev/zero"))
    with pytest.raises(DataError, match="here: train first"):
        read_json(tmp_path / "none", missing="is not here: train first")
    monkeypatch.setattr("mobilenext.json_files.reading.LARGEST", 10)
    with pytest.raises(DataError, match="more than 10 bytes"):
        read_json(good)


def test_lines_are_read_one_by_one_with_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\r\n{"a": "x"}\n{"a"')
    rows = read_json_lines(path, {"a": whole()})
    assert [next(rows), next(rows)] == [(1, {"a": 1}), (2, {"a": 2})]
    with pytest.raises(DataError, match=r"rows\.jsonl: line 3 is damaged: a is 'x'; expected a whole number; restore"):
        next(rows)
    with pytest.raises(DataError, match=r"rows\.jsonl: line 4 is damaged: it is cut off"):
        list(read_json_lines(path))
    monkeypatch.setattr("mobilenext.json_files.reading.LONGEST_LINE", 5)
    with pytest.raises(DataError, match="line 1 has more than 5 bytes"):
        list(read_json_lines(path))
