"""What is known about weights beside their tensors."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mobilenext.models import build_network
from mobilenext.weights.convert import convert_checkpoint
from mobilenext.weights.load import load_weights
from mobilenext.weights.read import read_weights
from mobilenext.weights.record import names_of_classes
from mobilenext.weights.write import write_weights


def test_a_thousand_classes_without_names_are_imagenets(file: Path) -> None:
    own = read_weights(file).record()
    assert names_of_classes(own) == (own.labels, False)
    thousand = dataclasses.replace(own, num_classes=1000, labels=None)
    names, assumed = names_of_classes(thousand)
    assert assumed
    assert names is not None
    assert (names[0], names[954]) == ("tench, Tinca tinca", "banana")
    published = dataclasses.replace(thousand, card="mobilenext_x1_0.in1k")
    assert published.published is not None
    assert names_of_classes(published) == (names, False)
    assert names_of_classes(dataclasses.replace(thousand, task="brightness")) == (None, False)
    named = dataclasses.replace(thousand, labels=tuple(map(str, range(1000))))
    assert names_of_classes(named) == (named.labels, False)


def test_the_task_travels_with_the_weights_and_classification_is_not_written(file: Path, tmp_path: Path) -> None:
    weights = read_weights(file)
    assert weights.task is None
    assert "task" not in weights.metadata()
    assert dataclasses.replace(weights, task="classification").metadata() == weights.metadata()
    write_weights(dataclasses.replace(weights, task="brightness"), tmp_path / "b.safetensors")
    assert read_weights(tmp_path / "b.safetensors").task == "brightness"
    convert_checkpoint(tmp_path / "b.safetensors", tmp_path / "b.pdparams")  # its certificate has the metadata
    assert read_weights(tmp_path / "b.pdparams").record().task == "brightness"
    network = build_network("mobilenext_x0_35", num_classes=20)
    assert load_weights(network, tmp_path / "b.pdparams").task == "brightness"
