"""The graph of decoding and suppression alone, against the recordings of the authors' code and a loop written here."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from detector_recordings import arrays, decode_outputs
from mobilenext.detection import decode
from mobilenext.models.detector_form import FORMS, Form

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

CLASSES = {"voc": 20, "coco": 80}
RUNTIMES = ("onnxruntime", "openvino")


def model_of(form: Form, num_classes: int) -> bytes:
    """A network that hands on its inputs, with the boxes behind it."""
    import onnx
    from onnx import parser

    from mobilenext.detection.onnx_boxes import append_boxes

    text = """<ir_version: 8, opset_import: ["" : 13]>
    network (float[N, P, C] a, float[N, P, 4] b) => (float[N, P, C] scores, float[N, P, 4] regressions)
    { scores = Identity(a) regressions = Identity(b) }"""
    model = append_boxes(parser.parse_model(text), form, num_classes)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


@cache
def opened(form: Form, num_classes: int, runtime: str) -> Any:
    content = model_of(form, num_classes)
    if runtime == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return lambda a, b: session.run(["boxes", "labels", "scores", "image"], {"a": a, "b": b})
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        results = compiled({"a": a, "b": b})
        return [np.array(results[name]) for name in ("boxes", "labels", "scores", "image")]

    return run


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ["voc", "coco"])
@pytest.mark.parametrize("pictures", [(0,), (2,), (0, 1, 2), (2, 1, 2, 0, 1)], ids=str)
def test_recordings(name: str, runtime: str, pictures: tuple[int, ...]) -> None:
    """Pictures in their order, of each the recorded boxes; none at all where nothing was recorded."""
    recorded = arrays("decode")
    scores, regressions = (array[list(pictures)] for array in decode_outputs(name))
    boxes, labels, values, image = opened(FORMS[name], CLASSES[name], runtime)(scores, regressions)
    counts = [len(recorded[f"{name}_{picture}_labels"]) for picture in pictures]
    assert np.array_equal(image, np.repeat(np.arange(len(pictures)), counts))
    for field, answer, allowed in (("boxes", boxes, 1e-3), ("labels", labels, 0), ("scores", values, 1e-5)):
        expected = np.concatenate([recorded[f"{name}_{picture}_{field}"] for picture in pictures])
        assert answer.shape == expected.shape
        assert np.abs(answer - expected).max(initial=0) <= allowed
    assert (boxes.dtype, labels.dtype, values.dtype, image.dtype) == (np.float32, np.int64, np.float32, np.int64)


def test_ties_and_crowds() -> None:
    """Of equal scores the lower prior comes first; more candidates than the limit give the best of all classes."""
    form = FORMS["voc"].replace(image_size=224, limit=7, score_threshold=0.2)
    scores = np.zeros((2, form.priors, 3), np.float32)
    scores[0, :, 1] = 1.0  # every prior is a candidate, and all have the same score
    scores[1, ::2, 2] = np.linspace(1, 3, len(scores[1, ::2]))
    regressions = np.zeros((2, form.priors, 4), np.float32)
    boxes, labels, values, image = opened(form, 2, RUNTIMES[0])(scores, regressions)
    expected = decode(scores, regressions, form=form)
    assert [len(one) for one in expected] == [7, 7]
    assert np.array_equal(image, [0] * 7 + [1] * 7)
    assert np.array_equal(labels, np.concatenate([one.labels for one in expected]))
    assert np.abs(boxes - np.concatenate([one.boxes for one in expected])).max() < 1e-3
    assert np.abs(values - np.concatenate([one.scores for one in expected])).max() < 1e-6
