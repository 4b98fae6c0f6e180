"""Servers of the tests of the page."""

from web_client import serve_app  # noqa: F401  (a fixture, shared with the tests of the API)
