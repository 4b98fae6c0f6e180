"""Servers of the tests of the web service."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from web_client import answer_sentence

from nlpbook_helpers.web import Server, get_web_service_app, serve


@pytest.fixture(autouse=True)
def _no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a developer's token nor a CI's variables decide what these tests do."""
    for name in ("NGROK_AUTHTOKEN", "COLAB_RELEASE_TAG", "CI", "NLPBOOK_HEADLESS"):
        monkeypatch.delenv(name, raising=False)


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
