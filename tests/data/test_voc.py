"""Pascal VOC's files and folders, with what other tools write into them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from boxed_folders import add_part, add_voc, save_picture, voc_xml
from mobilenext.data.boxed_dataset import open_boxes
from mobilenext.data.voc import VOC_CLASSES
from mobilenext.data.voc_xml import LARGEST, XmlProblem, read_voc_file
from mobilenext.errors import DatasetError

ONE = [("Cat", (11, 21, 51, 61))]


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "a.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_all_four_coordinates_are_counted_from_0(tmp_path: Path) -> None:
    file = read_voc_file(written(tmp_path, voc_xml([("cat", ("45.0", " 1 ", "46.5", 80))])))
    assert file.size == (100, 80)
    assert [box.corners for box in file.objects] == [(44.0, 0.0, 45.5, 79.0)]
    assert not file.objects[0].difficult  # which may be missing


def test_parts_of_an_object_are_not_objects(tmp_path: Path) -> None:
    head = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    file = read_voc_file(
        written(tmp_path, voc_xml([("person", (1, 2, 3, 4))], extra=f"{head}<difficult>1</difficult>"))
    )
    assert [(box.name, box.corners, box.difficult) for box in file.objects] == [("person", (0, 1, 2, 3), True)]


@pytest.mark.parametrize("declared", ["utf-8", "utf-16", "iso-8859-1"])
def test_encodings(tmp_path: Path, declared: str) -> None:
    text = f'<?xml version="1.0" encoding="{declared}"?>{voc_xml([("Käfer", (1, 2, 3, 4))])}'
    assert read_voc_file(written(tmp_path, text.encode(declared))).objects[0].name == "Käfer"


@pytest.mark.parametrize("size", [None, (0, 0)])
def test_a_size_that_is_not_known(tmp_path: Path, size: tuple[int, int] | None) -> None:
    assert read_voc_file(written(tmp_path, voc_xml(ONE, size))).size is None


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;">]>' + voc_xml([("&c;", (1, 2, 3, 4))])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("<annotation><object>", "no XML (no element found, line 1)"),
        ("<annotation>&b;</annotation>", "no XML (undefined entity"),
        (BOMB, "it declares a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "it declares a document type"),
        ("<html/>", "its outermost element is 'html'"),
        ("<annotation>" + "<a>" * 5000, "nested deeper than 16 levels"),
        (b" " * (LARGEST + 1), "more than 4,194,304 bytes"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "no XML"),
        (voc_xml(ONE, ("wide", 80)), "its size is 'wide' x '80'"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str | bytes, problem: str) -> None:
    with pytest.raises(XmlProblem) as caught:
        read_voc_file(written(tmp_path, text))
    assert problem in str(caught.value)


def test_objects_that_cannot_be_read_are_named_and_the_others_read(tmp_path: Path) -> None:
    text = voc_xml([("cat", (1, 2, "nan", 4)), ("", (1, 2, 3, 4)), ("dog", (1, 2, 3, "")), ("cow", (1, 2, 3, 4))])
    text = text.replace("</annotation>", "<object><name>owl</name></object></annotation>")
    file = read_voc_file(written(tmp_path, text))
    assert [box.name for box in file.objects] == ["cow"]
    assert file.problems == [
        "object 1 (cat): xmax is 'nan'; expected a number of pixels",
        "object 2: it has no name; expected that of its class",
        "object 3 (dog): ymax is ''; expected a number of pixels",
        "object 5 (owl): it has no bndbox; expected xmin, ymin, xmax and ymax",
    ]


# Folders.


def test_a_folder_without_lists_is_one_set(tmp_path: Path) -> None:
    add_voc(tmp_path, "b", ONE, suffix=".png")
    add_voc(tmp_path, "a.1", [("dog", (1, 1, 9, 9))], extra="<difficult>1</difficult>")
    save_picture(tmp_path / "JPEGImages" / "c.jpg")
    dataset = open_boxes(tmp_path)
    assert [record.name for record in dataset.records] == ["JPEGImages/a.1.jpg", "JPEGImages/b.png"]
    assert dataset.class_names == ("cat", "dog")  # in lower case
    assert [box.difficult for record in dataset.records for box in record.boxes] == [True, False]
    assert any("1 picture has no annotation file and is left out: c.jpg" in note for note in dataset.notes)


def test_parts_and_lists_of_single_classes(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        add_voc(tmp_path, name, ONE)
    add_part(tmp_path, "train", ["c", "a.jpg"])
    add_part(tmp_path, "test", ["b"])
    add_part(tmp_path, "cat_train", ["c  1", "a -1"])
    assert [record.image_id for record in open_boxes(tmp_path, split="train").records] == ["c", "a"]
    evaluated = open_boxes(tmp_path)
    assert ([record.image_id for record in evaluated.records], evaluated.notes) == (["b"], ("the part test is taken",))
    with pytest.raises(DatasetError, match=r"no part 'cat_train'; did you mean 'train'\?; found test, train$"):
        open_boxes(tmp_path, split="cat_train")


def test_a_devkit_of_two_years(tmp_path: Path) -> None:
    for year, name in (("2007", "1"), ("2007", "2"), ("2012", "1")):
        add_voc(tmp_path / "VOCdevkit" / f"VOC{year}", name, ONE)
    for year, part, name in (("2007", "trainval", "1"), ("2007", "test", "2"), ("2012", "trainval", "1")):
        add_part(tmp_path / "VOCdevkit" / f"VOC{year}", part, [name])
    both = open_boxes(tmp_path, split="2007-trainval,2012-trainval")
    assert [record.image_id for record in both.records] == ["VOC2007/1", "VOC2012/1"]
    assert [record.image_id for record in open_boxes(tmp_path).records] == ["VOC2007/2"]
    with pytest.raises(DatasetError, match="trainval may be each of 2007-trainval, 2012-trainval"):
        open_boxes(tmp_path, split="trainval")
    with pytest.raises(DatasetError, match=r"no part '2008-test'; did you mean '2007-test'\?"):
        open_boxes(tmp_path, split="2008-test")


def test_annotations_one_folder_deeper(tmp_path: Path) -> None:
    save_picture(tmp_path / "images" / "1.jpg")
    (tmp_path / "annotations" / "xmls").mkdir(parents=True)
    (tmp_path / "annotations" / "xmls" / "1.xml").write_text(voc_xml(ONE))
    assert [record.name for record in open_boxes(tmp_path).records] == ["images/1.jpg"]


def test_annotations_beside_the_pictures_of_each_part(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        save_picture(tmp_path / part / "1.jpg")
        (tmp_path / part / "1.xml").write_text(voc_xml(ONE))
    assert [record.name for record in open_boxes(tmp_path, split="val").records] == ["valid/1.jpg"]


def test_the_order_of_vocs_classes(tmp_path: Path) -> None:
    add_voc(tmp_path, "a", [(name, (1, 1, 9, 9)) for name in VOC_CLASSES[::2]])
    assert open_boxes(tmp_path).class_names == VOC_CLASSES
    add_voc(tmp_path, "a", [(name, (1, 1, 9, 9)) for name in ("person", "car")])
    assert open_boxes(tmp_path).class_names == ("car", "person")


def test_problems_of_lists_and_files_come_together(tmp_path: Path) -> None:
    add_voc(tmp_path, "a", ONE)
    add_voc(tmp_path, "b", ONE)
    (tmp_path / "JPEGImages" / "b.jpg").unlink()
    add_part(tmp_path, "val", ["a", "b", "c", "a"])
    add_part(tmp_path, "empty", [])
    with pytest.raises(DatasetError) as caught:
        open_boxes(tmp_path, split="val")
    assert str(caught.value).startswith(f"{tmp_path}: 3 problems:")
    for sentence in ("a stands there twice", "b.xml: its picture: no such file", "c.xml: cannot be read: No such file"):
        assert sentence in str(caught.value)
    with pytest.raises(DatasetError, match=r"ImageSets/Main/empty\.txt: the part is empty"):
        open_boxes(tmp_path, split="empty")


def test_names_that_lead_out_of_the_data_set(tmp_path: Path) -> None:
    root = tmp_path / "set"
    add_voc(root, "a", ONE)
    add_voc(tmp_path, "x", ONE)
    outside = ["../../x", "..\\..\\x", str(tmp_path / "Annotations" / "x"), "C:\\x"]
    add_part(root, "train", ["a", *outside])
    with pytest.raises(DatasetError, match="4 problems") as caught:
        open_boxes(root, split="train")
    assert str(caught.value).count("leads out of the data set") == 4
    for number, name in enumerate(outside, start=2):
        assert f"ImageSets/Main/train.txt: line {number}: {repr(name)[:50]}" in str(caught.value)


def test_a_picture_that_an_annotation_names_is_in_the_data_set(tmp_path: Path) -> None:
    save_picture(tmp_path / "x.jpg")
    root = tmp_path / "set"
    add_voc(root, "a", ONE).rename(root / "Annotations" / "b.xml")
    for name in ("../../x.jpg", str(tmp_path / "x.jpg"), "..%2F..%2Fx.jpg", f"file:%2F%2F{tmp_path}/x.jpg"):
        (root / "Annotations" / "b.xml").write_text(voc_xml(ONE, filename=name))
        with pytest.raises(DatasetError, match=r"Annotations/b\.xml: its picture: "):
            open_boxes(root)


def test_names_that_end_like_a_second_column_are_no_list_of_a_class(tmp_path: Path) -> None:
    for number in range(2):
        add_voc(tmp_path, f"img {number}", ONE)
    add_part(tmp_path, "train", ["img 1"])
    add_part(tmp_path, "test", ["img 0"])
    assert [record.image_id for record in open_boxes(tmp_path, split="train").records] == ["img 1"]
    assert [record.image_id for record in open_boxes(tmp_path).records] == ["img 0"]


def test_lists_that_are_passed_over_are_named_unless_they_are_vocs(tmp_path: Path) -> None:
    for name in ("a", "b"):
        add_voc(tmp_path, name, ONE)
    add_part(tmp_path, "train", ["a"])
    add_part(tmp_path, "cat_train", ["a  1", "b -1"])
    assert open_boxes(tmp_path, split="train").notes == ()
    add_part(tmp_path, "test", ["a 1", "b 0"])
    (note,) = open_boxes(tmp_path, split="train").notes
    assert note.startswith("ImageSets/Main/test.txt is a list of a single class and no part")
    with pytest.raises(DatasetError, match=r"no part 'test'; found train; ImageSets/Main/test\.txt is a list"):
        open_boxes(tmp_path, split="test")
    add_part(tmp_path, "test", ["a 1", "b"])  # not in every line
    with pytest.raises(DatasetError, match=r"Annotations/a 1\.xml: cannot be read"):
        open_boxes(tmp_path, split="test")


def test_a_file_of_too_many_objects(tmp_path: Path) -> None:
    path = written(tmp_path, f"<annotation>{'<object/>' * 20_000}</annotation>")
    assert len(read_voc_file(path).problems) == 20_000
    with pytest.raises(XmlProblem, match="more than 20,000 objects"):
        read_voc_file(written(tmp_path, f"<annotation>{'<object/>' * 20_001}</annotation>"))
    os.mkfifo(tmp_path / "pipe.xml")
    with pytest.raises(XmlProblem, match="this is no file"):
        read_voc_file(tmp_path / "pipe.xml")
