"""From the bytes of an image to answers and heat maps, with the slow parts off the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from anyio import fail_after

from mobilenext.arrays import Floats, Outputs
from mobilenext.data.image_claims import container
from mobilenext.data.images import decode_image
from mobilenext.data.preprocessing import Pixels, Preprocessing
from mobilenext.data.resampling import LOADING_PAYS, begin
from mobilenext.errors import UsageError
from mobilenext.machine.cores import available_cores
from mobilenext.serving.batching import Batcher
from mobilenext.serving.feed import Feed
from mobilenext.serving.limits import Gate, Limits
from mobilenext.serving.metrics import Metrics
from mobilenext.serving.models import HeatMap, ServedModel
from mobilenext.serving.pictures import png
from mobilenext.serving.problems import Problem
from mobilenext.serving.uploads import Upload

T = TypeVar("T")
START_S = 60.0


@dataclass(frozen=True)
class Answer:
    """What a network answers for one image."""

    model: ServedModel
    pixels: Pixels  # [S, S, 3], what the network saw
    fields: Mapping[str, Any]  # of the task's answer

    @property
    def best_class(self) -> int:
        """Return the first class, of a classifier."""
        return int(self.fields["classes"][0])


class Service:
    """Models behind queues. It answers between `start` and `stop`."""

    def __init__(self, models: Sequence[ServedModel], limits: Limits, metrics: Metrics) -> None:
        self.models: Mapping[str, ServedModel] = {model.name: model for model in models}
        self.limits = limits
        self.gate = Gate(limits)
        self.metrics = metrics
        self.ready = False
        # Each thread waits for a process that decodes. More than cores: a few images that take long keep no other out.
        self._decoding_threads = max(4, 2 * available_cores())
        self._decoders = ThreadPoolExecutor(self._decoding_threads, "decode")
        self._image_limits = limits.image
        self._explaining = ThreadPoolExecutor(1, "heat-map")  # Paddle's gradients belong to one thread
        self._heat_maps: dict[str, HeatMap] = {}
        self._feeds: dict[str, Feed] = {}
        self._queues: dict[str, Batcher] = {}
        metrics.watch(lambda: self.gate.inside)

    async def start(self) -> None:
        """Open the queues and use everything once, so that the first client does not wait for late imports."""
        together = threading.Barrier(self._decoding_threads)
        threads = [_in(self._decoders, together.wait, START_S) for _ in range(self._decoding_threads)]
        await asyncio.gather(*threads)  # they are all started now: where they cannot be, the server does not start
        blank = png(np.zeros((8, 8, 3), np.uint8))
        for model in self.models.values():
            # What the threads hold, and for each copy of the network one call more than it computes.
            soon = self._decoding_threads + len(model.networks) * (1 + self.limits.max_batch)
            feed = self._feeds[model.name] = Feed(self._decoders, soon)
            queue = self._queues[model.name] = Batcher(
                model.networks,
                max_batch=self.limits.max_batch,
                max_wait_ms=self.limits.max_wait_ms,
                taken=feed.free,
                observe=self.metrics.network_called,
            )
            queue.start()
            preprocessing = model.record.preprocessing
            await _in(self._decoders, begin, LOADING_PAYS, preprocessing.interpolation, preprocessing.image_size)
            await _in(self._decoders, self._read, blank, preprocessing, time.monotonic() + START_S)
            if model.open_heat_map is not None:
                self._heat_maps[model.name] = await _in(self._explaining, model.open_heat_map)
        self.ready = True

    async def stop(self) -> None:
        """Refuse what still waits and end the threads, without waiting for what they compute."""
        self.ready = False
        for feed in self._feeds.values():
            feed.stop()
        for queue in self._queues.values():
            queue.stop()
        for threads in (self._decoders, self._explaining):
            threads.shutdown(wait=False, cancel_futures=True)

    def model(self, name: str | None) -> ServedModel:
        """Return the model of that name; without one, the first.

        Raises:
            Problem: 404 with the names there are.
        """
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Problem(404, f"no model of that name is served here; there are {', '.join(self.models)}")
        return self.models[name]

    def options_of(self, model: ServedModel, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a request, and the server's where it has none, before any computation.

        Raises:
            Problem: 422 an option that means nothing to the model's task, or a value out of its range.
        """
        try:
            return model.task.options_of({**model.answering, **options})
        except UsageError as error:
            raise Problem(422, str(error)) from error

    async def predict(self, upload: Upload, model: ServedModel, options: Mapping[str, Any]) -> Answer:
        """Return what the network answers for an image, with options of `options_of`.

        Raises:
            ImageError: it cannot be decoded. Problem: 503 queue full, 504 too late.
        """
        self._require_format(upload.content)
        answer = await self._in_time(self._answered(upload, model, options))
        self.metrics.images.labels(model.name).inc()
        return answer

    async def heat_map(self, answer: Answer, class_id: int | None, draw: Callable[[Pixels, Floats], T]) -> T:
        """Return the drawing that `draw` makes of the picture and the heat map [S, S] of a class.

        Args:
            answer: has the picture, and the model.
            class_id: the class to explain; None: the first of the answer.
            draw: from the picture and the heat map to a drawing.

        Raises:
            Problem: 409 this model has no heat maps, 422 no such class, 504 too late.
        """
        self.require_heat_map(answer.model)
        explained = answer.best_class if class_id is None else class_id
        if explained >= answer.model.record.num_classes:
            raise Problem(
                422, f"class {explained}: this model has the classes 0 to {answer.model.record.num_classes - 1}"
            )
        compute = self._heat_maps[answer.model.name]

        def drawn() -> T:
            return draw(answer.pixels, compute(answer.pixels, explained))

        began = time.perf_counter()
        result = await self._in_time(_in(self._explaining, drawn))
        self.metrics.stages.labels("heat_map").observe(time.perf_counter() - began)
        return result

    def require_heat_map(self, model: ServedModel) -> None:
        """Raise Problem, 409, for a model without heat maps, before any computation."""
        if model.open_heat_map is None:
            raise Problem(409, model.no_heat_map)

    async def _answered(self, upload: Upload, model: ServedModel, options: Mapping[str, Any]) -> Answer:
        answer: Future[Answer] = Future()
        decode = partial(self._decode, upload, model, options, time.monotonic(), answer)
        try:
            self._feeds[model.name].add(decode, answer)
            return await asyncio.wrap_future(answer)
        finally:
            del answer, decode  # an exception would keep them, and with them the upload

    def _decode(
        self, upload: Upload, model: ServedModel, options: Mapping[str, Any], start: float, answer: Future[Answer]
    ) -> bool:
        """Decode an image and put it into the model's queue; return whether it is there. The network's thread answers.

        `start` is when its client began to wait.
        """
        if answer.cancelled():  # its client waits no longer
            return False
        began = time.monotonic()
        pixels, image, size = self._read(upload.content, model.record.preprocessing, start + self.limits.timeout_s)
        self.metrics.stages.labels("decode").observe(time.monotonic() - began)
        wanted = {**options, "sizes": [size], "names": [upload.name]}

        def finished(rows: Outputs) -> Answer:
            (fields,) = model.task.evaluation.answer(tuple(row[None] for row in rows), model.record, wanted)
            return Answer(model, pixels, fields)

        return self._queues[model.name].put(image, finished, answer, waited_s=began - start)

    def _require_format(self, content: bytes) -> None:
        """Raise Problem, 415, for a format of images that this server does not read."""
        name = container(content[:32])
        if name and name not in self.limits.formats:
            raise Problem(
                415,
                f"the upload is an image in the format {name}; this server reads {', '.join(self.limits.formats)}: "
                "convert it, or let its operator allow the format (--formats)",
            )

    def _read(
        self, content: bytes, preprocessing: Preprocessing, until: float
    ) -> tuple[Pixels, Floats, tuple[int, int]]:
        """Return uint8 [S, S, 3], the same normalized [3, S, S], and width and height of the whole upright image.

        No client waits for it after `until`.
        """
        wait_s = until - time.monotonic()
        if wait_s <= 0:
            raise self._too_late()
        image = decode_image(content, "the upload", apply_orientation=True, limits=self._image_limits, wait_s=wait_s)
        pixels = preprocessing.pixels(image)
        return pixels, preprocessing.normalize(pixels), image.size

    async def _in_time(self, call: Awaitable[T]) -> T:
        try:
            with fail_after(self.limits.timeout_s):
                return await call
        except TimeoutError as error:
            raise self._too_late() from error

    def _too_late(self) -> Problem:
        return Problem(504, f"no answer within {self.limits.timeout_s:g} s; try again later", retry_after=2)


async def _in(threads: ThreadPoolExecutor, function: Callable[..., T], *arguments: object) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)
