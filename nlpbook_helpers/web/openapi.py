"""The API, described for programs: `/openapi.json`, made of the models that check the requests."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

BOOKS_KEYS: Any = {
    "patternProperties": {
        "_data$": {"type": "string", "description": "a label and its probability, such as 긍정 0.9876"},
        "_width$": {"type": "string", "description": "the same probability in percent, such as 98.76%"},
    }
}
REFUSALS = {
    400: "malformed JSON",
    401: "access key missing or wrong",
    413: "a text, or the request, is too long",
    415: "not application/json",
    421: "the Host header is not a name of this server",
    422: "a field is missing, unknown, empty or of a wrong type; the error names it",
    429: "too many requests of this visitor; Retry-After is in seconds",
    500: "something went wrong here",
    503: "too many requests waiting; Retry-After is in seconds",
}


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

    model_config = ConfigDict(extra="allow", json_schema_extra=BOOKS_KEYS)
    prediction: Any = Field(None, description="the most probable label")
    remark: Any = Field(None, description="what to keep in mind when reading the answer")


class Results(BaseModel):
    """The answers of a batch, in the order of its inputs."""

    results: list[Answer | Refusal]


class Token(BaseModel):
    """A token of an input and what it did for the answer."""

    field: str
    text: str
    start: int = Field(description="first character in the field's text")
    end: int = Field(description="character after the last")
    score: float = Field(description="contribution to the predicted label")


class Completeness(BaseModel):
    """Two numbers that are about the same if the scores can be trusted."""

    sum: float = Field(description="of all scores")
    difference: float = Field(description="between the model's scores of the text and of an empty one")


class Explanation(BaseModel):
    """Which tokens drove an answer."""

    prediction: str
    tokens: list[Token]
    completeness: Completeness | None = None


class Health(BaseModel):
    """A sign of life."""

    status: str = Field(pattern="^ok$")


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
    health = {"operationId": "health", "summary": "Is it alive?", "security": [], "responses": {"200": _refer(Health)}}
    paths: dict[str, Any] = {
        "/api": _describe_post("predict", "Classify one input", one, Answer),
        "/api/batch": _describe_post("predictMany", "Classify many; an error stays its input's", batch, Results),
        "/healthz": {"get": health},
    }
    if can_explain:
        paths["/api/explain"] = _describe_post("explain", "Tell which tokens drove the answer", one, Explanation)
    used = [(model, "validation") for model in (one, batch, Answer, Refusal, Results, Explanation, Health)]
    schemas = models_json_schema(used, ref_template="#/components/schemas/{model}")[1]["$defs"]  # type: ignore[arg-type]
    components: dict[str, Any] = {"schemas": schemas}
    document = {"openapi": "3.1.0", "info": {"title": title, "version": "1"}, "servers": [{"url": "."}]}
    document |= {"paths": paths, "components": components}
    if needs_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _describe_post(name: str, summary: str, body: type[BaseModel], answer: type[BaseModel]) -> dict[str, Any]:
    refusals = {str(status): _refer(Refusal, words) for status, words in REFUSALS.items()}
    request = {"required": True, "content": _refer(body)["content"]}
    operation = {"operationId": name, "summary": summary, "requestBody": request}
    return {"post": operation | {"responses": {"200": _refer(answer), **refusals}}}


def _refer(model: type[BaseModel], words: str = "answered") -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"description": words, "content": {"application/json": {"schema": schema}}}
