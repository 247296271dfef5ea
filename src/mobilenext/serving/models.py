"""Networks opened for serving: prepared as for an evaluation, with a card that describes them."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.arrays import Floats
from mobilenext.data.preprocessing import Pixels
from mobilenext.errors import UsageError
from mobilenext.machine.packages import installed
from mobilenext.models import MODELS
from mobilenext.runs.run_folder import CONFIG
from mobilenext.runtime import Runtime, open_runtime
from mobilenext.serving.samples import samples_of
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import Subject, weights_of
from mobilenext.sources.prepare import Prepared, prepare
from mobilenext.task import Task
from mobilenext.tasks import DEFAULT, find_task, task_of_file
from mobilenext.weights.record import WeightsRecord

HeatMap = Callable[[Pixels, int], Floats]  # uint8 [S, S, 3] and a class to float32 [S, S], 0 to 1
LATENCY_SAMPLES = 20
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """One model behind the server."""

    name: str  # that clients ask for
    prepared: Prepared
    networks: Sequence[Runtime]  # copies, one for each thread that calls it
    latency_ms: float  # median of one image in the network, when it was opened
    open_heat_map: Callable[[], HeatMap] | None  # run once in the thread that then explains
    no_heat_map: str = ""  # why there is none
    answering: Mapping[str, Any] = field(default_factory=dict)  # options of answers where a request has none

    @property
    def task(self) -> Task:
        """Return what the network is for."""
        return find_task(self.record.task)

    @property
    def record(self) -> WeightsRecord:
        return self.prepared.record

    def card(self) -> dict[str, Any]:
        """Return the facts about the model that clients may see; no path."""
        record, spec = self.record, self.prepared.spec
        published, architecture = record.published, MODELS.get(record.model)
        accuracy = published.published if published else None
        return {
            "name": self.name,
            "model": record.model,
            "task": self.task.name,
            "answering": dict(self.answering),
            "num_classes": record.num_classes,
            "labels": list(record.labels) if record.labels else None,
            "preprocessing": record.preprocessing.to_dict(),
            "weights_file": record.path.name,
            "weights_sha256": record.sha256,
            "weights_kind": record.kind,
            "origin": published.origin if published else None,
            "licence": published.licence if published else None,
            "note": published.note if published else "",
            "published": asdict(accuracy) if accuracy else None,
            "paper_top1_percent": architecture.paper_top1_percent if architecture else None,
            "parameters_at_1000_classes": architecture.parameters if architecture and not architecture.task else None,
            "runtime": spec.describe(),
            "threads": spec.threads,
            "copies": len(self.networks),
            "measured": {"network_latency_ms": self.latency_ms},
            "heat_map": self.open_heat_map is not None,
            "no_heat_map": self.no_heat_map,
            "sample": samples_of(record) > 0,
            "samples": samples_of(record),
        }


def open_models(
    subjects: Sequence[tuple[str, Subject]],
    folder: Path,
    *,
    runtime: str = "auto",
    threads: int = 1,
    copies: int = 1,
    answering: Mapping[str, Any] | None = None,
) -> list[ServedModel]:
    """Prepare the networks and open them.

    Args:
        subjects: a name for each ("": that of its weights) and the network.
        folder: for the files of the runtimes; it must outlive them.
        runtime: auto or a name; threads: of each copy; copies: opened of each model.
        answering: options of answers where a request has none; each model takes those that mean something to its task.

    Raises:
        UsageError: an option that means nothing to any of the models, or a value out of its range.
        Else as :func:`mobilenext.sources.prepare.prepare`.
    """
    opened: list[ServedModel] = []
    for number, (wanted, subject) in enumerate(subjects):
        prepared = prepare(subject, folder / str(number), Choice(runtime=runtime, threads=threads))
        for note in prepared.notes:
            log.info("%s", note)
        task, options = task_of_file(prepared.record.task, subject.path), answering or {}
        options = task.options_of({name: options[name] for name in options if name in task.evaluation.options})
        networks = [open_runtime(prepared.spec) for _ in range(copies)]
        name = wanted or prepared.record.card or name_of(prepared.record.path)
        taken = {model.name for model in opened}
        unique = next(free for free in (name, *(f"{name}-{n}" for n in range(2, 1000))) if free not in taken)
        open_heat_map, reason = _heat_map(subject, task)
        latency_ms = _latency_ms(networks, prepared)
        opened.append(ServedModel(unique, prepared, networks, latency_ms, open_heat_map, reason, options))
    if not opened:
        raise UsageError("no model to serve; expected at least one")
    for name in answering or {}:
        if not any(name in model.answering for model in opened):
            raise UsageError(f"{name} means nothing to the models that are served; it is an option of detectors")
    return opened


def name_of(weights: Path) -> str:
    """Return the name of weights that nobody has named: that of their file or, in a run's folder, of the run."""
    path = weights.resolve()
    if not (path.parent / CONFIG).is_file():
        return path.stem
    return path.parent.name if path.stem == "best" else f"{path.parent.name}-{path.stem}"


def _latency_ms(networks: Sequence[Runtime], prepared: Prepared) -> float:
    """Return the median latency of one image, measured after every copy was used once."""
    size = prepared.record.preprocessing.image_size
    image = np.zeros((1, 3, size, size), np.float32)
    for network in networks:
        network.predict(image)
    times = []
    for _ in range(LATENCY_SAMPLES):
        began = time.perf_counter()
        networks[0].predict(image)
        times.append(time.perf_counter() - began)
    return round(1e3 * statistics.median(times), 2)


def _heat_map(subject: Subject, task: Task) -> tuple[Callable[[], HeatMap] | None, str]:
    """Return how to open the heat maps of a network, or None and why there are none."""
    if task.name != DEFAULT:
        return None, f"a heat map explains a class of a whole image; this network is for {task.name}"
    if subject.kind != "weights":
        return (
            None,
            "a heat map needs the network's gradients, which an exported model does not have; serve its weights",
        )
    if not installed("paddle"):
        return None, "a heat map needs Paddle, which is not installed on the server"

    def opened() -> HeatMap:
        from mobilenext.explanation.gradcam import Explainer
        from mobilenext.weights.load import network_of

        weights = weights_of(subject)
        explainer = Explainer(network_of(weights), weights.preprocessing)

        def heat(pixels: Pixels, class_id: int) -> Floats:
            return explainer.explain(pixels, class_id).heat

        size = weights.preprocessing.image_size
        heat(np.zeros((size, size, 3), np.uint8), 0)  # the first call is the slow one
        return heat

    return opened, ""
