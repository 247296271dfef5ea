"""Where the weights of a network are in a checkpoint, whatever the trainer that wrote it.

A checkpoint is a tree of dicts and lists, and every mapping of names to tensors in it may hold a network, or several.
Wrappers put words before the names (`module.`, `_orig_mod.`, Lightning's `model.`) or between them (FSDP's
`_fsdp_wrapped_module`). No list of such words is kept: a network's own names are known, and what stands around them in
all names of a section is a wrapper's.

    tree -> mappings -> sections (one prefix each) -> which network's names and shapes each has
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from mobilenext.errors import WeightsError
from mobilenext.weights import naming, own_names
from mobilenext.weights.foreign.arrays import Array
from mobilenext.weights.foreign.reading import ForeignFile
from mobilenext.weights.foreign.refusal import SAVE_STATE_DICT, shown
from mobilenext.weights.naming import Recognized

_DEEPEST = 8
_MOST_SECTIONS = 16  # that may be compared with the networks, each of which has to be built
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # ModelEMA, model_ema and model.ema have the same two
_AVERAGED = re.compile(
    r"(model|net|weights?|state|params?)*(ema|swa|avg|averaged?|averaging|shadow|moving|polyak|meanteacher)"
    r"(model|net|weights?|state|params?|dict)*"
)
_OF_AN_OPTIMIZER = re.compile(r"(^|[_/])(optim|optimizers?|schedulers?|scalers?)([_/]|$)", re.IGNORECASE)
_COUNTED = re.compile(
    r"(^|_)(ops|flops|macs|params|counters?|counts?|calls|averaged|updates?|steps?|iterations?|iters?|epochs?|decay"
    r"|initted|seen)(_|$)"
)


@dataclass(frozen=True, eq=False)
class Section:
    """The tensors of one mapping whose names have one prefix."""

    path: str  # keys of the mapping, with slashes between them
    prefix: str  # what stands before all names
    tensors: dict[str, Array] = field(repr=False)  # by their own names
    averaged: bool
    counters: tuple[str, ...] = ()
    words: tuple[str, ...] = ()  # of wrappers, taken out of the middle of names
    neighbors: Mapping[str, int] = field(default_factory=dict)  # how many other tensors the mapping has, by prefix
    recognized: Recognized | None = None

    @property
    def full_name(self) -> str:
        return "/".join(part for part in (self.path, self.prefix) if part) or "."

    @property
    def name(self) -> str:
        """The key path, with the prefix where the mapping has more than one."""
        return self.full_name if self.neighbors else self.path

    def describe(self) -> str:
        what = f"{len(self.tensors)} tensors" if self.recognized is None else self.recognized.model
        return f"{self.name or 'the whole file'} ({'averaged' if self.averaged else 'raw'}, {what})"


def find_sections(file: ForeignFile, nameless: list[str]) -> Iterator[Section]:
    """Yield every section with tensors, but those of an optimizer; lists of tensors without names go to `nameless`."""
    compared = 0
    for path, entries in _mappings(file.content, "", 0):
        if isinstance(entries, list):
            if not _OF_AN_OPTIMIZER.search(path):
                nameless.append(f"{path or 'the file'}, {len(entries)} tensors without names, which fit nothing")
            continue
        tensors = {
            name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, np.ndarray)
        }
        for section in _divided(path, tensors):
            if any(map(own_names.own_name, section.tensors)):
                compared += 1
                if compared > _MOST_SECTIONS:
                    raise WeightsError(f"{file.path}: more than {_MOST_SECTIONS} networks. {SAVE_STATE_DICT}.")
                yield _recognized(section)
            elif not _OF_AN_OPTIMIZER.search(path):
                yield section


def _mappings(tree: Any, path: str, depth: int) -> Iterator[tuple[str, dict[Any, Any] | list[Array]]]:
    """Yield every dict that holds tensors, and every list of nothing but tensors, with its key path."""
    if depth > _DEEPEST or not isinstance(tree, dict | list | tuple):
        return
    entries = tree if isinstance(tree, dict) else dict(enumerate(tree))
    arrays = [value for value in entries.values() if isinstance(value, np.ndarray)]
    if isinstance(tree, dict) and arrays:
        yield path, tree
    elif len(arrays) == len(entries) > 1 and max(array.ndim for array in arrays) > 1:
        yield path, arrays
    for key, value in entries.items():
        yield from _mappings(value, f"{path}/{text_of(key)}" if path else text_of(key), depth + 1)


def mapping_at(tree: Any, path: str) -> Any:
    return next((entries for where, entries in _mappings(tree, "", 0) if where == path), ())


def text_of(key: object) -> str:
    """Return a key as it stands in a key path; it may hold anything, control characters too."""
    return shown(key)[1:-1] if isinstance(key, str) else shown(key)


def _divided(path: str, tensors: dict[str, Array]) -> list[Section]:
    """Return the sections of one mapping: one for each prefix before names that a network here may have."""
    counters = [name for name, tensor in tensors.items() if _is_counter(name, tensor)]
    groups: dict[str, dict[str, str]] = {}  # prefix -> name in the file -> name without the prefix
    outside: list[str] = []
    of_detector, of_cells = own_names.are_of_detector(tensors), own_names.are_of_cells(tensors)
    for name in tensors.keys() - set(counters) if counters else tensors:
        split = own_names.own_name(name, of_detector=of_detector, of_cells=of_cells)
        if split is None:
            outside.append(name)
        else:
            groups.setdefault(split[0], {})[name] = split[1]
    if not groups:
        return [Section(path, "", tensors, _says_averaged(path))] if tensors else []
    strangers: Counter[str] = Counter()
    for name in outside:
        prefixes = [prefix for prefix in groups if name.startswith(prefix)]
        if prefixes:  # whatever else stands under a network's prefix would have to be the network's
            prefix = max(prefixes, key=len)
            groups[prefix][name] = name.removeprefix(prefix)
        else:
            strangers[name.partition(".")[0] + "." if "." in name else name] += 1
    sections = []
    for prefix, names in groups.items():
        own, words = _without_wrappers(names)
        order = [name for name in tensors if name in own]
        beside = {other: len(members) for other, members in groups.items() if other != prefix} | strangers
        mine = [name for name in counters if name.startswith(prefix) or len(groups) == 1]
        updated = any(
            _owner(name) == "" or prefix.startswith(_owner(name)) for name in counters if _counts_averages(name)
        )
        sections.append(
            Section(
                path,
                prefix,
                {own[name]: tensors[name] for name in order},
                updated or _says_averaged(f"{path}/{prefix}"),
                tuple(name.removeprefix(prefix) for name in mine),
                words,
                beside,
            )
        )
    return sections


def _owner(name: str) -> str:
    """Return `swa.` of `swa.n_averaged`."""
    return name[: name.rfind(".") + 1]


def _counts_averages(name: str) -> bool:
    return name.rpartition(".")[2] == "n_averaged"


def _is_counter(name: str, tensor: Array) -> bool:
    """Return whether a tool counted with this number: no network learns a whole number or has a `total_ops`."""
    leaf = name.rpartition(".")[2]
    if tensor.size != 1 or leaf in naming.LEAVES:
        return False
    return tensor.dtype.kind in "biu" or _COUNTED.search(leaf.strip("_").lower()) is not None


def _says_averaged(path: str) -> bool:
    words = [word.lower() for word in _WORD.findall(path)]
    teacher = ("mean", "teacher") in pairwise(words)
    return teacher or any(_AVERAGED.fullmatch(word) for word in words)


def _without_wrappers(names: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return each name without the words that no network here has in the middle of one, and those words.

    As they are where the parts of one module would come from under two paths: that is no wrapper.
    """
    own: dict[str, str] = {}
    words: dict[str, None] = {}
    paths: dict[str, str] = {}
    for name, rest in names.items():
        first, *middle = rest.split(".")[:-1] or [""]
        kept = [word for word in middle if word.isdecimal() or word in own_names.WORDS]
        words |= dict.fromkeys(word for word in middle if word not in kept)
        module = ".".join([first, *kept])
        if paths.setdefault(module, _owner(rest)) != _owner(rest):
            return dict(names), ()
        own[name] = f"{module}.{rest.rpartition('.')[2]}" if first else rest
    return own, tuple(words)


def _recognized(section: Section) -> Section:
    try:
        network = naming.recognize({name: tensor.shape for name, tensor in section.tensors.items()})
    except WeightsError:
        return section
    return replace(section, recognized=network)
