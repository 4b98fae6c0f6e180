"""Random bodies for the API: every one is answered or refused in one sentence, and nothing is left in the log.

`NLPBOOK_FUZZ_BODIES=20000 python -m pytest tests/web/test_fuzz.py` tries more than the thousand of an ordinary run.
"""

import http.client
import json
import logging
import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from web_client import make_full_function

from nlpbook_helpers.web import Server

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
Serve = Callable[..., Server]
BODIES = int(os.environ.get("NLPBOOK_FUZZ_BODIES", "1000"))
PATHS = ("/api", "/api/batch", "/api/explain")
TYPES = (
    "application/json",
    "application/json; charset=utf-8",
    "application/json;charset=cp949",
    "text/plain",
    "",
    "a/b;;",
)
TEXTS = [
    "배우들이 좋다", "", " ", "\u3000\u200b\u2060", "\0", "a\0b", "\ud800", "\udfff가", "\ud83d\ude00",
    "\u202e거꾸로\u202c", "😀" * 10_000, "가" * 10_001, "가" * 40_000, "e\u0301" * 3_000, "\ufffe\uffff", "\U000e0001",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "{{7*7}}", "%s%n", "../../etc/passwd",
    "'; DROP TABLE reviews; --", "=cmd|' /C calc'!A0", "\r\nSet-Cookie: a=b",
]  # fmt: skip
TOKENS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    '"',
    '"sentence"',
    '"inputs"',
    "\\",
    "\\u",
    "\\ud800",
    "NaN",
    "-",
    "1e999",
    "null",
    " ",
    "가",
]


class Fuzz:
    """Bodies from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def make_text(self) -> str:
        if self.random.random() < 0.7:
            return self.random.choice(TEXTS)
        limit = self.random.choice([0x7F, 0xD7A3, 0x10FFFF])
        return "".join(chr(self.random.randint(0, limit)) for _ in range(self.random.randint(0, 40)))

    def make_value(self, depth: int = 0) -> Any:
        kinds: list[Callable[[], Any]] = [
            self.make_text, self.make_input, lambda: None, lambda: True, lambda: self.random.randint(-(10**30), 10**30),
            lambda: self.random.choice([float("nan"), float("inf"), -0.0, 1e308]),
        ]  # fmt: skip
        if depth < 4:
            kinds += [
                lambda: [self.make_value(depth + 1) for _ in range(self.random.randint(0, 4))],
                lambda: {self.make_text()[:9]: self.make_value(depth + 1) for _ in range(self.random.randint(0, 3))},
            ]
        return self.random.choice(kinds)()

    def make_input(self) -> dict[str, Any]:
        return {"sentence": self.make_text()}

    def make_body(self) -> bytes:
        value: Any = self.random.choice([
            self.make_input,
            self.make_value,
            lambda: {"sentence": self.make_value()},
            lambda: {"inputs": [self.make_input() for _ in range(self.random.randint(0, 20))]},
            lambda: {"inputs": [self.make_value() for _ in range(self.random.randint(0, 9))]},
            lambda: {"inputs": self.make_value(), **self.random.choice([{}, {"x": 1}])},
        ])()  # fmt: skip
        text = json.dumps(value, ensure_ascii=self.random.random() < 0.5)
        body = bytearray(text.encode("utf-8", "surrogatepass"))
        kind = self.random.random()
        if kind < 0.15:  # broken somewhere
            for _ in range(self.random.randint(1, 4)):
                body[self.random.randrange(len(body))] = self.random.randrange(256)
        elif kind < 0.25:
            del body[self.random.randrange(len(body)) :]
        elif kind < 0.4:
            return "".join(self.random.choices(TOKENS, k=self.random.randint(0, 30))).encode()
        elif kind < 0.45:
            return self.random.randbytes(self.random.randint(0, 200))
        elif kind < 0.46:
            return self.random.choice([b"[", b'{"sentence":', b'{"inputs":[']) * self.random.randint(1, 100_000)
        elif kind < 0.48:
            return text.encode(self.random.choice(["utf-16", "utf-32", "utf-8-sig"]), "replace")
        return bytes(body)


def check(path: str, status: int, text: bytes) -> None:
    answer = json.loads(text.decode())
    errors = [answer["error"]] if status != 200 else []
    if path == "/api/batch" and status == 200:
        errors = [result["error"] for result in answer["results"] if "error" in result]
    for error in errors:
        assert list(error) == ["code", "message", "field"] and error["code"] != "internal_error"
        assert error["message"] and len(error["message"]) < 300


def test_random_bodies_are_answered_or_refused(serve_app: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server, fuzz, statuses = serve_app(make_full_function()), Fuzz(seed=7), Counter()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with caplog.at_level(logging.WARNING):
        for _ in range(BODIES):
            path, body = fuzz.random.choice(PATHS), fuzz.make_body()
            content_type = fuzz.random.choice(TYPES) if fuzz.random.random() < 0.05 else TYPES[0]
            connection.request("POST", path, body, {"Content-Type": content_type})
            response = connection.getresponse()
            text = response.read()
            statuses[response.status] += 1
            assert response.status < 500, (path, body[:500])
            check(path, response.status, text)
    connection.close()
    print(f"{BODIES} bodies: {dict(sorted(statuses.items()))}")
    assert set(statuses) == {200, 400, 413, 415, 422}
    assert not caplog.records, caplog.text
