"""Which of the sections of a checkpoint is used: raw or averaged weights, or the one that was asked for by its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mobilenext.errors import UsageError, WeightsError, nearest
from mobilenext.weights import naming, own_names
from mobilenext.weights.foreign.arrays import Array
from mobilenext.weights.foreign.paddle_files import STRUCTURED_NAMES
from mobilenext.weights.foreign.reading import ForeignFile
from mobilenext.weights.foreign.refusal import SAVE_STATE_DICT, shown
from mobilenext.weights.foreign.sections import Section, find_sections, mapping_at, text_of
from mobilenext.weights.naming import Recognized

_USES = ("auto", "raw", "ema")
_KNOWN_KEYS = ("state_dict", "state_dict_ema", "model")  # where to look for what is wrong with a file without tensors
_MOST_LISTED = 8
_PARALLEL = "module."  # what torch.nn.DataParallel puts before every name


@dataclass(frozen=True)
class StateDict:
    """The weights chosen from a file.

    Attributes:
        tensors: by name, in the file's order, without the words of wrappers.
        section: key path of the section, such as "state_dict" or "state_dict/student."; "" for the whole file.
        kind: "ema" for weights averaged over training, else "raw".
        notes: what was chosen, passed over, stripped or dropped, one sentence each.
        dropped: names of other tools' counters.
        recognized: the network whose names and shapes these are, or None.
    """

    tensors: dict[str, Array] = field(repr=False)
    section: str
    kind: str
    notes: tuple[str, ...]
    dropped: tuple[str, ...] = ()
    recognized: Recognized | None = field(default=None, repr=False)


def select_state_dict(file: ForeignFile, use: str = "auto", section: str | None = None) -> StateDict:
    """Return the state dict of a network, which may lie anywhere in `file`.

    Args:
        use: "raw" or "ema" (averaged) weights; "auto" takes the averaged ones where the file has them. Averaged are
            those whose key path says so (ema, swa, averaged, shadow, ...) or that have a counter `n_averaged`.
        section: look only there: a key path such as "model_ema" or "checkpoint/state_dict", also with the words before
            the names, such as "state_dict/student.".

    Words of wrappers before or between the names are stripped, counters of other tools and Paddle's table of parameter
    names are dropped; all is noted. BatchNorm's `num_batches_tracked` stays. Where nothing fits a network here, the
    largest state dict of the kind asked for is returned.

    Raises:
        UsageError: `use` is none of the three, there is no such section, or there are several to choose from.
        WeightsError: no state dict, none of the kind asked for, an empty one, an entry that is not a tensor, or a
            `module.` before some names only.
    """
    if use not in _USES:
        raise UsageError(f"use={use!r} is not one of {', '.join(_USES)}{nearest(use, _USES)}.")
    nameless: list[str] = []
    sections = list(find_sections(file, nameless))
    if not sections:
        raise WeightsError(_no_tensors(file, nameless))
    candidates = sections if section is None else _asked_for(file, section, sections)
    notes: list[str] = []
    fitting = _without_copies([candidate for candidate in candidates if candidate.recognized], notes)
    there = _listed(fitting or candidates)
    chosen = _of_kind(file, use, fitting or candidates, f"{there}{''.join(f'; {remark}' for remark in nameless)}")
    if chosen.recognized:
        _check_neighbors(file, chosen, sections, section)
    rest = [candidate for candidate in sections if candidate not in (*fitting, chosen)]
    others = [candidate for candidate in rest if _is_state_dict(candidate, chosen)]
    alien = [candidate for candidate in others if not candidate.recognized]
    left = [candidate for candidate in others if candidate.recognized and candidate not in candidates]
    if chosen.name or len(sections) > 1:
        averaged = ", the weights averaged over training" if chosen.averaged else ""
        notes.insert(0, f"Took {chosen.name or 'the tensors beside them'}{averaged} ({there}).")
    if alien:
        notes.append(f"Passed over {_described(alien[:_MOST_LISTED])}: no network here.")
    if left:
        notes.append(f"Passed over {_described(left[:_MOST_LISTED])}: not asked for.")
    notes += [f"Passed over {remark}." for remark in nameless]
    tensors = chosen.tensors if chosen.recognized else _strip_parallel(file, chosen.tensors, notes)
    notes += _notes_on_names(chosen)
    if STRUCTURED_NAMES in mapping_at(file.content, chosen.path):
        notes.append(f"Dropped {STRUCTURED_NAMES}, Paddle's table of parameter names.")
    kind = "ema" if chosen.averaged else "raw"
    return StateDict(tensors, chosen.name, kind, tuple(notes), chosen.counters, chosen.recognized)


def _asked_for(file: ForeignFile, text: str, sections: Sequence[Section]) -> list[Section]:
    """Return the sections that a key path means: itself, else what is below it, else a prefix of that name."""
    wanted = text.strip("/")
    word = wanted.rstrip(".")
    matches = (
        [section for section in sections if wanted in (section.full_name, section.full_name.rstrip(".") or ".")],
        [section for section in sections if section.path == wanted or f"{section.path}/".startswith(f"{wanted}/")],
        [
            section
            for section in sections
            if section.full_name.startswith((f"{word}.", f"{word}/")) or section.prefix == f"{word}."
        ],
    )
    for several in matches:
        if several and wanted:
            return several
    names = [section.full_name for section in sections]
    raise UsageError(f"{file.path}: there is no section {text!r}{nearest(text, names)}; {_listed(sections)}.")


def _of_kind(file: ForeignFile, use: str, candidates: Sequence[Section], there: str) -> Section:
    averaged = [section for section in candidates if section.averaged]
    raw = [section for section in candidates if not section.averaged]
    if use == "ema" and not averaged:
        raise WeightsError(
            f"{file.path}: averaged (ema) weights were asked for, and there is no state_dict_ema or other averaged "
            f"section in the file ({there}). Ask for use='raw' or 'auto'."
        )
    if use == "raw" and not raw:
        only = _described(averaged)
        raise WeightsError(
            f"{file.path}: raw weights were asked for, and there is only {only}. Ask for use='ema' or 'auto'."
        )
    pool = averaged if averaged and use != "raw" else raw
    if len(pool) > 1 and pool[0].recognized:
        raise UsageError(
            f"{file.path}: there are {len(pool)} sections of {'averaged' if pool is averaged else 'raw'} weights to "
            f"choose from: {_described(pool)}. Choose one with --section, such as "
            f"`--section {pool[0].full_name}`; `mobilenext convert` makes a file of it for verbs without that option."
        )
    return max(pool, key=lambda section: (any(map(own_names.own_name, section.tensors)), len(section.tensors)))


def _without_copies(fitting: list[Section], notes: list[str]) -> list[Section]:
    """Return one of the sections that are equal to the bit."""
    kept: list[Section] = []
    for section in fitting:
        same = next((other for other in kept if other.averaged == section.averaged and _equal(other, section)), None)
        if same is None:
            kept.append(section)
        else:
            notes.append(f"{section.name or 'The rest'} holds the same weights as {same.name or 'the rest'}.")
    return kept


def _equal(one: Section, other: Section) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        np.array_equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )


def _check_neighbors(file: ForeignFile, chosen: Section, sections: Sequence[Section], requested: str | None) -> None:
    """Raise UsageError for tensors beside a network's, unless the caller has chosen a section without them."""
    networks = {section.prefix for section in sections if section.path == chosen.path and section.recognized}
    unknown = {prefix: count for prefix, count in chosen.neighbors.items() if prefix not in networks}
    if not unknown or (requested is not None and not f"{chosen.path}/".startswith(f"{requested.strip('/')}/")):
        return
    known = ", ".join(section.describe() for section in sections if section.path == chosen.path and section.recognized)
    listed = ", ".join(
        f"{text_of(prefix) or 'no prefix'} ({count})" for prefix, count in [*unknown.items()][:_MOST_LISTED]
    )
    raise UsageError(
        f"{file.path}: {known} is not alone: other tensors stand beside it, under {listed}. If they are not part of "
        f"the network (a loss, a teacher), choose it with `--section {chosen.full_name}`."
    )


