from __future__ import annotations

import html
import json
import re
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from evaluation_folders import write_evaluation, write_large_evaluation
from mobilenext.errors import DataError, MissingDependency
from mobilenext.machine.packages import installed
from mobilenext.report import page
from mobilenext.report.page import write_report
from mobilenext.report.thumbnails import Thumbnails

pytestmark = pytest.mark.skipif(
    not (installed("jinja2") and installed("vl_convert")), reason="jinja2 or vl-convert is not installed (extra report)"
)
ROOT = Path(__file__).parents[2]
HOSTILE = "</script><img src=x onerror=alert(1)>\u2028'\"&{{7*7}}"


class Elements(HTMLParser):
    """Start tags with their attributes, and the text of each kind of element."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.tags[-1][0] if self.tags else "", data))


def reported(folders: list[Path], output: Path, data: Path | None = None) -> str:
    size = write_report(folders, output, data)
    assert size == output.stat().st_size
    return output.read_text(encoding="utf-8")


def run(folder: Path, best_of: dict[int, int] | None = None, **changes: Any) -> Path:
    """Twelve images of three classes, all right but those that are given."""
    labels = [place % 3 for place in range(12)]
    best, scores = [], []
    for place, label in enumerate(labels):
        first = (best_of or {}).get(place, label)
        best.append([first, *(other for other in range(3) if other != first)])
        scores.append([0.6 + place / 100, 0.3 - place / 100, 0.1])
    return write_evaluation(folder, labels, best, scores, **({"classes": 3} | changes))


def text_of(content: str) -> str:
    """What one reads, without tags, styles and scripts."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", content, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", bare)))


def test_the_headline_and_its_counts(tmp_path: Path) -> None:
    said = text_of(reported([run(tmp_path / "a", {11: 0})], tmp_path / "r.html"))
    assert "91.67 % 11/12; 95 %: 64.61 to 98.51 %" in said  # Wilson by hand
    assert "Top-1 of mobilenext_x1_0 on 12 images of photos : 91.67 % (11/12; 95 %: 64.61 to 98.51 %). One" in said
    assert "1 pair in 1 wrong image;" in said
    assert "1 images" not in said
    assert "Expected top-1" not in said, "nothing is published of these weights"
    assert "All 12 images could be read" in said
    assert "the folder of the images was not given" in said


def test_the_verdict_and_partial_results(tmp_path: Path) -> None:
    compared = {"expected_top1_percent": 74.022, "verdict": "differs", "reason": "by more", "dataset": "ImageNet"}
    folder = run(tmp_path / "a", comparison=compared, partial=True, diagnosis=["labels run from 1"])
    said = text_of(reported([folder], tmp_path / "r.html"))
    for expected in ("74.02 % differs", "by more (ImageNet)", "PARTIAL", "labels run from 1"):
        assert expected in said


def test_side_by_side(tmp_path: Path) -> None:
    first = run(tmp_path / "a", {place: (place + 1) % 3 for place in range(6)})
    said = text_of(reported([first, run(tmp_path / "b", {0: 2, 11: 0})], tmp_path / "r.html"))
    assert "Of 2 runs on 12 images of photos , b has the highest top-1, 83.33 % , and a the lowest latency" in said
    assert "What differs between the evaluations: no setting." in said
    assert "+33.33 points" in said  # 6 and 10 of 12
    assert "p = 0.2188" in said  # 5 against 1: 2 (1 + 6) / 64
    assert "7 of 12 images: 1 newly wrong, 5 newly right, 1 wrong in another way" in said
    assert "41.67 % same best class: 5/12" in said


def test_what_differs_stands_at_the_head(tmp_path: Path) -> None:
    folders = [
        run(tmp_path / "a", finished="2026-11-20T03:17:54Z", environment={"onnxruntime": "1", "load_average": [1]}),
        run(tmp_path / "b", precision="bf16", environment={"onnxruntime": "2", "load_average": [2]}),
    ]
    table = re.search(r'<table id="differences".*?</table>', reported(folders, tmp_path / "r.html"), flags=re.DOTALL)
    assert table is not None
    expected = "What differs between the evaluations a b precision fp32 bf16 environment.onnxruntime 1 2"
    assert text_of(table[0]).strip() == expected


