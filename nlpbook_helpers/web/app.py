"""The page and the API: one Flask app for any inference function, and one for several."""

import mimetypes
import re
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from flask import Flask
from flask_cors import CORS
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from nlpbook_helpers.web import access, responses
from nlpbook_helpers.web.language import find_words
from nlpbook_helpers.web.service import Service

# Windows may call scripts text/plain; browsers then refuse to run them.
mimetypes.add_type("text/javascript", ".js")


def say(words: str) -> None:
    """Print a line; characters that standard output cannot hold are escaped, as nothing may fail for a message."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    with suppress(OSError, ValueError):  # a reader that is gone, a closed file
        print(words.encode(encoding, "backslashreplace").decode(encoding), flush=True)


class WebServiceApp(Flask):
    """The Flask app of an inference function; `app.extensions["nlpbook"]` is its `Service`."""

    def run(self, *args: Any, **options: Any) -> None:
        """Run Flask's own server, as the book does, and say how this page gets a public address."""
        say("app.run() serves this machine alone, until it is interrupted; serve(app) can give a public address.")
        super().run(*args, **options)


def get_web_service_app(
    inference_fn: Callable[..., Mapping[str, Any]], *, title: str | None = None, max_chars: int = 10_000,
    cors_origins: Sequence[str] = (), trusted_hosts: Sequence[str] = (), requests_per_minute: int = 120,
    feedback_file: str | Path | None = None, public_feedback: bool = False,
) -> Flask:  # fmt: skip
    """Make the Flask app that puts an inference function on the web: a page, and an API that `/openapi.json` describes.

    The form's fields are the function's parameters without a default; the result's headline is its
    `prediction`, and each `X_width` ("98.76%") with its `X_data` ("긍정 0.9876") is a bar. The function may
    carry `batch_fn(inputs)`, which answers many inputs at once; `explain_fn(**fields)`; `examples`, lists of
    texts to try; and `info`, a dictionary for the page's head (`corpus`, `accuracy`, …) and foot.

    Args:
        inference_fn: takes strings, returns a dictionary that JSON can hold; its ValueErrors are shown.
        title: the page's heading; default: by the number of fields.
        max_chars: longest text accepted in one field, in characters.
        cors_origins: other sites whose scripts may call the API, such as `["https://example.org"]`.
        trusted_hosts: names besides localhost under which a proxy shows this page, such as `["hub.example.org"]`; the
            page is public then, and the last address of X-Forwarded-For, which the proxy must set, is the visitor's.
        requests_per_minute: of one visitor, where the page is public: a tunnel, a proxy, another host, or a key.
        feedback_file: CSV file for what visitors say of answers (texts, label, answer, time, checkpoint), which
            `train` reads; None: they are not asked.
        public_feedback: ask them also where the page is public.

    Returns:
        The app, for `serve(app)` or, on this machine alone, `app.run()`.

    Raises:
        ValueError: `inference_fn` has no text parameter, or one that cannot be passed by name; or no request
            is allowed; or `feedback_file` has other columns; or no script can come from one of `cors_origins`.
        OSError: `feedback_file` cannot be read.
    """
    if requests_per_minute < 1:
        raise ValueError(f"requests_per_minute: expected 1 or more, got {requests_per_minute}")
    settings = (title, max_chars, requests_per_minute, trusted_hosts, feedback_file, public_feedback)
    app = WebServiceApp(__name__, static_url_path=f"/static/{responses.hash_static_files()}")
    app.extensions["nlpbook"] = service = Service(inference_fn, *settings)
    _configure(app, service, cors_origins)
    _add_paths(app, service)
    return app


def join_apps(apps: Mapping[str, Flask]) -> Flask:
    """Put several pages on one port: `serve(join_apps({"reviews": app, "pairs": other}))`.

    Each is found at `/models/NAME/`, and the first one at `/` too. Their heads link to each other; where two read as
    many texts, one page can show the answers of both. A visitor's limits, cookies and wrong keys hold for all together.

    Args:
        apps: from `get_web_service_app`, each with the name that stands in its addresses.

    Returns:
        The first app, which now leads to the others too.

    Raises:
        ValueError: there is no app, or a name cannot stand in an address.
    """
    if not apps or not all(re.fullmatch(r"(?!\.+$)[^/?#\s]+", name) for name in apps):
        raise ValueError(f"join_apps: expected apps by names without '/', '?', '#' and spaces, got {list(apps)}")
    first = next(iter(apps.values()))
    together: list[Service] = [app.extensions["nlpbook"] for app in apps.values()]
    for (name, app), service in zip(apps.items(), together, strict=True):
        service.name, service.together, service.limit = name, together, together[0].limit
        app.secret_key = first.secret_key
        app.config["SESSION_COOKIE_NAME"] = first.config["SESSION_COOKIE_NAME"]
    # A WSGI server gives paths as bytes, written as characters of Latin-1.
    mounts = {f"/models/{name}".encode().decode("latin-1"): app for name, app in apps.items()}
    first.wsgi_app = DispatcherMiddleware(first.wsgi_app, mounts)
    return first


def _configure(app: Flask, service: Service, cors_origins: Sequence[str]) -> None:
    """Set what holds for every request: who may come in, how much may be sent, which headers an answer has."""
    app.config["MAX_CONTENT_LENGTH"] = service.max_bytes
    # Browsers keep one jar for all ports of a host: a second page must not overwrite the first one's cookie.
    cookie = f"nlpbook_session_{secrets.token_hex(4)}"
    app.config |= {"SESSION_COOKIE_NAME": cookie, "SESSION_COOKIE_SAMESITE": "Lax"}
    app.secret_key, app.session_interface = secrets.token_bytes(), access.Sessions()
    app.json.ensure_ascii, app.json.sort_keys = False, False  # type: ignore[attr-defined]
    app.jinja_env.policies["json.dumps_kwargs"] = {}  # not sorted either
    if wrong := [origin for origin in cors_origins if not re.fullmatch(r"\*|https?://[^/*\s]+", origin)]:
        raise ValueError(f"cors_origins: expected '*' or as https://example.org, got {wrong}: give no path or pattern")
    if cors_origins:
        CORS(app, resources="/api.*", origins=list(cors_origins), methods=["POST"], expose_headers=["Retry-After"])
    app.before_request(responses.begin)
    app.before_request(lambda: access.check_host(service.trusted_hosts))
    app.before_request(lambda: access.require_key(service.limit))
    app.after_request(responses.finish)
    app.context_processor(find_words)
    app.register_error_handler(HTTPException, responses.answer_error)


def _add_paths(app: Flask, service: Service) -> None:
    """Add what a visitor may ask for."""
    app.add_url_rule("/", "page", service.show_page)
    app.add_url_rule("/healthz", "healthz", lambda: {"status": "ok"})
    app.add_url_rule("/readyz", "readyz", service.is_ready)
    app.add_url_rule("/metrics", "metrics", lambda: responses.show_metrics(service.together))
    app.add_url_rule("/docs", "docs", service.show_docs)
    app.add_url_rule("/openapi.json", "openapi", service.describe)
    app.add_url_rule("/api", "api", service.answer, methods=["POST"])
    app.add_url_rule("/api/batch", "batch", service.answer_batch, methods=["POST"])
    app.add_url_rule("/api/explain", "explain", service.explain, methods=["POST"])
    app.add_url_rule("/api/feedback", "feedback", service.keep_feedback, methods=["POST"])
