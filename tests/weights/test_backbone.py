"""A classifier's weights as the backbone of a detector."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import paddle
import pytest
import safetensors.numpy

from mobilenext.errors import WeightsError
from mobilenext.models import build_network
from mobilenext.models.ssdlite import SSDLite
from mobilenext.weights.backbone import load_backbone_into
from mobilenext.weights.convert import convert_checkpoint
from mobilenext.weights.read import read_weights

SMALL = "ssdlite320_mobilenext_x0_35"


@pytest.fixture
def detector() -> SSDLite:
    paddle.seed(1)
    return build_network(SMALL, num_classes=3)


def state(detector: SSDLite) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in detector.state_dict().items()}


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {name for name in before if not np.array_equal(before[name], after[name])}


def test_weights_of_a_card(detector: SSDLite, caplog: pytest.LogCaptureFixture) -> None:
    """Tiny-ImageNet's 20 classes: 370 tensors of 74 convolutions and their batch norms, and two of the classifier."""
    before = state(detector)
    with caplog.at_level(logging.INFO, logger="mobilenext"):
        weights = load_backbone_into(detector, "mobilenext_x0_35.tiny20")
    after = state(detector)
    assert "370 tensors taken for the backbone, 2 tensors of the classifier left" in caplog.text
    taken = {name: tensor for name, tensor in weights.tensors.items() if not name.startswith("classifier.")}
    assert changed(before, after) == {f"backbone.{name}" for name in taken}
    assert all(np.array_equal(after[f"backbone.{name}"], tensor) for name, tensor in taken.items())


def test_a_tag_of_the_backbones_card_and_a_file_of_any_number_of_classes(detector: SSDLite, tmp_path: Path) -> None:
    network = build_network("mobilenext_x0_35", num_classes=7)
    path = tmp_path / "seven.safetensors"
    safetensors.numpy.save_file({name: tensor.numpy() for name, tensor in network.state_dict().items()}, path)
    assert load_backbone_into(detector, path).num_classes == 7
    assert np.array_equal(
        state(detector)["backbone.features.20.conv.5.weight"],
        network.state_dict()["features.20.conv.5.weight"].numpy(),
    )
    assert load_backbone_into(detector, "tiny20").num_classes == 20


def test_weights_of_the_same_detector_give_the_extras_too(
    detector: SSDLite, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = build_network(SMALL, num_classes=9, form="coco")
    safetensors.numpy.save_file(state(other), tmp_path / "bare.safetensors")
    before = state(detector)
    with caplog.at_level(logging.INFO, logger="mobilenext"):
        load_backbone_into(detector, tmp_path / "bare.safetensors")
    after = state(detector)
    assert "tensors of the heads left" in caplog.text
    assert all(np.array_equal(after[name], state(other)[name]) for name in after if name.startswith("backbone."))
    assert all(np.array_equal(after[name], before[name]) for name in after if name.startswith("box_head."))


def test_what_does_not_fit_is_refused_and_changes_nothing(detector: SSDLite, tmp_path: Path) -> None:
    before = state(detector)
    for name in ("mobilenext_x0_5", "mobilenetv2_x0_35", "ssdlite320_mobilenetv2_x0_35"):
        network = build_network(name, num_classes=3)
        safetensors.numpy.save_file(
            {name: tensor.numpy() for name, tensor in network.state_dict().items()}, tmp_path / "a.safetensors"
        )
        expected = f"holds {name}, which is no backbone of this detector; expected mobilenext_x0_35, of any number"
        with pytest.raises(WeightsError, match=expected):
            load_backbone_into(detector, tmp_path / "a.safetensors")
    convert_checkpoint(
        Path(__file__).parents[2] / "src/mobilenext/weights/bundled/mobilenext_x0_35.tiny20.safetensors",
        tmp_path / "half.safetensors", identity_divisor=2,
    )  # fmt: skip
    expected = r"was trained with identity divisor 2, this detector has 1; expected the same \(--identity-divisor\)"
    with pytest.raises(WeightsError, match=expected):
        load_backbone_into(detector, read_weights(tmp_path / "half.safetensors"))
    with pytest.raises(WeightsError, match="no such file"):
        load_backbone_into(detector, tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match=r"no such tag.*mobilenext_x0_35 has the tags digits, tiny20"):
        load_backbone_into(detector, "mobilenext_x0_35.in1k")
    assert changed(before, state(detector)) == set()
