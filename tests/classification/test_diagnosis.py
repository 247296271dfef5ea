from __future__ import annotations

import numpy as np
import pytest

from mobilenext.classification.diagnosis import diagnose
from mobilenext.classification.metrics import Prediction

NOT_EXPLAINED = "no shift or permutation"


def rows_of(labels: np.ndarray, predicted: np.ndarray) -> list[Prediction]:
    pairs = zip(labels.tolist(), predicted.tolist(), strict=True)
    return [Prediction(index, "", label, (best,), (1.0,), 0.0) for index, (label, best) in enumerate(pairs)]


def a_network(classes: int, images: int, accuracy: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """True classes and the answers of a network that is right so often."""
    random = np.random.default_rng(5)
    truth = np.arange(images) % classes
    wrong = random.integers(0, classes, images)
    return truth, np.where(random.random(images) < accuracy, truth, wrong)


@pytest.mark.parametrize("classes", [20, 1000])
def test_labels_off_by_one(classes: int) -> None:
    truth, predicted = a_network(classes, 4000)
    inside = truth < classes - 1
    sentences = diagnose(rows_of(truth[inside] + 1, predicted[inside]), classes)
    assert "near random" in sentences[0]
    assert "labels run from 1, not from 0" in sentences[1]
    inside = truth > 0
    sentences = diagnose(rows_of(truth[inside] - 1, predicted[inside]), classes)
    assert "labels are one too low" in sentences[1]
    assert len(sentences) == 2


@pytest.mark.parametrize("classes", [3, 20, 200])
def test_permuted_labels_are_named(classes: int) -> None:
    truth, predicted = a_network(classes, 4000)
    renamed = np.roll(np.random.default_rng(9).permutation(classes), 0)
    renamed = renamed if (renamed != np.arange(classes)).mean() > 0.9 else np.roll(np.arange(classes), 1)
    sentences = diagnose(rows_of(renamed[truth], predicted), classes)
    assert "permuted" in sentences[1]
    network_class = {int(label): number for number, label in enumerate(renamed)}
    first = min(label for label, number in network_class.items() if label != number)
    assert f"The list's {first} is the network's {network_class[first]}" in sentences[1]


def test_two_classes_the_wrong_way_round() -> None:
    truth, predicted = a_network(2, 400, 0.9)
    (_, sentence) = diagnose(rows_of(1 - truth, predicted), 2)
    assert "permuted" in sentence


def test_folders_sorted_as_text() -> None:
    truth, predicted = a_network(1000, 4000)
    folders = sorted(str(number) for number in range(1000))  # '0', '1', '10', '100', '101', ...
    label_of = {int(name): label for label, name in enumerate(folders)}
    labels = np.array([label_of[number] for number in truth.tolist()])
    sentences = diagnose(rows_of(labels, predicted), 1000)
    assert "sorted as text" in sentences[1]
    assert len(sentences) == 2


def test_a_network_that_answers_one_class() -> None:
    truth = np.arange(2000) % 20
    sentences = diagnose(rows_of(truth, np.full(2000, 7)), 20)
    assert sentences[0] == "top-1 is near random: 100 of 2000 images, where guessing gives about 100"
    assert NOT_EXPLAINED in sentences[1]
    assert len(sentences) == 2


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("classes", "images"), [(10, 300), (20, 1000), (1000, 5000)])
def test_guessing_is_near_random_and_not_explained(classes: int, images: int, seed: int) -> None:
    random = np.random.default_rng([seed, classes])
    labels, predicted = random.integers(0, classes, (2, images))
    sentences = diagnose(rows_of(labels, predicted), classes)
    if sentences:  # three standard deviations above chance happen
        assert len(sentences) == 2
        assert NOT_EXPLAINED in sentences[1]
    else:
        assert (labels == predicted).sum() > 1.2 * images / classes


def test_another_class_list() -> None:
    random = np.random.default_rng(1)
    labels, predicted = random.integers(0, 20, 600), random.integers(0, 100, 600)
    assert "only 20 of the network's 100 classes occur" in diagnose(rows_of(labels, predicted), 100)[1]


@pytest.mark.parametrize(
    ("classes", "images", "accuracy"),
    [(1000, 4000, 0.7), (1000, 1000, 0.1), (20, 1000, 0.3), (10, 1797, 0.9), (2, 8, 1.0), (2, 100, 0.6), (4, 24, 0.6)],
)
def test_a_score_that_is_better_than_chance_says_nothing(classes: int, images: int, accuracy: float) -> None:
    assert diagnose(rows_of(*a_network(classes, images, accuracy)), classes) == []


@pytest.mark.parametrize(("classes", "images"), [(1000, 99), (20, 79), (10, 39), (2, 7), (1, 50)])
def test_too_few_images_say_nothing(classes: int, images: int) -> None:
    truth = np.arange(images) % classes
    assert diagnose(rows_of(truth, (truth + 3) % classes), classes) == []


def test_unreadable_images_do_not_count() -> None:
    truth, predicted = a_network(20, 400)
    unreadable = [Prediction(index, "", 0, (), (), None, "broken") for index in range(5000)]
    assert diagnose([*rows_of(truth, predicted), *unreadable], 20) == []
    assert diagnose(unreadable, 20) == []


def test_a_bad_score_names_size_and_crop() -> None:
    truth = np.arange(2000) % 20
    random = np.random.default_rng(3).integers(0, 20, 2000)
    sentences = diagnose(rows_of(truth, random), 20, ["the images are 64 px"])
    assert sentences[1] == "the images are 64 px"
    assert "size and crop" in sentences[2]
    assert "the images are 64 px" not in diagnose(rows_of(truth, (truth + 1) % 20), 20, ["the images are 64 px"])
