"""What a request may say, and what it is told if it says anything else.

The inference function's parameters become one pydantic model. It checks the requests, it gives the errors from which
the Korean sentences are made, and it is the schema in the API's OpenAPI document: there is no second place to correct.
"""

import json
from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any

from flask import request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr, ValidationError, create_model
from pydantic_core import PydanticCustomError
from werkzeug.exceptions import HTTPException

from nlpbook_helpers.arguments import make_object
from nlpbook_helpers.values import is_blank, normalize_text
from nlpbook_helpers.web.language import LANGUAGES, SENTENCES

FIELD_LABELS = {"sentence": "문장", "premise": "전제", "hypothesis": "가설"}
BATCH_LIMIT = 1_000  # most inputs of one `POST /api/batch`


class ApiError(HTTPException):
    """A request this service refuses, in one sentence that the page can show as it is.

    Args:
        kind: which of `SENTENCES`; or an HTTP status code, where nothing more is known.
        field: name of the input at fault, if there is one.
        retry_after: seconds after which the same request may be answered.
        **words: what the sentence leaves open.
    """

    def __init__(self, kind: str | int, field: str | None = None, retry_after: int = 0, **words: Any) -> None:
        """Look up what `describe` needs."""
        known = SENTENCES.get(str(kind)) or SENTENCES["400" if int(kind) < 500 else "500"]
        self.code, self.error_code, *sentences = known
        self.messages = dict(zip(LANGUAGES, (sentence.format(**words) for sentence in sentences), strict=True))
        super().__init__(description=self.messages["ko"])
        self.field, self.retry_after = field, retry_after

    def describe(self, language: str) -> dict[str, str | None]:
        """Give code, message and field; half a character, echoed from a request, becomes a question mark."""
        described = {"code": self.error_code, "message": self.messages[language], "field": self.field}
        return {name: text and text.encode("utf-8", "replace").decode() for name, text in described.items()}


def _check_text(text: str) -> str:
    """Normalize a text and refuse one in which nothing can be seen.

    It comes after the check of the length: normalizing takes time quadratic in the length of a run of accents.
    """
    if is_blank(text):
        raise PydanticCustomError("blank", "nothing to read")
    return normalize_text(text)


def make_models(names: Sequence[str], max_chars: int) -> list[type[BaseModel]]:
    """Make the models of one input, an object of these texts and nothing else, of a batch of inputs, and of feedback.

    A batch's inputs may be anything, as each is answered or refused on its own.

    Args:
        names: of the inference function's texts.
        max_chars: longest text accepted in one field, in characters.
    """
    documented: Any = {"minLength": 1, "pattern": r"\S"}  # what JSON Schema can say of a text that is not blank
    texts: Any = {}
    for number, name in enumerate(names):
        field = Field(title=FIELD_LABELS.get(name, name), max_length=max_chars, json_schema_extra=documented)
        # A neutral name in the model: pydantic reserves some that a function may well use ("schema").
        texts[f"text_{number}"] = (Annotated[StrictStr, field, AfterValidator(_check_text)], Field(alias=name))
    anything = {"description": "anything else is refused on its own, among the results"}
    items: Any = {"items": {"anyOf": [{"$ref": "#/components/schemas/Input"}, anything]}}
    inputs: Any = Annotated[list[Any], Field(min_length=1, max_length=BATCH_LIMIT, json_schema_extra=items)]
    example = dict.fromkeys(names, "…")
    return [
        _make_model("Input", example, texts),
        _make_model("Batch", {"inputs": [example]}, {"inputs": inputs}),
        _make_model("Feedback", {"input": example, "label": "…"}, {"input": Any, "label": StrictStr}),
    ]


def _make_model(name: str, example: dict[str, Any], fields: dict[str, Any]) -> type[BaseModel]:
    """Make a model that knows these fields only, and an example."""
    config = ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})
    return create_model(name, __config__=config, **fields)


def find_example(model: type[BaseModel]) -> Any:
    """Return the example that a model was made with."""
    return model.model_config["json_schema_extra"]["examples"][0]  # type: ignore[index]


def read(model: type[BaseModel]) -> Any:
    """Read the request's JSON, in which a model is expected.

    Raises:
        ApiError: 415 or 400, it is no JSON, or a name stands in an object twice.
    """
    packed = request.content_encoding or ""
    if request.mimetype != "application/json" or packed:
        raise ApiError("no_json_type", got=f"{request.mimetype[:50]} {packed[:50]}".strip() or "–")
    try:
        return json.loads(request.get_data(), object_pairs_hook=make_object)
    except (ValueError, RecursionError):
        raise ApiError("no_json", example=json.dumps(find_example(model), ensure_ascii=False)) from None


def check(value: Any, model: type[BaseModel]) -> dict[str, Any]:
    """Check a value against a model.

    Returns:
        The fields by the names that clients know, texts normalized.

    Raises:
        ApiError: 422, or 413 for what is too long, with the name of the first field at fault.
    """
    if isinstance(value, dict):  # pydantic describes every unknown name: a million of them would take seconds
        value = dict(islice(value.items(), len(model.model_fields) + 1))
    try:
        return model.model_validate(value).model_dump(by_alias=True)
    except ValidationError as refusal:
        errors = refusal.errors(include_url=False)
    # A wrong name makes two faults, as the right one is missing: the wrong one says more.
    error = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    kind = error["type"] if error["type"] in SENTENCES else "no_object"
    name = str(error["loc"][0])[:50] if error["loc"] else None
    words = {
        "name": _shorten(name),
        "label": f"{FIELD_LABELS[name]}({name})" if name in FIELD_LABELS else name or "이름",
        "got": _shorten(error["input"]),
        "length": len(error["input"]) if isinstance(error["input"], str | list) else 0,
        "example": json.dumps(find_example(model), ensure_ascii=False),
    }
    raise ApiError(kind, name, **words | error.get("ctx", {}))


def _shorten(value: Any) -> str:
    """Show what was received, in 40 characters at most."""
    # Not the insides of an object or array: json.dumps gives up at a depth that json.loads still reads.
    inside = {dict: "{…}", list: "[…]" if value else "[]"}.get(type(value))
    text = inside or json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"
