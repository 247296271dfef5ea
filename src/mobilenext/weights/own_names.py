"""The words that names of tensors are made of in the networks here: what tells them from the words of a wrapper."""

from __future__ import annotations

from collections.abc import Iterable

# What the networks call their own parts, after the first word of a name; everything else there is a number.
WORDS = (
    frozenset({"conv", "features", "_se_reduce", "_se_expand", "expand_layer", "project_layer"})
    | frozenset({"bn1", "bn2", "bn3", "bn4", "dwise_conv1", "dwise_conv2"})
    | frozenset({"conv1", "conv2", "fc"})  # of variants
    | frozenset({"_ops", "op", "preprocess0", "preprocess1", "conv_1", "conv_2", "bn", "classifier"})  # of cells
    | frozenset({"extras", "predictor", "cls_headers", "reg_headers"})
)
_FIRST_WORDS_SE = frozenset({"_conv_stem", "_bn0", "_blocks", "_bn1", "_fc"})
_FIRST_WORDS = frozenset({"features", "classifier"})
_FIRST_WORDS_DETECTOR = frozenset({"backbone", "box_head"})
_AUXILIARY = "auxiliary_head"  # of a network of cells
_FIRST_WORDS_CELLS = frozenset({"stem", "stem0", "stem1", "cells", _AUXILIARY, "classifier"})
CELL = "cells.0.preprocess1.op.1.weight"  # is in every network of cells
OF_A_DETECTOR = "box_head.predictor."  # stands in the names of a detector's heads, and in those of no classifier


def are_of_detector(names: Iterable[str]) -> bool:
    """Return whether a detector's heads are among the names: then `backbone` is part of its names, and no wrapper's."""
    return any(OF_A_DETECTOR in name for name in names)


def are_of_cells(names: Iterable[str]) -> bool:
    """Return whether a cell is among the names: then `features` and `classifier` may be those of its auxiliary head."""
    return any(name.endswith(CELL) for name in names)


def has_auxiliary(names: Iterable[str]) -> bool:
    """Return whether the auxiliary head of a network of cells is among the names."""
    return any(name.startswith(f"{_AUXILIARY}.") for name in names)


def own_name(name: str, *, of_detector: bool = False, of_cells: bool = False) -> tuple[str, str] | None:
    """Split a name into (prefix of wrappers, name that a network here may have); None if it has none of our words.

    The last word that a network's names begin with begins the name, so that the prefix may hold the same word.
    """
    words = name.split(".")
    # MobileNeXt-S/L have `features` inside their blocks, too.
    families: tuple[frozenset[str], ...] = (_FIRST_WORDS_SE, _FIRST_WORDS)
    if of_detector or of_cells:
        families = (_FIRST_WORDS_DETECTOR if of_detector else _FIRST_WORDS_CELLS,)
    for firsts in families:
        for position in range(len(words) - 1, -1, -1):
            inside = of_cells and position > 0 and words[position - 1] == _AUXILIARY
            if words[position] in firsts and not inside:
                rest = ".".join(words[position:])
                return name.removesuffix(rest), rest
    return None


def note_on_auxiliary(names: Iterable[str]) -> list[str]:
    """Return what becomes of the tensors of an auxiliary head; nothing where there are none."""
    count = sum(has_auxiliary([name]) for name in names)
    kept = "are kept in what is converted; a network for evaluation or export is built without it"
    return [f"the {count} tensors of the auxiliary head, which serves training only, {kept}"] if count else []
