"""From raw outputs to the boxes of a picture, in its own pixels: for the rows of an evaluation, and for answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mobilenext.arrays import Outputs
from mobilenext.detection.box_tables import Values
from mobilenext.detection.decoding import Detections, decode
from mobilenext.detection.rows import Labels
from mobilenext.json_files import Fields, flag, number, whole
from mobilenext.models.detector_form import MOST_DETECTIONS, Form
from mobilenext.statistics import percent_text
from mobilenext.weights.detectors import architecture_of, form_for_images, form_of
from mobilenext.weights.record import WeightsRecord

OPTIONS: Fields = {
    "score_threshold": number(0, 1),
    "iou_threshold": number(0, 1),
    "max_detections": whole(1, MOST_DETECTIONS),
    "clip": flag(),
    "flip": flag(),
}


class PictureBoxes(NamedTuple):
    """The K boxes of one picture, the best first, rounded: what is stored and shown is what is counted."""

    boxes: Values  # [K, 4] x1 y1 x2 y2 in pixels of the picture
    labels: Labels  # [K] classes from 1
    scores: Values  # [K] falling


@dataclass(frozen=True)
class Reading:
    """How raw outputs are read: the form of the network, and the options that stand in for its own."""

    network_form: Form
    score_threshold: float
    iou_threshold: float
    max_detections: int
    clip: bool  # boxes end at the edges of the picture
    flip: bool  # the outputs for the mirrored pictures come behind the others

    @classmethod
    def of_network(cls, network: WeightsRecord, options: Mapping[str, Any], *, clip: bool) -> Reading:
        """Return how a network is read with some options; `clip` is taken where they do not say it.

        Raises:
            UsageError: the network does not see whole pictures, or its size is none of a detector.
        """
        form = form_for_images(form_of(network.architecture), network.preprocessing)
        return cls._of_form(form, {"clip": clip, **options})

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Reading:
        """Return the reading of facts of an evaluation, or of a run.json, which knows no options."""
        return cls._of_form(form_of(facts["architecture"]), facts)

    @classmethod
    def _of_form(cls, form: Form, options: Mapping[str, Any]) -> Reading:
        return cls(
            form,
            options.get("score_threshold", form.score_threshold),
            options.get("iou_threshold", form.iou_threshold),
            options.get("max_detections", form.limit),
            options.get("clip", False),
            options.get("flip", False),
        )

    @property
    def form(self) -> Form:
        """Return the form with the thresholds and the limit that are used."""
        return self.network_form.replace(
            score_threshold=self.score_threshold, iou_threshold=self.iou_threshold, limit=self.max_detections
        )

    def to_facts(self) -> dict[str, Any]:
        """Return the fields that `of_facts` reads."""
        return {
            "architecture": architecture_of(self.network_form),
            **{name: getattr(self, name) for name in OPTIONS},
        }

    def boxes(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> list[PictureBoxes]:
        """Return the boxes of N pictures in pixels of each.

        Args:
            outputs: scores [N, P, C] and regressions [N, P, 4]; with `flip` those for the mirrored pictures as well.
            sizes: width and height of each picture.

        Raises:
            WeightsError: outputs that are not finite.
        """
        mirrored = (outputs[2], outputs[3]) if self.flip else None
        decoded = decode(outputs[0], outputs[1], form=self.form, mirrored=mirrored)
        return [self.in_picture(*pair) for pair in zip(decoded, sizes, strict=True)]

    def in_picture(self, detections: Detections, size: tuple[int, int]) -> PictureBoxes:
        """Return the boxes in pixels of a picture of this width and height, from those in pixels of the input."""
        edges = np.array([*size, *size], np.float64)  # [4] the far edges of the picture, behind its last pixels
        boxes = detections.boxes.astype(np.float64) * (edges / self.form.image_size)  # [K, 4]
        boxes = np.round(boxes.clip(0, edges) if self.clip else boxes, 3) + 0.0  # no -0.0
        scores: Values = detections.scores.astype(np.float64)
        return PictureBoxes(boxes, detections.labels, scores.round(6))


def answer(outputs: Outputs, network: WeightsRecord, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the objects in each picture, the best first.

    Args:
        outputs: raw, as `Reading.boxes` takes them.
        network: has the form, and the names of the classes.
        options: ``sizes``, the width and height of each picture; ``names`` of the pictures, where they have some; and
            any of `OPTIONS`. Boxes are cut at the edges of the picture unless ``clip`` is False.
    """
    reading = Reading.of_network(network, options, clip=True)
    sizes = options["sizes"]
    names = [{"file": name} for name in options["names"]] if "names" in options else [{} for _ in sizes]
    return [
        {**name, "width": size[0], "height": size[1], "detections": _objects(boxes, network.labels)}
        for name, size, boxes in zip(names, sizes, reading.boxes(outputs, sizes), strict=True)
    ]


def _objects(picture_boxes: PictureBoxes, names: Sequence[str] | None) -> list[dict[str, Any]]:
    return [
        {"box": box, "label": label, "name": names[label - 1] if names else None, "score": score}
        for box, label, score in zip(*(column.tolist() for column in picture_boxes), strict=True)
    ]


def answer_lines(answer: Mapping[str, Any]) -> list[str]:
    """Return a line for each object of an answer: its score in percent, its class and its corners."""
    lines = [
        f"{percent_text(100 * row['score']):>8}  {row['name'] or 'class ' + str(row['label'])}  "
        f"({', '.join(f'{value:.1f}' for value in row['box'])})"
        for row in answer["detections"]
    ]
    return lines or ["nothing found"]
