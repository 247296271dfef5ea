"""Class folders and the classes of a network, put together by their names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from mobilenext.data import Dataset, open_dataset
from mobilenext.data.class_names import classes_without_images, match_names, with_classes
from mobilenext.data.labels import imagenet_labels
from mobilenext.errors import DatasetError

PETS = ("cat", "German shepherd", "guinea_pig", "Bär")


def folders(root: Path, *names: str, empty: tuple[str, ...] = ()) -> Dataset:
    for name in names:
        (root / name).mkdir(parents=True)
        if name not in empty:
            Image.new("RGB", (2, 2)).save(root / name / "a.png")
    return open_dataset(root, check_classes=False)


def labels(dataset: Dataset) -> dict[str, int]:
    return {record.path.parent.name: record.label for record in dataset.records}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(PETS, {"cat": 0, "German shepherd": 1, "guinea_pig": 2, "Bär": 3}, id="the same"),
        pytest.param(("Cat", "german_shepherd"), {"Cat": 0, "german_shepherd": 1}, id="case and underscores"),
        pytest.param((unicodedata.normalize("NFD", "Bär"), "guinea pig"),
                     {unicodedata.normalize("NFD", "Bär"): 3, "guinea pig": 2}, id="Unicode forms"),
        pytest.param(("alsatian",), {"alsatian": 1}, id="another word for it"),
        pytest.param(("0", "3"), {"0": 0, "3": 3}, id="numbers"),
        pytest.param(("01", "02"), {"01": 1, "02": 2}, id="padded numbers"),
        pytest.param(("1", "2", "3", "4"), {"1": 0, "2": 1, "3": 2, "4": 3}, id="numbers from 1"),
    ],
)  # fmt: skip
def test_a_folder_belongs_to_the_class_of_its_name(names: tuple[str, ...], expected: dict[str, int]) -> None:
    matches = match_names(names, PETS)

    assert (dict(matches.class_of), matches.unknown) == (expected, ())
    assert bool(matches.notes) == (not {unicodedata.normalize("NFC", n) for n in names} <= set(PETS))


@pytest.mark.parametrize(
    ("names", "classes", "unknown"),
    [
        pytest.param(("cat", "zz"), PETS, ("zz",), id="no such class"),
        pytest.param(("cat", "Cat"), PETS, ("Cat",), id="two folders of one class"),
        pytest.param(("CAT", "Cat"), PETS, ("CAT", "Cat"), id="two folders as near"),
        pytest.param(("cat",), ("cat", "cat"), ("cat",), id="two classes of one name"),
        pytest.param(("a_b",), ("a b", "a-b"), ("a_b",), id="two classes as near"),
        pytest.param(("0", "9"), PETS, ("9",), id="a number too large"),
        pytest.param(("0", "1"), ("10", "20"), ("0", "1"), id="names that are other numbers"),
    ],
)
def test_a_folder_that_tells_no_single_class_is_of_none(
    names: tuple[str, ...], classes: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    assert match_names(names, classes).unknown == unknown


def test_imagenets_folders_are_found_by_their_wordnet_ids() -> None:
    ids = ("n03126707", "n02012849", "n02123045")  # two cranes and the tabby, by classes that the field knows
    by_id = dict(zip(ids, (517, 134, 281), strict=True))

    assert match_names(ids, imagenet_labels()).class_of == by_id
    renamed = [name.partition(",")[0].replace(" ", "_") for name in imagenet_labels()]  # as Keras has them
    assert match_names(ids, renamed).class_of == by_id
    assert match_names(("tench", "goldfish", "banana"), imagenet_labels()).class_of == {
        "tench": 0, "goldfish": 1, "banana": 954,
    }  # fmt: skip
    # Some of its classes, in an order of their own; and weights that call them by the ids.
    few = ("banana", "tabby, tabby cat", "n03126707 crane")
    assert match_names(("n07753592", "n02123045", "n03126707"), few).class_of == {
        "n07753592": 0, "n02123045": 1, "n03126707": 2,
    }  # fmt: skip
    assert match_names(("banana", "tabby cat"), ("n02123045", "n07753592")).class_of == {"banana": 1, "tabby cat": 0}


def test_labels_go_by_name_and_not_by_place(tmp_path: Path) -> None:
    data = with_classes(folders(tmp_path, "ape", "bee", "cow"), 4, ("cow", "dog", "ape", "bee"))

    assert labels(data) == {"cow": 0, "ape": 2, "bee": 3}
    assert data.class_names == ("cow", "dog", "ape", "bee")
    assert classes_without_images((record.label for record in data.records), 4, data.class_names) == (
        "1 of 4 classes have no image: dog"
    )


def test_an_empty_folder_counts_where_its_class_is_known(tmp_path: Path) -> None:
    data = folders(tmp_path, "ape", "bee", "cow", empty=("bee",))

    assert labels(with_classes(data, 3, ("ape", "bee", "cow"))) == {"ape": 0, "cow": 2}
    with pytest.raises(DatasetError, match="bee/: a class folder without images"):
        with_classes(data, 3, None)


def test_an_empty_folder_of_no_class_is_ignored_and_said(tmp_path: Path) -> None:
    data = with_classes(folders(tmp_path, "New folder", "ape", "bee", empty=("New folder",)), 2, ("ape", "bee"))

    assert labels(data) == {"ape": 0, "bee": 1}
    assert "ignored: New folder/" in data.notes[-1]


def test_classes_only_in_the_data_are_listed(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as error:
        with_classes(folders(tmp_path, "ape", "bee", "zz"), 3, ("ape", "bee", "cow"))
    assert "1 of 3 class folders are none of the 3 classes of the network: zz/" in str(error.value)
    assert "Its classes without images: cow" in str(error.value)


def test_assumed_names_leave_unknown_folders_their_places(tmp_path: Path) -> None:
    data = folders(tmp_path, "ape", "bee")

    assert labels(with_classes(data, 2, ("tench", "bee"), assumed=True)) == {"ape": 0, "bee": 1}
    with pytest.raises(DatasetError, match=r"2 class folders; expected 1,000"):
        with_classes(data, 1000, imagenet_labels(), assumed=True)


def test_labels_that_are_in_order_leave_the_digest(tmp_path: Path) -> None:
    data = folders(tmp_path, "ape", "bee")

    assert with_classes(data, 2, ("ape", "bee")).digest() == open_dataset(tmp_path).digest()
    assert with_classes(data, 2, ("bee", "ape")).digest() != data.digest()


def test_the_names_of_a_list_go_by_name(tmp_path: Path) -> None:
    folders(tmp_path, "x", "y")
    (tmp_path / "val_list.txt").write_text("x/a.png,cow\ny/a.png,ape\n")
    data = open_dataset(tmp_path, num_classes=3, check_classes=False)

    assert [record.label for record in with_classes(data, 3, ("bee", "cow", "ape")).records] == [1, 2]
    with pytest.raises(DatasetError, match=r"val_list.txt: 1 of 2 class names are none of the 2 classes .*: cow\."):
        with_classes(data, 2, ("bee", "ape"))
    with pytest.raises(DatasetError, match="2 class names; expected 3"):
        open_dataset(tmp_path, num_classes=3)


def test_the_note_on_names_speaks_of_names() -> None:
    (note,) = match_names(["Cat", "guinea pig", "Bär"], PETS).notes
    assert note == (
        "2 names of classes are not written in the data as in the list of classes: Cat is the class cat, guinea pig is "
        "the class guinea_pig"
    )
    assert match_names(["0", "1"], PETS).notes[0].startswith("the data call classes by numbers")
