"""Weights of detectors: the authors' checkpoints, our own files, and what does not fit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import safetensors
import safetensors.numpy

import mobilenext
from detector_recordings import recorded
from golden import formula_weights
from mobilenext.data import Preprocessing
from mobilenext.errors import UsageError, WeightsError
from mobilenext.models import FORMS, Form, build_network
from mobilenext.models.ssdlite import SSDLite
from mobilenext.weights.convert import convert_checkpoint
from mobilenext.weights.read import read_weights
from mobilenext.weights.record import WeightsRecord, names_of_classes, note_on_assumed_names
from mobilenext.weights.write import write_weights

SMALL = "ssdlite320_mobilenext_x0_35"
STANDARD = Preprocessing(
    320, crop_pct=1.0, interpolation="opencv_linear", mean=(123 / 255, 117 / 255, 104 / 255), fit="squash"
)


@pytest.fixture(scope="module")
def network() -> SSDLite:
    paddle.seed(0)
    network = build_network(SMALL, num_classes=3)
    network.eval()
    return network


@pytest.fixture(scope="module")
def tensors(network: SSDLite) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def foreign(tensors: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of bare tensors."""
    path = tmp_path_factory.mktemp("detectors") / "bare.safetensors"
    safetensors.numpy.save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def own(foreign: Path) -> Path:
    """The same as a file of ours, with names of its classes."""
    path = foreign.with_name("own.safetensors")
    convert_checkpoint(foreign, path, labels=("rbc", "wbc", "platelets"))
    return path


def with_metadata(path: Path, tmp_path: Path, **changes: str) -> Path:
    """A copy of a file of ours with other metadata."""
    with safetensors.safe_open(str(path), framework="numpy") as file:
        metadata = {**file.metadata(), **changes}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.numpy.save_file(tensors, tmp_path / "changed.safetensors", metadata=metadata)
    return tmp_path / "changed.safetensors"


# --- The authors' checkpoints -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backbone", "form"), [("mobilenext", "voc"), ("mobilenetv2", "coco")])
def test_a_checkpoint_of_the_authors_there_and_back(backbone: str, form: str, tmp_path: Path) -> None:
    """Weights under `model`, behind a prefix, beside an optimizer: recognized, converted and restored."""
    record = recorded(f"ssdlite_{backbone}_{form}")
    tensors = formula_weights(record["keys"], "ssdlite")
    checkpoint = {
        "model": {f"module.{name}": tensor for name, tensor in tensors.items()},
        "optimizer": {"state": {0: {"momentum_buffer": np.zeros((32, 3, 3, 3), np.float32)}}},
        "iteration": 5000,
    }
    paddle.save(checkpoint, str(tmp_path / "theirs.pdparams"))
    certificate = convert_checkpoint(tmp_path / "theirs.pdparams", tmp_path / "ours.safetensors")
    counters = [name for name in tensors if name.endswith("num_batches_tracked")]
    assert len(certificate["tensors"]) + len(certificate["dropped"]) == record["n_keys"]
    assert len(certificate["dropped"]) == len(counters)

    weights = read_weights(tmp_path / "ours.safetensors")
    assert (weights.model, weights.task) == (f"ssdlite320_{backbone}_x1_0", "detection")
    assert weights.num_classes == record["classes"] - 1 == {"voc": 20, "coco": 80}[form]
    assert weights.architecture == {"form": FORMS[form].to_dict()}
    assert weights.preprocessing == STANDARD
    assert any(f"the form {form} is assumed" in note for note in certificate["notes"])

    convert_checkpoint(tmp_path / "ours.safetensors", tmp_path / "back.safetensors", to="pytorch")
    back = safetensors.numpy.load_file(tmp_path / "back.safetensors")
    assert back.keys() == tensors.keys() - set(counters)
    assert all(np.array_equal(back[name], tensors[name]) for name in back)
    assert read_weights(tmp_path / "back.safetensors").architecture == weights.architecture


def test_what_is_assumed_of_a_bare_file(foreign: Path) -> None:
    weights = read_weights(foreign)
    assert (weights.model, weights.num_classes, weights.labels) == (SMALL, 3, None)
    assert set(weights.assumed) == {field.name for field in dataclasses.fields(Preprocessing)}
    assert any("by the 6 priors of the last level: 320 pixels, the loss multibox" in note for note in weights.notes)


@pytest.mark.parametrize("backbone", ["mobilenext", "mobilenetv2"])
@pytest.mark.parametrize("width", ["0_5", pytest.param("1_4", marks=pytest.mark.long)])
def test_every_width_is_recognized(backbone: str, width: str, tmp_path: Path) -> None:
    network = build_network(f"ssdlite320_{backbone}_x{width}", num_classes=1, form="coco")
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({name: tensor.numpy() for name, tensor in network.state_dict().items()}, path)
    weights = read_weights(path)
    assert (weights.model, weights.num_classes) == (f"ssdlite320_{backbone}_x{width}", 1)
    assert weights.architecture == {"form": FORMS["coco"].to_dict()}


