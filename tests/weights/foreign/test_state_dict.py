"""The weights of a network in the checkpoints of other trainers: found, told apart, and named as they were written.

The layouts are those that the trainers document or write; the tensors have the names and shapes of recorded networks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilenext.errors import UsageError, WeightsError
from mobilenext.models import build_network
from mobilenext.models.cards import paper_models
from mobilenext.weights import naming, own_names
from mobilenext.weights.foreign.reading import ForeignFile
from mobilenext.weights.foreign.state_dict import StateDict, select_state_dict

GOLDENS = Path(__file__).parents[2] / "goldens"
SMALL = "mobilenext_x0.35_20classes_64px"


def network(value: float = 0.0, recording: str = SMALL) -> dict[str, np.ndarray]:
    keys = json.loads((GOLDENS / f"{recording}.json").read_text())["keys"]
    return {
        name: np.zeros((), np.int64) if name.endswith("tracked") else np.broadcast_to(np.float32(value), shape)
        for name, shape in keys
    }


RAW, AVERAGED = network(1), network(2)
RESNET = {"conv1.weight": np.zeros((64, 3, 7, 7)), "layer1.0.bn1.running_mean": np.zeros(64), "fc.bias": np.zeros(9)}


def with_prefix(prefix: str, tensors: dict[str, Any] = RAW) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def select(content: Any, use: str = "auto", section: str | None = None) -> StateDict:
    return select_state_dict(ForeignFile(Path("w.pth"), "pytorch-zip", content, {}, "0" * 64, 1), use, section)


def value_of(state: StateDict) -> float:
    assert state.recognized is not None
    assert state.tensors.keys() == RAW.keys()
    return float(state.tensors["classifier.1.bias"][0])


# --- Words around names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.", "backbone.", "Student."),
        *("_fsdp_wrapped_module.", "_forward_module.", "ema_model.module.", "student.backbone.", "_layers.", "0."),
        *("features.", "classifier.", "my own Wrapper-2.x.y.z."),
    ],
)
def test_any_prefix_is_stripped_and_said(prefix: str) -> None:
    state = select({"state_dict": with_prefix(prefix)})
    assert value_of(state) == 1
    assert f"Stripped {prefix!r} from all 446 names." in state.notes


@pytest.mark.parametrize("recording", ["mobilenext_s", "mobilenext_l_ghost", "mobilenetv2_x0.35"])
def test_the_prefixes_of_other_families(recording: str) -> None:
    tensors = network(1, recording)
    state = select(with_prefix("features.module.", tensors))
    assert state.recognized is not None
    assert state.tensors.keys() == tensors.keys()


def test_words_in_the_middle_of_names() -> None:
    """torch.compile of parts, activation checkpointing, and FSDP that wraps some modules."""
    names = {
        "features.0.": "features.0._orig_mod.",
        "features.1.conv.": "features.1._checkpoint_wrapped_module.conv.",
        "features.2.": "_fsdp_wrapped_module.features.2._fsdp_wrapped_module._checkpoint_wrapped_module.",
    }
    changed = {}
    for name, tensor in RAW.items():
        before = next((part for part in names if name.startswith(part)), "")
        changed[(names[before] if before else "") + name.removeprefix(before)] = tensor
    fsdp = {name if name.startswith("_fsdp") else f"_fsdp_wrapped_module.{name}": t for name, t in changed.items()}
    state = select({"model": fsdp})
    assert value_of(state) == 1
    assert list(state.tensors) == list(RAW)
    (note,) = (note for note in state.notes if "middle" in note)
    for word in ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"):
        assert word in note


def test_two_tensors_never_become_one() -> None:
    """What reads like a wrapper around one part of a module only is another network's."""
    tensors = dict(RAW)
    tensors["features.0.extra.1.weight"] = tensors.pop("features.0.1.weight")
    assert select(tensors).recognized is None
    assert select(RAW | {"features.0.lora.0.weight": np.zeros((16, 3, 3, 3))}).recognized is None
    assert select(RAW | {"features.0.0.parametrizations.weight.original": np.zeros(3)}).recognized is None


def test_a_prefix_before_some_names_only() -> None:
    tensors = {name if name.startswith("classifier") else f"module.{name}": t for name, t in RAW.items()}
    assert select(tensors | {"x": np.zeros(3)}).recognized is None


@pytest.mark.parametrize("model", paper_models())
def test_the_words_that_are_known_are_those_of_the_networks(model: str) -> None:
    for entry in naming.entries_of(build_network(model, num_classes=2)):
        for name in (entry.paddle_name, entry.pytorch_name):
            assert own_names.own_name(f"features.classifier.{name}") == ("features.classifier.", name)
            first, *middle, leaf = name.split(".")
            assert leaf in naming.LEAVES
            assert all(word.isdecimal() or word in own_names.WORDS for word in middle)
            assert own_names.own_name(f"{first}.weight") is not None


