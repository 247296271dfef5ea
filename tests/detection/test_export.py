"""Detectors in other formats: raw heads and boxes are those of Paddle, and the document's decoder is right."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
import pytest
from PIL import Image
from tests.export.test_export import skip_if_not_writable

from detector_recordings import arrays, decode_outputs
from mobilenext.data import Preprocessing
from mobilenext.detection.decoding import decode
from mobilenext.detection.export import EXPORT, files, instructions
from mobilenext.export import FORMATS
from mobilenext.export.checked import write_checked
from mobilenext.export.images import FEWEST
from mobilenext.export.post_processing import POST_PROCESSED, beside, write_post_processed
from mobilenext.export.sidecar import read_sidecar
from mobilenext.models import build_network
from mobilenext.models.detector_form import FORMS, Form
from mobilenext.runtime import Runtime, RuntimeSpec, open_runtime
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import find_subject
from mobilenext.sources.prepare import prepare
from mobilenext.weights.read import read_weights
from mobilenext.weights.record import WeightsRecord
from networks import give_statistics

if TYPE_CHECKING:
    from mobilenext.weights.record import Weights

pytestmark = pytest.mark.usefixtures("written_once")
MODEL = "ssdlite320_mobilenext_x0_35"
SIZE = 224
DOCUMENT = Path(__file__).parents[2] / "docs" / "deployment.md"


def record_of(form: Form, num_classes: int) -> WeightsRecord:
    return WeightsRecord(
        model=MODEL, num_classes=num_classes, identity_divisor=1, task="detection",
        architecture={"form": form.to_dict()}, preprocessing=Preprocessing(image_size=form.image_size, fit="squash"),
        labels=None, path=Path("a.safetensors"), sha256="1" * 64, source_name="a", source_sha256="2" * 64, card=None,
        kind="raw", notes=(),
    )  # fmt: skip


def a_detector(name: str, folder: Path) -> Weights:
    """A detector of three classes whose boxes depend on the picture."""
    from safetensors.numpy import save_file

    paddle.seed(0)
    network = build_network(MODEL, num_classes=3, form=name)
    give_statistics(network)
    likely = {"voc": [6, 0, 0, 0], "coco": [-6, -6, -6, 0]}[name]  # most priors hold nothing
    for layer_name, layer in network.named_sublayers():
        if "cls_headers" in layer_name and layer_name.endswith(("conv.3", "headers.5")):
            layer.weight.set_value(paddle.randn(layer.weight.shape))
            layer.bias.set_value(paddle.to_tensor(np.tile(np.float32(likely), layer.bias.shape[0] // 4)))
    file = folder / f"{name}.safetensors"
    save_file({key: tensor.numpy() for key, tensor in network.state_dict().items()}, str(file))
    return read_weights(file, preprocessing={"image_size": SIZE})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As few as an export is compared on."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(FEWEST):
        random = np.random.default_rng(number)
        small = random.integers(0, 256, (4 + number, 6, 3)).astype(np.uint8)
        Image.fromarray(small).resize((260 + number, 200), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@dataclass(frozen=True)
class Exported:
    folder: Path
    record: WeightsRecord
    parity: dict[str, Any]

    def open(self, post_processing: Mapping[str, Any] | None = None) -> Runtime:
        """Open the network alone, or the second model that the sidecar describes."""
        spec = prepare(find_subject(exported=self.folder), self.folder / "scratch", Choice()).spec
        assert spec.outputs == ("scores", "regressions")
        return open_runtime(beside([spec], post_processing)[0] if post_processing else spec)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Callable[[str, str], Exported]:
    """Exports of format and form, each made once."""

    @cache
    def weights_of(name: str) -> Weights:
        return a_detector(name, tmp_path_factory.mktemp("detector"))

    @cache
    def exported(format: str, name: str) -> Exported:
        skip_if_not_writable(format)
        weights, folder = weights_of(name), tmp_path_factory.mktemp(format)
        record = weights.record()
        parity = write_checked(
            weights, format, folder, [str(pictures)],
            lambda expected, outputs: EXPORT.agreement(expected, outputs, record), EXPORT.post_processing,
        )  # fmt: skip
        return Exported(folder, record, parity)

    return exported


@pytest.mark.parametrize(
    ("format", "name"),
    # What is different of coco is the decoder, which a test below runs for both.
    [*((format, "voc") for format in FORMATS), pytest.param("onnx", "coco", marks=pytest.mark.long)],
)
def test_every_format(format: str, name: str, exports: Callable[[str, str], Exported]) -> None:
    """All boxes of all pictures are Paddle's; ONNX and OpenVINO have a second model that gives them, of any batch."""
    exported, form = exports(format, name), FORMS[name].replace(image_size=SIZE)
    parity, sidecar = exported.parity, read_sidecar(exported.folder)
    assert parity["runtimes"]
    for fields in (*parity["runtimes"].values(), *parity.get("post_processing", {}).values()):
        equal, boxes = fields["equal_boxes"]
        assert equal == boxes > 8
    assert [output.shape for output in sidecar.outputs] == [(form.priors, 4), (form.priors, 4)]
    assert sidecar.post_processing is not None
    assert Form.from_dict(sidecar.post_processing["form"]) == form
    assert ("file" in sidecar.post_processing) == ("post_processing" in parity) == (format in POST_PROCESSED)
    raw = exported.open()
    pictures = np.random.default_rng(0).standard_normal((3, 3, SIZE, SIZE), dtype=np.float32)
    if format not in POST_PROCESSED:
        assert [output.shape for output in raw.predict(pictures)] == [(3, form.priors, 4)] * 2
        return
    with_boxes = exported.open(sidecar.post_processing)
    for batch in (pictures[:1], pictures):
        boxes, labels, scores, image = with_boxes.predict(batch)
        expected = decode(*raw.predict(batch), form=form)
        assert all(len(one) for one in expected)
        assert np.array_equal(image, np.repeat(range(len(batch)), [len(one) for one in expected]))
        assert np.array_equal(labels, np.concatenate([one.labels for one in expected]))
        assert np.abs(boxes - np.concatenate([one.boxes for one in expected])).max() < 0.05
        assert np.abs(scores - np.concatenate([one.scores for one in expected])).max() < 1e-4


