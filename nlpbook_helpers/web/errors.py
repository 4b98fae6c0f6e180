"""What a refused request is told: one Korean sentence, as JSON for programs and as a page for browsers."""

import json
from collections.abc import Mapping

from werkzeug.exceptions import HTTPException

STATUS_ERRORS = {
    400: ("bad_request", "요청을 읽을 수 없습니다. 주소와 내용을 확인하고 다시 보내 주세요."),
    401: ("unauthorized", "접속 열쇠가 없거나 맞지 않습니다. 받은 링크를 끝까지 복사해 다시 열어 주세요."),
    404: ("not_found", "이 주소에는 아무것도 없습니다. 첫 화면(/)이나 POST /api를 이용해 주세요."),
    405: (
        "method_not_allowed",
        "이 주소에서 쓸 수 없는 요청 방식입니다. 첫 화면은 GET /, 분류는 POST /api입니다.",
    ),
    413: ("too_long", "보낸 내용이 너무 큽니다. 글을 줄여서 다시 보내 주세요."),
    421: (
        "unknown_host",
        "이 서버가 모르는 호스트 이름입니다. 서버가 출력한 주소(http://127.0.0.1:포트)로 다시 열어 주세요.",
    ),
    429: ("too_many_requests", "요청이 너무 잦습니다. 잠시 뒤에 다시 보내 주세요."),
    500: ("internal_error", "서버 안에서 오류가 났습니다. 잠시 뒤에 다시 보내 주세요."),
    503: ("overloaded", "지금은 요청이 밀려 있습니다. 잠시 뒤에 다시 보내 주세요."),
}


class ApiError(HTTPException):
    """A request this service refuses, in one Korean sentence that the page can show as it is.

    Args:
        status: HTTP status code.
        code: short English name of the error, for programs; None takes code and message of the status.
        message: expected what, got what, do what; Korean.
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
        self.error_code, message = (code, message) if code else STATUS_ERRORS[status]
        super().__init__(description=message)
        self.code, self.field, self.retry_after = status, field, retry_after


def describe_error(error: HTTPException | int) -> dict[str, str | None]:
    """Give code, message and field of an error; anything but an ApiError gets the words of its status."""
    if not isinstance(error, ApiError):
        status = error if isinstance(error, int) else error.code or 500
        error = ApiError(status if status in STATUS_ERRORS else 400 if status < 500 else 500)
    described = {"code": error.error_code, "message": error.description, "field": error.field}
    # Half a character, echoed from a request, cannot be encoded: it becomes a question mark.
    return {name: text and text.encode("utf-8", "replace").decode() for name, text in described.items()}


def encode_error(described: Mapping[str, str | None]) -> bytes:
    """Write an error's JSON."""
    return json.dumps({"error": described}, ensure_ascii=False).encode()