def test_classes_of_one_data_set_have_one_name(tmp_path: Path) -> None:
    names = ["cat", "dog", "rat"]
    folders = [run(tmp_path / "a", {0: 1}), run(tmp_path / "b", {1: 0}, class_names=names)]
    content = text_of(reported(folders, tmp_path / "r.html"))
    assert "0 cat" in content
    assert "class 0" not in content
    other = run(tmp_path / "c", {2: 0}, data={"folder": "elsewhere"})
    content = text_of(reported([folders[1], other], tmp_path / "r2.html"))
    assert "The runs are on different data" in content
    assert "class 0" in content, "of other data nobody knows the names"


def test_runs_on_other_images(tmp_path: Path) -> None:
    other = run(tmp_path / "b", paths=[f"other{place}.png" for place in range(12)])
    assert "there is nothing to compare" in text_of(reported([run(tmp_path / "a"), other], tmp_path / "r.html"))


def test_a_result_without_single_calls_says_so(tmp_path: Path) -> None:
    content = reported([run(tmp_path / "a", samples=None)], tmp_path / "r.html")
    assert "their distribution cannot be shown" in content


def test_every_image_unreadable(tmp_path: Path) -> None:
    content = reported([run(tmp_path / "a", errors=dict.fromkeys(range(12), "empty file"))], tmp_path / "r.html")
    assert "12 of 12 images, each of them counted as wrong" in text_of(content)


def a_training_run(folder: Path) -> Path:
    """Two epochs of two steps; the loss of the last one is no number."""
    folder.mkdir()
    data = {"folder": "flowers", "train_sha256": "a" * 64, "val_sha256": "b" * 64}
    config = {"model": "mobilenext_x0_35", "recipe": {"name": "tiny"}, "seed": 0, "identity_divisor": 1, "data": data}
    (folder / "run.json").write_text(json.dumps({**config, "steps_per_epoch": 2, "epochs": 2}))
    counts = {"images": 200, "correct_top1": 100, "correct_top5": 200}
    rows: list[dict[str, Any]] = []
    for epoch in (1, 2):
        for step in (2 * epoch - 1, 2 * epoch):
            rows.append(
                {"event": "step", "global_step": step, "loss": 1 / step if step < 4 else float("nan"), "lr": 0.1}
            )
        rows.append({"event": "epoch", "epoch": epoch, "train_loss": 1.0, "seconds": 9.0, "images_per_second": 50.0})
        rows[-1]["val"] = {"raw": counts, "ema": counts}
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = {"best": {"epoch": 2, "kind": "raw", **counts}, "final": {"raw": counts, "ema": None}}
    (folder / "result.json").write_text(json.dumps({**result, "images_per_second": 50.0, "train_seconds": 18.0}))
    return folder


def test_training_and_bench(tmp_path: Path) -> None:
    bench = tmp_path / "bench"
    bench.mkdir()
    (bench / "bench.json").write_text((ROOT / "results" / "bench_batch1.json").read_text())
    said = text_of(reported([a_training_run(tmp_path / "trained"), bench], tmp_path / "r.html"))
    for expected in ("Validation top-1", "Learning rate", "The paper's accuracy against latency, batch 1, 2 threads"):
        assert expected in said
    assert "was not measured here" in said
    assert "the paper's, ImageNet" in said


