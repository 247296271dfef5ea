"""Label files that are more than lines: JSON, Python's dicts and lists, YAML, label maps, tables with a header.

Each becomes entries of a class id, or None where the order of the names decides, and a name. Nothing is evaluated: of
Python, YAML and Protocol Buffers just the forms are read that hold class names.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections import Counter
from typing import Any, TypeAlias

Entry: TypeAlias = tuple[int | None, str]

# Where a record holds the names beside other things, in lower case: Hugging Face, Keras, YOLO, COCO, torchvision, timm,
# fastai, Detectron, VoTT, OpenMMLab, ours.
_FIELDS = (
    "id2label", "idx_to_class", "idx2label", "label2id", "class_to_idx", "class_indices", "label_names", "names",
    "class_names", "labels", "classes", "categories", "vocab", "thing_classes", "tags", "pretrained_cfg",
    "dataset_meta",
)  # fmt: skip
_ID_COLUMNS = (
    "id", "index", "idx", "class_id", "class_idx", "class_index", "label_id", "label_idx", "number", "", "label",
    "target", "class",
)  # fmt: skip
_NAME_COLUMNS = (
    "name", "class_name", "classname", "label_name", "display_name", "description", "words", "text", "class", "label",
    "names", "labels", "classes",
)  # fmt: skip

_STRING = r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\""
_PYTHON_TOKEN = re.compile(rf"\s*(?:({_STRING})|(-?\d{{1,9}})|([\[\](){{}}:,]))\s*(?:#[^\n]*\n\s*)*")
# classes = [...], const CLASSES = {...};
_ASSIGNED = re.compile(
    r"(?:(?:export|default|var|let|const)\s+)*"
    r"[A-Za-z_$][\w.$]{0,99}\s*(?::[\w\[\], ]{0,99})?=\s*(?=[\[{(])"
)
_XML = re.compile(r"<(?:\?xml|!)|<([A-Za-z][\w.-]{0,99})(?=[\s>])[^>]*>.*</\1>", re.DOTALL)
_MAP_ITEM = re.compile(r"\b(?:item|entry)\s*(?::\s*)?\{([^{}]*)\}")
_MAP_FIELD = re.compile(rf"(\w+)\s*:\s*({_STRING}|-?\d{{1,9}})")
_YAML_KEY = re.compile(r"([ ]{0,40})(?:names|labels|classes|class_names|label_list|id2label)\s*:")
_YAML_STRING = r"'(?:[^'\n]|'')*'|\"(?:[^\"\\\n]|\\.)*\""
_YAML_FLOW = rf"({_YAML_STRING}|[^\s,#'\"\[\]{{}}][^,#\[\]{{}}\n]*)\s*(?:,|(?=[\]}}]))"
_YAML_ITEM = re.compile(rf"\s*(){_YAML_FLOW}")
_YAML_KEYED = re.compile(rf"\s*['\"]?(\d{{1,6}})['\"]?\s*:\s+{_YAML_FLOW}")
_YAML_BLOCK = re.compile(rf"\s*(?:-|['\"]?(\d{{1,6}})['\"]?\s*:)\s+({_YAML_STRING}|[^'\"\[\]{{}}&*!|>\s].*)")


class LabelProblem(Exception):
    """What is wrong with a label file, to be shown after its name."""


def structured(file_name: str, text: str) -> list[Entry] | None:
    """Return the entries of a file in one of the forms of this module; None where it is lines of names."""
    try:
        return _structured(file_name, text)
    except RecursionError as error:
        raise LabelProblem("nested too deeply; expected a list of names, or an object of ids and names") from error


def _structured(file_name: str, text: str) -> list[Entry] | None:
    begin = text.lstrip()
    suffix = file_name.lower().rpartition(".")[2]
    if assigned := _ASSIGNED.match(begin):
        begin = begin[assigned.end() :].rstrip().removesuffix(";")
    if begin.startswith(("{", "[")) or assigned:
        return _from_value(_value(begin))
    if _XML.match(begin):
        raise LabelProblem("XML, which is not read for class names; expected a text with a name on each line, or JSON")
    if suffix in ("yaml", "yml"):
        return _from_yaml(text)
    if _MAP_ITEM.match(begin):
        return _from_label_map(text)
    if suffix == "json":
        raise LabelProblem("not JSON; expected a list of names, or an object of ids and names")
    return _from_table(suffix, text)


def _value(text: str) -> Any:
    """Return the JSON or the Python literal that is the text."""
    try:
        return json.loads(text, object_pairs_hook=_each_key_once)
    except ValueError as error:
        rewritten = _python_as_json(text)
        if rewritten is None:
            raise LabelProblem(f"neither JSON nor a Python dict or list of names: {error}") from error
    try:
        return json.loads(rewritten, object_pairs_hook=_each_key_once)
    except ValueError as error:
        raise LabelProblem("neither JSON nor a Python dict or list of names") from error


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise LabelProblem(f"{twice[:100]!r} stands there twice; expected each class once")
    return record


def _python_as_json(text: str) -> str | None:
    """Convert a Python literal of strings, integers, lists, tuples and dicts to JSON; None for anything else."""
    tokens: list[str] = []
    place = 0
    text = text.rstrip()
    while place < len(text):
        match = _PYTHON_TOKEN.match(text, place)
        if match is None:
            return None
        string, number, mark = match.groups()
        place = match.end()
        if string is not None:
            try:
                tokens.append(json.dumps(ast.literal_eval(string)))
            except (ValueError, SyntaxError):
                return None
        elif number is not None:
            tokens.append(str(int(number)))
        else:
            if mark in ")]}" and tokens[-1:] == [","]:
                tokens.pop()
            if mark == ":" and tokens and not tokens[-1].startswith('"'):
                tokens[-1] = f'"{tokens[-1]}"'  # JSON's keys are strings
            tokens.append({"(": "[", ")": "]"}.get(mark, mark))
    return "".join(tokens)


def _from_value(value: Any, depth: int = 0) -> list[Entry]:
    if isinstance(value, list):
        return _from_list(value)
    if isinstance(value, dict) and value:
        if all(_is_id(key) for key in value) and not all(_is_id(name) for name in value.values()):
            return [(int(key), _name(name)) for key, name in value.items()]
        if all(_is_id(number) for number in value.values()):
            return [(int(number), name) for name, number in value.items()]
        fields = {key.lower(): field for key, field in value.items() if field}
        field = next((field for field in _FIELDS if field in fields), None)
        if field is not None and depth < 2:
            return _from_value(fields[field], depth + 1)
    raise LabelProblem(
        "no class names in a form that is known; expected a list of names, or an object of ids and names, such as "
        '{"0": "tench"} or {"tench": 0}'
    )


def _from_list(values: list[Any]) -> list[Entry]:
    if not all(isinstance(value, dict) for value in values):
        return [(None, _name(value)) for value in values]
    entries: list[Entry] = []
    for value in values:  # COCO's categories, for one
        record = {key.lower(): field for key, field in value.items()}
        name = next((record[key] for key in _NAME_COLUMNS if isinstance(record.get(key), str)), None)
        number = next((record[key] for key in _ID_COLUMNS if _is_id(record.get(key))), None)
        if name is None:
            raise LabelProblem(f"a record without a name: {str(value)[:100]}; expected the fields id and name")
        entries.append((None if number is None else int(number), name))
    return entries


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii() and value.isdecimal() and len(value) < 7
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1_000_000


def _name(value: Any) -> str:
    """Return an entry from a name, or from Keras' pair of a WordNet id and a name."""
    if isinstance(value, dict):
        value = next((value[key] for key in _NAME_COLUMNS if isinstance(value.get(key), str)), value)
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return f"{value[0]} {', '.join(value[1:])}" if value[1:] else str(value[0])
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # YAML and JavaScript write the name "7" as a number
    if not isinstance(value, str):
        raise LabelProblem(f"{str(value)[:100]} where the name of a class was expected")
    return value


