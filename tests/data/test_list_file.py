from __future__ import annotations

import codecs
import csv
import io
import os
import unicodedata
from pathlib import Path

import pytest

from mobilenext.data.list_file import ListedImages, read_list
from mobilenext.errors import DatasetError


def tree(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def read(root: Path, text: str | bytes, name: str = "list.txt", **options: object) -> ListedImages:
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_list(root, root / name, **options)  # type: ignore[arg-type]


def pairs(listed: ListedImages) -> list[tuple[str, int]]:
    assert all(Path(path).is_file() for path, _, _ in listed.images)
    return [(name, label) for _, name, label in listed.images]


def refused(root: Path, text: str | bytes, **options: object) -> str:
    with pytest.raises(DatasetError) as caught:
        read(root, text, **options)
    return str(caught.value)


FILES = ("a.jpg", "b.jpg", "c d.jpg", "e, f.jpg")
LABELS = (3, 0, 12, 3)
EXPECTED = list(zip(FILES, LABELS, strict=True))


def table(delimiter: str, rows: list[list[object]], quoting: int = csv.QUOTE_MINIMAL) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize(
    "header",
    [
        None, ["filename", "label"], ["image", "class"], ["id", "label"], ["Image Name", "Class ID"],
        ["image_id", "breed"], ["foto", "label"], ["IMAGE", "Id"],
    ],
)  # fmt: skip
def test_tables_as_the_csv_module_writes_them(
    tmp_path: Path, delimiter: str, quoting: int, header: list[object] | None
) -> None:
    tree(tmp_path, *FILES)
    rows: list[list[object]] = [[name, label] for name, label in EXPECTED]
    assert pairs(read(tmp_path, table(delimiter, [*([header] if header else []), *rows], quoting))) == EXPECTED


@pytest.mark.parametrize(
    "lines",
    [
        "a.jpg 3\nb.jpg 0\nc d.jpg 12\ne, f.jpg 3",
        "a.jpg;3\nb.jpg; 0\nc d.jpg ;12\ne, f.jpg;3",
        "a.jpg,3,\nb.jpg,0,\nc d.jpg,12,\ne, f.jpg,3,",
        "a.jpg 3.0\nb.jpg 0.0\nc d.jpg 12.\ne, f.jpg 3.000000",
        "'a.jpg' 3\n'b.jpg' 0\n'c d.jpg' '12'\n'e, f.jpg' 3",
        "3 a.jpg\n0 b.jpg\n12 c d.jpg\n3 e, f.jpg",
        '3,a.jpg\n0,b.jpg\n12,c d.jpg\n3,"e, f.jpg"',
        "label,filename\n3,a.jpg\n0,b.jpg\n12,c d.jpg\n3,\"e, f.jpg\"",
        "filename label\na.jpg 3\nb.jpg 0\nc d.jpg 12\ne, f.jpg 3",
        "# made by hand\na.jpg 3\n#b.jpg 7\nb.jpg 0\nc d.jpg 12\n# end\ne, f.jpg 3",
        "0\t3.000000\ta.jpg\n1\t0.000000\tb.jpg\n2\t12.000000\tc d.jpg\n3\t3.000000\te, f.jpg",
        "7\t3\ta.jpg\n2\t0\tb.jpg\n9\t12\tc d.jpg\n0\t3\te, f.jpg",
        ",filename,label\n0,a.jpg,3\n1,b.jpg,0\n2,c d.jpg,12\n3,\"e, f.jpg\",3",
        "0;a.jpg;3\n1;b.jpg;0\n2;c d.jpg;12\n3;e, f.jpg;3",
        "a.jpg;cat;3\nb.jpg;dog;0\nc d.jpg;owl;12\ne, f.jpg;cat;3",
        "filename;width;class_id;class_name\na.jpg;64;3;cat\nb.jpg;64;0;dog\nc d.jpg;64;12;owl\ne, f.jpg;64;3;cat",
        "a.jpg 3 cat\nb.jpg 0 dog\nc d.jpg 12 tree frog\ne, f.jpg 3 cat",
        "./a.jpg 3\nimgs/../b.jpg 0\n./c d.jpg 12\ne, f.jpg 3",
    ],
)  # fmt: skip
def test_lines_as_programs_write_them(tmp_path: Path, lines: str) -> None:
    tree(tmp_path, *FILES)
    (tmp_path / "imgs").mkdir()
    listed = read(tmp_path, lines)
    assert [(Path(path).resolve().name, label) for path, _, label in listed.images] == EXPECTED
    assert listed.class_names is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    tree(tmp_path, "größe.jpg", "名.jpg")
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    content = mark + f"größe.jpg\t1{end}{end}名.jpg\t2{end}".encode(encoding)
    assert pairs(read(tmp_path, content)) == [("größe.jpg", 1), ("名.jpg", 2)]


@pytest.mark.parametrize(
    "lines",
    [
        "a.jpg golden retriever\nb.jpg cat\nc d.jpg owl\n",
        "a.jpg,golden retriever\nb.jpg,cat\nc d.jpg,owl\n",
        'image,species\na.jpg,"golden retriever"\nb.jpg,cat\nc d.jpg,owl\n',
        "golden retriever\ta.jpg\ncat\tb.jpg\nowl\tc d.jpg\n",
        "sep=;\r\nfilepaths;labels\r\na.jpg;golden retriever\r\nb.jpg;cat\r\nc d.jpg;owl\r\n",
        "s3://bucket/x/a.jpg,golden retriever\ns3://bucket/x/b.jpg,cat\ns3://bucket/x/c%20d.jpg,owl\n",
    ],
)
def test_class_names_in_place_of_numbers(tmp_path: Path, lines: str) -> None:
    tree(tmp_path, *FILES)
    listed = read(tmp_path, lines)
    assert listed.class_names == ("cat", "golden retriever", "owl")
    assert pairs(listed) == [("a.jpg", 1), ("b.jpg", 0), ("c d.jpg", 2)]


def test_names_beside_numbers_are_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    tree(tmp_path, *FILES)
    listed = read(tmp_path, "filename,label,class_id\na.jpg,owl,0\nb.jpg,cat,1\nc d.jpg,owl,0\n")
    assert listed.class_names == ("owl", "cat")
    assert pairs(listed) == [("a.jpg", 0), ("b.jpg", 1), ("c d.jpg", 0)]
    listed = read(tmp_path, "filename,label,class\na.jpg,owl,0\nb.jpg,cat,0\n")  # no numbers of these classes
    assert listed.class_names == ("cat", "owl")


def test_imagenets_labels_with_boxes(tmp_path: Path) -> None:
    tree(tmp_path, "images/v_1.JPEG", "images/v_2.JPEG")
    lines = "ImageId,PredictionString\nv_1,n03995372 85 1 499 272 \nv_2,n01440764 1 2 3 4 n01440764 5 6 7 8 \n"
    listed = read(tmp_path, lines)
    assert listed.class_names == ("n01440764", "n03995372")
    assert pairs(listed) == [("images/v_1.JPEG", 1), ("images/v_2.JPEG", 0)]
    assert "behind the labels of the list are boxes, which do not count" in listed.notes


def test_classes_that_differ_in_case_only_are_said(tmp_path: Path) -> None:
    tree(tmp_path, *FILES)
    listed = read(tmp_path, "a.jpg Cat\nb.jpg cat\nc d.jpg owl\n")
    assert listed.class_names == ("Cat", "cat", "owl")
    assert "'Cat', 'cat'" in "".join(listed.notes)


def test_numbers_and_names_of_classes_are_not_mixed(tmp_path: Path) -> None:
    tree(tmp_path, *FILES)
    assert "line 2: 'b.jpg cat': the label 'cat' is not an integer" in refused(tmp_path, "a.jpg 1\nb.jpg cat\n")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "a.jpg\t0,1,0,1\nb.jpg\t1,0,0,0\n",
            "multi-label list, with a 0 or 1 for each of 4 classes; one label is expected",
        ),
        ("a.jpg 0 1 0\nb.jpg 1 0 0\n", "each line has one 1 only: its position, from 0, is the label"),
        ("x/1.JPEG\t0,1,1\n", "multi-label list"),
        ("a.jpg 0.1 0.9\nb.jpg 0.5 0.5\n", "2 numbers for each image, such as probabilities; one label"),
        ("a.jpg,3,7\nb.jpg,2,9\n", "several integers for each image"),
        ("filename,cat,dog,owl\na.jpg,0,1,0\nb.jpg,1,1,0\n", "multi-label list, with a 0 or 1 for each of 3 classes"),
        ("a.jpg a.xml\nb.jpg b.xml\n", "pairs of files, as for detection or segmentation; one label"),
        ("a.jpg,masks/a.png\nb.jpg,masks/b.png\n", "pairs of files"),
        ('{"images": [{"file_name": "a.jpg"}]}', "this is JSON"),
        ('[\n {"a.jpg": 3}]', "this is JSON"),
        ("<annotation><filename>a.jpg</filename></annotation>", "this is XML"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        ("filename,width,height\na.jpg,10,x\n", "which column is the label? The header has filename, width, height"),
        ("image,label,split\na.jpg,1,train\nb.jpg,0,valid\n", "column split divides this list into train, valid"),
        ("filename,label\na.jpg\n", "no label in the column label"),
        ("filename,label\na.jpg,nan\nb.jpg,cat\n", "1 problem:\n    line 2: 'a.jpg,nan': no label in the column label"),
        ("filename,label\na.jpg,1,2\n", "3 columns, where the header has 2"),
        ("filename,label,is_valid\na.jpg,1,True\nb.jpg,0,False\n", "the column is_valid divides this list"),
        ("TRAIN,a.jpg,cat\nTEST,b.jpg,dog\n", "divides this list into TEST, TRAIN"),
        ("image,findings\na.jpg,Mass|Edema\nb.jpg,Mass\nc d.jpg,Edema\n", "a multi-label list"),
        ("filename,label\n", "the list is empty"),
        ("# a.jpg 1\n", "the list is empty"),
    ],
)
def test_lists_of_other_kinds_are_recognised(tmp_path: Path, lines: str, expected: str) -> None:
    tree(tmp_path, *FILES)
    assert expected in refused(tmp_path, lines)


