"""The maker of the 20 classes, on a small archive that is laid out as the official one."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import make_tiny20 as maker
from make_tiny20 import CLASSES, OFFICIAL, Expected, make_tiny20
from mobilenext.data import open_dataset
from mobilenext.errors import DataError, UsageError
from mobilenext.machine.command import guarded

ROOT = Path(__file__).parents[1]
TRAINING, VALIDATION = 12, 2
OTHER = "n00001740"  # a class that is not taken
Entries = dict[str, bytes]


def entries() -> Entries:
    """The entries of an archive: 12 training and 2 validation images of each class, and of another one."""
    files: Entries = {"wnids.txt": "\n".join(sorted(CLASSES)).encode()}
    files["words.txt"] = "".join(f"{name}\tword {name}, and another\n" for name in (OTHER, *CLASSES)).encode()
    for name in (*CLASSES, OTHER):
        files[f"train/{name}/{name}_boxes.txt"] = b""
        for number in range(TRAINING):
            files[f"train/{name}/images/{name}_{number}.JPEG"] = f"{name} {number}".encode()
    annotations = ""
    for number in range(VALIDATION * (len(CLASSES) + 1)):
        name = (*CLASSES, OTHER)[number * 5 % 21]
        annotations += f"val_{number}.JPEG\t{name}\t0\t32\t44\t62\n"
        files[f"val/images/val_{number}.JPEG"] = f"validation {number}".encode()
    files["val/val_annotations.txt"] = annotations.encode()
    return {f"tiny-imagenet-200/{name}": content for name, content in files.items()}


def write(path: Path, files: Entries) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def rule() -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """The names and labels of both lists, by the rule."""
    training = sorted((f"{name}_{number}.JPEG", CLASSES.index(name)) for name in CLASSES for number in range(TRAINING))
    order = [(*CLASSES, OTHER)[number * 5 % 21] for number in range(VALIDATION * 21)]
    return training, [(f"val_{n}.JPEG", CLASSES.index(name)) for n, name in enumerate(order) if name != OTHER]


@pytest.fixture
def expected() -> Expected:
    training, validation = rule()
    sums = [
        hashlib.sha256("".join(f"imgs/{name}\0{label}\n" for name, label in rows).encode()).hexdigest()
        for rows in (training, validation)
    ]
    labels = "".join(f"{label} {name} word {name}, and another\n" for label, name in enumerate(CLASSES))
    images = "".join(name.removesuffix(".JPEG").replace("_", " ") for name, _ in training)
    images += "".join(name.removesuffix(".JPEG").replace("val_", "validation ") for name, _ in validation)
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in (labels, images)]
    return Expected(TRAINING, VALIDATION, *sums, *hashes)


def test_the_data_set(tmp_path: Path, expected: Expected) -> None:
    output = tmp_path / "new" / "tiny20"
    make_tiny20(write(tmp_path / "tiny.zip", entries()), output, expected)
    training, validation = rule()
    assert (output / "train_list.txt").read_text() == "".join(f"{name} {label}\n" for name, label in training)
    assert (output / "val_list.txt").read_text() == "".join(f"{name} {label}\n" for name, label in validation)
    assert (output / "labels.txt").read_text().startswith("0 n02124075 word n02124075, and another\n1 n04067472 ")
    assert len(list((output / "imgs").iterdir())) == 20 * (TRAINING + VALIDATION)
    assert (output / "imgs" / "n04067472_11.JPEG").read_bytes() == b"n04067472 11"
    for name, checksum in (("train", expected.train_list), ("val", expected.val_list)):
        assert open_dataset(output, list_file=output / f"{name}_list.txt").digest() == checksum
    assert [path.name for path in output.parent.iterdir()] == ["tiny20"]


def test_the_checksums_are_those_of_the_runs_and_documents() -> None:
    data = json.loads((ROOT / "results" / "tiny20_train.json").read_text())["data"]
    assert (data["train_sha256"], data["val_sha256"]) == (OFFICIAL.train_list, OFFICIAL.val_list)
    names = sorted((f"{name}_{number}.JPEG", label) for label, name in enumerate(CLASSES) for number in range(500))
    lines = "".join(f"imgs/{name}\0{label}\n" for name, label in names)
    assert hashlib.sha256(lines.encode()).hexdigest() == OFFICIAL.train_list
    document = (ROOT / "docs" / "data.md").read_text()
    for checksum in (OFFICIAL.train_list, OFFICIAL.val_list, OFFICIAL.labels, OFFICIAL.images):
        assert checksum in document
    assert all(name in document for name in CLASSES)


def test_the_bundled_network_has_these_classes_in_this_order() -> None:
    from mobilenext.weights.pretrained import locate
    from mobilenext.weights.read import read_weights

    labels = read_weights(locate(None, "mobilenext_x0_35.tiny20")).labels
    assert labels is not None
    assert labels[0] == "Egyptian cat"
    assert len(labels) == len(CLASSES) == 20


def without(name: str) -> Callable[[Entries], None]:
    return lambda files: files.__delitem__(f"tiny-imagenet-200/{name}")


def with_content(name: str, content: bytes) -> Callable[[Entries], None]:
    return lambda files: files.__setitem__(f"tiny-imagenet-200/{name}", content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("words.txt"), "has no entry tiny-imagenet-200/words.txt"),
        (without("val/val_annotations.txt"), "has no entry .*val_annotations"),
        (without("train/n02124075/images/n02124075_7.JPEG"), "has no entry .*n02124075_7"),
        (with_content("train/n02124075/images/n02124075_7.JPEG", b"x" * 65537), "more than 65,536 bytes"),
        (with_content("train/n02124075/images/n02124075_7.JPEG", b"x"), "another bytes of the images"),
        (with_content("words.txt", b"n02124075\tcat\n"), "does not name n04067472, n04540053"),
        (with_content("words.txt", b"\xff\xfe"), "no text"),
        (with_content("words.txt", b"x\n" * (1 << 21 | 1)), "more than 4,194,304 bytes"),
        (with_content("val/val_annotations.txt", b"../../x.JPEG\tn02124075\n"), "validation image '../../x.JPEG'"),
        (with_content("val/val_annotations.txt", b"val_00.JPEG\tn02124075\n"), "validation image 'val_00.JPEG'"),
        (with_content("val/val_annotations.txt", b"val_0.JPEG\tn02124075\n"), "has 1 validation images"),
    ],
)  # fmt: skip
def test_another_archive(tmp_path: Path, expected: Expected, change: Callable[[Entries], None], message: str) -> None:
    files = entries()
    change(files)
    path = write(tmp_path / "tiny.zip", files)
    with pytest.raises(DataError, match=message) as caught:
        make_tiny20(path, tmp_path / "tiny20", expected)
    assert "expected the official tiny-imagenet-200.zip" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.zip"]


@pytest.mark.parametrize("field", ["train_list", "val_list", "labels", "images"])
def test_a_checksum_that_differs(tmp_path: Path, expected: Expected, field: str) -> None:
    path = write(tmp_path / "tiny.zip", entries())
    with pytest.raises(DataError, match=r"gives another .*checksum"):
        make_tiny20(path, tmp_path / "tiny20", replace(expected, **{field: "0" * 64}))
    assert not (tmp_path / "tiny20").exists()


def test_damage(tmp_path: Path, expected: Expected, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "tiny.zip", entries())
    content = path.read_bytes()
    at = content.index(b"words.txt")  # its bytes follow
    for damaged, message in (
        (content[: len(content) // 2], "no whole ZIP archive"),
        (b"no archive", "no whole ZIP archive"),
        (content[: at + 20] + bytes(20) + content[at + 40 :], "cannot be read"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            make_tiny20(path, tmp_path / "tiny20", expected)
    with pytest.raises(DataError, match="No such file"):
        make_tiny20(tmp_path / "nothing.zip", tmp_path / "tiny20", expected)
    path.write_bytes(content)
    for limit in ("LARGEST_ARCHIVE", "LARGEST_DIRECTORY"):
        with monkeypatch.context() as patch:
            patch.setattr(maker, limit, 1000)
            with pytest.raises(DataError, match="more than 1,000"):
                make_tiny20(path, tmp_path / "tiny20", expected)


def test_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "tiny.zip", entries())
    (tmp_path / "tiny20").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        make_tiny20(path, tmp_path / "tiny20")
    monkeypatch.setattr(sys, "argv", ["make_tiny20.py", str(path), str(tmp_path / "new")])
    assert guarded(maker.main, own_process=False) == 3  # it has fewer images than the official one
    assert "validation images of the 20 classes, not 1000" in capsys.readouterr().err
