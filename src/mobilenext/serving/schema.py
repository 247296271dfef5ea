"""The parameters and the answers, as /openapi.json describes them."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import QueryParams

IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary", "description": "One image."}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


MODEL = "A name of /v1/models; default: the first."
LONGEST_MODEL = 200  # characters of a name


class PredictionQuery(BaseModel):
    """The parameters of a prediction, in the address.

    Read as parameters of the function, one by one, they would take FastAPI as long as all else that it does.
    """

    model: str | None = Field(None, max_length=LONGEST_MODEL, description=MODEL)
    topk: int = Field(
        5, ge=1, le=1000, description="The number of classes to return, at most as many as the model has."
    )
    overlay: bool = Field(False, description="Add the heat map of the first class.")
    # Of a detector. Lower scores than the first bound are noise, and suppressing many thousands of boxes takes seconds.
    score_threshold: float | None = Field(
        None, ge=0.01, le=1, description="Return objects with a higher score only (detectors)."
    )
    iou_threshold: float | None = Field(
        None, ge=0, le=1, description="Of two objects of a class that overlap by more, return the better (detectors)."
    )
    max_detections: int | None = Field(None, ge=1, le=1000, description="Return the best objects only (detectors).")
    clip: bool | None = Field(None, description="Cut boxes at the edges of the image; default: true (detectors).")

    @classmethod
    def read(cls, query: QueryParams) -> PredictionQuery:
        """Return the parameters of a request. If one is given twice, the last value counts.

        Raises:
            RequestValidationError: a value of another kind, or out of its range.
        """
        try:
            return cls.model_validate(dict(query))
        except ValidationError as error:
            faults = [{**fault, "loc": ("query", *fault["loc"])} for fault in error.errors()]
            raise RequestValidationError(faults) from error

    @classmethod
    def described(cls) -> list[dict[str, Any]]:
        """Return the parameters as OpenAPI describes them."""
        parameters = []
        for name, schema in cls.model_json_schema()["properties"].items():
            if schema["default"] is None:
                del schema["default"]
            described = {"description": schema["description"], "schema": schema}
            parameters.append({"name": name, "in": "query", "required": False, **described})
        return parameters

    def options(self) -> dict[str, Any]:
        """Return the options of the answer that the request names."""
        return {name: getattr(self, name) for name in self.model_fields_set - {"model", "overlay"}}


class ProblemDetails(BaseModel):
    """A problem, as RFC 9457 describes it."""

    type: str
    title: str
    status: int
    detail: str = Field(description="What was found, what is expected.")


class Class(BaseModel):
    id: int
    score: float = Field(description="By softmax, 0 to 1.")
    label: str | None = Field(description="Its name, where the weights carry names.")


class Overlay(BaseModel):
    class_id: int = Field(description="The class that is explained.")
    input_png: str = Field(description="data: URI of what the network saw.")
    heat_png: str = Field(description="data: URI of the heat map, transparent where it is cold; lay it over the input.")


class Prediction(BaseModel):
    model: str
    classes: list[Class] = Field(description="The best first.")
    milliseconds: float = Field(description="From the complete upload to the answer, heat map included.")
    overlay: Overlay | None = None


class Detection(BaseModel):
    box: list[float] = Field(min_length=4, max_length=4, description="x1 y1 x2 y2 in pixels of the upright image.")
    label: int = Field(ge=1, description="Its class, from 1.")
    name: str | None = Field(description="Of the class, where the weights carry names.")
    score: float = Field(description="0 to 1.")


class Detections(BaseModel):
    model: str
    task: str
    file: str | None = Field(description="The name of the file in a form; null: the body was the image.")
    width: int = Field(description="Of the upright image, in pixels.")
    height: int
    detections: list[Detection] = Field(description="The best first.")
    milliseconds: float = Field(description="From the complete upload to the answer.")


class Models(BaseModel):
    models: list[dict[str, Any]] = Field(description="The first is the default.")
    limits: dict[str, Any]


class Health(BaseModel):
    status: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of the problems that a route may answer with."""
    schema = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
    sentences = {
        400: "No image, or a form that cannot be read.",
        404: "No such model.",
        408: "The upload was too slow.",
        409: "This model has no heat maps.",
        413: "Too many bytes.",
        415: "Another kind of body.",
        422: "A value out of range, an option of another kind of network, or no image that is read here: damaged, too "
        "many pixels, an unknown format.",
        429: "Too many predictions of this client at a time.",
        503: "Busy or stopping; Retry-After says when to try again.",
        504: "Not answered in time.",
    }
    return {
        status: {"description": sentences[status], "content": {"application/problem+json": schema}}
        for status in statuses
    }
