"""What a request may say, and what it is told if it says anything else.

The inference function's parameters become one pydantic model. It checks the requests, it gives the errors from which
the Korean sentences are made, and it is the schema in the API's OpenAPI document: there is no second place to correct.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any

from flask import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr, ValidationError, create_model
from pydantic_core import PydanticCustomError
from werkzeug.exceptions import HTTPException

from nlpbook_helpers.corpora import is_blank, normalize_text

FIELD_LABELS = {"sentence": "문장", "premise": "전제", "hypothesis": "가설"}
BATCH_LIMIT = 1_000
"""Most inputs of one `POST /api/batch`."""

STATUS_ERRORS = {
    400: ("bad_request", "요청을 읽을 수 없습니다. 주소와 내용을 확인하고 다시 보내 주세요."),
    401: ("unauthorized", "접속 열쇠가 없거나 맞지 않습니다. 받은 링크를 끝까지 복사해 다시 열어 주세요."),
    404: ("not_found", "이 주소에는 아무것도 없습니다. 첫 화면(/)이나 POST /api를 이용해 주세요."),
    405: ("method_not_allowed", "이 주소에서 쓸 수 없는 요청 방식입니다. 첫 화면은 GET /, 분류는 POST /api입니다."),
    413: ("too_long", "보낸 내용이 너무 큽니다. 글을 줄여서 다시 보내 주세요."),
    421: (
        "unknown_host",
        "이 서버가 모르는 호스트 이름입니다. 서버가 출력한 주소(http://127.0.0.1:포트)로 다시 열어 주세요.",
    ),
    429: ("too_many_requests", "요청이 너무 잦습니다. 잠시 뒤에 다시 보내 주세요."),
    500: ("internal_error", "서버 안에서 오류가 났습니다. 잠시 뒤에 다시 보내 주세요."),
    503: ("overloaded", "지금은 요청이 밀려 있습니다. 잠시 뒤에 다시 보내 주세요."),
}
"""For each HTTP status the error's `code` and its sentence, where nobody knows more."""

FAULTS = {
    "extra_forbidden": ("unknown_field", "모르는 이름 {name} 값이 있습니다. {example}처럼 보내 주세요."),
    "missing": ("missing_field", "{label} 칸이 빠졌습니다. {example}처럼 보내 주세요."),
    "string_type": ("wrong_type", "{label} 칸은 문자열이어야 합니다 (받은 것: {got}). 따옴표로 감싸 보내 주세요."),
    "string_too_long": (
        "too_long",
        "{label} 칸은 {max_length:,}자까지인데 {length:,}자를 받았습니다. 줄여서 다시 보내 주세요.",
    ),
    "string_unicode": (
        "invalid_text",
        "{label} 칸에 반쪽 글자(짝 없는 서로게이트)가 있습니다. 지우고 다시 보내 주세요.",
    ),
    "blank": ("empty_text", "{label} 칸이 비어 있습니다. 눈에 보이는 글자를 하나 이상 적어 주세요."),
    "too_long": ("too_many_inputs", "한 번에 {max_length:,}개까지인데 {length:,}개를 받았습니다. 나누어 보내 주세요."),
    **dict.fromkeys(
        ("list_type", "too_short"),
        ("wrong_type", "inputs에는 입력이 하나 이상 든 배열이 필요합니다 (받은 것: {got}). {example}처럼 보내 주세요."),
    ),
}
"""For each kind of pydantic's errors the API's `code` and its sentence; what is too long is a 413, all else a 422."""
NO_OBJECT = ("wrong_type", "JSON 객체가 필요합니다 (받은 것: {got}). {example}처럼 보내 주세요.")


