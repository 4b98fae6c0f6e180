"""For the tests of the web service and of its page: one HTTP request, functions to serve, servers."""

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from flask import Flask

from nlpbook_helpers.web import Server, get_web_service_app, serve

KEY = "a-long-enough-key"
BODY = {"sentence": "가"}


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"].startswith("application/json")
        return json.loads(self.text)

    @property
    def error(self) -> dict[str, Any]:
        """The error, which must have the form that all errors have."""
        assert list(self.json) == ["error"]
        assert list(self.json["error"]) == ["code", "message", "field", "request_id"]
        assert self.json["error"]["request_id"] == self.headers["X-Request-Id"]
        assert self.json["error"]["message"] and "Traceback" not in self.text and ".py" not in self.text
        return self.json["error"]

    @property
    def as_result(self) -> Any:
        """The same as a batch has it among its results: the number belongs to the request."""
        error = None if self.status == 200 else {name: self.error[name] for name in ("code", "message", "field")}
        return {"error": error} if error else self.json


def call(url: str, body: Any = None, method: str | None = None, **headers: str) -> Answer:
    """Send one request; a body but bytes is sent as JSON, and `Content_Type="…"` is the header `Content-Type`."""
    parts = urlsplit(url)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        sent = {"Content-Type": "application/json"} | sent
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    path = f"{parts.path or '/'}?{parts.query}"
    connection.request(method or ("GET" if body is None else "POST"), path, body, sent)
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, response.read().decode())
    connection.close()
    return answer


def answer_sentence(sentence: str) -> dict[str, Any]:
    """Answer as the book's document classifier does."""
    shown = {"positive_data": "긍정 0.9876", "negative_data": "부정 0.0124"}
    widths = {"positive_width": "98.76%", "negative_width": "1.24%"}
    numbers = {"label": "긍정 (positive)", "probabilities": {"부정 (negative)": 0.012432, "긍정 (positive)": 0.987568}}
    return {"sentence": sentence, "prediction": "긍정 (positive)", **shown, **widths, **numbers}


def explain_sentence(sentence: str) -> dict[str, Any]:
    """Explain: the first character speaks for the answer, the last one against it."""
    token = lambda index, score: dict(field="sentence", text=sentence[index], start=index, end=index + 1, score=score)  # noqa: E731
    tokens = [token(0, 1.5), token(len(sentence) - 1, -0.75)]
    return {"prediction": "긍정 (positive)", "tokens": tokens, "completeness": {"sum": 0.75, "difference": 0.76}}


def make_full_function() -> Callable[..., dict[str, Any]]:
    """Make an inference function with all it may carry."""
    function: Any = lambda sentence: answer_sentence(sentence)  # noqa: E731
    function.batch_fn = lambda inputs: [answer_sentence(**fields) for fields in inputs]
    function.explain_fn, function.info = explain_sentence, {"model": "작은 모델"}
    return function


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait for something that happens in another thread, a minute at most: a busy machine is no failure."""
    end = time.monotonic() + 60
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