# --- Files of ours ----------------------------------------------------------------------------------------------------


def test_a_network_of_a_file_gives_the_same_outputs(own: Path, network: SSDLite) -> None:
    again = mobilenext.create_model(weights=own)
    assert not again.training
    assert again.form == FORMS["voc"]
    images = paddle.to_tensor(np.random.default_rng(0).standard_normal((1, 3, 320, 320)).astype(np.float32))
    with paddle.no_grad():
        for ours, expected in zip(again(images), network(images), strict=True):
            assert np.array_equal(ours.numpy(), expected.numpy())


def test_a_paddle_file_keeps_its_form_in_the_certificate(own: Path, tmp_path: Path) -> None:
    form = FORMS["voc"].replace(image_size=256, prior_sizes=((20, 60), *FORMS["voc"].prior_sizes[1:]))
    weights = dataclasses.replace(
        read_weights(own),
        architecture={"form": form.to_dict()},
        preprocessing=dataclasses.replace(STANDARD, image_size=256),
    )
    write_weights(weights, tmp_path / "own.safetensors")
    convert_checkpoint(tmp_path / "own.safetensors", tmp_path / "own.pdparams")
    again = read_weights(tmp_path / "own.pdparams")
    assert again.architecture == {"form": form.to_dict()}
    assert (again.task, again.labels) == ("detection", ("rbc", "wbc", "platelets"))


def test_another_image_size_scales_the_priors(own: Path) -> None:
    weights = read_weights(own, preprocessing={"image_size": 224})
    assert weights.architecture == {"form": FORMS["voc"].replace(image_size=224).to_dict()}
    assert weights.preprocessing.image_size == 224
    with pytest.raises(UsageError, match="image_size of the form is 192; expected a whole number of pixels from 224"):
        read_weights(own, preprocessing={"image_size": 192})
    with pytest.raises(UsageError, match="fit is 'crop', but a detector sees the whole picture; expected squash"):
        read_weights(own, preprocessing={"fit": "crop", "interpolation": "bilinear"})


def test_ratios_of_ones_own_are_known_from_the_metadata_only(tmp_path: Path) -> None:
    form = Form(loss="focal", ratios=((2, 3), (2, 3), (2,), (2,), (2,), ()))
    network = build_network(SMALL, num_classes=2, form=form)
    bare, own = tmp_path / "bare.safetensors", tmp_path / "own.safetensors"
    safetensors.numpy.save_file({name: tensor.numpy() for name, tensor in network.state_dict().items()}, bare)
    expected = r"\[6, 6, 4, 4, 4, 2\] priors in a cell of each level; expected \[6, 6, 6, 6, 6, 6\] \(voc\) or"
    with pytest.raises(WeightsError, match=expected):
        read_weights(bare)
    record = {"task": "detection", "architecture": json.dumps({"form": form.to_dict()}), "model": SMALL}
    metadata = record | {"format": "mobilenext weights 1", "num_classes": "2", "identity_divisor": "1", "kind": "ema"}
    safetensors.numpy.save_file(
        {name: tensor.numpy() for name, tensor in network.state_dict().items()}, own, metadata=metadata
    )
    assert mobilenext.create_model(weights=own).form == form


