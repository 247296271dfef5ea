"""The detectors against the recordings of the authors' SSDLite, and against arithmetic."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import paddle
import pytest

from detector_recordings import arrays, recorded
from golden import formula_images, formula_weights
from mobilenext.errors import UsageError
from mobilenext.models import FORMS, MODELS, Form, build_network, list_models
from mobilenext.models.counting import count
from mobilenext.models.ssdlite import SSDLite

RECORDINGS = [(backbone, form) for backbone in ("mobilenext", "mobilenetv2") for form in ("voc", "coco")]
SMALL = "ssdlite320_mobilenext_x0_35"
# Multiply-accumulates of the convolutions at 320 pixels, by the authors' code.
MULT_ADDS = {
    ("mobilenext", "voc"): 708_726_528,
    ("mobilenext", "coco"): 843_580_928,
    ("mobilenetv2", "voc"): 682_447_872,
    ("mobilenetv2", "coco"): 748_170_112,
}


@cache
def small(form: str | Form = "voc", num_classes: int = 3, backbone: str = "mobilenext") -> SSDLite:
    paddle.seed(0)
    network = build_network(f"ssdlite320_{backbone}_x0_35", num_classes=num_classes, form=form)
    network.eval()
    return network


def run(network: SSDLite, size: int, batch: int = 1) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(size).standard_normal((batch, 3, size, size)).astype(np.float32)
    with paddle.no_grad():
        scores, regressions = network(paddle.to_tensor(images))
    return scores.numpy(), regressions.numpy()


# --- Against the recordings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backbone", "form"), RECORDINGS)
def test_names_sizes_maps_and_raw_outputs_are_the_authors(backbone: str, form: str) -> None:
    record, outputs = recorded(f"ssdlite_{backbone}_{form}"), arrays(f"ssdlite_{backbone}_{form}")
    network = build_network(f"ssdlite320_{backbone}_x1_0", num_classes=record["classes"] - 1, form=form)
    size = count(network)
    assert size.parameters == record["params"]
    assert size.mult_adds == MULT_ADDS[backbone, form]

    tensors = formula_weights(record["keys"], "ssdlite")
    assert len(record["keys"]) == record["n_keys"] == {"mobilenext": 610, "mobilenetv2": 478}[backbone]
    state = {}
    for name, tensor in tensors.items():
        if not name.endswith("num_batches_tracked"):
            state[name.replace("running_mean", "_mean").replace("running_var", "_variance")] = tensor
    assert list(network.state_dict()) == list(state)
    network.set_state_dict(state)

    network.eval()
    images = formula_images(320)
    with paddle.no_grad():
        maps = [level.numpy() for level in network.pyramid(images)]
        scores, regressions = (output.numpy() for output in network(images))
    for values, (shape, mean, deviation) in zip(maps, record["features"], strict=True):
        assert list(values.shape) == shape
        assert abs(values.astype(np.float64).mean() - mean) <= 1e-3 * deviation
        assert abs(values.astype(np.float64).std() - deviation) <= 1e-3 * deviation
    priors = record["priors"]
    assert (scores.shape, regressions.shape) == ((2, priors, record["classes"]), (2, priors, 4))
    for values, name in ((scores, "cls"), (regressions, "reg")):
        (_, _, deviation), levels = (record[f"{name}_statistics"][key] for key in ("all", "levels"))
        difference = np.abs(values[:, outputs["prior_index"]] - outputs[name]).max()
        assert difference <= 1e-3 * deviation
        for level, (_, mean, spread) in zip(
            np.split(values, np.cumsum(record["priors_per_level"])[:-1], axis=1), levels, strict=True
        ):  # every prior, not those of the recording only
            assert abs(level.astype(np.float64).mean() - mean) <= 1e-3 * deviation
            assert abs(level.astype(np.float64).std() - spread) <= 1e-3 * deviation


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(name, marks=() if name.endswith(("x0_35", "x1_4")) else pytest.mark.long)
        for name in list_models("detection")
    ],
)
def test_the_cards_hold_what_is_counted(model: str) -> None:
    card, size = MODELS[model], count(build_network(model))
    assert (card.parameters, card.mult_adds, card.mult_adds_with_bn) == (
        size.parameters,
        size.mult_adds,
        size.mult_adds_with_bn,
    )
    assert (card.task, card.image_size) == ("detection", 320)


# --- Other forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["mobilenext", "mobilenetv2"])
@pytest.mark.parametrize(("size", "sides"), [(224, (14, 7, 4, 2, 1, 1)), (300, (19, 10, 5, 3, 2, 1))])
def test_other_sizes_of_the_input(backbone: str, size: int, sides: tuple[int, ...]) -> None:
    form = FORMS["coco"].replace(image_size=size)
    priors = sum(count * side**2 for count, side in zip((6, 6, 6, 6, 6, 4), sides, strict=True))
    scores, regressions = run(small(form, 2, backbone), size, batch=2)
    assert (scores.shape, regressions.shape) == ((2, priors, 3), (2, priors, 4))
    assert form.priors == priors


def test_the_largest_input() -> None:
    scores, _ = run(small(FORMS["voc"].replace(image_size=512), 1), 512)
    assert scores.shape == (1, 6 * (32**2 + 16**2 + 8**2 + 4**2 + 2**2 + 1), 2)


def test_own_ratios_decide_the_number_of_priors_and_own_sizes_do_not() -> None:
    own = Form(loss="multibox", image_size=224, ratios=((2,), (2, 3), (2, 3), (), (2,), (1.5, 2, 3)))
    scores, _ = run(small(own), 224)
    assert scores.shape == (1, 4 * 196 + 6 * 49 + 6 * 16 + 2 * 4 + 4 + 8, 4)
    narrow = FORMS["voc"].replace(prior_sizes=((24, 120), *FORMS["voc"].prior_sizes[1:]))
    assert {name: tensor.shape for name, tensor in build_network(SMALL, form=narrow).state_dict().items()} == {
        name: tensor.shape for name, tensor in build_network(SMALL).state_dict().items()
    }


def test_the_order_of_outputs_is_row_column_prior_and_column_of_the_class() -> None:
    """Each head's 1x1 gives its bias only; a bias tells which prior of the cell and which class it is of."""
    network = build_network(SMALL, num_classes=2, form="coco")
    network.eval()
    counts, sides = (6, 6, 6, 6, 6, 4), (20, 10, 5, 3, 2, 1)
    for kind, columns in (("cls_headers", 3), ("reg_headers", 4)):
        for level, priors in enumerate(counts):
            head = getattr(network.box_head[0], kind)[level]
            last = head.conv[3] if level < 5 else head
            last.weight.set_value(paddle.zeros_like(last.weight))
            last.bias.set_value(paddle.arange(priors * columns, dtype="float32") + 100 * level)
    for values, columns in zip(run(network, 320), (3, 4), strict=True):
        expected = [
            [100 * level + prior * columns + column for column in range(columns)]
            for level, (side, priors) in enumerate(zip(sides, counts, strict=True))
            for _ in range(side * side)
            for prior in range(priors)
        ]
        np.testing.assert_array_equal(values[0], np.array(expected, np.float32))