class ApiError(HTTPException):
    """A request this service refuses, in one Korean sentence that the page can show as it is.

    Args:
        status: HTTP status code.
        code: short English name of the error, for programs; None takes that of the status.
        message: expected what, got what, do what; Korean; empty takes that of the status.
        field: name of the input at fault, if there is one.
        retry_after: seconds after which the same request may be answered.
    """

    def __init__(
        self,
        status: int,
        code: str | None = None,
        message: str = "",
        field: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Keep what `describe_error` needs."""
        usual_code, usual_message = STATUS_ERRORS.get(status, STATUS_ERRORS[400 if status < 500 else 500])
        super().__init__(description=message or usual_message)
        self.error_code, self.code = code or usual_code, status
        self.field, self.retry_after = field, retry_after


def describe_error(error: HTTPException) -> dict[str, str | None]:
    """Give code, message and field of an error; anything but an ApiError gets the words of its status."""
    if not isinstance(error, ApiError):
        error = ApiError(error.code or 500)
    described = {"code": error.error_code, "message": error.description, "field": error.field}
    # Half a character, echoed from a request, cannot be encoded: it becomes a question mark.
    return {name: text and text.encode("utf-8", "replace").decode() for name, text in described.items()}


def _check_text(text: str) -> str:
    """Normalize a text and refuse one in which nothing can be seen.

    It comes after the check of the length: normalizing takes time quadratic in the length of a run of accents.
    """
    if is_blank(text):
        raise PydanticCustomError("blank", "nothing to read")
    return normalize_text(text)


def make_input_model(names: Sequence[str], max_chars: int) -> type[BaseModel]:
    """Make the model of one input: an object of these texts and nothing else.

    Args:
        names: of the inference function's texts.
        max_chars: longest text accepted in one field, in characters.
    """
    documented: Any = {"minLength": 1, "pattern": r"\S"}  # what JSON Schema can say of a text that is not blank

    def describe(name: str) -> Any:
        field = Field(title=FIELD_LABELS.get(name, name), max_length=max_chars, json_schema_extra=documented)
        return Annotated[StrictStr, field, AfterValidator(_check_text)]

    # Each field has a neutral name in the model: pydantic reserves some that a function may well use ("schema").
    fields: Any = {f"text_{number}": (describe(name), Field(alias=name)) for number, name in enumerate(names)}
    return create_model("Input", __config__=_make_config(dict.fromkeys(names, "…")), **fields)


def make_batch_model(input_model: type[BaseModel]) -> type[BaseModel]:
    """Make the model of `POST /api/batch`: its inputs may be anything, as each is answered or refused on its own."""
    anything = {"description": "anything else is refused on its own, among the results"}
    items: Any = {"items": {"anyOf": [{"$ref": "#/components/schemas/Input"}, anything]}}
    inputs: Any = Annotated[list[Any], Field(min_length=1, max_length=BATCH_LIMIT, json_schema_extra=items)]
    return create_model("Batch", __config__=_make_config({"inputs": [get_example(input_model)]}), inputs=(inputs, ...))


def _make_config(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


def get_example(model: type[BaseModel]) -> dict[str, Any]:
    """Give a request as it should be, for the schema and for the sentences."""
    return model.model_config["json_schema_extra"]["examples"][0]  # type: ignore[index]


def read_json(request: Request, model: type[BaseModel]) -> Any:
    """Read a request's JSON; `model` says in its example what it should be.

    Raises:
        ApiError: 415 or 400, it is no JSON.
    """
    if request.mimetype != "application/json":
        got = request.mimetype[:50] or "없음"
        message = f"Content-Type은 application/json이어야 합니다 (받은 것: {got}). 헤더를 바꿔 보내 주세요."
        raise ApiError(415, "unsupported_media_type", message)
    try:
        return json.loads(request.get_data())
    except (ValueError, RecursionError):
        message = f"JSON으로 읽을 수 없습니다. UTF-8로 {_write_example(model)}처럼 보내 주세요."
        raise ApiError(400, "malformed_json", message) from None


def try_to_check(value: Any, model: type[BaseModel]) -> dict[str, Any] | ApiError:
    """Check a value against a model.

    Returns:
        The fields by the names that clients know, texts normalized; or what is wrong: 422, or 413 for what is too
        long, with the name of the first field at fault.
    """
    try:
        return model.model_validate(value).model_dump(by_alias=True)
    except ValidationError as refusal:
        errors = refusal.errors(include_url=False)
    # A wrong name makes two faults, as the right one is missing: the wrong one says more.
    error = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    code, sentence = FAULTS.get(error["type"], NO_OBJECT)
    name = str(error["loc"][0])[:50] if error["loc"] else None
    got = error["input"]
    words = {
        "name": _shorten(name),
        "label": f"{FIELD_LABELS[name]}({name})" if name in FIELD_LABELS else name or "이름",
        "example": _write_example(model),
        "got": _shorten(got),
        "length": len(got) if isinstance(got, str | list) else 0,
    }
    status = 413 if code.startswith("too_") else 422
    return ApiError(status, code, sentence.format(**words | error.get("ctx", {})), name)


def _write_example(model: type[BaseModel]) -> str:
    return json.dumps(get_example(model), ensure_ascii=False)


def _shorten(value: Any) -> str:
    """Show what was received, in 40 characters at most."""
    # Not the insides of an object or array: json.dumps gives up at a depth that json.loads still reads.
    inside = {dict: "{…}", list: "[…]" if value else "[]"}.get(type(value))
    text = inside or json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"