def _form(**changes: Any) -> str:
    return json.dumps({"form": FORMS["voc"].to_dict() | changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": _form(ratios=[[2]] * 6)}, r"and \[4, 4, 4, 4, 4, 4\] priors in a cell .* and \[6, 6, 6, 6,"),
        ({"architecture": _form(ratios=[[2] * 100_000] * 6)}, "expected 6 rows of up to 8 numbers above 0"),
        ({"architecture": _form(image_size=10**9)}, "image_size of the form is 1000000000; expected a whole number"),
        ({"architecture": _form(loss="hinge")}, "loss of the form is 'hinge'; expected multibox or focal"),
        ({"architecture": _form(weights="a")}, "a form has the fields .*; found .*weights"),
        ({"architecture": '{"form": 1}'}, "a detector has a record called form"),
        ({"architecture": '{"blocks": []}'}, "its architecture has the fields blocks; a detector has a record called"),
        ({"num_classes": "999999999"}, "of 999999999 classes and .* its tensors are those of .* of 3 classes"),
        ({"num_classes": "4"}, "describes ssdlite320_mobilenext_x0_35 of 4 classes and .* of 3 classes"),
        ({"model": "mobilenext_x0_35"}, "its metadata describes mobilenext_x0_35 of 3 classes"),
        ({"task": "classification"}, "has an architecture that cannot be used: schema is missing"),
        (
            {"task": "classification", "architecture": "null"},
            "its tensors are those of ssdlite320_mobilenext_x0_35, but its metadata says that its task is classif",
        ),
        ({"architecture": "", "task": ""}, "its metadata says architecture = ''; expected JSON"),
    ],
)
def test_metadata_that_does_not_fit_the_tensors(
    own: Path, changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=message):
        read_weights(with_metadata(own, tmp_path, **changes))


def test_heads_that_do_not_fit_each_other(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    heads = "box_head.predictor"

    def problem(changes: dict[str, np.ndarray | None]) -> str:
        path = tmp_path / "a.safetensors"
        values = {name: tensor for name, tensor in (tensors | changes).items() if tensor is not None}
        safetensors.numpy.save_file(values, path)
        with pytest.raises(WeightsError) as caught:
            read_weights(path)
        return str(caught.value)

    assert f"no head: expected {heads}.reg_headers.5.weight" in problem({f"{heads}.reg_headers.5.weight": None})
    wide = {f"{heads}.cls_headers.5.{name}": np.zeros(shape, np.float32)
            for name, shape in (("weight", (60_000, 128, 1, 1)), ("bias", (60_000,)))}  # fmt: skip
    assert "expected for each level priors x (classes + 1) scores" in problem(wide)
    thin = np.zeros((24, 1, 1, 1), np.float32)
    assert "of 32 or more channels" in problem({f"{heads}.cls_headers.0.conv.3.weight": thin})
    lines = problem({"backbone.features.20.conv.0.weight": None})
    assert "the nearest is ssdlite320_mobilenext_x0_35, with 1 differences" in lines


# --- Creating networks ------------------------------------------------------------------------------------------------


def test_another_number_of_classes_makes_fresh_class_heads(
    own: Path, tensors: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="mobilenext"):
        network = mobilenext.create_model(weights=own, num_classes=5)
    assert "5 classes instead of the weights' 3: 12 tensors of the class heads are freshly initialized" in caplog.text
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    assert network.num_classes == 5
    other = {name for name in tensors if tensors[name].shape != state[name].shape}
    assert len(other) == 12
    assert all(np.array_equal(tensors[name], state[name]) for name in tensors if name not in other)


def test_another_form_must_fit_the_weights(own: Path) -> None:
    larger = FORMS["voc"].replace(image_size=512)
    assert mobilenext.create_model(weights=own, form=larger).form == larger
    assert mobilenext.create_model(SMALL, weights=own, form="voc").form == FORMS["voc"]
    with pytest.raises(UsageError, match=r"was trained in the form voc \(the loss multibox, .*fit the form coco"):
        mobilenext.create_model(weights=own, form="coco")
    for ratios in ((2,), (2, 4)):
        with pytest.raises(UsageError, match="does not fit the form voc"):
            mobilenext.create_model(weights=own, form=FORMS["voc"].replace(ratios=(ratios,) * 6))


def test_the_priors_of_the_weights_stay(own: Path, tmp_path: Path) -> None:
    """A name keeps the stored form; a record of other priors than these, scaled to its image size, is refused."""
    narrow = FORMS["voc"].replace(prior_sizes=((24, 140), *FORMS["voc"].prior_sizes[1:]), limit=50)
    path = with_metadata(own, tmp_path, architecture=json.dumps({"form": narrow.to_dict()}))
    assert mobilenext.create_model(weights=path, form="voc").form == narrow
    for form in (narrow, narrow.replace(image_size=448), narrow.replace(score_threshold=0.3, limit=7)):
        assert mobilenext.create_model(weights=path, form=form).form == form
        assert mobilenext.create_model(weights=path, form=form.to_dict()).form == form
    expected = (
        r"was trained with the prior sizes 24-140,.* of 320 pixels; the form has 45-120,.* of 320\. Name the form"
    )
    for form in (FORMS["voc"], Form(loss="multibox"), FORMS["voc"].to_dict()):
        with pytest.raises(UsageError, match=expected):
            mobilenext.create_model(weights=path, form=form)
    with pytest.raises(UsageError, match=r"24-140,.* of 320 pixels; the form has 24-140,.* of 448"):
        mobilenext.create_model(weights=path, form=narrow.replace(image_size=448, prior_sizes=narrow.prior_sizes))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda own: mobilenext.create_model(SMALL, num_classes=0), "num_classes is 0, but a detector has no pooled"),
        (lambda own: mobilenext.create_model(SMALL, features_only=True), "a detector has no features_only; expected"),
        (lambda own: mobilenext.create_model(weights=own, classes=[0]), r"classes \[0\] of a detector cannot be taken"),
        (lambda own: mobilenext.create_model("mobilenext_x0_35", form="voc"), "is a classifier and has no form"),
        (
            lambda own: mobilenext.create_model("mobilenext_x0_35.tiny20", form="voc"),
            "holds mobilenext_x0_35, a classifier, which has no form",
        ),
    ],
)
def test_what_a_detector_has_not(own: Path, call: Callable[[Path], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(own)


def test_weights_of_the_other_kind_are_refused(own: Path) -> None:
    expected = r"holds ssdlite320_mobilenext_x0_35 \(3 classes\); asked for mobilenext_x0_35\."
    with pytest.raises(WeightsError, match=expected):
        mobilenext.create_model("mobilenext_x0_35", weights=own)
    tiny = Path(mobilenext.__file__).parent / "weights/bundled/mobilenext_x0_35.tiny20.safetensors"
    expected = r"holds mobilenext_x0_35 \(20 classes\); asked for ssdlite320_mobilenext_x0_35\."
    with pytest.raises(WeightsError, match=expected):
        mobilenext.create_model(SMALL, weights=tiny)
    with pytest.raises(
        WeightsError, match=r"published for mobilenext_x0_35, a classifier; asked for .* --backbone mob"
    ):
        mobilenext.create_model(SMALL, weights="mobilenext_x0_35.tiny20")
    expected = r"ssdlite320_mobilenext_x0_35.bccd are published for .*, a detector; asked for mobilenext_x0_35$"
    with pytest.raises(WeightsError, match=expected):
        mobilenext.create_model("mobilenext_x0_35", weights="ssdlite320_mobilenext_x0_35.bccd")
    with pytest.raises(WeightsError, match="does not fit this network, which is unchanged"):
        mobilenext.load_weights(build_network(SMALL, num_classes=4), own)


# --- Names of the classes ---------------------------------------------------------------------------------------------


def test_names_of_classes_that_are_assumed(own: Path) -> None:
    record: WeightsRecord = read_weights(own).record()
    assert names_of_classes(record) == (("rbc", "wbc", "platelets"), False)
    assert names_of_classes(dataclasses.replace(record, labels=None)) == (None, False)
    for count, first, last, owner in (
        (20, "aeroplane", "tvmonitor", "Pascal VOC"),
        (80, "person", "toothbrush", "COCO"),
    ):
        unnamed = dataclasses.replace(record, labels=None, num_classes=count)
        names, assumed = names_of_classes(unnamed)
        assert assumed
        assert names is not None
        assert (len(set(names)), names[0], names[-1]) == (count, first, last)
        assert note_on_assumed_names(unnamed).startswith(
            f"names of {owner}'s classes assumed: the detector has {count}"
        )


# --- Stored as float16 ------------------------------------------------------------------------------------------------


def test_float16_takes_half_of_the_room_and_is_widened(own: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    certificate = convert_checkpoint(own, path, storage="float16")
    assert path.stat().st_size < 0.52 * own.stat().st_size
    assert certificate["storage"] == "float16"
    weights, before = read_weights(path), read_weights(own)
    assert {tensor.dtype for tensor in weights.tensors.values()} == {np.dtype(np.float32)}
    for name, tensor in before.tensors.items():
        assert np.array_equal(weights.tensors[name], tensor.astype(np.float16).astype(np.float32))
    with safetensors.safe_open(str(path), framework="numpy") as file:
        assert file.metadata()["storage"] == "float16"
        stored = file.get_tensor(weights.entries[0].paddle_name)
    assert certificate["tensors"][0]["sha256"] == hashlib.sha256(stored.tobytes()).hexdigest()
    assert (weights.labels, weights.architecture) == (before.labels, before.architecture)
    (note,) = (note for note in certificate["notes"] if note.startswith("stored as float16"))
    changes = [np.abs(weights.tensors[name] - before.tensors[name]).max() for name in before.tensors]
    assert float(note.rpartition(" ")[2]) == pytest.approx(max(changes), rel=0.1)


def test_what_is_too_large_for_float16_stays_float32(own: Path, tmp_path: Path) -> None:
    weights = read_weights(own)
    name = weights.entries[1].paddle_name
    tensors = {**weights.tensors, name: np.full_like(weights.tensors[name], 1e6)}
    path = tmp_path / "half.safetensors"
    write_weights(dataclasses.replace(weights, tensors=tensors), path, storage="float16")
    again = read_weights(path)
    assert np.array_equal(again.tensors[name], tensors[name])
    assert "storage" not in again.metadata()  # what is read is float32, and so is what is written of it


def test_float16_is_refused_where_it_cannot_be_stored(own: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has the suffix '\.pdparams'; expected \.safetensors, which stores float16"):
        convert_checkpoint(own, tmp_path / "a.pdparams", storage="float16")
    with pytest.raises(UsageError, match="storage is 'int8'; expected float32 or float16"):
        convert_checkpoint(own, tmp_path / "a.safetensors", storage="int8")
    assert not list(tmp_path.iterdir())