def test_nothing_that_is_read_becomes_markup_or_script(tmp_path: Path) -> None:
    path = f"imgs/{HOSTILE}.png"
    names = [HOSTILE, "second", "third"]
    folder = run(
        tmp_path / "a",
        {0: 1},
        names=names,
        paths=[path, *(f"{place}.png" for place in range(1, 12))],
        errors={5: HOSTILE},
        model=HOSTILE,
        runtime=HOSTILE,
        data={"folder": HOSTILE},
        environment={HOSTILE: HOSTILE},
        comparison={"expected_top1_percent": 1.0, "verdict": HOSTILE, "reason": HOSTILE},
        diagnosis=[HOSTILE],
    )
    other = run(tmp_path / "</title><script>", names=names)
    content = reported([folder, other], tmp_path / "r.html")
    elements = Elements(content)
    scripts = [attributes for tag, attributes in elements.tags if tag == "script"]
    assert sum("type" not in attributes for attributes in scripts) == 2
    assert all(attributes.get("type") in (None, "application/json") for attributes in scripts)
    assert not [tag for tag, attributes in elements.tags if any(name.startswith("on") for name in attributes)]
    assert not [tag for tag, attributes in elements.tags if "style" in attributes]
    assert "onerror=alert(1)>" not in re.sub(r"<script>.*?</script>", "", content, flags=re.DOTALL)
    assert "49" not in [text for _, text in elements.texts]
    specs = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', content, flags=re.DOTALL)
    assert any(HOSTILE[:30] in json.dumps(json.loads(spec), ensure_ascii=False) for spec in specs)
    assert all(spec.isascii() and "<" not in spec for spec in specs)


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    elements = Elements(reported([run(tmp_path / "a")], tmp_path / "r.html"))
    policy = next(attributes["content"] for tag, attributes in elements.tags if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    for _, attributes in elements.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))