# --- Sections ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "section"),
    [
        (
            {"model_state_dict": RAW, "optimizer_state_dict": {"state": {0: {"exp_avg": np.zeros(3)}}}},
            "model_state_dict",
        ),
        ({"net": RAW, "epoch": 3}, "net"),
        ({"weights": RAW}, "weights"),
        ({"params": {"backbone": RAW}}, "params/backbone"),
        ([3, RAW], "1"),
        (({"model": {"state": RAW}}, {"lr": 0.1}), "0/model/state"),
        ({"checkpoint": {"state_dict": with_prefix("module.")}}, "checkpoint/state_dict"),
        ({"state_dict": with_prefix("model.") | {"model.n_updates": np.zeros((), np.int64)}}, "state_dict"),
    ],
)
def test_weights_under_any_key(content: Any, section: str) -> None:
    state = select(content)
    assert (value_of(state), state.kind, state.section) == (1, "raw", section)


@pytest.mark.parametrize(
    ("content", "section"),
    [
        ({"model": RAW, "model_ema": with_prefix("module.", AVERAGED) | {"n_averaged": np.array(5)}}, "model_ema"),
        ({"state_dict": RAW, "state_dict_ema": AVERAGED}, "state_dict_ema"),
        ({"model": RAW, "ema": {"decay": 0.99, "module": AVERAGED}}, "ema/module"),
        ({"state_dict": RAW, "swa_state_dict": AVERAGED}, "swa_state_dict"),
        ({"state_dict": RAW, "callbacks": {"Averaging": {"average_model_state": AVERAGED}}}, None),
        ({"net": RAW, "averaged_model": AVERAGED}, "averaged_model"),
        ({"net": RAW, "netEMA": AVERAGED}, "netEMA"),
        ({"net": RAW, "polyak": {"shadow": AVERAGED}}, "polyak/shadow"),
        ({"student": RAW, "mean_teacher": AVERAGED}, "mean_teacher"),
        (with_prefix("online_model.") | with_prefix("ema_model.", AVERAGED) | {"step": np.zeros(1)}, "ema_model."),
        ({"state_dict": with_prefix("model.") | with_prefix("ema.module.", AVERAGED)}, "state_dict/ema.module."),
        ({"a": RAW, "b": {"n_averaged": np.array(5)} | with_prefix("module.", AVERAGED)}, "b"),
        ({"w": with_prefix("a.") | with_prefix("b.module.", AVERAGED) | {"b.n_averaged": np.array(5)}}, "w/b.module."),
    ],
)  # fmt: skip
def test_averaged_weights_are_found(content: Any, section: str | None) -> None:
    state = select(content)
    assert (value_of(state), state.kind) == (2, "ema")
    if section is not None:
        assert state.section == section
    assert any("raw" in note and "averaged" in note for note in state.notes)  # both are listed
    assert value_of(select(content, "ema")) == 2
    raw = select(content, "raw")
    assert (value_of(raw), raw.kind) == (1, "raw")
    assert value_of(select(content, "auto", state.section)) == 2
    assert value_of(select(content, "auto", raw.section)) == 1


@pytest.mark.parametrize("key", ["schema", "remarks", "average_pool_net", "email", "teacher"])
def test_other_words_are_not_of_averages(key: str) -> None:
    assert select({key: RAW}).kind == ("ema" if key == "average_pool_net" else "raw")


def test_several_to_choose_from() -> None:
    content = {"ema_0.99": AVERAGED, "ema_0.9999": network(3), "last": RAW, "best": network(4)}
    for use, names in (("auto", ["ema_0.99", "ema_0.9999"]), ("ema", ["ema_0.99"]), ("raw", ["last", "best"])):
        with pytest.raises(UsageError, match="--section") as caught:
            select(content, use)
        assert all(name in str(caught.value) for name in names)
    assert value_of(select(content, "auto", "best")) == 4
    assert value_of(select(content, "ema", "ema_0.9999")) == 3
    with pytest.raises(WeightsError, match="averaged"):
        select(content, "ema", "best")


def test_copies_are_one() -> None:
    state = select({"state_dict": RAW, "best": dict(RAW)})
    assert state.section == "state_dict"
    assert "best holds the same weights as state_dict." in state.notes
    assert not any("Passed over" in note for note in state.notes)


def test_student_and_teacher() -> None:
    content = {"state_dict": with_prefix("Student.") | with_prefix("Teacher.", network(5))}
    with pytest.raises(UsageError) as caught:
        select(content)
    assert "state_dict/Student." in str(caught.value)
    assert "state_dict/Teacher." in str(caught.value)
    for text in ("state_dict/Teacher.", "state_dict/Teacher", "Teacher.", "Teacher"):
        assert value_of(select(content, "auto", text)) == 5


