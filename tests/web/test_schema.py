"""The API does what `/openapi.json` says: schemathesis reads it, makes requests from it and checks the answers."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from web_client import make_full_function

from nlpbook_helpers.web import Server, get_web_service_app

pytest.importorskip("schemathesis", reason="reads /openapi.json: pip install schemathesis")
Serve = Callable[..., Server]
KEY = "a-long-enough-key"


def compare(premise: str, hypothesis: str) -> dict[str, str]:
    return {"premise": premise, "hypothesis": hypothesis}


@pytest.mark.parametrize(
    ("function", "key", "phases"),
    [(make_full_function(), None, "coverage,fuzzing"), (compare, KEY, "coverage")],
    ids=["full", "pair with a key"],
)
def test_the_api_keeps_to_its_description(
    serve_app: Serve,
    function: Callable[..., dict[str, str]],
    key: str | None,
    phases: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = serve_app(get_web_service_app(function, requests_per_minute=1_000_000), key=key)
    config = Path(__file__).with_name("schemathesis.toml")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    options = ["--max-examples", "12", "--seed", "7", "--no-color", "--phases", phases]
    options += ["-H", f"Authorization: Bearer {key}"] if key else []
    with caplog.at_level(logging.WARNING):
        done = subprocess.run(
            [*command, f"{server.url}/openapi.json", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
    lines = [line[:300] for line in done.stdout.splitlines()]
    assert done.returncode == 0, "\n".join(lines)
    assert any("Test cases" in line for line in lines) and not caplog.records