def test_names_in_either_unicode_form(tmp_path: Path) -> None:
    names = ["café/crème.jpg", "ångström.jpg", "한국.jpg"]
    for form, other in (("NFC", "NFD"), ("NFD", "NFC")):
        root = tmp_path / form
        tree(root, *(unicodedata.normalize(form, f"imgs/{name}") for name in names))
        written = [unicodedata.normalize(other, name) for name in names]
        listed = read(root, "".join(f"{name} {label}\n" for label, name in enumerate(written)))
        assert pairs(listed) == [(f"imgs/{name}", label) for label, name in enumerate(written)]
        assert listed.notes == ("names of the list found in another Unicode form: 3",)


@pytest.mark.skipif(os.name == "nt", reason="one name here")
def test_the_exact_unicode_form_comes_first(tmp_path: Path) -> None:
    composed, decomposed = "é.jpg", "é.jpg"
    tree(tmp_path, unicodedata.normalize("NFC", composed), unicodedata.normalize("NFD", decomposed))
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system keeps one form")
    listed = read(
        tmp_path, f"{unicodedata.normalize('NFD', decomposed)} 1\n{unicodedata.normalize('NFC', composed)} 2\n"
    )
    assert [label for _, _, label in listed.images] == [1, 2]
    assert len({path for path, _, _ in listed.images}) == 2
    assert not listed.notes