def test_other_tensors_beside_a_network() -> None:
    beside = with_prefix("teacher.", RESNET) | {"criterion.weight": np.zeros(20)}
    content = {"epoch": 3, "state_dict": with_prefix("model.") | beside}
    for section in (None, "state_dict"):
        with pytest.raises(UsageError) as caught:
            select(content, "auto", section)
        message = str(caught.value)
        assert "state_dict/model. (raw, mobilenext_x0_35)" in message
        assert "teacher. (3)" in message
        assert "criterion. (1)" in message
        assert "--section state_dict/model." in message
    state = select(content, "auto", "state_dict/model.")
    assert (value_of(state), state.section) == (1, "state_dict/model.")


def test_what_stands_under_the_networks_own_prefix_has_to_be_its_own() -> None:
    assert select(with_prefix("module.", RAW | {"extra.weight": np.zeros((2, 3))})).recognized is None


def test_a_section_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"no section 'modelema'; did you mean 'model_ema'\?.*model \(raw") as caught:
        select({"model": RAW, "model_ema": AVERAGED}, "auto", "modelema")
    assert "model_ema (averaged" in str(caught.value)
    with pytest.raises(UsageError, match="no section ''"):
        select({"model": RAW}, "auto", "")


def test_what_is_passed_over_is_said() -> None:
    state = select({"model": RAW, "teacher": RESNET, "ema": {"shadow_params": [np.zeros((2, 2)), np.zeros(3)]}})
    assert any("Passed over teacher (raw, 3 tensors): no network here." in note for note in state.notes)
    assert any("ema/shadow_params, 2 tensors without names" in note for note in state.notes)
    with pytest.raises(WeightsError, match="ema/shadow_params, 2 tensors without names"):
        select({"model": RAW, "ema": {"shadow_params": [np.zeros((2, 2)), np.zeros(3)]}}, "ema")
    with pytest.raises(WeightsError, match="2 tensors without names"):
        select([np.zeros((2, 2)), np.zeros(3)])


def test_networks_that_nobody_asked_for_are_called_so() -> None:
    state = select({"model": RAW, "ema": AVERAGED, "swa": network(3)}, "auto", "swa")
    (note,) = (note for note in state.notes if "Passed over" in note)
    assert "model (raw, mobilenext_x0_35), ema (averaged, mobilenext_x0_35): not asked for." in note


def test_names_without_dots_are_not_passed_over_in_silence() -> None:
    state = select({"model": RAW, "ema_params": {name.replace(".", ""): tensor for name, tensor in AVERAGED.items()}})
    assert any("Passed over ema_params (averaged," in note for note in state.notes)


def test_averaged_weights_alone_have_a_name_in_messages() -> None:
    content = with_prefix("module.") | {"n_averaged": np.array(5)}
    with pytest.raises(WeightsError, match=r"only the whole file \(averaged, mobilenext_x0_35\)"):
        select(content, "raw")


def test_keys_are_shown_escaped() -> None:
    with pytest.raises(UsageError) as caught:
        select({"a\x1b[2J": RAW, "b": AVERAGED})
    assert "\x1b" not in str(caught.value)


def test_very_many_networks() -> None:
    with pytest.raises(WeightsError, match="more than 16 networks"):
        select({str(number): {"features.0.weight": np.zeros(3)} for number in range(17)})


# --- Counters ---------------------------------------------------------------------------------------------------------


def test_counters_of_other_tools_are_dropped_and_said() -> None:
    owners = sorted({name.rpartition(".")[0] for name in RAW})
    left = {f"{owner}.total_ops": np.zeros(1) for owner in owners} | {f"{o}.total_params": np.zeros(1) for o in owners}
    left |= {"total_ops": np.zeros((1,), np.int64), "n_updates": np.zeros((), np.int32), "__flops__": np.zeros(())}
    left |= {"features.0.observer_enabled": np.zeros(1, np.uint8), "features.0.frozen": np.array(True)}
    state = select({"state_dict": with_prefix("model.", RAW | left)})
    assert value_of(state) == 1
    assert sorted(state.dropped) == sorted(left)
    (note,) = (note for note in state.notes if "counters" in note)
    assert f"Dropped {len(left)} counters" in note
    assert f"total_ops ({len(owners) + 1}), total_params ({len(owners)})" in note


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("features.0.alpha", np.zeros(1, np.float32)),  # a learnt scale
        ("features.0.total_ops", np.zeros(2)),
        ("features.0.0.bias", np.zeros(1, np.int64)),
        ("scale.weight", np.zeros(())),
    ],
)
def test_what_may_be_a_parameter_is_no_counter(name: str, tensor: np.ndarray) -> None:
    assert select(RAW | {name: tensor}).recognized is None