@pytest.mark.parametrize("format", POST_PROCESSED)
def test_pictures_without_boxes(format: str, exports: Callable[[str, str], Exported], tmp_path: Path) -> None:
    """No score is above 1: four arrays without rows, for one picture and for three."""
    skip_if_not_writable(format)
    exported, form = exports("onnx", "voc"), FORMS["voc"].replace(image_size=SIZE, score_threshold=1.0)
    record = replace(exported.record, architecture={"form": form.to_dict()})
    assert EXPORT.post_processing is not None
    names = write_post_processed(EXPORT.post_processing, format, exported.folder / "model.onnx", tmp_path, record)
    runtime = {"onnx": "onnxruntime", "openvino": "openvino"}[format]
    spec = RuntimeSpec(runtime, "", "cpu", 1, tmp_path, names["file"], input=names["input"], outputs=names["outputs"])
    opened = open_runtime(spec)
    for pictures in (1, 3):
        outputs = opened.predict(np.zeros((pictures, 3, SIZE, SIZE), np.float32))
        assert [output.shape for output in outputs] == [(0, 4), (0,), (0,), (0,)]


def test_agreement_notices_other_boxes() -> None:
    """A shifted picture, another class and a lost box are wrong; rounding is not."""
    raw = decode_outputs("voc")
    record = record_of(FORMS["voc"], 20)
    fields, problem = EXPORT.agreement(raw, raw, record)
    assert problem is None
    assert fields["equal_boxes"][0] == fields["equal_boxes"][1] > 100
    assert fields["images_with_equal_boxes"] == [3, 3]
    rounded = tuple(output * np.float32(1 + 1e-7) for output in raw)
    assert EXPORT.agreement(raw, rounded, record)[1] is None
    for wrong in (
        (raw[0], raw[1] + np.float32(0.3)),
        (np.roll(raw[0], 1, axis=2), raw[1]),
        (np.roll(raw[0], 24, axis=1), raw[1]),
    ):
        assert "boxes are not those of Paddle's outputs" in str(EXPORT.agreement(raw, wrong, record)[1])


@pytest.mark.parametrize("name", ["voc", "coco"])
def test_the_decoder_of_the_document(name: str, tmp_path: Path) -> None:
    """The example of docs/deployment.md gives the recorded boxes from what the folder of an export holds."""
    record = record_of(FORMS[name], {"voc": 20, "coco": 80}[name])
    (tmp_path / "mobilenext.json").write_text(json.dumps({"post_processing": instructions(record)}))
    for file, content in files(record).items():
        (tmp_path / file).write_bytes(content)
    code = DOCUMENT.read_text().partition("```python\nimport json, pathlib\n")[2].partition("```")[0]
    names: dict[str, Any] = {"json": json, "pathlib": pathlib}
    exec(code, names)
    recorded = arrays("decode")
    for picture, raw in enumerate(zip(*decode_outputs(name), strict=True)):
        rows = np.array(names["decode"](tmp_path, *raw)).reshape(-1, 6)
        assert np.array_equal(rows[:, 4], recorded[f"{name}_{picture}_labels"])
        assert np.abs(rows[:, :4] - recorded[f"{name}_{picture}_boxes"]).max(initial=0) < 1e-3
        assert np.abs(rows[:, 5] - recorded[f"{name}_{picture}_scores"]).max(initial=0) < 1e-5
