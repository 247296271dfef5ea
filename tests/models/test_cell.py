"""Networks of cells, beside what the authors' PyTorch code computes (tests/goldens/search)."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
import paddle
import pytest

import mobilenext
from cell_recordings import formula_maps, keys_of, recorded, recorded_keys, set_formula_weights
from mobilenext.errors import UsageError
from mobilenext.models import MODELS, build_network
from mobilenext.models.cards import CELLS
from mobilenext.models.cell import CellNetwork
from mobilenext.models.cell_auxiliary import auxiliary_fits
from mobilenext.models.counting import count
from mobilenext.models.genotype import GENOTYPES, Genotype
from mobilenext.models.network import Tap

pytestmark = pytest.mark.filterwarnings("ignore:When training, we now always track")  # Paddle's batch norm, of itself

DISCRETE, ARRAYS = recorded("discrete")
V2 = GENOTYPES["darts_v2"]
SKIPS = Genotype([("skip_connect", 0), ("skip_connect", 1)] * 4, [("max_pool_3x3", 0), ("max_pool_3x3", 1)] * 4)


def small_network(form: str, genotype: str, dtype: str = "float32") -> tuple[CellNetwork, paddle.Tensor]:
    """The network of a recording, and its images."""
    settings = DISCRETE[f"{form}_small"]["settings"]
    network = CellNetwork(
        GENOTYPES[genotype.lower()], form, settings["C"], settings["layers"], settings["classes"], auxiliary=True
    )
    set_formula_weights(network)
    images = formula_maps(settings["input"], settings["batch"], 3, settings["size"], settings["size"])
    return network.to(dtype=dtype), paddle.to_tensor(images.astype(dtype))


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-6), ("float32", 1e-3)])
@pytest.mark.parametrize(("form", "genotype"), [("cifar", "DARTS_V1"), ("cifar", "DARTS_V2"), ("imagenet", "DARTS_V2")])
def test_logits(form: str, genotype: str, dtype: str, bound: float) -> None:
    network, images = small_network(form, genotype, dtype)
    network.eval()
    with paddle.no_grad():
        logits = {"eval": network(images)}
        network.train()
        logits["train"], logits["auxiliary"] = network(images)
    for mode, values in logits.items():
        expected = ARRAYS[f"{form}_{genotype}_{mode}"]
        assert np.abs(values.numpy() - expected).max() <= bound * np.abs(expected).max(), mode


def test_names_and_shapes_are_those_of_the_authors_in_order() -> None:
    assert keys_of(small_network("cifar", "DARTS_V2")[0]) == recorded_keys("discrete")
    names = [name for name, _ in keys_of(small_network("imagenet", "DARTS_V2")[0])]
    assert names[0] == "stem0.0.weight"
    assert "stem0.4.running_var" in names
    assert "stem1.2.running_mean" in names
    assert not any(name.startswith("auxiliary_head.features.6") for name in names)
    counters = sum(name.endswith("running_mean") for name in names)
    assert len(names) + counters == DISCRETE["imagenet_small"]["DARTS_V2"]["n_state_keys"]


@pytest.mark.parametrize(
    "row", DISCRETE["sizes"], ids=lambda row: f"{row['genotype']}-{row['network']}-{row['channels']}"
)
def test_published_sizes(row: dict[str, Any]) -> None:
    arguments = {name: row[name] for name in ("channels", "cells")} | {"num_classes": row["classes"]}
    network = CellNetwork(GENOTYPES[row["genotype"].lower()], row["network"], **arguments, auxiliary=True)
    size = count(network, row["size"])
    head = sum(int(tensor.size) for tensor in network.auxiliary_head.parameters() if not tensor.stop_gradient)
    assert head == row["params_auxiliary"]
    assert (size.parameters - head, size.mult_adds) == (row["params"], row["madds"])
    named = f"{row['genotype'].lower()}_{row['network']}"
    if row["channels"] > 16 and named in MODELS:
        card = MODELS[named]
        assert (card.parameters, card.mult_adds) == (row["params"], row["madds"])
        assert card.mult_adds_with_bn == size.mult_adds_with_bn


def test_named_networks() -> None:
    network = mobilenext.create_model("pc_darts_cifar")  # ten classes
    card = MODELS["pc_darts_cifar"]
    size = count(network, card.image_size)
    assert dataclasses.astuple(size) == (card.parameters, card.mult_adds, card.mult_adds_with_bn)
    assert (card.parameters, network.num_classes, card.image_size) == (3_634_678, 10, 32)
    assert network.genotype == GENOTYPES["pc_darts_cifar"]
    assert network.auxiliary_head is None
    assert {name: card.published_error for name, card in MODELS.items() if card.family == CELLS} == {
        "darts_v1_cifar": "3.00 % on CIFAR-10",
        "darts_v2_cifar": "2.76 ± 0.09 % on CIFAR-10",
        "pc_darts_cifar": "2.57 % on CIFAR-10",
        "darts_v2_imagenet": "26.7 % top-1, 8.7 % top-5 on ImageNet",
    }
    imagenet = MODELS["darts_v2_imagenet"]
    assert (imagenet.num_classes, imagenet.image_size) == (1000, 224)
    with pytest.raises(UsageError, match="mobilenext_x0_35 has no auxiliary head"):
        build_network("mobilenext_x0_35", auxiliary=True)


@pytest.mark.parametrize(("form", "replaced"), [("cifar", 3), ("cifar", 5), ("imagenet", 1)])
def test_sizes_with_sandglasses(form: str, replaced: int) -> None:
    rows = recorded("sandglass_proposal")[0]["sizes"]["rows"]
    (row,) = (
        row
        for row in rows
        if row["network"] == form and row["first_sep_conv_3x3_of_the_normal_cell_replaced"] == replaced
    )
    normal, left = [], replaced
    for operator, source in V2.normal:
        swap = operator == "sep_conv_3x3" and left > 0
        left -= swap
        normal.append(("sandglass_3x3" if swap else operator, source))
    classes, size = {"cifar": (10, 32), "imagenet": (1000, 224)}[form]
    network = CellNetwork(Genotype(normal, V2.reduce), form, row["channels"], row["cells"], classes)
    counted = count(network, size)
    assert (counted.parameters, counted.mult_adds) == (row["params"], row["madds"])


def test_drop_path_drops_images_and_never_an_identity() -> None:
    paddle.seed(0)
    cell = CellNetwork(Genotype([("skip_connect", 0), ("max_pool_3x3", 1)] * 4, SKIPS.reduce), "cifar", 2, 3).cells[0]
    cell.preprocess0 = cell.preprocess1 = paddle.nn.Identity()
    cell.drop_path = 0.25
    x = paddle.ones([4000, 2, 1, 1])
    nodes = cell((x, x))[0].numpy().reshape(4000, 4, 2)  # each node is x + dropped(max(x))
    assert np.array_equal(nodes[..., 0], nodes[..., 1])  # an image as a whole
    assert np.allclose(np.unique(nodes), [1.0, 1 + 1 / 0.75])
    assert np.abs((nodes[..., 0] == 1.0).mean(axis=0) - 0.25).max() < 0.03
    assert np.abs(np.corrcoef((nodes[..., 0] == 1.0).T) - np.eye(4)).max() < 0.1  # each operator by itself
    cell.eval()
    assert (cell((x, x))[0].numpy() == 2.0).all()


def test_drop_path_reaches_every_cell_and_has_bounds() -> None:
    network = CellNetwork(SKIPS, "cifar", 2, 3)
    network.set_drop_path(0.2)
    assert {cell.drop_path for cell in network.cells} == {0.2}
    for impossible in (-0.1, 1.0, float("nan")):
        with pytest.raises(UsageError, match="expected at least 0 and less than 1"):
            network.set_drop_path(impossible)
    with pytest.raises(UsageError, match="has no drop_connect"):
        network.set_drop_connect(0.2)


@pytest.mark.parametrize(("form", "smallest", "largest_without"), [("cifar", 32, 28), ("imagenet", 224, 192)])
def test_the_auxiliary_head_is_left_out_where_it_has_no_room(
    form: str, smallest: int, largest_without: int, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"form": form, "channels": 2, "cells": 3, "num_classes": 2, "auxiliary": True}
    assert auxiliary_fits(form, smallest)
    assert not auxiliary_fits(form, largest_without)
    with caplog.at_level(logging.WARNING):
        network = mobilenext.search.build_cell_network(SKIPS, **options, image_size=smallest)
        assert isinstance(network(paddle.zeros([1, 3, smallest, smallest])), tuple)
        assert not caplog.messages
        # The size is known: the network has no head.
        network = mobilenext.search.build_cell_network(SKIPS, **options, image_size=largest_without)
        assert not any(name.startswith("auxiliary_head") for name in network.state_dict())
        # It is not known: the images tell, once.
        network = mobilenext.search.build_cell_network(SKIPS, **options)
        for _ in range(2):
            logits = network(paddle.zeros([1, 3, largest_without, largest_without]))
            assert logits.shape == [1, 2]
    side = largest_without // {"cifar": 4, "imagenet": 32}[form]
    assert len(caplog.messages) == 2
    assert all(
        f"the auxiliary head is left out: its map has {side} x {side} pixels, and it needs {side + 1} x {side + 1}" in m
        for m in caplog.messages
    )


def test_auxiliary_logits_of_larger_images() -> None:
    network = CellNetwork(SKIPS, "cifar", 2, 3, 2, auxiliary=True)
    logits, auxiliary = network(paddle.zeros([1, 3, 64, 48]))
    assert logits.shape == auxiliary.shape == [1, 2]


def test_both_classifiers_reach_all_parameters() -> None:
    network, images = small_network("cifar", "DARTS_V1")
    logits, auxiliary = network(images)
    (logits.square().mean() + 0.4 * auxiliary.square().mean()).backward()
    assert all(tensor.grad is not None for tensor in network.parameters() if not tensor.stop_gradient)


def test_cells_can_be_built_from_lists_and_any_operators() -> None:
    names = ("sandglass_3x3", "sandglass_3x3_plain", "sandglass_5x5", "inverted_residual_3x3", "none", "avg_pool_3x3")
    cell = [[name, 0] for name in (*names, "dil_conv_5x5", "sep_conv_5x5")]
    network = mobilenext.search.build_cell_network(
        {"normal": cell, "reduce": cell}, form="cifar", channels=6, cells=4, num_classes=7, auxiliary=False
    )
    assert network.training
    assert network(paddle.ones([1, 3, 8, 12])).shape == [1, 7]


@pytest.mark.parametrize("cells", [1, 2, 3, 5])
def test_any_number_of_cells(cells: int) -> None:
    network = CellNetwork(SKIPS, "cifar", 2, cells, 3)
    reductions = {cells // 3, 2 * cells // 3}
    features = network.forward_features(paddle.zeros([1, 3, 16, 16]))
    assert features.shape == [1, 8 << len(reductions), 16 >> len(reductions), 16 >> len(reductions)]
    assert network(paddle.zeros([1, 3, 16, 16])).shape == [1, 3]


def test_maps_and_pooled_vectors() -> None:
    network, images = small_network("cifar", "DARTS_V2")
    network.eval()
    first, last = network.maps(images, [Tap(0, None, 16, 1), Tap(5, None, 64, 4)])
    assert (first.shape, last.shape) == ([4, 16, 32, 32], [4, 64, 8, 8])
    assert np.array_equal(network.head(last).numpy(), network(images).numpy())
    with pytest.raises(UsageError, match=r"a tap inside cells\.0, a Cell"):
        network.maps(images, [Tap(0, 1, 16, 1)])
    with pytest.raises(UsageError, match="no maps at the strides 4, 8, 16 and 32"):
        network.keep_features_only()
    network.keep_pooled_only()
    assert np.array_equal(network(images).numpy(), last.mean(axis=[2, 3]).numpy())
    assert not any("classifier" in name for name in network.state_dict())


def test_first_weights_are_those_of_pytorch() -> None:
    paddle.seed(0)
    network = CellNetwork(V2, "cifar", 16, 4, 500, auxiliary=True)
    for layer, fan_in in (
        (network.cells[3].preprocess1.op[1], network.cells[3].preprocess1.op[1].weight.shape[1]),
        (network.auxiliary_head.features[5], 128 * 4),
        (network.classifier, 256),
    ):
        bound = fan_in**-0.5
        values = layer.weight.numpy()
        assert np.abs(values).max() <= bound
        assert values.std() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert network.classifier.bias.numpy().std() == pytest.approx(256**-0.5 / 3**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"normal": V2.normal}, r"has the keys normal and reduce; found \['normal'\]"),
        ({**V2.to_dict(), "concat": [2]}, "has the keys normal and reduce; found"),
        ([], "has the keys normal and reduce; found list"),
        ({"normal": V2.normal[:6], "reduce": V2.reduce}, "has 8 edges, two for each of 4 nodes; found 6"),
        ({"normal": [("conv", 0)] * 8, "reduce": V2.reduce}, "unknown operator 'conv'"),
    ],
)
def test_cells_that_cannot_be_built(cells: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mobilenext.search.build_cell_network(cells, channels=2, cells=1)


def test_odd_images_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot be halved: FactorizedReduce takes even sides only"):
        CellNetwork(V2, "imagenet", 2, 3)(paddle.zeros([1, 3, 100, 100]))