def test_columns_for_one_class_and_the_default_numbers() -> None:
    assert run(small("coco", 1), 320)[0].shape == (1, 3232, 2)
    assert build_network(SMALL).num_classes == 20
    assert build_network(SMALL, form="coco").num_classes == 80
    assert build_network(SMALL).form == FORMS["voc"]


@pytest.mark.filterwarnings("ignore:When training, we now always track")  # Paddle's batch norm, of itself
def test_outputs_are_raw_in_training_too() -> None:
    network = build_network(SMALL, num_classes=3)
    assert network.training
    scores, regressions = network(paddle.randn([2, 3, 320, 320]))
    assert (scores.shape, regressions.shape) == ([2, 3234, 4], [2, 3234, 4])
    assert float(scores.min()) < 0 < float(scores.max())
    (scores.sum() + regressions.sum()).backward()
    assert all(values.grad is not None for values in network.parameters() if not values.stop_gradient)


# --- Initial weights --------------------------------------------------------------------------------------------------


def test_initial_weights() -> None:
    paddle.seed(0)
    state = {name: tensor.numpy() for name, tensor in build_network("ssdlite320_mobilenext_x1_0").state_dict().items()}
    heads = "box_head.predictor"
    for name, fan_out in (("backbone.extras.0.0.weight", 9 * 1280), ("backbone.extras.0.5.weight", 512)):
        assert state[name].std() == pytest.approx(math.sqrt(2 / fan_out), rel=0.03)
    for name, fans in ((f"{heads}.cls_headers.0.conv.0.weight", 9 + 9 * 576), (f"{heads}.reg_headers.5.weight", 152)):
        assert np.abs(state[name]).max() == pytest.approx(math.sqrt(6 / fans), rel=0.01)  # Xavier, uniform
    assert not any(tensor.any() for name, tensor in state.items() if name.endswith(("conv.0.bias", "conv.3.bias")))

    focal = {name: tensor.numpy() for name, tensor in build_network(SMALL, form="coco").state_dict().items()}
    for name in (f"{heads}.cls_headers.1.conv.0", f"{heads}.cls_headers.1.conv.3", f"{heads}.cls_headers.5"):
        assert focal[f"{name}.weight"].std() == pytest.approx(0.01, rel=0.03)
        np.testing.assert_allclose(focal[f"{name}.bias"], -4.59512, atol=1e-5)
    assert not focal[f"{heads}.reg_headers.1.conv.0.bias"].any()
    assert (focal[f"{heads}.cls_headers.1.conv.1.weight"] == 1).all()


