"""Counts and times for Prometheus at /metrics; no names of files, no addresses."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """The counters of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "mobilenext_requests_total", "Answers.", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "mobilenext_request_seconds", "From the first header to the answer.", ("route",), buckets=SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.stages = Histogram(
            "mobilenext_stage_seconds", "decode (and resize), queue, network, heat_map.", ("stage",), buckets=SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.images = Counter(
            "mobilenext_images_total", "Images that were predicted.", ("model",), registry=self.registry
        )
        self.batch = Histogram(
            "mobilenext_batch_images", "Images of a call of a network.", buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )  # fmt: skip
        self.inside = Gauge("mobilenext_predictions_inside", "Predictions under way.", registry=self.registry)

    def watch(self, inside: Callable[[], float]) -> None:
        """Call `inside` whenever the metrics are read."""
        self.inside.set_function(inside)

    def network_called(self, images: int, seconds: float, waited: list[float]) -> None:
        self.batch.observe(images)
        self.stages.labels("network").observe(seconds)
        for wait_s in waited:
            self.stages.labels("queue").observe(wait_s)

    def text(self) -> bytes:
        return generate_latest(self.registry)
