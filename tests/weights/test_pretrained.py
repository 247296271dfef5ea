"""Weights by name: from a file, a tag or nothing to a network that is ready to use."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import paddle
import pytest
import safetensors.numpy

import mobilenext
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import UsageError, WeightsError
from mobilenext.models import MODELS, WeightsCard, cards
from mobilenext.models.published import Download
from mobilenext.weights import pretrained, record, store
from mobilenext.weights.pretrained import BUNDLED, create_model, locate, source_of
from mobilenext.weights.read import read_weights

GOLDENS = Path(__file__).parents[1] / "goldens"


def pytorch_tensors(recording: str = "mobilenext_x0.35_20classes_64px") -> dict[str, np.ndarray]:
    """Random tensors with the names and shapes of a recorded PyTorch network."""
    random = np.random.default_rng(3)
    keys = json.loads((GOLDENS / f"{recording}.json").read_text())["keys"]
    return {key: random.random(shape, np.float32) for key, shape in keys if not key.endswith("tracked")}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """PyTorch-named weights of mobilenext_x0_35 with 20 classes."""
    path = tmp_path / "theirs.safetensors"
    safetensors.numpy.save_file(pytorch_tensors(), path)
    return path


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Download]:
    """What was asked of the store, which brings nothing here; the current folder is an empty one."""
    asked: list[Download] = []
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setenv("MOBILENEXT_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "fetch", lambda source, **_: asked.append(source) or Path("from the store"))
    return asked


@pytest.mark.parametrize(
    ("model", "weights", "filename"),
    [
        ("mobilenext_x1_0", None, "74_02_full_id_tensor.pth.tar"),  # the first on the card
        ("mobilenext_x1_0", "in1k", "74_02_full_id_tensor.pth.tar"),
        ("mobilenext_x1_0.in1k_half_id", None, "74_09_i2rnetv3_half_id.pth.tar"),
        ("MobileNeXt_x1_0.in1k_half_id", None, "74_09_i2rnetv3_half_id.pth.tar"),
        ("mobilenext_x1_0", "mobilenext_x1_0.in1k_half_id", "74_09_i2rnetv3_half_id.pth.tar"),
        ("mobilenext_x1_0", "paddleclas", "MobileNeXt_x1_0_pretrained.pdparams"),
        ("mobilenext_s", "in1k", "76_05_3_94_model.pth.tar"),
    ],
)
def test_tags(model: str, weights: str | None, filename: str, fetched: list[Download]) -> None:
    assert locate(model, weights) == Path("from the store")
    assert [source.filename for source in fetched] == [filename]


def test_files(file: Path, fetched: list[Download]) -> None:
    assert locate(None, file) == file
    assert locate("mobilenext_x1_0", str(file)) == file
    without_suffix = file.with_suffix("")
    assert locate("mobilenext_x0_35", without_suffix) == without_suffix  # read_weights knows the suffixes
    assert not fetched


def test_a_missing_file_is_named_with_its_neighbours(file: Path, fetched: list[Download]) -> None:
    missing = file.with_name("theirs.pth")
    assert locate("mobilenext_x0_35", missing) == missing
    with pytest.raises(WeightsError, match=r"theirs\.pth: there is no such file.*theirs\.safetensors"):
        create_model("mobilenext_x0_35", weights=missing)


def test_an_unknown_tag_suggests_another(fetched: list[Download]) -> None:
    with pytest.raises(WeightsError) as caught:
        locate("mobilenext_x1_0", "in1k_half")
    assert "weights 'in1k_half': no such file and no such tag; did you mean 'in1k_half_id'?" in str(caught.value)
    assert "mobilenext_x1_0 has the tags in1k, in1k_half_id, paddleclas" in str(caught.value)
    with pytest.raises(WeightsError, match=r"mobilenext_x0_5 has no published weights"):
        locate("mobilenext_x0_5.in1k", None)
    Path("in1k_half.v2.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"files of a similar name: in1k_half\.v2\.safetensors"):
        locate("mobilenext_x1_0", "in1k_half")
    for pattern in ("**", "[a", "*"):
        with pytest.raises(WeightsError, match="no such file and no such tag"):
            locate("mobilenext_x1_0", pattern)
    assert not fetched


def test_models_that_nobody_has_published_weights_for(fetched: list[Download]) -> None:
    with pytest.raises(
        UsageError, match=r"nobody has published .*weights for mobilenext_x1_4; name a file with --weights"
    ):
        locate("mobilenext_x1_4", None)
    with pytest.raises(UsageError, match=r"nobody has published .*weights for mobilenext_x0_35"):
        locate("mobilenext_x0_35", None)  # what ships with the package is only taken by name


def test_nothing_to_go_by(fetched: list[Download]) -> None:
    with pytest.raises(UsageError, match="no weights; expected --weights FILE, or --model NAME"):
        locate(None, None)
    with pytest.raises(UsageError, match="weights 'in1k' is no file; expected --weights FILE"):
        locate(None, "in1k")
    with pytest.raises(UsageError, match="unknown model 'mobilenext_x1_1'; did you mean"):
        locate("mobilenext_x1_1", "in1k")


def test_published_weights_from_their_address_to_a_network(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry = WeightsCard(
        tag="mine",
        origin="a test",
        licence="none",
        source=Download("mine.safetensors", file.as_uri(), sha256=hashlib.sha256(file.read_bytes()).hexdigest()),
        published=None,
        identity_divisor=2,
        preprocessing=Preprocessing(image_size=64),
    )
    models = MappingProxyType(
        {**MODELS, "mobilenext_x0_35": dataclasses.replace(MODELS["mobilenext_x0_35"], weights=(entry,))}
    )
    monkeypatch.setattr(cards, "MODELS", models)
    monkeypatch.setattr(record, "MODELS", models)
    monkeypatch.setenv("MOBILENEXT_HOME", str(tmp_path / "cache"))
    with caplog.at_level(logging.INFO, "mobilenext"):
        network = create_model("mobilenext_x0_35.mine")
    assert "mobilenext_x0_35.mine: a test (licence: none)" in caplog.messages
    assert (network.identity_divisor, network.num_classes, network.training) == (2, 20, False)
    weights = read_weights(tmp_path / "cache" / "mine.safetensors")
    assert weights.card == "mobilenext_x0_35.mine"
    assert weights.preprocessing == Preprocessing(image_size=64)
    assert create_model("mobilenext_x0_35", weights="mine", identity_divisor=4).identity_divisor == 4


def test_weights_that_ship_with_the_package() -> None:
    shipped = [(card, entry) for card in MODELS.values() for entry in card.weights if entry.source is None]
    for card, entry in shipped:
        assert locate(f"{card.name}.{entry.tag}", None) == pretrained.BUNDLED / entry.bundled
        assert (pretrained.BUNDLED / entry.bundled).is_file()


def test_a_fresh_network() -> None:
    network = create_model("MobileNeXt_x0_35")
    assert (network.num_classes, network.identity_divisor, network.training) == (1000, 1, True)
    network = create_model("mobilenext_x0_35", num_classes=3, identity_divisor=2)
    assert (network.num_classes, network.identity_divisor) == (3, 2)


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize(("option", "number"), [("num_classes", -1), ("num_classes", False), ("identity_divisor", 0)])
def test_impossible_numbers(option: str, number: int, with_weights: bool, file: Path) -> None:
    with pytest.raises(UsageError, match=f"{option} is {number}; expected"):
        create_model("mobilenext_x0_35", weights=file if with_weights else None, **{option: number})


def test_the_weights_know_their_model(file: Path) -> None:
    assert file.suffix in (".safetensors", ".pdparams")
    named = [create_model(weights=file), create_model("mobilenext_x0_35", weights=file)]
    networks = [*named, create_model(file), create_model(str(file))]
    states = [{key: tensor.numpy().tobytes() for key, tensor in each.state_dict().items()} for each in networks]
    assert states[0] == states[1] == states[2] == states[3]
    assert create_model(file, num_classes=0).num_classes == 0
    with pytest.raises(UsageError, match=r"pretrained and weights .* were given"):
        create_model(file, pretrained=True)
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        create_model("none.safetensors")
    assert create_model(weights="mobilenext_x0_35.digits", num_classes=3).num_classes == 3
    with pytest.raises(UsageError, match=r"no model; expected a name of list_models\(\), or weights=FILE"):
        create_model()
    with pytest.raises(UsageError, match="no model"):
        create_model(pretrained=True)


def test_pretrained_are_the_first_weights_of_the_card(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def locate(*arguments: Any) -> Path:
        asked.append(arguments)
        return file

    monkeypatch.setattr(pretrained, "locate", locate)
    network = create_model("mobilenext_x0_35", pretrained=True)
    assert (network.num_classes, network.training, asked) == (20, False, [("mobilenext_x0_35", None)])
    with pytest.raises(UsageError, match="pretrained and weights in1k were given"):
        create_model("mobilenext_x0_35", pretrained=True, weights="in1k")


@pytest.mark.parametrize("model", ["mobilenext_x0_35", "mobilenext_s", "mobilenetv2_x0_35"])
def test_no_classes_are_the_pooled_vector(model: str) -> None:
    paddle.seed(0)
    whole = create_model(model, num_classes=7)
    paddle.seed(0)
    pooled = create_model(model, num_classes=0)
    images = paddle.to_tensor(np.random.default_rng(0).standard_normal((2, 3, 64, 64), dtype=np.float32))
    whole.eval()
    pooled.eval()
    with paddle.no_grad():
        maps, vectors = whole.forward_features(images).numpy(), pooled(images).numpy()
    assert (maps.shape, vectors.shape, pooled.num_classes) == ((2, 1280, 2, 2), (2, 1280), 0)
    np.testing.assert_allclose(vectors, maps.mean(axis=(2, 3)), rtol=1e-4, atol=1e-5)
    assert not [key for key in pooled.state_dict() if key.startswith(("classifier", "_fc"))]
    with pytest.raises(UsageError, match="num_classes is 0 with features_only"):
        create_model(model, num_classes=0, features_only=True)


def test_weights_decide_the_classes(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = create_model("mobilenext_x0_35", weights=file)
    assert (network.num_classes, network.training) == (20, False)
    theirs = pytorch_tensors()
    state = network.state_dict()
    assert np.array_equal(state["classifier.1.weight"].numpy(), theirs["classifier.1.weight"].T)
    assert np.array_equal(state["features.20.conv.9._mean"].numpy(), theirs["features.20.conv.9.running_mean"])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("model", "recording", "fresh"),
    [
        ("mobilenext_x0_35", "mobilenext_x0.35_20classes_64px", ("classifier.1.weight", "classifier.1.bias")),
        ("mobilenext_s", "mobilenext_s", ("_fc.weight", "_fc.bias")),
    ],
)
def test_another_number_of_classes(
    model: str, recording: str, fresh: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "theirs.safetensors"
    safetensors.numpy.save_file(pytorch_tensors(recording), path)
    weights = read_weights(path)
    caplog.clear()
    network = create_model(model, weights=path, num_classes=5)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning == (
        f"5 classes instead of the weights' {weights.num_classes}: {fresh[0]} and {fresh[1]} are freshly initialized"
    )
    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    assert network.num_classes == 5
    assert state[fresh[0]].shape == (1280, 5)
    assert not state[fresh[1]].any()
    assert all(np.array_equal(state[key], weights.tensors[key]) for key in state if key not in fresh)


def test_chosen_classes_of_the_weights(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = read_weights(file).tensors
    caplog.clear()
    state = {
        k: v.numpy() for k, v in create_model("mobilenext_x0_35", weights=file, classes=(7, 3)).state_dict().items()
    }
    head = ("classifier.1.weight", "classifier.1.bias")
    assert all(np.array_equal(state[key], tensors[key][..., [7, 3]]) for key in head)
    assert all(np.array_equal(state[key], tensors[key]) for key in state if key not in head)
    assert not caplog.records
    network = create_model("mobilenext_x0_35", weights=file, classes=())
    assert (network.num_classes, network.state_dict()[head[1]].numpy().any()) == (20, False)
    assert "20 classes instead of the weights' 20: classifier.1.weight and" in caplog.text


def test_one_of_several_weights_in_a_checkpoint(file: Path, tmp_path: Path) -> None:
    raw = pytorch_tensors()
    both = {f"model.{name}": each for name, each in raw.items()} | {
        f"ema.{name}": each * 0 for name, each in raw.items()
    }
    safetensors.numpy.save_file(both, tmp_path / "both.safetensors")
    for options, zero in (({"use": "raw"}, False), ({}, True), ({"section": "model"}, False)):
        network = create_model(weights=tmp_path / "both.safetensors", **options)
        assert bool((network.state_dict()["classifier.1.weight"] == 0).all()) == zero
    with pytest.raises(UsageError, match="use or section was given without weights"):
        create_model("mobilenext_x0_35", section="model")


def test_features_only(file: Path) -> None:
    network = create_model("mobilenext_x0_35", weights=file, features_only=True)
    with paddle.no_grad():
        maps = network(paddle.zeros([1, 3, 64, 64]))
    assert [map_.shape for map_ in maps] == [[1, 48, 16, 16], [1, 64, 8, 8], [1, 136, 4, 4], [1, 1280, 2, 2]]
    assert np.array_equal(network.state_dict()["features.0.0.weight"].numpy(), pytorch_tensors()["features.0.0.weight"])
    fresh = create_model("mobilenext_s", features_only=True)
    fresh.eval()
    assert len(fresh(paddle.zeros([2, 3, 64, 64]))) == 4


def test_weights_of_another_model(file: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds mobilenext_x0_35 \(20 classes\); asked for mobilenext_x1_0"):
        create_model("mobilenext_x1_0", weights=file)
    with pytest.raises(UsageError, match="unknown model 'mobilenext_x2'"):
        create_model("mobilenext_x2", weights=file)


def test_the_package_offers_it(file: Path) -> None:
    network: Any = mobilenext.create_model("mobilenext_x0_35", weights=file)
    assert mobilenext.load_weights(network, file).model == "mobilenext_x0_35"


def test_a_file_called_like_a_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").write_bytes(b"not weights")
    assert locate("mobilenext_x0_35", "digits") == BUNDLED / "mobilenext_x0_35.digits.safetensors"
    assert locate("mobilenext_x0_35", "./digits") == Path("./digits")


def test_a_tag_and_other_weights(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"names the weights 'digits', and weights .*a.safetensors were given too"):
        locate("mobilenext_x0_35.digits", tmp_path / "a.safetensors")
    assert locate("mobilenext_x0_35.digits", "digits").name == "mobilenext_x0_35.digits.safetensors"


def test_a_suffix_that_was_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert locate("mobilenext_x0_35", "a") == Path("a")
    assert locate(None, "a") == Path("a")


def test_what_convert_may_be_given() -> None:
    for text in ("mobilenext_x1_0.safetensors", "mobilenext_x1_0.pth.tar", "model_best.pth.tar"):
        assert source_of(text) == Path(text), "a file that is not there, which reading says"
    assert source_of("mobilenext_x0_35.digits") == BUNDLED / "mobilenext_x0_35.digits.safetensors"
    with pytest.raises(WeightsError, match="no such tag; did you mean 'digits'"):
        source_of("mobilenext_x0_35.digit")


def test_a_keyword_that_create_model_does_not_have() -> None:
    with pytest.raises(TypeError, match=r"create_model\(\) got an unexpected keyword argument 'divisor'"):
        create_model("mobilenext_x0_35", divisor=2)