def test_batch_norm_constants() -> None:
    norms = [layer for layer in small().sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    assert {(layer._epsilon, layer._momentum) for layer in norms} == {(1e-5, 0.9)}


# --- What it refuses, and its parts -----------------------------------------------------------------------------------


def test_another_size_of_the_images_is_refused() -> None:
    expected = r"images of 224 x 224 pixels; expected 320 x 320, the image_size of the detector's form"
    with pytest.raises(UsageError, match=expected):
        small()(paddle.zeros([1, 3, 224, 224]))


def test_impossible_forms() -> None:
    with pytest.raises(UsageError, match=r"unknown form 'vox'; did you mean 'voc'\?; known: voc, coco, a Form"):
        build_network(SMALL, form="vox")
    with pytest.raises(UsageError, match=r"mobilenext_x0_35 is a classifier and has no form; found form voc"):
        build_network("mobilenext_x0_35", form="voc")
    with pytest.raises(UsageError, match=r"image_size of the form is 640; expected a whole number of pixels from 224"):
        FORMS["voc"].replace(image_size=640)
    with pytest.raises(UsageError, match=r"no SSDLite on mobilenext_s; expected a backbone mobilenext_x.. or"):
        SSDLite("mobilenext_s")
    with pytest.raises(UsageError, match="num_classes is 0; expected a whole number from 1 up"):
        build_network(SMALL, num_classes=0)


def test_the_identity_divisor_is_that_of_the_backbone() -> None:
    network = build_network(SMALL, identity_divisor=2)
    assert {block.identity_divisor for _, block in network.blocks()[1:]} == {2}
    with pytest.raises(UsageError, match="has no partial shortcut"):
        build_network("ssdlite320_mobilenetv2_x0_35", identity_divisor=2)


def test_its_parts() -> None:
    """The blocks are the backbone's, the heads everything else, and the classes have twelve tensors of their own."""
    network = small()
    names = list(network.state_dict())
    assert [name for name, _ in network.blocks()] == [f"backbone.features.{index}" for index in range(21)]
    heads = tuple(f"{name}." for name in network.head_layers)
    assert all(name.startswith(("backbone.features.", *heads)) for name in names)
    of_classes = [name for name in names if name.startswith(tuple(f"{layer}." for layer in network.class_layers))]
    wider = build_network(SMALL, num_classes=5).state_dict()
    assert of_classes == [name for name in names if wider[name].shape != network.state_dict()[name].shape]
    assert len(of_classes) == 12