def test_another_case_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    tree(tmp_path, "Cat/A.JPG")
    assert "no such file, but Cat/A.JPG: upper and lower case differ" in refused(tmp_path, "cat/a.jpg 1")


@pytest.mark.parametrize(
    ("name", "note"),
    [
        (
            "C:\\data\\pets\\sub\\a 1.jpg",
            "names of the list found below the data set, for C:\\data\\pets of another computer: 1",
        ),
        ("/home/bob/pets/sub/a 1.jpg", "for /home/bob/pets of another computer"),
        ("sub/a%201.jpg", "percent-decoded"),
        ("{root}/sub/a 1.jpg", "below the data set's folder, whose name they begin with"),
        ("sub/a 1", "by adding the suffix of the only image of that name"),
        ("sub\\a 1.jpg", ""),
    ],
)
def test_other_spellings_of_a_name(tmp_path: Path, name: str, note: str) -> None:
    tree(tmp_path, "sub/a 1.jpg", "sub/a 1.txt")
    listed = read(tmp_path, f"{name.format(root=tmp_path.name)} 5\n")
    assert [(path, label) for path, _, label in listed.images] == [(str(tmp_path / "sub/a 1.jpg"), 5)]
    assert note in "".join(listed.notes)


def test_paths_of_another_computer_begin_alike(tmp_path: Path) -> None:
    tree(tmp_path, "cat/a.jpg", "dog/a.jpg")
    assert pairs(read(tmp_path, "D:\\x\\cat\\a.jpg 0\nD:\\x\\dog\\a.jpg 1")) == [("cat/a.jpg", 0), ("dog/a.jpg", 1)]
    assert "line 2: 'E:\\\\y\\\\dog\\\\a.jpg 1': no such file" in refused(
        tmp_path, "D:\\x\\cat\\a.jpg 0\nE:\\y\\dog\\a.jpg 1"
    )


