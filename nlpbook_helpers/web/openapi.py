"""The API, described for programs: `/openapi.json`, made of the models that check the requests."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from nlpbook_helpers.web.requests import find_example

# The book's strings of each label.
BARS: Any = {
    "_data$": {"type": "string", "description": "a label and its probability, such as 긍정 0.9876"},
    "_width$": {"type": "string", "description": "the same probability in percent, such as 98.76%"},
}
REFUSED = "refused: error.code says why, and after a 429 or 503, Retry-After in how many seconds to ask again"
PROMISE = (
    "Addresses below /api and the names in their answers stay; names may be added, so pass over unknown ones. "
    "What changes its meaning goes to /api/v2. Messages follow Accept-Language: ko or en."
)
# What is answered, by the name of the model.
EXAMPLES = tomllib.loads(Path(__file__).with_name("templates").joinpath("examples.toml").read_text("utf-8"))


class Error(BaseModel):
    """Why a request, or one input of a batch, was refused."""

    code: str = Field(description="short English name, for programs; it never changes")
    message: str = Field(description="what was expected, what came and what to do; Korean or English")
    field: str | None = Field(description="name of the input at fault")
    request_id: str | None = Field(None, description="as in the header X-Request-Id and in the server's log")


class Refusal(BaseModel):
    """The body of every error."""

    error: Error


class Answer(BaseModel):
    """What the inference function returns: usually its inputs and the keys below."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"patternProperties": BARS})
    prediction: Any = Field(None, description="the most probable label")
    label: str | None = Field(None, description="the same, one of the names in probabilities")
    probabilities: dict[str, float] | None = Field(None, description="of each label; they sum to 1")
    remark: Any = Field(None, description="what to keep in mind when reading the answer")


class Results(BaseModel):
    """The answers of a batch, in the order of its inputs."""

    results: list[Answer | Refusal]


class Token(BaseModel):
    """A token of an input, its place in the field's text, and what it did for the predicted label."""

    field: str = Field(description="name of the input")
    text: str
    start: int = Field(description="in characters of the text in Unicode's form NFC")
    end: int
    score: float = Field(description="in log-odds: above 0 it speaks for the prediction")


class Completeness(BaseModel):
    """Two numbers that are about the same where the explanation accounts for the whole answer."""

    sum: float = Field(description="of all scores")
    difference: float = Field(description="of the model's log-odds between the text and an empty one")


class Explanation(BaseModel):
    """Which tokens drove an answer."""

    prediction: str
    tokens: list[Token]
    completeness: Completeness | None = None


class Thanks(BaseModel):
    """How many opinions the server has kept."""

    count: int


# Of each address: operation id, summary, and what it answers.
OPERATIONS: dict[str, tuple[str, str, type[BaseModel]]] = {
    "/api": ("predict", "Classify one input", Answer),
    "/api/batch": ("predictMany", "Classify many; an error stays its input's", Results),
    "/api/explain": ("explain", "Tell which tokens drove the answer", Explanation),
    "/api/feedback": ("giveFeedback", "Keep the right label of an input in a file on the server", Thanks),
}


def describe_api(title: str, bodies: Mapping[str, type[BaseModel]], needs_key: bool) -> dict[str, Any]:
    """Describe the API of one inference function.

    Args:
        title: of the page.
        bodies: by address, what is sent there.
        needs_key: whether the server asks for its access key.

    Returns:
        An OpenAPI 3.1 document that JSON can hold.
    """
    used: dict[Any, None] = dict.fromkeys([*bodies.values(), Refusal])
    paths = {}
    for path, body in bodies.items():
        name, summary, answer = OPERATIONS[path]
        used[answer] = None
        responses = {"200": _refer(answer, "answered"), "default": _refer(Refusal, REFUSED)}
        asked = {"requestBody": {"required": True} | _refer(body, "asked"), "responses": responses}
        paths[path] = {"post": {"operationId": name, "summary": summary} | asked}
    template = "#/components/schemas/{model}"
    schemas = models_json_schema([(model, "validation") for model in used], ref_template=template)[1]["$defs"]
    key = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if needs_key else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": PROMISE},
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {"schemas": schemas} | key,
        "security": [{"key": []}] if needs_key else [],
    }


def _refer(model: type[BaseModel], words: str) -> dict[str, Any]:
    example = EXAMPLES.get(model.__name__) or find_example(model)
    content = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}, "example": example}
    return {"description": words, "content": {"application/json": content}}