def _from_label_map(text: str) -> list[Entry]:
    """Parse TensorFlow's ``item { id: 1 name: 'x' }``."""
    entries: list[Entry] = []
    for match in _MAP_ITEM.finditer(text):
        fields = dict(_MAP_FIELD.findall(re.sub(r"(?m)^[ \t]*#.*$", "", match[1])))
        name = fields.get("display_name") or fields.get("name") or fields.get("target_class_string")
        number = fields.get("id") or fields.get("target_class")
        if name is None or number is None or not number.isdecimal():
            raise LabelProblem(f"an item without id or name: {' '.join(match[1].split())[:100]}")
        entries.append((int(number), str(ast.literal_eval(name)) if name[0] in "'\"" else name))
    return entries


def _from_yaml(text: str) -> list[Entry]:
    """Parse names in YOLO's ``data.yaml``, PaddleClas' ``inference.yml``: a list or a mapping, in a line or a block."""
    lines = text.split("\n")
    keys = [(number, match) for number, line in enumerate(lines) if (match := _YAML_KEY.match(line))]
    if len(keys) != 1:
        raise LabelProblem("expected YAML with one entry `names:`, a list or a mapping from class ids to names")
    number, key = keys[0]
    rest = lines[number][key.end() :].strip()
    if rest.startswith(("[", "{")):
        return _from_yaml_flow("\n".join([rest, *lines[number + 1 :]]))
    if rest and not rest.startswith("#"):
        raise LabelProblem(f"names: {rest[:100]} is no list of names")
    entries: list[Entry] = []
    for line in lines[number + 1 :]:
        content = line.lstrip()
        if not content or content.startswith("#"):
            continue
        indent = len(line) - len(content)
        if indent < len(key[1]) or (indent == len(key[1]) and not content.startswith("- ")):
            break
        match = _YAML_BLOCK.fullmatch(line.partition(" #")[0].rstrip())
        if match is None:
            raise LabelProblem(f"{line.strip()[:100]!r} is neither `- name` nor `id: name`")
        entries.append((None if match[1] is None else int(match[1]), _yaml_scalar(match[2])))
    return entries


