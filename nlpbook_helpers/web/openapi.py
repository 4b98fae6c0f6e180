"""The API, described for programs: `/openapi.json`, made of the models that check the requests."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

DATA: Any = {"type": "string", "description": "a label and its probability, such as 긍정 0.9876"}
WIDTH: Any = {"type": "string", "description": "the same probability in percent, such as 98.76%"}
REFUSED = "refused: error.code says why, and after a 429 or 503, Retry-After in how many seconds to ask again"


COMPLETENESS = "sum of the scores, and difference of the model's scores of the text and of an empty one: about the same"


class Error(BaseModel):
    """Why a request, or one input of a batch, was refused."""

    code: str = Field(description="short English name, for programs")
    message: str = Field(description="what was expected, what came and what to do; Korean")
    field: str | None = Field(description="name of the input at fault")


class Refusal(BaseModel):
    """The body of every error."""

    error: Error


class Answer(BaseModel):
    """What the inference function returns: usually its inputs and the keys below."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"patternProperties": {"_data$": DATA, "_width$": WIDTH}}
    )
    prediction: Any = Field(None, description="the most probable label")
    remark: Any = Field(None, description="what to keep in mind when reading the answer")


class Results(BaseModel):
    """The answers of a batch, in the order of its inputs."""

    results: list[Answer | Refusal]


class Token(BaseModel):
    """A token of an input, its place in the field's text (characters), and what it did for the predicted label."""

    field: str
    text: str
    start: int
    end: int
    score: float


class Explanation(BaseModel):
    """Which tokens drove an answer."""

    prediction: str
    tokens: list[Token]
    completeness: dict[str, float] | None = Field(None, description=COMPLETENESS)


def describe_api(title: str, models: Sequence[type[BaseModel]], can_explain: bool, needs_key: bool) -> dict[str, Any]:
    """Describe the API of one inference function.

    Args:
        title: of the page.
        models: of one input and of a batch.
        can_explain: whether `POST /api/explain` answers.
        needs_key: whether the server asks for its access key.

    Returns:
        An OpenAPI 3.1 document that JSON can hold.
    """
    one, batch = models
    paths: dict[str, Any] = {
        "/api": _describe_post("predict", "Classify one input", one, Answer),
        "/api/batch": _describe_post("predictMany", "Classify many; an error stays its input's", batch, Results),
    }
    if can_explain:
        paths["/api/explain"] = _describe_post("explain", "Tell which tokens drove the answer", one, Explanation)
    used = [(model, "validation") for model in (one, batch, Answer, Refusal, Results, Explanation)]
    schemas = models_json_schema(used, ref_template="#/components/schemas/{model}")[1]["$defs"]  # type: ignore[arg-type]
    document = {"openapi": "3.1.0", "info": {"title": title, "version": "1"}, "servers": [{"url": "."}], "paths": paths}
    if needs_key:
        key = {"type": "http", "scheme": "bearer"}
        return document | {
            "security": [{"key": []}],
            "components": {"schemas": schemas, "securitySchemes": {"key": key}},
        }
    return document | {"components": {"schemas": schemas}}


def _describe_post(name: str, summary: str, body: type[BaseModel], answer: type[BaseModel]) -> dict[str, Any]:
    request = {"required": True, "content": _refer(body)["content"]}
    responses = {"200": _refer(answer), "default": _refer(Refusal, REFUSED)}
    return {"post": {"operationId": name, "summary": summary, "requestBody": request, "responses": responses}}


def _refer(model: type[BaseModel], words: str = "answered") -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"description": words, "content": {"application/json": {"schema": schema}}}
