from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from mobilenext.export.folding import fold_batch_norms
from mobilenext.models import FORMS, build_network
from mobilenext.models.cards import paper_models
from mobilenext.models.cell import CellNetwork
from mobilenext.models.genotype import GENOTYPES
from mobilenext.weights.load import network_of
from mobilenext.weights.pretrained import BUNDLED
from mobilenext.weights.read import read_weights
from networks import give_statistics, logits

USED_BATCH_NORMS = {"mobilenext_s": 71, "mobilenext_l": 103, "mobilenext_l_ghost": 103}


ONE_OF_EACH_KIND = ("mobilenext_x0_35", "mobilenext_l_ghost", "mobilenetv2_x0_35")


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(name, marks=() if name in ONE_OF_EACH_KIND else pytest.mark.long)
        for name in paper_models()
        if name not in ("mobilenext_x1_4", "mobilenetv2_x1_4")
    ],
)
def test_folding_is_exact(model: str) -> None:
    """In float64 nothing is left but rounding, so the algebra is right for every layer."""
    paddle.seed(0)
    network = build_network(model, num_classes=10)
    give_statistics(network)
    network.to(dtype="float64")
    network.eval()
    batch = np.random.default_rng(0).standard_normal((2, 3, 32, 32))
    before = logits(network, batch)
    merged = fold_batch_norms(network)
    after = logits(network, batch)
    # The sums are kept in the network's own type, float64 here.
    assert np.abs(after - before).max() <= 1e-9 * before.std()
    norms = [layer for layer in network.sublayers() if isinstance(layer, nn.BatchNorm2D)]
    left = 1 if model in USED_BATCH_NORMS else 0  # the checkpoints' _bn1, which no tensor passes
    assert len(norms) == left
    if model in USED_BATCH_NORMS:
        assert merged == USED_BATCH_NORMS[model]


@pytest.mark.parametrize("form", ["cifar", "imagenet"])
def test_a_network_of_cells(form: str) -> None:
    """A reduction without a pool has one batch norm behind two convolutions."""
    paddle.seed(0)
    network = CellNetwork(GENOTYPES["darts_v1"], form, channels=4, cells=3, num_classes=10)
    give_statistics(network)
    network.to(dtype="float64")
    network.eval()
    batch = np.random.default_rng(0).standard_normal((2, 3, 32, 32))
    before = logits(network, batch)
    norms = sum(isinstance(layer, nn.BatchNorm2D) for layer in network.sublayers())
    assert fold_batch_norms(network) == norms
    assert not any(isinstance(layer, nn.BatchNorm2D) for layer in network.sublayers())
    assert np.abs(logits(network, batch) - before).max() <= 1e-9 * before.std()


def test_trained_weights_keep_their_logits() -> None:
    """Of a really trained network in float32: within 1e-5."""
    weights = read_weights(BUNDLED / "mobilenext_x0_35.digits.safetensors")
    network = network_of(weights)
    batch = np.random.default_rng(0).standard_normal((4, 3, 64, 64), dtype=np.float32)
    before = logits(network, batch)
    assert fold_batch_norms(network) == 74
    assert np.abs(logits(network, batch) - before).max() <= 1e-5 * max(1, np.abs(before).max())
    assert fold_batch_norms(network) == 0, "none is left to fold"


def test_a_convolution_with_a_bias(tmp_path: Path) -> None:
    paddle.seed(0)
    network = nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4, epsilon=0.1), nn.ReLU(), nn.BatchNorm2D(4))
    give_statistics(network)
    network.eval()
    batch = np.random.default_rng(0).standard_normal((2, 3, 8, 8), dtype=np.float32)
    before = logits(network, batch)
    assert fold_batch_norms(network) == 1, "the second batch norm follows no convolution"
    assert isinstance(network[3], nn.BatchNorm2D)
    np.testing.assert_allclose(logits(network, batch), before, atol=1e-5)


@pytest.mark.parametrize("backbone", ["mobilenext", pytest.param("mobilenetv2", marks=pytest.mark.long)])
def test_a_detector(backbone: str) -> None:
    """Its heads begin with a depthwise convolution that has a bias, and it takes images of one size only."""
    paddle.seed(0)
    network = build_network(f"ssdlite320_{backbone}_x0_35", num_classes=2, form=FORMS["voc"].replace(image_size=224))
    give_statistics(network)
    network.to(dtype="float64")
    network.eval()
    images = paddle.to_tensor(np.random.default_rng(0).standard_normal((1, 3, 224, 224)))
    with paddle.no_grad():
        before = network(images)
        norms = sum(isinstance(layer, nn.BatchNorm2D) for layer in network.sublayers())
        assert fold_batch_norms(network) == norms
        for folded, expected in zip(network(images), before, strict=True):
            assert float((folded - expected).abs().max()) <= 1e-9 * float(expected.std())
