"""Class folders to the classes of a network by their names, never by their place alone where both sides have names.

A folder belongs to the class whose name it has. Where no class has it, these count as the same, one after the other, if
they tell one folder and one class from all others:

    the Unicode form                        WordNet ids: n01440764 is "tench, Tinca tinca", by ImageNet's list
    case, spaces, underscores, hyphens      the first of several words: tench is "tench, Tinca tinca"; then the others

Folders that are called 0, 1, 2, ... belong to the classes of these numbers, where the names are no numbers.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from mobilenext.data.class_folders import check_class_folders
from mobilenext.data.labels import WORDNET_ID, imagenet_labels, imagenet_wordnet_ids
from mobilenext.data.records import LabelledDataset
from mobilenext.errors import DatasetError

SHOWN = 10
_LEADING_WORDNET_ID = re.compile(rf"({WORDNET_ID.pattern})(?:[\s_\-,:]+(.*))?")


@dataclasses.dataclass(frozen=True)
class Matches:
    """Which class each folder belongs to."""

    class_of: Mapping[str, int]  # of the folders that belong to a class
    unknown: tuple[str, ...]  # folders of no class, or of one that is another folder's or not the only one
    notes: tuple[str, ...]  # where a folder and its class are not written alike


def match_names(folders: Sequence[str], names: Sequence[str]) -> Matches:
    """Find the class of each folder by the names of the classes 0, 1, 2, ..."""
    classes = [_keys(name, wordnet_id) for name, wordnet_id in zip(names, _wordnet_ids(names), strict=True)]
    wanted = [_keys(folder, _wordnet_id(folder)) for folder in folders]
    class_of: dict[str, int] = {}
    for level in range(len(wanted[0]) if wanted else 0):
        owners: dict[str, set[int]] = {}
        for number, keys in enumerate(classes):
            for key in keys[level]:
                owners.setdefault(key, set()).add(number)
        taken = set(class_of.values())
        candidates: dict[str, int] = {}
        for folder, keys in zip(folders, wanted, strict=True):
            numbers = set().union(*(owners.get(key, ()) for key in keys[level]))
            if folder not in class_of and len(numbers) == 1 and not numbers & taken:
                candidates[folder] = numbers.pop()
        count = Counter(candidates.values())
        class_of |= {folder: number for folder, number in candidates.items() if count[number] == 1}
    unknown = tuple(folder for folder in folders if folder not in class_of)
    if not class_of and folders and all(map(_is_number, folders)) and not any(map(_is_number, names)):
        return _by_number(folders, len(names))
    other = [
        folder
        for folder in folders
        if folder in class_of
        and _nfc(folder) not in (_nfc(names[class_of[folder]]), _short(_nfc(names[class_of[folder]])))
        and not WORDNET_ID.fullmatch(folder)
    ]
    notes = [f"{folder} is the class {_short(names[class_of[folder]])}" for folder in other[:3]]
    if other:
        are = "names of classes are" if len(other) > 1 else "name of a class is"
        shown = f"{', '.join(notes)}{_more(other, 3)}"
        notes = [f"{len(other)} {are} not written in the data as in the list of classes: {shown}"]
    return Matches(class_of, unknown, tuple(notes))


def with_classes(
    dataset: LabelledDataset,
    num_classes: int,
    names: Sequence[str] | None,
    *,
    owner: str = "the network",
    assumed: bool = False,
) -> LabelledDataset:
    """Return the data set with the labels that its classes' names have among `names`; a list of numbers stays as it is.

    Args:
        dataset: its class folders, or a list's names, are labelled by their place and not checked.
        names: of the classes 0, 1, 2, ...; without them the folders count by their place, and must be as many.
        owner: whose classes they are, for messages.
        assumed: the names may be wrong: folders that are not all known count by their place.

    Raises:
        DatasetError: a folder that is called like no class, or like two; without names, other folders than classes.
    """
    matches = match_names(dataset.class_names or (), names or ())
    if dataset.class_names is None or not names or (matches.unknown and assumed):
        check_class_folders(dataset, num_classes)
        return dataset
    of_no_image = [name for name in matches.unknown if name in dataset.empty]
    if len(of_no_image) < len(matches.unknown):
        raise DatasetError(_unknown_classes(dataset, matches, names, owner))
    records = tuple(
        dataclasses.replace(record, label=matches.class_of[dataset.class_names[record.label]])
        for record in dataset.records
    )
    notes = (*dataset.notes, *matches.notes)
    if of_no_image:
        shown = ", ".join(f"{name}/" for name in of_no_image[:SHOWN])
        notes += (f"{len(of_no_image)} empty folders are no classes of {owner} and are ignored: {shown}",)
    return dataclasses.replace(dataset, records=records, class_names=tuple(names), notes=notes, empty=())


def classes_without_images(labels: Iterable[int], num_classes: int, names: Sequence[str] | None) -> str | None:
    """Return a sentence on the classes that do not occur; None where all do."""
    missing = sorted(set(range(num_classes)) - set(labels))
    if not missing:
        return None
    shown = ", ".join(_short(names[number]) if names else str(number) for number in missing[:SHOWN])
    return f"{len(missing):,} of {num_classes:,} classes have no image: {shown}{_more(missing)}"


def _unknown_classes(dataset: LabelledDataset, matches: Matches, names: Sequence[str], owner: str) -> str:
    unknown, known = matches.unknown, set(matches.class_of.values())
    rest = [name for number, name in enumerate(names) if number not in known]
    what, source, mark = ("class folders", dataset.root, "/")
    if dataset.list_file is not None:
        what, source, mark = ("class names", dataset.list_file, "")
    shown = ", ".join(f"{folder}{mark}" for folder in unknown[:SHOWN])
    return (
        f"{source}: {len(unknown):,} of {len(dataset.class_names or ()):,} {what} are none of the "
        f"{len(names):,} classes of {owner}: {shown}{_more(unknown)}. "
        + (f"Its classes without images: {', '.join(map(_short, rest[:SHOWN]))}{_more(rest)}. " if rest else "")
        + "Labels go by name: rename these or leave them out, or write a list file with numbers for labels"
    )


def _by_number(folders: Sequence[str], num_classes: int) -> Matches:
    """Match folders called by numbers with the numbers of classes that have names."""
    numbers = {folder: int(folder) for folder in folders}
    notes: tuple[str, ...] = ("the data call classes by numbers, which are taken for the numbers of the classes",)
    if sorted(numbers.values()) == list(range(1, num_classes + 1)):
        numbers = {folder: number - 1 for folder, number in numbers.items()}
        notes = (f"the data call classes 1 to {num_classes}, which are taken for the classes 0 to {num_classes - 1}",)
    count = Counter(numbers.values())
    class_of = {folder: n for folder, n in numbers.items() if n < num_classes and count[n] == 1}
    return Matches(class_of, tuple(folder for folder in folders if folder not in class_of), notes)


def _keys(name: str, wordnet_id: str | None) -> list[set[str]]:
    """Return the keys of a name, from the strictest to the loosest."""
    match = _LEADING_WORDNET_ID.fullmatch(name)
    words = {match[2] or "" if match else name, _words_of().get(wordnet_id or "", "")} - {""}
    number = {str(int(name))} if _is_number(name) else set()
    ids = {wordnet_id} if wordnet_id else set()
    return [
        {_nfc(name)},
        ids,
        {_folded(name)},
        {_folded(text) for text in words},
        {_folded(text.partition(",")[0]) for text in words},
        {_folded(word) for text in words for word in text.split(",")} - {""},
        number,
    ]


def _wordnet_ids(names: Sequence[str]) -> list[str | None]:
    """Return the WordNet id of each class, where its name begins with one or is one of ImageNet's."""
    ids = imagenet_wordnet_ids()
    if len(names) == len(ids):
        # In ImageNet's order the place tells even the two that are called crane.
        first_words = [_first_word(name) for name in names]
        same = sum(a == _first_word(b) for a, b in zip(first_words, imagenet_labels(), strict=True))
        if same >= 0.9 * len(ids):
            return list(ids)
    return [_wordnet_id(name) for name in names]


