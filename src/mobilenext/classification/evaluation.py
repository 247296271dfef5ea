"""Classification as the evaluation sees it: labels of the data, rows, counts, the fields of a result, answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.arrays import Outputs
from mobilenext.classification.comparison import compare
from mobilenext.classification.diagnosis import diagnose
from mobilenext.classification.fields import check_result
from mobilenext.classification.metrics import (
    TOP,
    Counts,
    Prediction,
    check_prediction,
    predictions_of,
    ranked,
    softmax,
)  # fmt: skip
from mobilenext.data import LabelledDataset, LabelledImage, open_dataset
from mobilenext.data.class_names import classes_without_images, with_classes
from mobilenext.data.list_file import read_list
from mobilenext.json_files import Unfit, whole
from mobilenext.sources.prepare import Prepared
from mobilenext.statistics import percent_text
from mobilenext.task import Evaluated, Evaluation, Facts
from mobilenext.weights.record import WeightsRecord


def open_data(
    root: str | os.PathLike[str], *, list_file: str | os.PathLike[str] | None, split: str | None
) -> LabelledDataset:
    """Open a data set whose labels are those of its own class folders or of its list.

    Raises:
        DatasetError: no layout that is understood, or the problems found in it.
        UsageError: a list and a split at once.
    """
    return open_dataset(root, list_file=list_file, split=split, check_classes=False, one_class=True)


def fit_data(dataset: LabelledDataset, prepared: Prepared) -> LabelledDataset:
    """Give every record the network's number of its class.

    Raises:
        DatasetError: a label or a name of a class that the network does not have.
    """
    network = prepared.record
    if dataset.class_names is None and any(record.label >= network.num_classes for record in dataset.records):
        assert dataset.list_file is not None  # class folders have names
        # Read again, only for the error: it quotes the lines.
        read_list(dataset.root, dataset.list_file, network.num_classes, repeats=True)
    return with_classes(dataset, network.num_classes, network.labels, assumed=prepared.labels_assumed)


def data_warnings(dataset: LabelledDataset, network: WeightsRecord) -> list[str]:
    """Return a sentence on the classes without images, unless a limit has left them out."""
    if len(dataset) < dataset.total:
        return []
    names = dataset.class_names or network.labels
    missing = classes_without_images((record.label for record in dataset.records), network.num_classes, names)
    return [missing] if missing else []


def facts(network: WeightsRecord, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be known of a network to count its answers, which no option changes."""
    return {"num_classes": network.num_classes}


def rows(outputs: Outputs, records: Sequence[LabelledImage], facts: Facts) -> list[Prediction]:
    """Return the prediction of each record from logits [N, classes], the only output.

    Raises:
        WeightsError: logits that are not finite.
    """
    return predictions_of(
        outputs[0],
        (record.index for record in records),
        (record.name for record in records),
        (record.label for record in records),
    )


def unreadable_row(record: LabelledImage, problem: str) -> Prediction:
    """Return the row of an image that cannot be read, which counts as a wrong answer."""
    return Prediction(record.index, record.name, record.label, (), (), None, problem)


def read_row(value: Any, index: int, facts: Facts, record: LabelledImage | None) -> Prediction:
    """Return a prediction from a line of a file.

    Raises:
        Unfit: it is not that of image number `index`, or not of `record`.
    """
    check_prediction(value, index, facts.get("num_classes"))
    row = Prediction.from_dict(value)
    if record is not None and (row.path, row.label) != (record.name, record.label):
        raise Unfit(f"it is of {row.path!r} with label {row.label}; expected {record.name!r} with label {record.label}")
    return row


def counts(facts: Facts) -> Counts:
    """Return counts of nothing."""
    return Counts(facts["num_classes"])


def result(evaluated: Evaluated) -> dict[str, Any]:
    """Return counts, percentages and intervals, the comparison with a published number, and a row for each class."""
    prepared, dataset, counts = evaluated.prepared, evaluated.dataset, evaluated.counts
    network = prepared.record
    names = dataset.class_names or network.labels
    return {
        **counts.summary(),
        **counts.scores().summary(),
        "classes_with_images": int((counts.by_class[:, 0] > 0).sum()),
        "comparison": compare(network.published, counts, network, prepared.spec.precision),
        "diagnosis": diagnose(evaluated.rows, network.num_classes, evaluated.remarks),
        "per_class": counts.per_class(names),
        "class_names": list(names) if names else None,
    }


def answer(outputs: Outputs, network: WeightsRecord, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the best classes of each image: their numbers, softmax scores and, where known, names.

    Args:
        outputs: logits [N, classes], the only output.
        network: has the names.
        options: ``topk``, the number of classes for each image (5 where it is not there).
    """
    (logits,) = outputs
    answers: list[dict[str, Any]] = []
    for best, scores in zip(ranked(logits, options.get("topk", TOP)), softmax(logits), strict=True):
        answer: dict[str, Any] = {"classes": [int(number) for number in best]}
        answer["scores"] = [round(float(scores[number]), 6) for number in best]
        if network.labels:
            answer["labels"] = [network.labels[number] for number in best]
        answers.append(answer)
    return answers


def answer_lines(answer: Mapping[str, Any]) -> list[str]:
    """Return a line for each class of an answer: its score in percent, its number and, where known, its name."""
    names = [f"  {label}" for label in answer["labels"]] if "labels" in answer else [""] * len(answer["classes"])
    return [
        f"{percent_text(100 * score):>8}  class {number}{name}"
        for number, score, name in zip(answer["classes"], answer["scores"], names, strict=True)
    ]


EVALUATION = Evaluation(
    open_data=open_data,
    fit_data=fit_data,
    warnings=data_warnings,
    facts=facts,
    rows=rows,
    unreadable=unreadable_row,
    read_row=read_row,
    counts=counts,
    result=result,
    result_fields=check_result,
    answer=answer,
    answer_lines=answer_lines,
    options={"topk": whole(1)},
)