def test_headings_ids_and_captions(tmp_path: Path) -> None:
    elements = Elements(reported([run(tmp_path / "a", {1: 0}), run(tmp_path / "b", {2: 0})], tmp_path / "r.html"))
    levels = [int(tag[1]) for tag, _ in elements.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    tags = [tag for tag, _ in elements.tags]
    assert tags.count("table") == tags.count("caption")
    for _, attributes in elements.tags:
        for name in ("for", "aria-labelledby", "aria-controls"):
            assert attributes.get(name) is None or attributes[name] in ids
    assert [attributes["href"] for tag, attributes in elements.tags if tag == "a" and attributes["href"] == "#main"]


def test_every_chart_is_vega_lite(tmp_path: Path) -> None:
    import vl_convert

    content = reported(
        [write_large_evaluation(tmp_path / "a", 300, 30), run(tmp_path / "b", {0: 1})], tmp_path / "r.html"
    )
    specs = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', content, flags=re.DOTALL)
    assert len(specs) == 9  # accuracy, and for each run: matrix, reliability, confidence, latency
    for spec in specs:
        assert "<svg" in vl_convert.vegalite_to_svg(json.loads(spec) | {"width": 300})


def test_fifty_thousand_images_stay_below_five_megabytes(tmp_path: Path) -> None:
    content = reported([write_large_evaluation(tmp_path / "a")], tmp_path / "r.html")
    assert len(content.encode()) < 5_000_000
    rows = re.search(r'<table id="classes".*?</table>', content, flags=re.DOTALL)
    assert rows is not None
    assert rows[0].count("<tr") == 1001
    confused = re.search(r'<table id="confused-0".*?</table>', content, flags=re.DOTALL)
    assert confused is not None
    assert all(f"number {number} ({number})" in confused[0] for number in range(1000))


def test_thumbnails(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "imgs").mkdir(parents=True)
    for place in range(11):
        Image.new("RGB", (400, 300), (20 * place, 0, 0)).save(data / "imgs" / f"{place:05d}.png")
    content = reported([run(tmp_path / "a", {0: 1, 4: 0, 11: 0})], tmp_path / "r.html", data)
    pictures = [attributes for tag, attributes in Elements(content).tags if tag == "img"]
    assert len(pictures) == 2
    assert all((one["src"] or "").startswith("data:image/jpeg;base64,") and one["alt"] for one in pictures)
    assert "1 of the pictures could not be read in data, imgs/00011.png for one" in text_of(content)


def test_another_folder_of_images(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    folder = run(tmp_path / "a", {0: 1})
    with pytest.raises(DataError, match="none of 1 images can be read there"):
        write_report([folder], tmp_path / "r.html", tmp_path / "data")
    with pytest.raises(DataError, match="no such folder"):
        write_report([folder], tmp_path / "r.html", tmp_path / "none")
    assert not (tmp_path / "r.html").exists()


def test_thumbnails_stay_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    outside = tmp_path / "private.png"
    Image.new("RGB", (8, 8)).save(outside)
    pictures = Thumbnails(tmp_path / "data")
    assert pictures.of(str(outside)) is None
    assert pictures.of("../private.png") is None
    assert pictures.of("imgs/../../private.png") is None
    assert len(pictures.missing) == 3


def test_a_task_draws_on_its_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    pictures = Thumbnails(tmp_path)
    plain = pictures.of("a.png")
    drawn = [
        pictures.of("a.png", lambda image: Image.new("RGB", image.size, "red")),
        pictures.of("a.png", ImageOps.invert),
    ]
    assert len({plain, *drawn}) == 3
    assert pictures.of("a.png") == plain
    assert pictures.of("b.png", lambda image: image) is None
    assert pictures.missing == ["b.png"]


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilenext.machine.packages.installed", lambda name: name != "vl_convert")
    with pytest.raises(MissingDependency, match=r"needs vl_convert, .*pip install 'mobilenext\[report\]'"):
        page.write_report([tmp_path], tmp_path / "r.html")


def test_the_command(tmp_path: Path, mobilenext: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = mobilenext("report", run(tmp_path / "a"), "-o", tmp_path / "r.html", "--json")
    size = (tmp_path / "r.html").stat().st_size
    assert json.loads(done.stdout) == {
        "output": str(tmp_path / "r.html"), "bytes": size, "runs": [str(tmp_path / "a")],
    }  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "r.html" in done.stderr
    assert (tmp_path / "r.html").is_file()
    wrong = mobilenext("report", tmp_path, "-o", tmp_path / "none.html")
    assert wrong.returncode == 3
    assert "expected an evaluation" in wrong.stderr
    assert not (tmp_path / "none.html").exists()


def test_dates_and_commands(tmp_path: Path) -> None:
    folders = [
        run(tmp_path / name, finished=f"2026-11-{day}T03:17:54Z", started=f"2026-11-{day}T03:16:00Z", command=command)
        for name, day, command in (("a", 20, "mobilenext evaluate 'my <photos>' -o a"), ("b", 27, "mobilenext x"))
    ]
    content = text_of(reported(folders, tmp_path / "r.html"))
    assert "results of 2026-11-20 to 2026-11-27; page of 20" in content
    assert "2026-11-20 03:17 UTC" in content
    assert "mobilenext evaluate 'my <photos>' -o a" in content
    assert "results of 2026-11-20; page of" in text_of(reported(folders[:1], tmp_path / "r.html"))
    undated = text_of(reported([run(tmp_path / "c")], tmp_path / "r.html"))  # of a version that stored no time
    assert "results of" not in undated
    assert "page of 20" in undated


def test_means_over_classes_are_scikit_learns(tmp_path: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed (extra quickstart)")
    labels = [0] * 8 + [1] * 2 + [2] * 2
    answers = [0] * 6 + [1, 2] + [0, 1] + [0, 2]
    best = [[answer, *(other for other in range(3) if other != answer)] for answer in answers]
    folder = write_evaluation(tmp_path / "a", labels, best, [[0.6, 0.3, 0.1]] * 12, classes=4)
    page = reported([folder], tmp_path / "r.html")
    content = text_of(page)
    recall, precision, f1 = (
        f"{100 * score(labels, answers, average='macro', zero_division=0):.2f} %"
        for score in (metrics.recall_score, metrics.precision_score, metrics.f1_score)
    )
    assert f"Mean over classes {recall} precision {precision}, F1 {f1}; 3 classes, 1 without an image" in content
    for name, values in (("precision", metrics.precision_score), ("F1", metrics.f1_score)):
        assert name in content
        for value in values(labels, answers, average=None, zero_division=0):
            assert f"{100 * value:.2f} %" in content
    assert "<dt>Top-5" not in page, "of four classes it says nothing"
    assert ">top-5</th>" not in page