def _wordnet_id(name: str) -> str | None:
    match = _LEADING_WORDNET_ID.fullmatch(name)
    return match[1] if match else _id_of_words().get(_folded(name))


@cache
def _words_of() -> dict[str, str]:
    return dict(zip(imagenet_wordnet_ids(), imagenet_labels(), strict=True))


@cache
def _id_of_words() -> dict[str, str]:
    """Return ImageNet's classes by all of their words, and by the first, where only one class has it."""
    pairs = [
        (key, wordnet_id) for wordnet_id, words in _words_of().items() for key in {_folded(words), _first_word(words)}
    ]
    count = Counter(key for key, _ in pairs)
    return {key: wordnet_id for key, wordnet_id in pairs if count[key] == 1}


def _first_word(name: str) -> str:
    match = _LEADING_WORDNET_ID.fullmatch(name)
    return _folded((match[2] or "" if match else name).partition(",")[0])


def _short(name: str) -> str:
    """Return the first of several words for a class."""
    return name.partition(",")[0]


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    """Return the name without what systems and programs change in it."""
    return re.sub(r"[\s_\-/\\]+", " ", _nfc(name).casefold()).strip()


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < 10


def _more(items: Sequence[object], shown: int = SHOWN) -> str:
    return ", ..." if len(items) > shown else ""
