from __future__ import annotations

import codecs
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from mobilenext.data import Dataset, LabelledDataset, LabelledImage, Record, describe, open_dataset
from mobilenext.data.dataset import open_training, open_validation
from mobilenext.errors import DatasetError, UsageError


def tree(folder: Path, *names: str) -> None:
    """Empty files: a data set is opened without decoding."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write_list(folder: Path, text: str | bytes, name: str = "val_list.txt") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def names_and_labels(dataset: LabelledDataset) -> list[tuple[str, int]]:
    assert [record.index for record in dataset.records] == list(range(len(dataset)))
    assert all(record.path.is_file() for record in dataset.records)
    return [(record.name, record.label) for record in dataset.records]


def refused(root: Path, **options: object) -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(root, **options)  # type: ignore[arg-type]
    return str(caught.value)


# --- lists


def test_a_list_with_imgs(tmp_path: Path) -> None:
    tree(tmp_path, "imgs/b.JPEG", "imgs/a.JPEG", "labels.txt")
    list_file = write_list(tmp_path, "b.JPEG 3\na.JPEG 0\n")
    dataset = open_dataset(tmp_path, num_classes=4)
    assert dataset == LabelledDataset(
        root=tmp_path,
        layout="list",
        list_file=list_file,
        records=(
            LabelledImage(0, str(tmp_path / "imgs/b.JPEG"), "imgs/b.JPEG", 3),
            LabelledImage(1, str(tmp_path / "imgs/a.JPEG"), "imgs/a.JPEG", 0),
        ),
        class_names=None,
        total=2,
        ignored=(),
    )


def test_a_list_relative_to_the_root(tmp_path: Path) -> None:
    tree(tmp_path, "val/ILSVRC2012_val_00000001.JPEG")
    write_list(tmp_path, "val/ILSVRC2012_val_00000001.JPEG 65")
    assert names_and_labels(open_dataset(str(tmp_path))) == [("val/ILSVRC2012_val_00000001.JPEG", 65)]


def test_imgs_comes_before_the_root(tmp_path: Path) -> None:
    tree(tmp_path, "imgs/a.jpg", "a.jpg")
    write_list(tmp_path, "a.jpg 0")
    assert names_and_labels(open_dataset(tmp_path)) == [("imgs/a.jpg", 0)]


def test_an_explicit_list_may_lie_elsewhere(tmp_path: Path) -> None:
    tree(tmp_path, "data/a.jpg", "lists/beside.jpg", "far.jpg")
    write_list(tmp_path / "data", "this list is not looked at")
    text = f"a.jpg 0\nbeside.jpg 1\n{tmp_path.as_posix()}/far.jpg 2\n"
    dataset = open_dataset(tmp_path / "data", list_file=write_list(tmp_path / "lists", text, "my.csv"))
    assert names_and_labels(dataset) == [("a.jpg", 0), ("beside.jpg", 1), (f"{tmp_path.as_posix()}/far.jpg", 2)]


def test_an_explicit_list_comes_before_class_folders(tmp_path: Path) -> None:
    tree(tmp_path, "val/cat/a.jpg", "val/dog/b.jpg")
    list_file = write_list(tmp_path, "val/dog/b.jpg 7", "seven.txt")
    assert names_and_labels(open_dataset(tmp_path, list_file=list_file)) == [("val/dog/b.jpg", 7)]


def test_the_label_is_split_off_the_right(tmp_path: Path) -> None:
    lines = ["a.jpg 0", "b.jpg\t1", "c.jpg,2", "d.jpg, 3", "e.jpg \t 4", "my cat, asleep.jpg 5", "  f.jpg   6  "]
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "my cat, asleep.jpg", "f.jpg"]
    tree(tmp_path, *names)
    write_list(tmp_path, "\n".join(lines))
    assert names_and_labels(open_dataset(tmp_path)) == list(zip(names, range(7), strict=True))


def test_byte_order_mark_windows_line_ends_and_blank_lines(tmp_path: Path) -> None:
    tree(tmp_path, "größe.jpg", "b.jpg")
    write_list(tmp_path, b"\xef\xbb\xbf" + "größe.jpg 1\r\n\r\n   \r\nb.jpg 2\r\n".encode())
    assert names_and_labels(open_dataset(tmp_path)) == [("größe.jpg", 1), ("b.jpg", 2)]


def test_backslashes_become_slashes(tmp_path: Path) -> None:
    tree(tmp_path, "imgs/sub/a.jpg")
    write_list(tmp_path, "sub\\a.jpg 1")
    assert names_and_labels(open_dataset(tmp_path)) == [("imgs/sub/a.jpg", 1)]


@pytest.mark.skipif(os.sep == "\\", reason="a backslash cannot be in a file's name here")
def test_a_backslash_that_is_in_the_name_stays(tmp_path: Path) -> None:
    tree(tmp_path, "sub/a.jpg", "sub\\a.jpg")
    write_list(tmp_path, "sub\\a.jpg 1\nsub/a.jpg 2")
    assert names_and_labels(open_dataset(tmp_path)) == [("sub\\a.jpg", 1), ("sub/a.jpg", 2)]


def test_all_problems_of_a_list_at_once(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "b c.jpg", "folder/x.jpg")
    lines = [
        "a.jpg 1",
        "nolabel.jpg",
        "b c.jpg",
        "a.jpg 1.5",
        "",
        "a.jpg -1",
        "a.jpg 3",
        "missing.jpg 0",
        "folder 0",
        "./a.jpg 2",
        "A.jpg 0",
        ", 1",
    ]
    list_file = write_list(tmp_path, "\n".join(lines))
    message = refused(tmp_path, num_classes=3).split("\n")
    assert message[0] == f"{list_file}: 10 problems:"
    told = [line.strip() for line in message[1:]]
    assert told[:2] == [
        "line 2: 'nolabel.jpg': no label; expected a name and its label, as in: val_1.JPEG 65",
        "line 3: 'b c.jpg': the label 'c.jpg' is not an integer",
    ]
    assert told[2] == "line 4: 'a.jpg 1.5': the label '1.5' is not an integer"
    assert told[3] == "line 6: 'a.jpg -1': the label -1 is negative; labels start at 0"
    assert told[4] == "line 7: 'a.jpg 3': the label 3 is too large; with 3 classes they run 0..2"
    assert told[5].startswith(f"line 8: 'missing.jpg 0': no such file; looked below {tmp_path.as_posix()}/imgs, ")
    assert told[6] == "line 9: 'folder 0': this is not a file; expected an image file"
    assert told[7] == "line 10: './a.jpg 2': the same file as in line 1, where its label is 1"
    assert told[8] == "line 11: 'A.jpg 0': no such file, but a.jpg: upper and lower case differ"
    assert told[9].startswith("line 12: ', 1': no label")


def test_twenty_problems_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    write_list(tmp_path, "".join(f"{number}.jpg 0\n" for number in range(1, 1235)))
    message = refused(tmp_path)
    assert "1,234 problems:" in message
    assert "line 20: " in message
    assert "line 21: " not in message
    assert message.endswith("... and 1,214 more")


def test_labels_from_one_are_recognised(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    write_list(tmp_path, "a.jpg 1\nb.jpg 2\nc.jpg 3")
    message = refused(tmp_path, num_classes=3)
    assert "line 3: 'c.jpg 3': the label 3 is too large; with 3 classes they run 0..2" in message
    assert "from 1 to 3: they seem to be off by one; subtract 1 from each" in message
    assert len(open_dataset(tmp_path, num_classes=4)) == 3
    assert "off by one" not in refused(tmp_path, num_classes=2)


@pytest.mark.parametrize("label", ["1_000", "１", "0x1", "1e3", "9" * 5000])
def test_a_label_is_plain_digits(tmp_path: Path, label: str) -> None:
    tree(tmp_path, "a.jpg")
    write_list(tmp_path, f"a.jpg {label}")
    message = refused(tmp_path)
    assert "is not an integer" in message
    assert len(message) < 500 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the list is empty"),
        (b"\xef\xbb\xbf\r\n\n", "the list is empty"),
        (b"a.jpg 1\nb\xe4.jpg 2\n", "line 2 is not UTF-8 (byte 0xe4)"),
        ("a.jpg 1".encode("utf-16-le"), "a binary file"),  # no mark
        (codecs.BOM_UTF16_LE + b"a", "line 1 is not UTF-16"),
        (b"PK\x03\x04\0\0\0", "this is a ZIP archive"),
        (b"\n" * 5000 + b"b\0/c.jpg 2\n", "line 5001: 'b\\x00/c.jpg 2': no such file"),
        (b"x" * 300 + b"/a.jpg 1\n", "no such file"),
    ],
)
def test_a_list_that_is_no_list(tmp_path: Path, content: bytes, expected: str) -> None:
    tree(tmp_path, "a.jpg")
    list_file = write_list(tmp_path, content)
    message = refused(tmp_path)
    assert message.startswith(f"{list_file}: ")
    assert expected in message


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    assert "nowhere.txt: this list cannot be read: No such file" in refused(tmp_path, list_file="nowhere.txt")
    (tmp_path / "val_list.txt").mkdir()
    assert "val_list.txt: this list cannot be read" in refused(tmp_path)


def test_a_list_asks_for_each_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"val/{number}.jpg" for number in range(300)]
    tree(tmp_path, *names)
    (tmp_path / "imgs").mkdir()
    write_list(tmp_path, "".join(f"{name} 0\n" for name in names))
    asked: list[str] = []
    scandir = os.scandir

    def counted(path: str) -> object:
        asked.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    assert len(open_dataset(tmp_path)) == 300
    assert asked == [tmp_path.as_posix(), f"{tmp_path.as_posix()}/imgs/val", f"{tmp_path.as_posix()}/val"]


# --- class folders


@pytest.mark.parametrize("prefix", ["", "val/"])
def test_class_folders(tmp_path: Path, prefix: str) -> None:
    tree(
        tmp_path,
        *(prefix + name for name in ("n02/b.JPEG", "n02/a.png", "n01/deep/er/z.jpg", "n01/deep/y.jpg", "n10/x.webp")),
        *(prefix + name for name in ("n01/.DS_Store", "n02/notes.txt", "readme.md", ".cache/k.jpg", "n10/._x.webp")),
    )
    dataset = open_dataset(tmp_path, num_classes=3)
    assert dataset.layout == "class-folders"
    assert dataset.list_file is None
    assert dataset.class_names == ("n01", "n02", "n10")
    assert [(name.removeprefix(prefix), label) for name, label in names_and_labels(dataset)] == [
        ("n01/deep/er/z.jpg", 0),
        ("n01/deep/y.jpg", 0),
        ("n02/a.png", 1),
        ("n02/b.JPEG", 1),
        ("n10/x.webp", 2),
    ]
    assert sorted(name.removeprefix(prefix) for name in dataset.ignored) == [
        ".cache", "n01/.DS_Store", "n02/notes.txt", "n10/._x.webp", "readme.md",
    ]  # fmt: skip


def test_val_comes_before_other_folders(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/a.jpg", "val/cat/b.jpg")
    dataset = open_dataset(tmp_path)
    assert names_and_labels(dataset) == [("val/cat/b.jpg", 0)]
    assert dataset.class_names == ("cat",)


def test_numbers_out_of_order_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{number}/a.jpg" for number in range(1, 12)))
    message = refused(tmp_path)
    assert "1, 10, 11, 2, ...;" in message
    assert "Pad the names with zeros" in message
    assert "list file" in message


def test_numbers_in_order_are_accepted(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{number:02}/a.jpg" for number in range(12)))
    dataset = open_dataset(tmp_path)
    assert [record.label for record in dataset.records] == [int(record.name[:2]) for record in dataset.records]


@pytest.mark.parametrize("num_classes", [1, 3])
def test_the_number_of_class_folders_must_fit(tmp_path: Path, num_classes: int) -> None:
    tree(tmp_path, "cat/a.jpg", "dog/b.jpg")
    message = refused(tmp_path, num_classes=num_classes)
    assert f"2 class folders; expected {num_classes}" in message
    assert "write a list file" in message


def test_problems_of_class_folders_at_once(tmp_path: Path) -> None:
    tree(tmp_path, "cat/a.jpg", "dog/readme.txt", "stray.jpg")
    (tmp_path / "emu").mkdir()
    message = refused(tmp_path)
    assert "3 problems:" in message
    assert "stray.jpg: an image outside the class folders" in message
    assert "dog/: a class folder without images" in message
    assert "emu/: a class folder without images" in message


# --- no layout


def test_what_is_not_laid_out_as_a_data_set_is_told_what_is(tmp_path: Path) -> None:
    tree(tmp_path, "flat/a.jpg", "flat/b.jpg", "flat_val/val/a.jpg", "texts/a.txt", "parts/train/cat/a.jpg", "file")
    tree(tmp_path, "parts/test/b.jpg", "no_images/cat/a.txt", "one_folder/files/a.jpg")
    (tmp_path / "empty").mkdir()
    expected = {
        "flat": f"{tmp_path / 'flat'} holds all images (2), and nothing gives them labels.",
        "flat_val": f"{tmp_path / 'flat_val/val'} holds all images (1), and nothing gives them labels.",
        "one_folder": f"{tmp_path / 'one_folder/files'} holds all images (1), and nothing gives them labels.",
        "texts": "no images in this folder",
        "no_images": "no images in this folder",
        "empty": "this folder is empty",
        "parts": "no validation or test part, only the training part train/; --split train takes that",
    }
    for name, found in expected.items():
        message = refused(tmp_path / name)
        assert message.startswith(f"{tmp_path / name}: {found}")
        for layout in ("ROOT/val_list.txt", "ROOT/imgs/val_1.JPEG", "ROOT/val/n01440764/", "ROOT/n01440764/"):
            assert layout in message
    assert refused(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such folder; expected a folder"
    assert refused(tmp_path / "file") == f"{tmp_path / 'file'}: this is a file; expected a folder"


def test_imgs_without_a_list_is_told_where_the_list_must_be(tmp_path: Path) -> None:
    tree(tmp_path, "imgs/a.jpg")
    assert f"a folder imgs but no list; expected {tmp_path / 'val_list.txt'}" in refused(tmp_path)


def test_one_level_too_high_or_too_low_is_recognised(tmp_path: Path) -> None:
    tree(tmp_path, "ILSVRC2012/imgs/a.jpg")
    write_list(tmp_path / "ILSVRC2012", "a.jpg 0")
    assert f"did you mean {tmp_path / 'ILSVRC2012'}?" in refused(tmp_path)
    assert f"did you mean {(tmp_path / 'ILSVRC2012').resolve()}?" in refused(tmp_path / "ILSVRC2012/imgs")


# --- limit, digest, summary


def test_limit_keeps_the_first_after_checking_all(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    write_list(tmp_path, "c.jpg 2\na.jpg 0\nb.jpg 1")
    dataset = open_dataset(tmp_path, limit=2)
    assert names_and_labels(dataset) == [("c.jpg", 2), ("a.jpg", 0)]
    assert dataset.total == 3
    assert len(open_dataset(tmp_path, limit=100)) == 3
    write_list(tmp_path, "c.jpg 2\na.jpg 0\nmissing.jpg 1")
    assert "line 3" in refused(tmp_path, limit=2)


@pytest.mark.parametrize("option", ["limit", "num_classes"])
def test_options_below_one_are_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(UsageError, match=f"{option} is 0; expected 1 or more"):
        open_dataset(tmp_path, **{option: 0})  # type: ignore[arg-type]


def test_digest_depends_on_names_labels_and_order_only(tmp_path: Path) -> None:
    for root in ("one", "two"):
        tree(tmp_path / root, "a.jpg", "b.jpg")
        write_list(tmp_path / root, "a.jpg 0\nb.jpg 1")
    digest = open_dataset(tmp_path / "one").digest()
    assert digest == hashlib.sha256(b"a.jpg\x000\nb.jpg\x001\n").hexdigest()
    assert open_dataset(tmp_path / "two").digest() == digest
    for text in ("a.jpg 0\nb.jpg 2", "b.jpg 1\na.jpg 0", "a.jpg 0"):
        write_list(tmp_path / "two", text)
        assert open_dataset(tmp_path / "two").digest() != digest


def test_a_name_that_is_no_text_has_a_digest() -> None:
    record = LabelledImage(0, "a", os.fsdecode(b"\xff.jpg"), 0)
    assert len(LabelledDataset(Path(), "list", None, (record,), None, 1, ()).digest()) == 64


def made_up(per_class: dict[int, int], total: int | None = None, ignored: tuple[str, ...] = ()) -> LabelledDataset:
    labels = [label for label, count in per_class.items() for _ in range(count)]
    records = tuple(LabelledImage(index, str(index), str(index), label) for index, label in enumerate(labels))
    return LabelledDataset(Path(), "list", None, records, None, total or len(records), ignored)


def test_imagenets_own_counts_raise_no_warning() -> None:
    summary = describe(made_up(dict.fromkeys(range(1000), 50)), num_classes=1000)
    assert (summary.images, summary.classes, summary.min_per_class, summary.max_per_class) == (50_000, 1000, 50, 50)
    assert summary.warnings == ()


def test_a_subset_is_compared_with_imagenet() -> None:
    dataset = made_up({0: 3, 7: 1}, total=9, ignored=("a.txt", "b.txt"))
    assert describe(dataset, num_classes=1000).warnings == (
        "only the first 4 of 9 images are used",
        "2 files are not images and are ignored, such as a.txt",
        "998 of 1,000 classes have no image",
        "4 images; ImageNet's validation set has 50,000",
        "1 to 3 images in a class; ImageNet's validation set has 50 in each",
    )


def test_other_numbers_of_classes_are_not_compared() -> None:
    assert describe(made_up({0: 3, 1: 1}), num_classes=2).warnings == ()
    assert describe(made_up({0: 3, 5: 1})).warnings == ()


def test_the_summary_is_json(tmp_path: Path) -> None:
    dataset = made_up({0: 3, 5: 1}, total=9)
    assert json.loads(json.dumps(describe(dataset).to_dict())) == {
        "layout": "list",
        "images": 4,
        "total": 9,
        "classes": 2,
        "min_per_class": 1,
        "max_per_class": 3,
        "ignored": 0,
        "digest": dataset.digest(),
        "warnings": ["only the first 4 of 9 images are used"],
    }


# --- parts


@pytest.mark.parametrize(
    ("val", "test"),
    [
        ("valid", "test"), ("validation", "testing"), ("Val", "Test"), ("VALIDATION", "TEST"), ("dev", "holdout"),
        ("val_images", "test_images"), ("valset", "testset"), ("val2017", "test2017"), ("eval", "hold-out"),
        ("验证集", "测试集"), ("seg_val", "seg_test"), ("images-val", "images-test"),
    ],
)  # fmt: skip
def test_parts_in_other_words(tmp_path: Path, val: str, test: str) -> None:
    tree(tmp_path, f"{val}/cat/a.jpg", f"{val}/dog/b.jpg", f"{test}/cat/c.jpg", f"{test}/dog/d.jpg", "data.yaml")
    dataset = open_dataset(tmp_path)
    assert [record.name for record in dataset.records] == [f"{val}/cat/a.jpg", f"{val}/dog/b.jpg"]
    assert dataset.class_names == ("cat", "dog")
    assert dataset.notes == (f"the validation part is {val}/",)
    assert open_dataset(tmp_path, split="test").records[0].name == f"{test}/cat/c.jpg"


@pytest.mark.parametrize(
    "train",
    ["Train", "training", "TRAIN", "train_images", "trainset", "tr", "训练集", "Trainingsdaten", "学習", "훈련"],
)
def test_the_training_part_in_other_words(tmp_path: Path, train: str) -> None:
    tree(tmp_path, f"{train}/cat/a.jpg", f"{train}/dog/b.jpg", "Val/cat/c.jpg", "Val/dog/d.jpg")
    dataset = open_training(tmp_path)
    assert names_and_labels(dataset) == [("cat/a.jpg", 0), ("dog/b.jpg", 1)]
    assert names_and_labels(open_dataset(tmp_path, split="train")) == names_and_labels(dataset)
    assert len(open_validation(tmp_path)) == 2


def test_the_test_part_is_taken_where_there_is_no_validation_and_never_for_training(tmp_path: Path) -> None:
    tree(tmp_path, "Train/cat/a.jpg", "Train/dog/b.jpg", "Test/cat/c.jpg", "Test/dog/d.jpg")
    dataset = open_dataset(tmp_path)
    assert names_and_labels(dataset) == [("Test/cat/c.jpg", 0), ("Test/dog/d.jpg", 1)]
    assert dataset.notes == ("there is no validation part: the test part, Test/, is taken",)
    with pytest.raises(DatasetError, match=r"no validation part; --val-split 0\.2 divides the training images"):
        open_validation(tmp_path)


@pytest.mark.parametrize("names", [("train", "Train"), ("val", "valid"), ("Validation", "dev")])
def test_two_folders_for_one_part_are_an_error(tmp_path: Path, names: tuple[str, str]) -> None:
    tree(tmp_path, *(f"{name}/{pet}/a.jpg" for name in names for pet in ("cat", "dog")), "test/cat/a.jpg")
    message = refused(tmp_path)
    assert f"both {min(names)}/ and {max(names)}/ are named as the" in message


@pytest.mark.parametrize("word", ["train", "test", "Val", "tr", "dev"])
def test_a_class_may_be_called_like_a_part(tmp_path: Path, word: str) -> None:
    tree(tmp_path, f"{word}/a.jpg", "car/b.jpg", "plane/c.jpg")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == tuple(sorted((word, "car", "plane")))
    assert dataset.notes == (f"{word}/ is a class here, as car/ beside it is, and no part of the data set",)


def test_a_class_called_like_a_part_within_parts(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{part}/{name}/a.jpg" for part in ("train", "val") for name in ("train", "car", "test")))
    assert open_dataset(tmp_path).class_names == open_training(tmp_path).class_names == ("car", "test", "train")


def test_part_or_class_is_asked_where_it_is_not_plain(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/a.jpg", "train/dog/b.jpg", "extra/c.jpg")
    assert "train/ holds folders, as a part of a data set does, and extra/ beside it is no part" in refused(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("fold1/train/cat/a.jpg", "fold2/train/cat/a.jpg"),
        ("cat/train/a.jpg", "cat/test/b.jpg", "dog/train/c.jpg", "dog/test/d.jpg"),
        ("images/train/cat/a.jpg", "images/val/cat/b.jpg", "labels/train/a.txt", "labels/val/b.txt"),
    ],
)
def test_folders_that_hold_parts_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    tree(tmp_path, *names)
    first = sorted({name.partition("/")[0] for name in names})[0]
    assert f"{first}/ holds " in refused(tmp_path)
    assert f"such as {tmp_path / first}" in refused(tmp_path)


def test_a_download_in_a_folder_of_its_own(tmp_path: Path) -> None:
    tree(tmp_path, "archive/archive/valid/cat/a.jpg", "archive/archive/train/cat/b.jpg", "__MACOSX/x.jpg", "note.txt")
    dataset = open_dataset(tmp_path)
    assert names_and_labels(dataset) == [("archive/archive/valid/cat/a.jpg", 0)]
    assert dataset.notes[0] == "the data set lies in archive/archive/"
    assert names_and_labels(open_training(tmp_path)) == [("cat/b.jpg", 0)]


@pytest.mark.parametrize("beside", ["labels/a.txt", "Annotation/cat/a.xml", "ImageSets/x/val.csv"])
def test_images_beside_their_annotations(tmp_path: Path, beside: str) -> None:
    tree(tmp_path, "Images/x/val/cat/a.jpg", "Images/x/val/dog/b.jpg", beside)
    assert names_and_labels(open_dataset(tmp_path)) == [("Images/x/val/cat/a.jpg", 0), ("Images/x/val/dog/b.jpg", 1)]


@pytest.mark.parametrize("names", [("val/images/a.jpg",), ("valid/images/a.jpg", "valid/labels/a.txt")])
def test_a_folder_called_images_is_no_class(tmp_path: Path, names: tuple[str, ...]) -> None:
    tree(tmp_path, *names, "train/cat/images/b.jpg")
    assert "images holds all images (1), and nothing gives them labels" in refused(tmp_path)


def test_imgs_beside_a_part_is_no_class(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/b.jpg", "imgs/a.jpg")
    write_list(tmp_path, "a.jpg 0\n")
    assert names_and_labels(open_training(tmp_path)) == [("cat/b.jpg", 0)]


def test_a_single_class_folder_counts_where_that_is_asked_for(tmp_path: Path) -> None:
    tree(tmp_path, "cat/a.jpg")
    assert names_and_labels(open_dataset(tmp_path, one_class=True)) == [("cat/a.jpg", 0)]
    assert "cat holds all images (1)" in refused(tmp_path)


def test_a_class_that_is_a_link_to_nothing_is_an_error(tmp_path: Path) -> None:
    tree(tmp_path, "val/cat/a.jpg", "val/dog/b.jpg")
    (tmp_path / "val/owl").symlink_to(tmp_path / "gone")
    assert f"val/owl: a link to {tmp_path / 'gone'}, which is not there" in refused(tmp_path)


def test_a_list_beside_the_folder_of_its_part(tmp_path: Path) -> None:
    tree(tmp_path, "train_images/1.jpg", "test_images/1.jpg")
    write_list(tmp_path, "id,label\n1.jpg,0\n", "train.csv")
    assert names_and_labels(open_training(tmp_path)) == [("train_images/1.jpg", 0)]


def test_a_part_in_a_folder_of_its_own_name(tmp_path: Path) -> None:
    tree(tmp_path, "seg_test/seg_test/sea/a.jpg", "seg_test/seg_test/ice/b.jpg", "seg_pred/seg_pred/c.jpg")
    tree(tmp_path, "seg_train/seg_train/sea/a.jpg", "seg_train/seg_train/ice/b.jpg")
    assert open_dataset(tmp_path).class_names == ("ice", "sea")


def test_an_unknown_split_names_the_parts(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/a.jpg", "valid/cat/b.jpg", "extra/cat/c.jpg", "extra/dog/d.jpg")
    assert "no part test; found train/, valid/" in refused(tmp_path, split="test")
    assert len(open_dataset(tmp_path, split="extra")) == 2


@pytest.mark.parametrize("name", ["val.txt", "Valid.csv", "validation_list.txt", "VAL_LIST.TXT"])
def test_a_list_in_other_words(tmp_path: Path, name: str) -> None:
    tree(tmp_path, "val/a.jpg")
    write_list(tmp_path, "val/a.jpg 3", name)
    dataset = open_dataset(tmp_path)
    assert names_and_labels(dataset) == [("val/a.jpg", 3)]
    assert dataset.notes == (f"the list of the validation part is {name}",)


def test_photos_without_parts_are_told_how_to_divide_them(tmp_path: Path) -> None:
    tree(tmp_path, "cat/a.jpg", "dog/b.jpg")
    with pytest.raises(DatasetError, match=r"no training part.*--val-split 0\.2 divides them"):
        open_training(tmp_path)


def test_class_folders_in_either_unicode_form_have_one_name(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    tree(tmp_path, f"train/{decomposed}/a.jpg", "train/cafeteria/b.jpg", f"val/{composed}/a.jpg", "val/cafeteria/b.jpg")
    assert open_training(tmp_path).class_names == open_dataset(tmp_path).class_names == ("cafeteria", composed)
    tree(tmp_path, f"val/{decomposed}/a.jpg")
    assert "differ in the Unicode form only" in refused(tmp_path)


def test_images_that_cannot_be_read_stay_in_the_data_set(tmp_path: Path) -> None:
    tree(tmp_path, "cat/a.heic", "cat/a.jpg", "dog/b.jpg", "dog/@eaDir/b.jpg", "dog/notes.txt")
    dataset = open_dataset(tmp_path)
    assert [record.name for record in dataset.records] == ["cat/a.heic", "cat/a.jpg", "dog/b.jpg"]
    assert len(dataset.unreadable) == 1
    assert "cat/a.heic: HEIC is not read here; convert it" in dataset.unreadable[tmp_path / "cat/a.heic"]
    assert dataset.all_notes() == [
        "1 entry that systems and programs leave beside data is ignored: @eaDir",
        "1 file is not an image and is ignored, such as dog/notes.txt",
    ]


def test_a_record_of_another_task_says_what_its_digest_covers() -> None:
    @dataclass(frozen=True)
    class Measured(Record):
        value: float

        def line(self) -> str:
            return f"{self.name}\0{self.value}"

    def digest(value: float) -> str:
        return Dataset(Path(), "list", None, (Measured(0, Path("a"), "a.png", value),), None, 1, ()).digest()

    assert digest(0.5) == hashlib.sha256(b"a.png\x000.5\n").hexdigest()
    assert digest(0.5) != digest(0.25)
    assert Dataset(Path(), "list", None, (Record(0, "a", "a.png"),), None, 1, ()).digest() == (
        hashlib.sha256(b"a.png\n").hexdigest()
    )
