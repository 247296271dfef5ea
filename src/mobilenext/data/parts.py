"""The parts of a data set (training, validation, test): by which words folders and lists are known, and where they are.

A part's name is one of its words, in any case, alone or with words and numbers that say nothing more (``Train``,
``train_images``, ``val2017``, ``测试集``), or with a word that several parts share (``seg_train`` and ``seg_test``).

A class may be called like a part: folders named by part words beside others that hold images are classes, unless they
hold class folders themselves.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from mobilenext.data.listing import holds_images, is_leftover_name, visible_folders
from mobilenext.errors import DatasetError

IMAGES_FOLDER = "imgs"  # holds the images of a list: never a class
PARTS = ("train", "val", "test")
_WORDS = {
    "train": """
        train training trn tr trainval 训练 训练集 訓練 訓練集 学習 훈련 학습
        trainingsdaten entrainement entraînement apprentissage entrenamiento treino treinamento addestramento обучение
    """,
    "val": """
        val valid validation validate validating dev devel development eval evaluation
        验证 验证集 校验集 驗證 驗證集 検証 검증
        validierung validierungsdaten validacion validación validacao validação validazione валидация
    """,
    "test": """
        test testing tst te ts holdout heldout 测试 测试集 測試 測試集 テスト 테스트 시험
        testdaten prueba pruebas teste тест
    """,
}
_PART_OF_WORD = {word: part for part, words in _WORDS.items() for word in words.split()}
_NO_MEANING = "images image imgs img data dataset set split folder part list labels label files file annotations"
_FILLERS = _NO_MEANING.split()
_GLUED = re.compile(  # trainset, imagestrain, valdata
    rf"(?:{'|'.join(_FILLERS)})?({'|'.join(word for word in _PART_OF_WORD if len(word) > 2)})(?:{'|'.join(_FILLERS)})?"
)
_LIST_SUFFIXES = frozenset({".txt", ".csv", ".tsv", ".lst"})
_PROBED = 10  # folders that are looked into for parts
_DEEPEST = 4  # single folders that a download may be wrapped in


def part_of(name: str) -> str | None:
    """Return ``train``, ``val`` or ``test`` if the name of a folder or list is a word for it, else None."""
    part, rest = _part_and_rest(name)
    return None if rest else part


def is_filler(name: str) -> bool:
    """Return whether a folder's name, such as ``images``, says nothing about what is in it."""
    return set(re.split(r"[\W\d_]+", name.casefold())) - {""} <= set(_FILLERS) and not name.isdecimal()


