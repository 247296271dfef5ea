"""The walker of the roads reads the commands that the pages have."""

from __future__ import annotations

from pathlib import Path

import pytest

from walk_roads import NO_INT8, ROADS, ROOT, Reader, code_of, commands_of, step, text_of, words_of


@pytest.mark.parametrize(
    ("name", "verbs"),
    [
        ("evaluation", ["check-data", "convert", "evaluate", "report"]),
        ("photos", ["check-data", "train", "quantize", "serve"]),
        ("boxes", ["check-data", "train", "quantize", "serve"]),
        ("notebook", ["notebook"]),
    ],
)
def test_each_page_has_its_commands(name: str, verbs: list[str]) -> None:
    road = ROADS[name]
    installing, commands, _, words = commands_of(road)
    assert installing.startswith("pip install ")
    assert [command.split()[1] for command in commands] == verbs
    assert 300 < words < 2000


def test_code_is_read_with_continued_lines_and_without_comments() -> None:
    text = "Write `pip install x`, `no command`:\n\n    mobilenext a \\\n        --b   c    # why\n    curl 'x'\n\nEnd."
    assert code_of(text) == ["pip install x", "mobilenext a --b c", "curl 'x'"]


def test_words_are_counted_outside_code() -> None:
    assert words_of("Two words, `not this` [and these](docs/x.md).\n\n    nor this\n\n```text\nnor this\n```\n") == 4
    assert words_of("沙漏块 is 3x3，两个") == 7
    assert words_of(text_of(ROOT / "docs" / "sandglass.ipynb")) > 300


def test_a_command_that_fails_ends_the_walk(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    reader = Reader(tmp_path, {"train": "--set epochs=1"})
    assert reader.run("echo $HOME") == 0
    assert reader.output == f"{tmp_path}/home\n"
    with pytest.raises(SystemExit, match="exit code 3: exit 3"):
        reader.run("exit 3")
    assert reader.run("exit 3", may_fail=True) == 3
    assert [row["exit_code"] for row in reader.rows] == [0, 3, 3]


@pytest.mark.parametrize("has_int8", [True, False])
def test_without_int8_the_export_of_the_page_takes_its_place(tmp_path: Path, has_int8: bool) -> None:
    class Recorded(Reader):
        def run(self, command: str, inside: str = "work", *, may_fail: bool = False) -> int:
            code = 2 if command.startswith("mobilenext quantize") and not has_int8 else 0
            self.output = f"{NO_INT8} avx512_vnni" if code else ""
            self.rows.append({"command": command, "exit_code": code})
            return code

        def serve(self, command: str, request: str) -> None:
            self.rows.append({"command": command, "exit_code": 0, "request": request})

    reader = Recorded(tmp_path, {})
    _, commands, code, _ = commands_of(ROADS["photos"])
    for command in commands:
        step(reader, command, code)
    done = [" ".join(row["command"].split()[:2]) for row in reader.rows]
    exporting = [] if has_int8 else ["mobilenext export"]
    assert done[2:] == ["mobilenext quantize", *exporting, "mobilenext serve"]
    assert reader.rows[-1]["command"].endswith("int8/photos" if has_int8 else "exported/photos")
    assert reader.rows[-1]["request"].startswith("curl --data-binary @photos/")
