"""One HTTP request, for the tests of the web service, and a function to serve."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


def call(url: str, body: bytes | None = None, method: str | None = None, **headers: str) -> Answer:
    """Send one request; `Content_Type="…"` is the header `Content-Type`, which says JSON if not given."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with _opener.open(request, timeout=10) as response:
            return Answer(response.status, cast(Any, response.headers), response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, cast(Any, error.headers), error.read().decode())


def answer_sentence(sentence: str) -> dict[str, str]:
    """Answer as the book's document classifier does."""
    return {
        "sentence": sentence,
        "prediction": "긍정 (positive)",
        "positive_data": "긍정 0.9876",
        "negative_data": "부정 0.0124",
        "positive_width": "98.76%",
        "negative_width": "1.24%",
    }