def test_a_name_without_suffix_is_not_guessed(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "a.png")
    assert "no such file" in refused(tmp_path, "a 1")


def test_repeated_lines(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "b.jpg")
    lines = "a.jpg 1\nb.jpg 0\na.jpg 1\n./a.jpg 1\n"
    listed = read(tmp_path, lines, repeats=True)
    assert listed.repeats == 2
    assert [label for _, _, label in listed.images] == [1, 0, 1, 1]
    assert listed.notes == ("2 of 4 lines of list.txt repeat an image, which counts each time",)
    assert "line 3: 'a.jpg 1': the same file as in line 1; each may be listed once" in refused(tmp_path, lines)
    for repeats in (False, True):
        message = refused(tmp_path, "a.jpg 1\na.jpg 2\n", repeats=repeats)
        assert "line 2: 'a.jpg 2': the same file as in line 1, where its label is 1" in message


@pytest.mark.parametrize("again", ["./sub/a.jpg", "sub//a.jpg", "sub/./a.jpg", ".//sub/././a.jpg", "{root}/sub//a.jpg"])
def test_another_way_to_write_a_name_is_the_same_file(tmp_path: Path, again: str) -> None:
    tree(tmp_path, "sub/a.jpg", "sub/.a.jpg")
    lines = f"sub/a.jpg 1\nsub/.a.jpg 1\n{again.format(root=tmp_path)} 1\n"
    assert "line 3: " in (message := refused(tmp_path, lines))
    assert "the same file as in line 1; each may be listed once" in message


@pytest.mark.parametrize("name", ["1:2.jpg", "é:a.jpg", "a:b.jpg", ".hidden.jpg"])
def test_names_that_look_like_something_else(tmp_path: Path, name: str) -> None:
    tree(tmp_path, name)
    assert pairs(read(tmp_path, f"{name} 3\n")) == [(name, 3)]


def test_a_file_whose_name_begins_like_a_comment(tmp_path: Path) -> None:
    tree(tmp_path, "#1.jpg", "a.jpg")
    listed = read(tmp_path, "#1.jpg 4\n# 2.jpg 5\na.jpg 6\n")
    assert pairs(listed) == [("#1.jpg", 4), ("a.jpg", 6)]
    assert listed.notes == ("comments in the list: 1 lines that begin with #",)
