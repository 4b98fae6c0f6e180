"""The API, described for programs: OpenAPI 3.1."""

from collections.abc import Mapping
from typing import Any

from nlpbook_helpers.web.errors import STATUS_ERRORS
from nlpbook_helpers.web.reading import BATCH_LIMIT

_TEXT = {"type": "string"}
_ERROR = {
    "type": "object",
    "properties": {"code": _TEXT, "message": _TEXT, "field": {"type": ["string", "null"]}},
    "required": ["code", "message", "field"],
}
ERROR_SCHEMA = {"type": "object", "properties": {"error": _ERROR}, "required": ["error"]}
TOKEN_SCHEMA = {
    "type": "object",
    "properties": {
        "field": _TEXT,
        "text": _TEXT,
        "start": {"type": "integer", "description": "first character in the field's text"},
        "end": {"type": "integer", "description": "character after the last"},
        "score": {"type": "number", "description": "contribution to the predicted label"},
    },
    "required": ["field", "text", "start", "end", "score"],
}
EXPLANATION_SCHEMA = {
    "type": "object",
    "properties": {"prediction": _TEXT, "tokens": {"type": "array", "items": TOKEN_SCHEMA}},
    "required": ["prediction", "tokens"],
}
REFUSALS = {
    "400": "malformed JSON",
    "401": "access key missing or wrong",
    "413": "a text, or the request, is too long",
    "415": "not application/json",
    "421": "the Host header is not a name of this server",
    "422": "a field is missing, unknown, empty or of a wrong type; the error names it",
    "429": "too many requests of this visitor; Retry-After is in seconds",
    "500": STATUS_ERRORS[500][0],
    "503": "too many requests waiting; Retry-After is in seconds",
}


def describe_api(
    labels: Mapping[str, str], title: str, max_chars: int, can_explain: bool, needs_key: bool
) -> dict[str, Any]:
    """Describe the API of one inference function.

    Args:
        labels: for each text the function takes, by name, what readers call it.
        title: of the page.
        max_chars: longest text in one field.
        can_explain: whether `POST /api/explain` answers.
        needs_key: whether the server asks for its access key.

    Returns:
        An OpenAPI 3.1 document that JSON can hold.
    """
    document = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "servers": [{"url": "."}],
        "paths": _describe_paths(labels, max_chars, can_explain),
    }
    if needs_key:
        document["components"] = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
        document["security"] = [{"key": []}]
    return document


def _describe_paths(labels: Mapping[str, str], max_chars: int, can_explain: bool) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": max_chars, "pattern": r"\S"}
    texts = _describe_object({name: {**text, "title": label} for name, label in labels.items()})
    item = {"anyOf": [texts, {"description": "anything else is refused on its own, among the results"}]}
    inputs = _describe_object({"inputs": {"type": "array", "items": item, "minItems": 1, "maxItems": BATCH_LIMIT}})
    result = {"type": "object", "description": "what the inference function returns"}
    results = _describe_object({"results": {"type": "array", "items": {"anyOf": [ERROR_SCHEMA, result]}}})
    health = _describe_object({"status": {"const": "ok"}})
    batch = "Classify many inputs, in their order; an error stays its input's"
    paths = {
        "/api": _describe_post("Classify one input", texts, result),
        "/api/batch": _describe_post(batch, inputs, results),
        "/healthz": {"get": {"summary": "Is it alive?", "security": [], "responses": {"200": _answer("yes", health)}}},
    }
    if can_explain:
        paths["/api/explain"] = _describe_post("Tell which tokens drove the answer", texts, EXPLANATION_SCHEMA)
    return paths


def _describe_object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an object that has just these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _describe_post(summary: str, body: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    refusals = {status: _answer(words, ERROR_SCHEMA) for status, words in REFUSALS.items()}
    content = {"application/json": {"schema": body}}
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": content},
            "responses": {"200": _answer("answered", result), **refusals},
        }
    }


def _answer(words: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": schema}}}
