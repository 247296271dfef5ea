"""Differences of outputs, on arrays made by hand."""

from __future__ import annotations

import numpy as np

from mobilenext.arrays import Outputs
from mobilenext.classification.export import agreement
from mobilenext.export.parity import ImageOutputs, compare


def outputs(*arrays: np.ndarray) -> ImageOutputs:
    return ImageOutputs(("scores", "boxes")[: len(arrays)], arrays, tuple(array[:3] for array in arrays))


def nothing(expected: Outputs, other: Outputs) -> tuple[dict[str, int], None]:
    return {}, None


SCORES = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])  # its standard deviation is 0.5
BOXES = 100 * SCORES[:, :, None]


def test_each_output_is_measured_by_its_own_deviation() -> None:
    differences, problem = compare(outputs(SCORES, BOXES), outputs(SCORES + 0.004, BOXES + 0.25), nothing)
    assert differences == {"largest_difference": 0.25, "largest_difference_of_std": 0.008}
    assert problem is None
    _, problem = compare(outputs(SCORES, BOXES), outputs(SCORES + 0.25, BOXES), nothing)
    assert problem == "scores differ by 0.25 (0.5 of their standard deviation; allowed 0.01)"


def test_a_constant_output_is_measured_by_its_size() -> None:
    constant, zeros = np.full((4, 2), 8.0), np.zeros((4, 2))
    assert compare(outputs(constant), outputs(constant + 0.0625), nothing)[1] is None
    _, problem = compare(outputs(constant), outputs(constant + 0.5), nothing)
    assert problem == "scores differ by 0.5 (0.0625 of their constant value; allowed 0.01)"
    assert compare(outputs(zeros), outputs(zeros), nothing) == (
        {"largest_difference": 0.0, "largest_difference_of_std": 0.0}, None,
    )  # fmt: skip
    assert compare(outputs(zeros), outputs(zeros + 1e-6), nothing)[1] is not None


def test_nan_and_another_shape_are_problems() -> None:
    broken = SCORES.copy()
    broken[3, 1] = np.nan
    differences, problem = compare(outputs(SCORES), outputs(broken), nothing)
    assert np.isnan(differences["largest_difference"])
    assert problem == "scores differ by nan (nan of their standard deviation; allowed 0.01)"
    _, problem = compare(outputs(SCORES), outputs(SCORES[:, :1]), nothing)
    assert problem == "scores have the shape [4, 1] instead of [4, 2]"


def test_images_go_one_by_one_and_in_threes() -> None:
    sizes = []

    def predict(images: np.ndarray) -> Outputs:
        sizes.append(len(images))
        return images.sum(axis=(2, 3)), images

    images = np.arange(5 * 3 * 2 * 2, dtype=np.float32).reshape(5, 3, 2, 2)
    computed = ImageOutputs.of(("sums", "images"), predict, images)
    assert sizes == [1, 1, 1, 1, 1, 3]
    assert np.array_equal(computed.one_by_one[1], images)
    assert np.array_equal(computed.in_threes[0], images[:3].sum(axis=(2, 3)))


def test_answers_of_a_classifier() -> None:
    """A clear first class must stay; two classes as good as each other may change places."""
    logits = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5001]])
    swapped = logits[:, ::-1]
    assert agreement((logits,), (logits,)) == ({"equal_top1": 3}, None)
    assert agreement((logits,), (np.array([*logits[:2], swapped[2]]),)) == ({"equal_top1": 2}, None)
    assert agreement((logits,), (swapped,)) == ({"equal_top1": 0}, "2 images of 3 get another class")
