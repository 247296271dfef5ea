"""The routes. ``create_app`` makes an ASGI application of models that are open; ``server`` puts it on a socket."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.requests import Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware

from mobilenext.arrays import Floats
from mobilenext.data.preprocessing import Pixels
from mobilenext.explanation.overlay import overlay as laid_over
from mobilenext.serving.front import Front
from mobilenext.serving.headers import SafeHeaders
from mobilenext.serving.limits import Limits
from mobilenext.serving.metrics import CONTENT_TYPE, Metrics
from mobilenext.serving.models import ServedModel
from mobilenext.serving.pictures import data_uri, heat_layer, png
from mobilenext.serving.problems import Problem, answer_problems
from mobilenext.serving.samples import sample as sample_file
from mobilenext.serving.samples import samples_of
from mobilenext.serving.schema import (
    IMAGE_BODY,
    LONGEST_MODEL,
    MODEL,
    Class,
    Detections,
    Health,
    Models,
    Overlay,
    Prediction,
    PredictionQuery,
    ProblemDetails,
    problems,
)
from mobilenext.serving.service import Answer, Service
from mobilenext.serving.uploads import read_upload
from mobilenext.tasks import DEFAULT
from mobilenext.version import __version__

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": (PAGE / "index.html", "text/html; charset=utf-8"),
    "/app.js": (PAGE / "app.js", "text/javascript; charset=utf-8"),
    "/style.css": (PAGE / "style.css", "text/css; charset=utf-8"),
    "/icon.svg": (PAGE / "icon.svg", "image/svg+xml"),
    "/favicon.ico": (PAGE / "icon.svg", "image/svg+xml"),  # asked for by browsers and monitors that read no page
    "/robots.txt": (PAGE / "robots.txt", "text/plain; charset=utf-8"),
    "/docs": (PAGE / "docs.html", "text/html; charset=utf-8"),
    "/docs.js": (PAGE / "docs.js", "text/javascript; charset=utf-8"),
    "/docs.css": (PAGE / "docs.css", "text/css; charset=utf-8"),
}
ROUTES = (
    "/v1/predict",
    "/v1/explain",
    "/v1/models",
    "/v1/sample",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    *FILES,
)
ABOUT = """Images in; classes and heat maps, or objects in boxes, out. An image is the body itself or the part `file` of
a form; it is decoded in memory, turned upright by its EXIF orientation, and forgotten. Errors are
`application/problem+json`."""

ModelName = Annotated[str | None, Query(max_length=LONGEST_MODEL, description=MODEL)]
ClassId = Annotated[int | None, Query(ge=0, le=10**6, description="Explain this class; default: the first.")]
SampleNumber = Annotated[int, Query(ge=0, le=10**6, description="Which of the model's samples, from 0.")]
UPLOAD = (400, 404, 408, 413, 415, 422, 429, 503, 504)


def create_app(models: Sequence[ServedModel], limits: Limits | None = None, *, front: Front | None = None) -> FastAPI:
    """Return the application.

    Args:
        models: open already; the first is the default.
        limits: bounds of each request, and of all together.
        front: what stands before the server; None: nothing, and any name is answered.
    """
    limits = limits or Limits()
    metrics = Metrics()
    service = Service(models, limits, metrics)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        try:
            await service.start()
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="MobileNeXt", version=__version__, description=ABOUT, lifespan=running, docs_url=None, redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(SafeHeaders, metrics=metrics, routes=ROUTES, front=front or Front())],
    )  # fmt: skip
    app.state.service = service
    answer_problems(app)
    _add_predictions(app, service)
    _add_facts(app, service)
    _add_files(app)
    return app


def _add_predictions(app: FastAPI, service: Service) -> None:
    async def answered(request: Request, model: ServedModel, options: dict[str, Any]) -> tuple[Answer, float]:
        upload = await read_upload(request, service.limits)
        began = time.perf_counter()
        return await service.predict(upload, model, options), began

    @app.post(
        "/v1/predict", response_model=Prediction | Detections, responses=problems(*UPLOAD, 409),
        openapi_extra=IMAGE_BODY | {"parameters": PredictionQuery.described()}, tags=["images"],
    )  # fmt: skip
    async def predict(request: Request) -> Response:
        """Return the best classes of an image or, of a detector, the objects in it."""
        query = PredictionQuery.read(request.query_params)
        with service.gate.enter(_client(request)):
            chosen = service.model(query.model)
            options = service.options_of(chosen, query.options())
            if query.overlay:
                service.require_heat_map(chosen)
            answer, began = await answered(request, chosen, options)
            shown = await service.heat_map(answer, None, _overlay(answer.best_class)) if query.overlay else None
            return _response(answer, round(1e3 * (time.perf_counter() - began), 2), shown)

    @app.post(
        "/v1/explain", response_class=Response, openapi_extra=IMAGE_BODY, tags=["images"],
        responses=_picture("What the network saw, with the heat over it.", "image/png")
        | problems(*UPLOAD, 409),
    )  # fmt: skip
    async def explain(request: Request, model: ModelName = None, class_id: ClassId = None) -> Response:
        """Draw where in the image the score of a class comes from (Grad-CAM)."""
        with service.gate.enter(_client(request)):
            chosen = service.model(model)
            service.require_heat_map(chosen)
            answer, _ = await answered(request, chosen, service.options_of(chosen, {"topk": 1}))
            picture = await service.heat_map(answer, class_id, lambda pixels, heat: png(laid_over(pixels, heat)))
            return Response(picture, media_type="image/png")


def _response(answer: Answer, milliseconds: float, shown: Overlay | None) -> Response:
    """Return a prediction of a classifier; of another task the fields of its answer, between the model and the time."""
    model, fields = answer.model, answer.fields
    if model.task.name != DEFAULT:
        content = {"model": model.name, "task": model.task.name, **fields, "milliseconds": milliseconds}
        return JSONResponse(content)
    labels = model.record.labels
    prediction = Prediction(
        model=model.name,
        classes=[
            Class(id=number, score=score, label=labels[number] if labels else None)
            for number, score in zip(fields["classes"], fields["scores"], strict=True)
        ],
        milliseconds=milliseconds,
        overlay=shown,
    )
    return Response(prediction.model_dump_json(), media_type="application/json")


def _picture(description: str, *kinds: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": description, "content": {kind: {} for kind in kinds}}}


def _overlay(class_id: int) -> Any:
    def draw(pixels: Pixels, heat_map: Floats) -> Overlay:
        return Overlay(class_id=class_id, input_png=data_uri(pixels), heat_png=data_uri(heat_layer(heat_map)))

    return draw


def _add_facts(app: FastAPI, service: Service) -> None:
    cards = [model.card() for model in service.models.values()]

    @app.get("/v1/models", response_model=Models, tags=["facts"])
    async def models() -> Any:
        """Return the models that are served, with their cards, and the server's limits."""
        return JSONResponse({"models": cards, "limits": service.limits.to_dict()})

    @app.get(
        "/v1/sample", response_class=Response, tags=["facts"],
        responses=_picture("The sample.", "image/jpeg", "image/png") | problems(404, 422),
    )  # fmt: skip
    async def sample(model: ModelName = None, number: SampleNumber = 0) -> Response:
        """Return a picture that a model comes with, to try it; ``samples`` of its card says how many there are."""
        chosen = service.model(model)
        count = samples_of(chosen.record)
        if number >= count:
            fault = (
                f"has {count} sample{'s' * (count != 1)}, of which 0 is the first"
                if count
                else "comes without a sample"
            )
            raise Problem(404, f"{chosen.name} {fault}")
        content, kind = await run_in_threadpool(sample_file, chosen.record, number)
        return Response(content, media_type=kind)

    @app.get("/healthz", response_model=Health, tags=["facts"])
    async def healthz() -> Any:
        """Report that the server is running."""
        return Health(status="ok")

    @app.get("/readyz", response_model=Health, responses=problems(503), tags=["facts"])
    async def readyz() -> Any:
        """Report whether the server accepts a prediction now."""
        if not service.ready or service.gate.full:
            raise Problem(503, "busy, starting or stopping", retry_after=1)
        return Health(status="ready")

    @app.get("/metrics", response_class=Response, tags=["facts"], responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Return counts and times in the format of Prometheus."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    describe = app.openapi

    def openapi() -> dict[str, Any]:
        schema = describe()
        known = schema.setdefault("components", {}).setdefault("schemas", {})
        known.setdefault("ProblemDetails", ProblemDetails.model_json_schema())
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _add_files(app: FastAPI) -> None:
    files = dict(FILES)
    package = importlib.util.find_spec("fastapi_offline")  # only for its copy of Swagger UI
    if package and package.submodule_search_locations:
        static = Path(package.submodule_search_locations[0]) / "static"
        files["/swagger-ui.js"] = (static / "swagger-ui-bundle.js", "text/javascript; charset=utf-8")
        files["/swagger-ui.css"] = (static / "swagger-ui.css", "text/css; charset=utf-8")
    for address, (path, kind) in files.items():
        app.add_api_route(address, _sender(path, kind), methods=["GET"], include_in_schema=False)


def _sender(path: Path, kind: str) -> Any:
    async def send() -> FileResponse:
        return FileResponse(path, media_type=kind)

    return send


def _client(request: Request) -> str:
    return request.client.host if request.client else "unknown"