def _part_and_rest(name: str) -> tuple[str | None, str]:
    """Return the part that a word of the name stands for, and the words that say something else."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = text.replace("hold-out", "holdout").replace("hold_out", "holdout").replace("held-out", "heldout")
    parts, rest = [], []
    for token in re.split(r"[\W\d_]+", text):
        glued = _GLUED.fullmatch(token)
        if token in _PART_OF_WORD:
            parts.append(_PART_OF_WORD[token])
        elif glued:
            parts.append(_PART_OF_WORD[glued[1]])
        elif token and token not in _FILLERS:
            rest.append(token)
    if len(parts) == 2 and set(parts) == {"train", "val"}:  # train_val, which is what one trains on
        parts = ["train"]
    return (parts[0], " ".join(rest)) if len(parts) == 1 else (None, "")


@dataclass(frozen=True)
class Layout:
    """What the folders of a data set are."""

    folder: Path  # the data set's, or the one that a download wraps in it
    parts: dict[str, Path] = field(default_factory=dict)  # part: its folder, which holds a folder for each class
    classes: bool = False  # the folders in `folder` are classes
    notes: tuple[str, ...] = ()


def find_layout(root: Path) -> Layout:
    """Find out whether the folders in `root` are parts or classes, or neither.

    Raises:
        DatasetError: two folders for one part, or folders that could be parts as well as classes.
    """
    layout = _layout_of(root)
    folder = root
    for _ in range(_DEEPEST):
        name = None if layout.parts else _only_folder(folder)
        if name is None or holds_images(folder, deep=False) or _lists_below(folder):
            break
        inner = _layout_of(folder / name)
        if layout.classes and not (inner.parts or inner.classes) and _only_folder(folder / name) is None:
            break  # a class, beside others without images
        folder, layout = folder / name, inner
    if folder != root and (layout.parts or layout.classes):
        note = f"the data set lies in {folder.relative_to(root).as_posix()}/"
        return Layout(folder, layout.parts, layout.classes, (note, *layout.notes))
    return layout if folder == root else Layout(root)


def _only_folder(folder: Path) -> str | None:
    """Return the only folder in `folder`, or the only one with images: annotations often lie beside the images."""
    subfolders = visible_folders(folder)
    if len(subfolders) < 2:
        return subfolders[0] if subfolders else None
    with_images = list(islice((name for name in subfolders if holds_images(folder / name)), 2))
    return with_images[0] if len(with_images) == 1 else None


def _layout_of(folder: Path) -> Layout:
    subfolders = visible_folders(folder)
    named = _folders_by_part(subfolders)
    nested = {
        part: [name for name in names if visible_folders(folder / name)]
        for part, names in named.items()
    }  # fmt: skip
    nested = {part: names for part, names in nested.items() if names}
    words = [name for names in named.values() for name in names]
    others = [name for name in subfolders if name not in words]
    if nested and not ("val" in nested or len(nested) > 1):
        beside = [name for name in others if not is_filler(name) and holds_images(folder / name)]
        if beside:
            name = next(iter(nested.values()))[0]
            raise DatasetError(
                f"{folder}: {name}/ holds folders, as a part of a data set does, and {beside[0]}/ beside it is no "
                f"part: are these parts or classes? Rename {name}/, move {beside[0]}/ elsewhere, or write a list file"
            )
    if nested:
        return Layout(folder, _one_folder_a_part(folder, nested), False)
    flat_parts = [name for name in words if holds_images(folder / name)]
    # One folder of images is far more often a flat data set than one with a single class.
    if len(subfolders) < 2 or not others or IMAGES_FOLDER in subfolders or _lists_below(folder):
        return Layout(folder)
    _refuse_inner_parts(folder, subfolders)
    if not flat_parts:
        return Layout(folder, {}, not words)
    with_images = [name for name in others if holds_images(folder / name)]
    if not with_images:
        return Layout(folder)
    names = ", ".join(f"{name}/" for name in flat_parts)
    one = len(flat_parts) == 1
    note = (
        f"{names} {'is a class' if one else 'are classes'} here, as {with_images[0]}/ beside {'it' if one else 'them'} "
        "is, and no part of the data set"
    )
    return Layout(folder, {}, True, (note,))


def _refuse_inner_parts(folder: Path, subfolders: list[str]) -> None:
    """Raise DatasetError where folders that could be classes hold nothing but parts: several data sets, for one."""
    for name in subfolders[:_PROBED]:
        inner = visible_folders(folder / name)
        if inner and all(map(part_of, inner)):
            raise DatasetError(
                f"{folder}: {name}/ holds {', '.join(f'{part}/' for part in inner)} and so is no class; name one data "
                f"set, such as {folder / name}, or put the folders of the classes into those of the parts"
            )


def _lists_below(folder: Path) -> bool:
    """Return whether folders in `folder` are data sets with lists."""
    return any((folder / name / f"{part}_list.txt").exists() for name in visible_folders(folder) for part in PARTS)


def _folders_by_part(names: list[str]) -> dict[str, list[str]]:
    """Return the names that stand for each part: by its words alone, or with another word that two parts share."""
    split = {name: _part_and_rest(name) for name in names}
    parts_of_rest: dict[str, set[str]] = defaultdict(set)
    for part, rest in split.values():
        if part:
            parts_of_rest[rest].add(part)
    by_part: dict[str, list[str]] = defaultdict(list)
    for name, (part, rest) in split.items():
        if part and (not rest or len(parts_of_rest[rest]) > 1):
            by_part[part].append(name)
    return by_part


def _one_folder_a_part(folder: Path, nested: dict[str, list[str]]) -> dict[str, Path]:
    parts = {}
    for part, names in nested.items():
        if len(names) > 1:
            raise DatasetError(
                f"{folder}: both {names[0]}/ and {names[1]}/ are named as the {part} part; expected one of them: "
                "rename the other, or move it elsewhere"
            )
        parts[part] = folder / names[0]
        inner = visible_folders(parts[part])
        if len(inner) == 1 and inner[0] == names[0] and visible_folders(parts[part] / inner[0]):
            parts[part] = parts[part] / inner[0]  # train/train/<class>, as some archives have it
    return parts


def find_list(folder: Path, part: str) -> Path | None:
    """Return the list of a part in `folder`: ``val_list.txt``, else one with a word for the part, as ``valid.csv``.

    Raises:
        DatasetError: several such lists.
    """
    if (folder / f"{part}_list.txt").exists():
        return folder / f"{part}_list.txt"
    lists = [path for path in other_lists(folder) if part_of(path.stem) == part]
    if len(lists) > 1:
        raise DatasetError(
            f"{folder}: both {lists[0].name} and {lists[1].name} are named as the list of the {part} part; name the "
            f"one to read by --list or --{'val' if part == 'test' else part}-list"
        )
    return lists[0] if lists else None


def other_lists(folder: Path) -> list[Path]:
    """Return files that a word for a part and the suffix of a text or a table name as lists, sorted."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _LIST_SUFFIXES
        and part_of(path.stem)
        and not is_leftover_name(path.name)
        and path.is_file()
    )
