"""What is wrong with boxes, sizes and classes, lists of boxes, and classes that become those of a network."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from boxed_folders import add_part, add_voc, save_picture, voc_xml
from mobilenext.data.boxed_classes import with_box_classes
from mobilenext.data.boxed_dataset import examine_boxes, open_boxes
from mobilenext.data.image_size import image_size
from mobilenext.errors import DatasetError, UsageError


@pytest.mark.parametrize("mode", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "progressive", "lossless"])
def test_the_size_in_a_header(tmp_path: Path, mode: str) -> None:
    options = {"progressive": {"format": "JPEG", "progressive": True}, "lossless": {"format": "WEBP", "lossless": True}}
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees: the size is as stored
    extra = {"exif": exif} if mode == "JPEG" else {}
    Image.new("RGB", (301, 17), (3, 200, 9)).save(tmp_path / "a", **options.get(mode, {"format": mode}), **extra)
    assert image_size(tmp_path / "a") == (301, 17)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\1", b"\x89PNG\r\n\x1a\n", b"text " * 9])
def test_headers_without_a_size(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert image_size(tmp_path / "a") is None


def test_a_size_that_no_header_tells(tmp_path: Path) -> None:
    add_voc(tmp_path, "a", [("cat", (1, 1, 9, 9))]).write_text(voc_xml([("cat", (1, 1, 9, 9))], None))
    picture = tmp_path / "JPEGImages" / "a.jpg"
    Image.new("RGB", (30, 20)).save(picture, "TIFF")
    (record,) = open_boxes(tmp_path).records
    assert (record.width, record.height) == (30, 20)
    picture.write_bytes(b"II*\0")
    with pytest.raises(DatasetError, match="its picture cannot be read"):
        open_boxes(tmp_path)


def test_boxes_that_stop_and_boxes_that_do_not(tmp_path: Path) -> None:
    add_voc(tmp_path, "edge", [("cat", (0, 1, 101, 81)), ("cat", (-9, 1, 40, 40))])  # the first within a pixel
    add_voc(tmp_path, "empty", [("cat", (5, 5, 5, 9)), ("cat", (5, 5, 9, 5)), ("cat", (5, 5, 9, 9))])
    dataset = open_boxes(tmp_path)
    assert [len(record.boxes) for record in dataset.records] == [2, 1]
    assert len(dataset.left_out) == 2
    assert dataset.left_out[0] == "Annotations/empty.xml: the box (4, 4, 4, 8) of cat has no width and is left out"
    assert len(dataset.overhanging) == 1
    first, second = dataset.warnings()
    assert first.startswith("2 boxes without width or height: Annotations/empty.xml")
    assert second.startswith("1 box beyond the edge of the picture: Annotations/edge.xml: the box (-10, 0, 39, 39)")

    add_voc(tmp_path, "wrong", [("cat", (50, 5, 40, 9)), ("cat", (101, 5, 140, 9)), ("cat", (5, 90, 9, 99))])
    turned = add_voc(tmp_path, "turned", [])
    turned.write_text(voc_xml([], (80, 100)))
    sentences = [
        "wrong.xml: the box (49, 4, 39, 8) of cat is inverted", "wrong.xml: the box (100, 4, 139, 8) of cat is outside",
        "wrong.xml: the box (4, 89, 8, 98) of cat is outside the picture of 100 x 80 pixels",
        "turned.xml: it says 80 x 100 pixels, but JPEGImages/turned.jpg has 100 x 80; one of the two is turned",
    ]  # fmt: skip
    with pytest.raises(DatasetError, match="4 problems") as caught:
        open_boxes(tmp_path)
    examined = examine_boxes(tmp_path)
    for sentence in sentences:
        assert sentence in str(caught.value)
        assert any(sentence in problem for problem in examined.problems)
    assert len(examined.dataset) == 4


def test_only_the_first_problems_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    add_voc(tmp_path, "a", [("cat", (50, 5, 40, 9))] * 25)
    with pytest.raises(DatasetError, match=r"25 problems:[^$]*\.\.\. and 5 more"):
        open_boxes(tmp_path)
    assert len(examine_boxes(tmp_path).problems) == 25


def test_a_list_of_classes(tmp_path: Path) -> None:
    add_voc(tmp_path, "a", [("CAT", (1, 1, 9, 9)), ("cat", (1, 1, 9, 9)), ("dog", (1, 1, 9, 9))])
    assert [box.label for box in open_boxes(tmp_path, class_names=["Dog", "Cat"]).records[0].boxes] == [2, 2, 1]
    with pytest.raises(DatasetError, match=r"the class 'dog' is not in the list; did you mean 'dogs'\?\n.*cat, dogs"):
        open_boxes(tmp_path, class_names=["cat", "dogs"])


def test_the_classes_of_a_network(tmp_path: Path) -> None:
    add_voc(tmp_path, "a", [("cat", (1, 1, 9, 9)), ("dog", (1, 1, 9, 9))])
    dataset = open_boxes(tmp_path)
    fitted = with_box_classes(dataset, 3, ("dog", "owl", "Cat"))
    assert [box.label for box in fitted.records[0].boxes] == [3, 1]
    assert fitted.class_names == ("dog", "owl", "Cat")
    with pytest.raises(DatasetError) as caught:
        with_box_classes(dataset, 2, ("dog", "owl"))
    assert "The data's classes: cat, dog. Those of the network: dog, owl" in str(caught.value)
    assert with_box_classes(dataset, 2, None) is dataset
    with pytest.raises(DatasetError, match=r"2 classes \(cat, dog\), but the network has 3"):
        with_box_classes(dataset, 3, None)


def test_pictures_of_two_parts(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        add_voc(tmp_path, name, [("cat", (1, 1, 9, 9))])
    add_part(tmp_path, "train", ["a", "b"])
    add_part(tmp_path, "trainval", ["a", "b", "c"])
    with pytest.raises(DatasetError, match=r"2 pictures of trainval are in train, too, such as JPEGImages/a\.jpg"):
        open_boxes(tmp_path, split="train,trainval")
    examined = examine_boxes(tmp_path)  # to which that is no problem
    assert (examined.problems, {name: len(paths) for name, paths in examined.parts.items()}) == (
        (), {"train": 2, "trainval": 3},
    )  # fmt: skip


def test_folders_that_are_no_data_set_of_boxes(tmp_path: Path) -> None:
    save_picture(tmp_path / "cats" / "a.jpg")
    with pytest.raises(DatasetError, match="no annotations of boxes; expected Annotations"):
        open_boxes(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        open_boxes(tmp_path / "none")
    with pytest.raises(UsageError, match="a list and the split"):
        open_boxes(tmp_path, list_file="a.csv", split="val")


# Lists.

TABLES = {
    "plain": "imgs/a.jpg,10,20,40.5,60,cat\nimgs/b.jpg,,,,,\nimgs/a.jpg,1,2,3,4,dog\n",
    "header": "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,100,80,cat,10,20,40.5,60\n"
    "a.jpg,100,80,dog,1,2,3,4\nb.jpg,100,80,,,,,\n",
    "tabs": "image\tx1\ty1\tx2\ty2\tlabel\r\na\t10\t20\t40.5\t60\tcat\r\na\t1\t2\t3\t4\tdog\r\nb\r\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables(tmp_path: Path, kind: str) -> None:
    for name in "ab":
        save_picture(tmp_path / "imgs" / f"{name}.jpg")
    (tmp_path / "any.csv").write_text(TABLES[kind])
    full, empty = open_boxes(tmp_path, list_file=tmp_path / "any.csv").records
    assert [(box.corners, box.label) for box in full.boxes] == [((10, 20, 40.5, 60), 1), ((1, 2, 3, 4), 2)]
    assert (full.name, empty.name, empty.boxes) == ("imgs/a.jpg", "imgs/b.jpg", ())
    (tmp_path / "any.csv").rename(tmp_path / "train.csv")
    assert len(open_boxes(tmp_path, split="train")) == 2


def test_pictures_with_their_annotation_files(tmp_path: Path) -> None:
    save_picture(tmp_path / "images" / "a.png")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.xml").write_text(voc_xml([("cat", (11, 21, 31, 41))]))
    (tmp_path / "valid.txt").write_text("./images/a.png ./notes/a.xml\n")
    (record,) = open_boxes(tmp_path, split="val").records
    assert [box.corners for box in record.boxes] == [(10, 20, 30, 40)]


def test_lines_that_cannot_be_used(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.jpg")
    lines = ["a.jpg,1,2,3,4,cat", "b.jpg,1,2,3,4,cat", "a.jpg,1,2,x,4,cat", "a.jpg,1,2,3,4,", "a.jpg,1,2,nan,4,cat"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(DatasetError) as caught:
        open_boxes(tmp_path, list_file=tmp_path / "a.csv")
    for sentence in ("4 problems", "line 2", "no such file", "xmax is 'x'", "the class is missing", "no numbers"):
        assert sentence in str(caught.value)
    content = io.BytesIO()
    Image.new("RGB", (4, 4)).save(content, "PNG")
    (tmp_path / "a.csv").write_bytes(content.getvalue())
    with pytest.raises(DatasetError, match="expected a text"):
        open_boxes(tmp_path, list_file=tmp_path / "a.csv")


def test_boxes_far_beyond_the_picture_and_sides_without_bound(tmp_path: Path) -> None:
    kept = [(1, 1, 201, 161), (-99, -79, 101, 81)]  # by the picture's own side; the corners count from 1
    add_voc(tmp_path, "kept", [("cat", box) for box in kept])
    assert len(open_boxes(tmp_path).overhanging) == 2
    far = [(1, 1, 1e40, 1e40), (1, 1, 202, 80), (1, 1, 100, 162), (-100, 1, 90, 80), (1, -80, 90, 80), (1, 1, 1e308, 9)]
    add_voc(tmp_path, "far", [("cat", box) for box in far])
    add_voc(tmp_path, "size", []).write_text(voc_xml([("cat", (1, 1, 9, 9))], ("1e300", "1e300")))
    with pytest.raises(DatasetError, match="7 problems") as caught:
        open_boxes(tmp_path)
    assert str(caught.value).count("Annotations/far.xml: the box") == 6
    assert str(caught.value).count("by more than the picture's own side") == 6
    assert "Annotations/size.xml: it says that a side has more than 100,000,000 pixels" in str(caught.value)


def test_a_table_of_boxes_without_a_size(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.jpg")
    (tmp_path / "boxes.csv").write_text("image,x1,y1,x2,y2,label,width,height\na.jpg,1,2,inf,9,cat,inf,80\n")
    with pytest.raises(DatasetError, match="the size 'inf' x '80'; expected"):
        open_boxes(tmp_path, list_file=tmp_path / "boxes.csv")
