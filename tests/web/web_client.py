"""For the tests of the web service and of its page: servers, functions to serve, one HTTP request."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pytest
from flask import Flask

from nlpbook_helpers.web import Server, get_web_service_app, serve


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


def explain_sentence(sentence: str) -> dict[str, Any]:
    """Explain as a classifier does: here each character speaks as much for the answer."""
    tokens = [
        {"field": "sentence", "text": character, "start": index, "end": index + 1, "score": 0.5}
        for index, character in enumerate(sentence)
    ]
    sums = {"sum": len(tokens) / 2, "difference": len(tokens) / 2}
    return {"prediction": "긍정 (positive)", "tokens": tokens, "completeness": sums}


def make_full_function() -> Callable[..., dict[str, str]]:
    """Make an inference function with all it may carry."""

    def inference_fn(sentence: str) -> dict[str, str]:
        return answer_sentence(sentence)

    inference_fn.batch_fn = lambda inputs: [answer_sentence(**fields) for fields in inputs]  # type: ignore[attr-defined]
    inference_fn.explain_fn = explain_sentence  # type: ignore[attr-defined]
    inference_fn.info = {"model": "작은 모델"}  # type: ignore[attr-defined]
    return inference_fn


def read_error(answer: Answer) -> dict[str, Any]:
    """Return the error of an answer, which must have the form that all errors have."""
    assert answer.headers["Content-Type"].startswith("application/json")
    body = json.loads(answer.text)
    assert list(body) == ["error"] and list(body["error"]) == ["code", "message", "field"]
    assert "Traceback" not in answer.text and ".py" not in answer.text
    return body["error"]


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait for something that happens in another thread, 5 seconds at most."""
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


@pytest.fixture
def serve_app() -> Iterator[Callable[..., Server]]:
    """Serve an app, or an inference function, and close it afterwards."""
    servers: list[Server] = []

    def start(what: Any = answer_sentence, **arguments: Any) -> Server:
        app = what if isinstance(what, Flask) else get_web_service_app(what)
        servers.append(serve(app, **{"port": 0, "tunnel": None, **arguments}))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
