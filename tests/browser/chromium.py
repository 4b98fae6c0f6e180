"""The browser tests' plugin: Chromium, a page that may not complain, and servers."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from web_client import serve_app  # noqa: F401  (a fixture)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome on the PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that may not log an error, open a dialog or ask any other host, whatever the test does."""
    from playwright.sync_api import expect

    tab = browser.new_page(viewport={"width": 1200, "height": 800})
    tab.complaints = []
    # Chromium logs each refused request itself; a test that provokes one looks at what the page says of it.
    is_error = lambda message: message.type == "error" and "Failed to load resource" not in message.text  # noqa: E731
    tab.on("console", lambda message: is_error(message) and tab.complaints.append(message.text))
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.on("dialog", lambda dialog: (tab.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    is_local = lambda url: url.startswith(("http://127.0.0.1:", "data:", "blob:"))  # noqa: E731
    tab.on("request", lambda request: is_local(request.url) or tab.complaints.append(f"asked {request.url}"))
    tab.set_default_timeout(30_000)  # for machines that do much else
    expect.set_options(timeout=30_000)
    yield tab
    complaints = tab.complaints
    tab.close()
    assert not complaints