def _is_state_dict(section: Section, chosen: Section) -> bool:
    """Return whether it may be a network's: by its names, or by their number, since some tools write no dots."""
    named = any(name.rpartition(".")[2] in naming.LEAVES for name in section.tensors)
    return named or len(section.tensors) > len(chosen.tensors) / 2


def _described(sections: Sequence[Section]) -> str:
    return ", ".join(section.describe() for section in sections)


def _listed(sections: Sequence[Section]) -> str:
    if [section.name for section in sections] == [""]:
        return "no sections; the whole file is one state dict"
    more = f" and {len(sections) - _MOST_LISTED} more" if len(sections) > _MOST_LISTED else ""
    return f"sections with weights: {_described(sections[:_MOST_LISTED])}{more}"


def _notes_on_names(section: Section) -> list[str]:
    notes = []
    if section.prefix:
        notes.append(f"Stripped {section.prefix!r} from all {len(section.tensors)} names.")
    if section.words:
        notes.append(f"Stripped {', '.join(map(shown, section.words[:_MOST_LISTED]))} from the middle of names.")
    if section.counters:
        kinds = Counter(name.rpartition(".")[2] for name in section.counters)
        listed = ", ".join(f"{text_of(kind)} ({count})" for kind, count in kinds.most_common(_MOST_LISTED))
        notes.append(f"Dropped {len(section.counters)} counters of other tools, which are no weights: {listed}.")
    return notes


def _strip_parallel(file: ForeignFile, tensors: dict[str, Array], notes: list[str]) -> dict[str, Array]:
    """Return `tensors` of an unknown network without `module.` before the names. All or none have it."""
    prefixed = [name for name in tensors if name.startswith(_PARALLEL)]
    if not prefixed:
        return tensors
    if len(prefixed) != len(tensors):
        bare = next(name for name in tensors if not name.startswith(_PARALLEL))
        raise WeightsError(
            f"{file.path}: {len(prefixed)} of {len(tensors)} names begin with {_PARALLEL!r} and the rest do not "
            f"({shown(prefixed[0])}, {shown(bare)}), so two networks may be mixed. {SAVE_STATE_DICT}."
        )
    notes.append(f"Stripped {_PARALLEL!r} (torch.nn.DataParallel) from all {len(tensors)} names.")
    return {name.removeprefix(_PARALLEL): value for name, value in tensors.items()}


def _no_tensors(file: ForeignFile, nameless: Sequence[str]) -> str:
    """Return the problem of a file that has no names with tensors."""
    content = file.content
    if nameless or not isinstance(content, dict):
        remarks = f" ({'; '.join(nameless)})" if nameless else ""
        return f"{file.path}: holds {shown(content)}, not a state dict{remarks}. {SAVE_STATE_DICT}."
    section = next((name for name in _KNOWN_KEYS if isinstance(content.get(name), dict)), "")
    entries = content[section] if section else content
    where = f"{file.path}: {section or 'the file'}"
    if not entries:
        return f"{where} has no tensors at all. {SAVE_STATE_DICT}."
    name, value = next(iter(entries.items()))
    return (
        f"{where} is not a state dict: its entry {shown(name)} is {shown(value)}, not a tensor, and no other part of "
        f"the file maps names to tensors. {SAVE_STATE_DICT}."
    )
