"""Servers of the tests of the web service."""

import pytest
from web_client import serve_app  # noqa: F401  (a fixture, shared with the browser tests)


@pytest.fixture(autouse=True)
def _no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a developer's token nor a CI's variables decide what these tests do."""
    for name in ("NGROK_AUTHTOKEN", "COLAB_RELEASE_TAG", "CI", "NLPBOOK_HEADLESS"):
        monkeypatch.delenv(name, raising=False)
