"""Label files in the forms that other projects write."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from mobilenext.data.labels import imagenet_labels, imagenet_wordnet_ids, labels_of, read_labels
from mobilenext.errors import DataError

THREE = ("tench, Tinca tinca", "goldfish", "great white shark")


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("labels.txt", "tench, Tinca tinca\ngoldfish\ngreat white shark\n", id="one a line"),
        pytest.param("classes.js", "const NAMES = ['tench, Tinca tinca', 'goldfish', 'great white shark'];\n",
                     id="JavaScript"),
        pytest.param("m.py",
                     "NAMES: list[str] = [\n 'tench, Tinca tinca',  # 0\n 'goldfish',\n 'great white shark',\n]\n",
                     id="a Python module"),
        pytest.param("m.py", "classes = ('tench, Tinca tinca', 'goldfish', 'great white shark')\n", id="a tuple"),
        pytest.param("README.yml", "features:\n  names:\n    '0': tench, Tinca tinca\n    '1': goldfish\n"
                     "    '2': 'great white shark'\n", id="YAML with quoted ids"),
        pytest.param("c.json",
                     '{"pretrained_cfg": {"label_names": ["tench, Tinca tinca", "goldfish", "great white shark"]}}',
                     id="timm"),
        pytest.param("c.json", '{"dataset_meta": {"CLASSES": ["tench, Tinca tinca", "goldfish", "great white shark"]}}',
                     id="OpenMMLab"),
        pytest.param("voc.names", "tench, Tinca tinca\ngoldfish\ngreat white shark", id="Darknet"),
        pytest.param("l",
                     b"\xef\xbb\xbftench, Tinca tinca\r\ngoldfish\r\ngreat white shark\r\n\r\n \r\n",
                     id="Windows"),
        pytest.param("l", "tench, Tinca tinca\ngoldfish\ngreat white shark\n".encode("utf-16"), id="UTF-16"),
        pytest.param("l", "# of fish\ntench, Tinca tinca\ngoldfish\ngreat white shark\n", id="a comment"),
        pytest.param("label_list.txt", "0 tench, Tinca tinca\n1 goldfish\n2 great white shark\n", id="PaddleClas"),
        pytest.param("l", "2 great white shark\n0 tench, Tinca tinca\n1 goldfish\n", id="another order"),
        pytest.param("l", "1 tench, Tinca tinca\n\n3 great white shark\n2 goldfish\n", id="from 1"),
        pytest.param("l", "0: tench, Tinca tinca\n1:goldfish\n 2 : great white shark\n", id="colons"),
        pytest.param("l", "0\ttench, Tinca tinca\n1\tgoldfish\n2\tgreat white shark\n", id="tabs"),
        pytest.param("l", "0,tench, Tinca tinca\n1,goldfish\n2,great white shark\n", id="commas"),
        pytest.param("l", "00. tench, Tinca tinca\n01. goldfish\n02. great white shark\n", id="dots"),
        pytest.param("l", "great white shark\t2\ntench, Tinca tinca\t0\ngoldfish\t1\n", id="ids behind the names"),
        pytest.param("synset.txt", "'tench, Tinca tinca'\n'goldfish'\n'great white shark'\n", id="MXNet's quotes"),
        pytest.param("l.py", '"tench, Tinca tinca",\n"goldfish",\n"great white shark"', id="lines of a program"),
        pytest.param("l.json", json.dumps(THREE), id="JSON list"),
        pytest.param("l.json", json.dumps(dict(enumerate(THREE))), id="JSON by id"),
        pytest.param("l.json", json.dumps({name: place for place, name in enumerate(THREE)}), id="JSON by name"),
        pytest.param("config.json",
                     json.dumps({"a": [1.5, None, True], "id2label": dict(enumerate(THREE))}),
                     id="id2label"),
        pytest.param("c.json", json.dumps({"label2id": {n: k for k, n in enumerate(THREE)}, "d": "x"}), id="label2id"),
        pytest.param("c.json", json.dumps({"categories": [{"id": 3 - k, "name": n, "supercategory": "x"}
                                                          for k, n in enumerate(reversed(THREE))]}), id="COCO"),
        pytest.param("l.txt",
                     "{0: 'tench, Tinca tinca',\n 2: \"great white shark\",\n 1: 'goldfish',}",
                     id="Python dict"),
        pytest.param("l.txt", "['tench, Tinca tinca', 'goldfish',\n 'great white shark']", id="Python list"),
        pytest.param("l.txt", "{'goldfish': 1, 'tench, Tinca tinca': 0, 'great white shark': 2}", id="Keras' indices"),
        pytest.param("data.yaml", "nc: 3\nnames: [ 'tench, Tinca tinca', goldfish,\n  \"great white shark\"]  # 3\n",
                     id="YOLO's list"),
        pytest.param("data.yaml", "path: ../x\nnames:\n  1: goldfish  # small\n  0: tench, Tinca tinca\n"
                     "  2: great white shark\n"
                     "train: a\n", id="YOLO's mapping"),
        pytest.param("data.yml",
                     "names:\n- 'tench, Tinca tinca'\n- goldfish\n\n- great white shark\nnc: 3\n",
                     id="YAML block"),
        pytest.param("d.yaml",
                     "names: {0: 'tench, Tinca tinca', 1: goldfish, 2: great white shark}",
                     id="YAML flow map"),
        pytest.param("l.csv", 'id,name\n0,"tench, Tinca tinca"\n2,great white shark\n1,goldfish\n', id="CSV"),
        pytest.param("l.csv",
                     '"name","label"\n"tench, Tinca tinca",0\ngoldfish,1\ngreat white shark,2\n',
                     id="CSV, label"),
        pytest.param("l.csv", ',class\n0,"tench, Tinca tinca"\n1,goldfish\n2,great white shark\n', id="pandas"),
        pytest.param("l.tsv",
                     "index\tlabel\tmany\n1\tgoldfish\t3\n0\ttench, Tinca tinca\t4\n2\tgreat white shark\t4\n",
                     id="TSV"),
        pytest.param("map.pbtxt",
                     "item {\n  id: 1\n  name: 'tench, Tinca tinca'\n}\nitem {\n  name: \"goldfish\"\n  id: 2\n}\n"
                     "item { id: 3 name: '/m/x' display_name: 'great white shark' }\n", id="label map"),
    ],
)  # fmt: skip
def test_a_label_file_of_any_form_is_read(tmp_path: Path, name: str, content: str | bytes) -> None:
    path = written(tmp_path, name, content)

    assert read_labels(path) == THREE
    assert read_labels(path, 3) == THREE
    with pytest.raises(DataError, match="3 names for 4 classes"):
        read_labels(path, 4)


@pytest.mark.parametrize(
    "names",
    [
        ("cola", "7 up", "fanta"),
        ("3d printer", "2d plotter"),
        ("10 euro", "20 euro", "50 euro"),
        ("1 euro", "2 euro"),
        ("0", "1", "2", "10"),
        ("100", "cat"),
        ("3 musketeers", "7 up"),
        ("class 0", "class 1"),
        ("Boeing 737", "A320"),
        ("#hashtag", "C#"),
        ("[brackets", "cat"),
        ("label, sticker", "cat"),
    ],
)
def test_numbers_and_marks_of_the_names_stay(tmp_path: Path, names: tuple[str, ...]) -> None:
    lines = sorted(names, key=lambda name: name.startswith("["))
    assert read_labels(written(tmp_path, "l.txt", "\n".join(lines))) == tuple(lines)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("l", "0 cat\n1 dog\nbird\n", "2 of 3 names have a class id .*'bird'", id="a mixture"),
        pytest.param("l", "cat\n1 dog\nbird\n3 cow\nhen\nox", "2 of 6 names", id="few ids, each at its place"),
        pytest.param("l", "0 cat\n1 dog\n1 bird\n", "class 1 has two names", id="an id twice"),
        pytest.param("l", "0 cat\n1 dog\n3 bird\n", "3 names with the ids 0 to 3, and none with 2", id="a gap"),
        pytest.param("l", "cat\n\ndog\n", "line 2 is empty", id="an empty line"),
        pytest.param("l", "\n \n", "no names", id="nothing"),
        pytest.param("l", b"\x89PNG\r\n\x1a\n\0\0", "this is an image", id="an image"),
        pytest.param("l", b"PK\3\4\0\0cat", "this is a ZIP archive", id="an archive"),
        pytest.param("l", "ça\n".encode("latin-1"), "line 1 cannot be read as utf-8", id="Latin-1"),
        pytest.param("l", b"x" * (4 << 20) + b"x", "more than 4,194,304 bytes", id="too large"),
        pytest.param("l", "x" * 2000, "name 1 has 2,000 characters", id="a long line"),
        pytest.param("l.json", '{"0": "cat", "0": "dog"}', "'0' stands there twice", id="a key twice"),
        pytest.param("l.json", '{"0": "cat", "7": "dog"}', "ids 0 to 7", id="a gap in JSON"),
        pytest.param("l.json", '{"a": {"b": 1}}', "no class names in a form that is known", id="another record"),
        pytest.param("l.json", '["cat", ["dog", 1]]', "where the name of a class was expected", id="no name"),
        pytest.param("l.json", "[" * 100_000, "nested too deeply|neither JSON", id="brackets"),
        pytest.param("l.json", '{"cat": 1' + "0" * 5000 + "}", "neither JSON|no class names", id="a huge number"),
        pytest.param("l.py", "{0: __import__('os').getcwd()}", "neither JSON nor a Python dict", id="code"),
        pytest.param("l.json", '["cat", ""]', "name 2 has 0 characters", id="an empty name"),
        pytest.param("data.yaml", "nc: 3\n", "expected YAML with one entry `names:`", id="YAML without names"),
        pytest.param("data.yaml", "names: [cat, {a: b}]", "no list of names", id="YAML of another form"),
        pytest.param(
            "data.yaml", "names:\n  - &a cat\n  - *a\n", "neither `- name` nor `id: name`", id="YAML's anchors"
        ),
        pytest.param("m.pbtxt", "item { id: 1 }", "an item without id or name", id="label map without a name"),
        pytest.param(
            "l.csv", "id,name\n0,cat\n1,dog,animal\n", "has 3 fields; the first line has 2", id="an uneven table"
        ),
        pytest.param("l.xml", "<labels><label>cat</label></labels>", "XML, which is not read", id="XML"),
    ],
)
def test_what_is_wrong_with_a_label_file_is_said(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(DataError, match=message) as error:
        read_labels(path)
    assert str(error.value).startswith(str(path))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(DataError, match="cannot be read"):
            read_labels(path)


def test_the_number_of_classes_tells_empty_lines_and_a_background_from_names(tmp_path: Path) -> None:
    assert read_labels(written(tmp_path, "l", "cat\n\ndog\n\nbird\n"), 3) == ("cat", "dog", "bird")
    assert read_labels(written(tmp_path, "l", "cat, dog, bird\n"), 3) == ("cat", "dog", "bird")
    assert read_labels(written(tmp_path, "l", "cat;dog;bird\n"), 3) == ("cat", "dog", "bird")
    assert read_labels(written(tmp_path, "l", "background\ncat\ndog\n"), 2) == ("cat", "dog")
    assert read_labels(written(tmp_path, "l", "background\ncat\ndog\n"), 3) == ("background", "cat", "dog")


def test_imagenets_classes_are_in_the_order_of_their_ids() -> None:
    ids, names = imagenet_wordnet_ids(), imagenet_labels()

    assert len(ids) == len(names) == 1000
    assert list(ids) == sorted(set(ids))
    # Independent facts: what the field calls these classes by number.
    for number, wordnet_id, name in (
        (0, "n01440764", "tench, Tinca tinca"),
        (134, "n02012849", "crane"),
        (281, "n02123045", "tabby, tabby cat"),
        (517, "n03126707", "crane"),
        (954, "n07753592", "banana"),
        (999, "n15075141", "toilet tissue, toilet paper, bathroom tissue"),
    ):
        assert (ids[number], names[number]) == (wordnet_id, name)


def test_wordnet_ids_before_imagenets_names_are_left_out(tmp_path: Path) -> None:
    lines = [f"{wordnet_id} {name}" for wordnet_id, name in zip(imagenet_wordnet_ids(), imagenet_labels(), strict=True)]
    index = {k: [*line.split(" ", 1)] for k, line in enumerate(lines)}  # as Keras' imagenet_class_index.json

    assert read_labels(written(tmp_path, "synset_words.txt", "\n".join(lines)), 1000) == imagenet_labels()
    assert read_labels(written(tmp_path, "index.json", json.dumps(index)), 1000) == imagenet_labels()
    assert read_labels(written(tmp_path, "ids.txt", "\n".join(imagenet_wordnet_ids()))) == imagenet_labels()
    # Where the name does not tell it, or ImageNet does not have it, the id stays.
    few = "0 n02124075 Egyptian cat\n1 n03126707 crane\n2 n00007846 person\n"
    assert read_labels(written(tmp_path, "l.txt", few)) == ("Egyptian cat", "n03126707 crane", "n00007846 person")


def test_hostile_text_is_read_or_refused_soon(tmp_path: Path) -> None:
    many = 50_000  # what a pattern tries for each pair of them would take an hour
    texts = ("item" + " " * many, "- a" + " " * many + "b", "a" + "\n" * many + "b", "'" + "\\" * many, "{" * many)
    for text in (*texts, "{'a':" * many, "item {" * many, "'a" * many, ", " * many):
        for name in ("l.txt", "l.yaml", "l.json", "l.csv"):
            path = written(tmp_path, name, f"names:\n{text}" if name == "l.yaml" else text)
            with contextlib.suppress(DataError):
                assert read_labels(path)[0] in ("item", "'a" * many)


def test_names_are_given_or_read(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("cat\ndog\n")
    for labels in (file, str(file), ("cat", "dog"), ["cat", "dog"], iter(("cat", "dog"))):
        assert labels_of(labels) == ("cat", "dog")
    assert (labels_of(None), labels_of(())) == (None, ())
    with pytest.raises(DataError):
        labels_of("cat")  # is a file's name, not three classes
