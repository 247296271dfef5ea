"""Every flag of a verb reaches the call that the verb makes."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from mobilenext.cli.program import VERBS, parser

CALLS = {
    "convert": "mobilenext.weights.convert.convert_checkpoint",
    "evaluate": "mobilenext.evaluation.run.evaluate",
    "predict": "mobilenext.evaluation.prediction.predict",
    "explain": "mobilenext.explanation.pictures.explain",
    "diagram": "mobilenext.explanation.diagram.write_diagram",
    "train": "mobilenext.training.run.train",
    "export": "mobilenext.exporting.export_model",
    "quantize": "mobilenext.quantization.quantize.quantize_model",
    "bench": "mobilenext.evaluation.bench.bench",
    "check-data": "mobilenext.checking.check_data",
}
PREPROCESSING = {"image_size", "crop_pct", "interpolation", "mean", "std"}
FIELDS_OF_A_RECIPE = {"train": ("form", "prior_sizes")}  # flags that are settings of the recipe
# The keyword of the call, where it is not the name of the flag.
RENAMED = {
    "check-data": {"no_decode": "decode"},
    "bench": {
        "model": "models", "runtime": "runtimes", "batch_size": "batch_sizes", "identity_divisor": "identity_divisors",
    },
}  # fmt: skip


class Called(Exception):
    """The call that a verb has made."""


def actions(verb: str) -> list[argparse.Action]:
    command = argparse.ArgumentParser()
    VERBS[verb].declare(command)
    return [action for action in command._actions if action.dest != "help"]


def words_of(action: argparse.Action) -> list[str]:
    """A value that differs from the default, on the command line."""
    option = action.option_strings[-1:]
    if action.nargs == 0:
        return option
    if action.choices:
        value = next(choice for choice in action.choices if choice != action.default)
    else:
        value = "7" if action.type else "value"
    return [*option, *([value] * (action.nargs if isinstance(action.nargs, int) else 1))]


@pytest.mark.parametrize("verb", CALLS)
def test_every_flag_reaches_the_call(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*positional: Any, **keywords: Any) -> None:
        raise Called(positional, keywords)

    monkeypatch.setattr(CALLS[verb], call)
    monkeypatch.setattr("mobilenext.weights.pretrained.source_of", lambda text: text)
    monkeypatch.setattr("mobilenext.data.labels.read_labels", lambda path: path)
    monkeypatch.setattr("mobilenext.report.bench_report.write_bench", lambda *_: [])
    flags = [action for action in actions(verb) if action.dest not in ("json", "csv", "output")]
    words = [verb, *(word for action in flags for word in words_of(action))]
    required = [action for action in actions(verb) if action.dest == "output" and action.required]
    options = parser().parse_args([*words, *(["-o", "folder"] if required else [])])
    with pytest.raises(Called) as caught:
        VERBS[verb].run(options)
    positional, keywords = caught.value.args
    preprocessing = keywords.get("preprocessing", {})
    for action in flags:
        value, name = getattr(options, action.dest), RENAMED.get(verb, {}).get(action.dest, action.dest)
        if action.dest in PREPROCESSING and preprocessing:
            assert preprocessing[action.dest] == (tuple(value) if isinstance(value, list) else value)
        elif not action.option_strings:
            assert value in positional
        elif name in FIELDS_OF_A_RECIPE.get(verb, ()):
            assert f"{name}={value}" in keywords["settings"]
        elif name == "settings":
            assert keywords[name][: len(value)] == value
        else:
            assert keywords[name] == (not value if name == "decode" else value), name
