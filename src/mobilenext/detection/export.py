"""What the export of a detector is compared by, the boxes, and what follows its raw outputs in a second file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.arrays import Floats, Outputs
from mobilenext.detection.answers import Reading
from mobilenext.detection.coding import CENTER_VARIANCE, SIZE_VARIANCE
from mobilenext.detection.decoding import Detections, count_candidates, decode
from mobilenext.detection.onnx_boxes import append_boxes
from mobilenext.detection.priors import prior_boxes
from mobilenext.export.post_processing import Calls, PostProcessing
from mobilenext.models.detector_form import Form
from mobilenext.task import Export
from mobilenext.weights.record import WeightsRecord

PRIORS = "priors.npy"  # float32 [P, 4]
_PIXELS, _SCORE = 0.1, 1e-3  # boxes that differ by no more are equal
# Rounding at the very most, in standard deviations of an output. A box that such noise adds or removes stands on the
# edge of a threshold, of the limit or of another box: there, programs that are both right may differ.
_ROUNDING = 1e-3
_TRIALS = 4


def form_of(record: WeightsRecord) -> Form:
    """Return the form of the detector that the record describes, as answers without options are read."""
    return Reading.of_network(record, {}, clip=False).form


def agreement(expected: Outputs, outputs: Outputs, record: WeightsRecord) -> tuple[dict[str, Any], str | None]:
    """Count the boxes that the raw outputs of both networks give alike, and say whether clear ones differ."""
    form = form_of(record)
    return _compared(expected, decode(*expected, form=form), decode(*outputs, form=form), form)


def agreement_of_boxes(calls: Calls, record: WeightsRecord) -> tuple[dict[str, Any], str | None]:
    """Compare the boxes of a file with those that follow from Paddle's raw outputs, in the same way."""
    form = form_of(record)
    expected = tuple(np.concatenate(arrays) for arrays in zip(*(raw for raw, _ in calls), strict=True))
    pictures: list[Detections] = []
    for (scores, _), outputs in calls:
        pictures += _by_picture(outputs, len(scores))
    return _compared(expected, decode(*expected, form=form), pictures, form)


def _by_picture(outputs: Outputs, pictures: int) -> list[Detections]:
    """Return the boxes of each picture from those of a batch: boxes [M, 4], labels, scores and image [M]."""
    boxes, labels, scores, image = outputs
    return [
        Detections(boxes[image == number], labels[image == number], scores[image == number])
        for number in range(pictures)
    ]


def _compared(
    raw: Outputs, expected: Sequence[Detections], others: Sequence[Detections], form: Form
) -> tuple[dict[str, Any], str | None]:
    """Return the counts of equal boxes and pictures, and a sentence on clear boxes that only one of both sides has."""
    equal_boxes = boxes = equal_images = wrong = 0
    deviations = [float(output.std()) for output in raw]
    for number, (one, other) in enumerate(zip(expected, others, strict=True)):
        missing, added = ~_are_in(one, other), ~_are_in(other, one)
        boxes += len(one)
        equal_boxes += int((~missing).sum())
        equal_images += not (missing.any() or added.any())
        if missing.any() or added.any():
            picture = tuple(output[number : number + 1] for output in raw)
            for noisy in _with_rounding(picture, deviations, form):
                missing &= _are_in(one, noisy)
                added &= ~_are_in(other, noisy)
            wrong += int(missing.sum() + added.sum())
    problem = f"{wrong} boxes are not those of Paddle's outputs, of {boxes}" if wrong else None
    return {"equal_boxes": [equal_boxes, boxes], "images_with_equal_boxes": [equal_images, len(expected)]}, problem


def _with_rounding(raw: Outputs, deviations: Sequence[float], form: Form) -> list[Detections]:
    """Return the boxes of one picture for outputs that differ by what rounding may cost."""
    random = np.random.default_rng(0)
    trials = []
    for _ in range(_TRIALS):
        noisy = [
            output + np.float32(_ROUNDING * deviation) * random.standard_normal(output.shape, dtype=np.float32)
            for output, deviation in zip(raw, deviations, strict=True)
        ]
        trials += decode(*noisy, form=form)
    return trials


def _are_in(one: Detections, other: Detections) -> npt.NDArray[np.bool_]:
    """Return for each box [K] of one picture whether the other side has it, with its class and score."""
    pixels = _PIXELS + 1e-3 * np.abs(one.boxes[:, None]).max(axis=-1, initial=0)  # [K, 1]
    near = np.abs(one.boxes[:, None] - other.boxes[None]).max(axis=-1, initial=0) <= pixels  # [K, L]
    alike = np.abs(one.scores[:, None] - other.scores[None]) <= _SCORE
    there: npt.NDArray[np.bool_] = (near & alike & (one.labels[:, None] == other.labels[None])).any(axis=1)
    return there


def _append(model: Any, record: WeightsRecord) -> Any:
    return append_boxes(model, form_of(record), record.num_classes)


def instructions(record: WeightsRecord) -> dict[str, Any]:
    """Return how the boxes follow from the raw outputs, for programs that read the sidecar."""
    form = form_of(record)
    focal = form.loss == "focal"
    return {
        "form": form.to_dict(),
        "priors": PRIORS,
        "priors_layout": "center x, center y, width, height, as fractions of the input's side",
        "center_variance": round(float(CENTER_VARIANCE), 6),
        "size_variance": round(float(SIZE_VARIANCE), 6),
        "activation": "sigmoid" if focal else "softmax over the last axis",
        "first_class_column": 0 if focal else 1,
        "dropped_column": record.num_classes if focal else 0,
        "steps": [
            f"probabilities = {'sigmoid' if focal else 'softmax'}(scores); drop column "
            f"{record.num_classes if focal else 0}; the first that stays is label 1",
            "center = priors[:, :2] + regressions[:, :2] * center_variance * priors[:, 2:]",
            "sides = priors[:, 2:] * exp(regressions[:, 2:] * size_variance)",
            f"x1 y1 x2 y2 = (center - sides / 2, center + sides / 2) * {form.image_size}, pixels of the input",
            f"every class of a prior with a probability above {form.score_threshold:g} is a candidate",
            f"of each class: the best first, drop those whose IoU with a better one is above {form.iou_threshold:g}",
            f"keep the best {form.limit} over all classes; of equal scores the lower prior is the better",
            "the picture was squashed to the input: multiply x by width / input's side, y by height / input's side",
        ],
    }


def files(record: WeightsRecord) -> dict[str, bytes]:
    """Return the file of the priors."""
    content = io.BytesIO()
    priors: Floats = prior_boxes(form_of(record))
    np.save(content, priors, allow_pickle=False)
    return {PRIORS: content.getvalue()}


def boxes(outputs: Outputs, record: WeightsRecord) -> list[Detections]:
    """Return the boxes of N pictures from the raw outputs, as answers without options are read."""
    return decode(*outputs, form=form_of(record))


def amounts(outputs: Outputs, record: WeightsRecord) -> dict[str, int]:
    """Return the numbers of candidates and of boxes of N pictures, which the time of `boxes` depends on."""
    candidates = count_candidates(outputs[0], form_of(record))
    return {"candidates": candidates, "boxes": sum(map(len, boxes(outputs, record)))}


EXPORT = Export(
    agreement=agreement,
    scores=("map_percent", "map_rule", "AP", "AP50", "voc_AP_11_point"),
    post_processing=PostProcessing(
        name="boxes",
        append=_append,
        agreement=agreement_of_boxes,
        instructions=instructions,
        files=files,
        answers=boxes,
        amounts=amounts,
    ),
)