def _from_yaml_flow(text: str) -> list[Entry]:
    entry = _YAML_KEYED if text[0] == "{" else _YAML_ITEM
    closing = re.compile(r"\s*[\]}]")
    entries: list[Entry] = []
    place = 1
    while not closing.match(text, place):
        match = entry.match(text, place)
        if match is None:
            raise LabelProblem(f"names: {text[:100]!r} is no list of names that can be read")
        entries.append((int(match[1]) if match[1] else None, _yaml_scalar(match[2])))
        place = match.end()
    return entries


def _yaml_scalar(text: str) -> str:
    text = text.strip()
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    return str(ast.literal_eval(text)) if text[0] == '"' else text


def _from_table(suffix: str, text: str) -> list[Entry] | None:
    """Return the entries of a table whose first line names its columns; None where it does not."""
    first = text.partition("\n")[0]
    separator = next((mark for mark in "\t;," if mark in first), None)
    if separator is None:
        if suffix != "csv" or first.strip().strip('"').lower() not in _NAME_COLUMNS:
            return None
        return [(None, line.strip().strip('"')) for line in text.split("\n")[1:] if line.strip()]
    header = [field.strip().strip("\"'").lower().replace(" ", "_") for field in first.split(separator)]
    header = ["" if field.startswith("unnamed:") else field for field in header]
    if not set(header).intersection(_ID_COLUMNS) or not set(header).intersection(_NAME_COLUMNS):
        return None
    try:
        rows = [row for row in csv.reader(text.split("\n")[1:], delimiter=separator) if any(row)]
    except csv.Error as error:
        raise LabelProblem(f"this table cannot be read: {error}") from error
    if not any(len(row) == len(header) for row in rows):
        return None  # names with commas in them, the first of which is like a header
    if uneven := next((row for row in rows if len(row) != len(header)), None):
        raise LabelProblem(
            f"{separator.join(uneven)[:100]!r} has {len(uneven)} fields; the first line has {len(header)}"
        )
    ids = {column for column in range(len(header)) if all(_is_id(row[column].strip()) for row in rows)}
    id_column = next((header.index(name) for name in _ID_COLUMNS if name in header and header.index(name) in ids), None)
    others = [name for name in _NAME_COLUMNS if name in header and header.index(name) != id_column]
    if id_column is None or not others:
        return None
    name_column = next(
        (header.index(name) for name in others if header.index(name) not in ids), header.index(others[0])
    )
    return [(int(row[id_column]), row[name_column]) for row in rows]
