"""The page and the API: one Flask app for any inference function, whatever its inputs are called."""

import inspect
import mimetypes
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, jsonify, render_template, request, session
from flask_cors import CORS
from werkzeug.exceptions import HTTPException

from nlpbook_helpers.web import access
from nlpbook_helpers.web.access import ACCESS_KEY, RateLimit, get_address, is_limited, name_visitor
from nlpbook_helpers.web.batching import Batcher
from nlpbook_helpers.web.feedback import Feedback
from nlpbook_helpers.web.language import SENTENCES, WORDS, find_words, get_api_language
from nlpbook_helpers.web.openapi import describe_api
from nlpbook_helpers.web.requests import BATCH_LIMIT, ApiError, check, describe_error, make_models, read, try_to_check
from nlpbook_helpers.web.responses import answer_error, check_answer, finish, hash_static_files

API_PATHS = ("/api", "/api/batch", "/api/explain", "/api/feedback")
BATCH_BYTES = 4 * 2**20
"""Longest body of `POST /api/batch`: 1,000 texts of 4,000 bytes."""
THREADS = 4
"""Inputs answered at a time by a function that takes one only."""
MAX_REQUESTS, MAX_EXPLANATIONS = 48, 8
"""Most requests waiting or being answered; the server has more threads, so that some are free to refuse."""
WRONG_KEYS_PER_MINUTE = 30
CREDITS_PER_INPUT, CREDITS_PER_EXPLANATION = 0.1, 5
"""What an input of a batch and an explanation cost a visitor of a public page; a request costs 1."""

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


class Service:
    """What stands behind an app: checks inputs, has them answered, counts what visitors ask for.

    Args:
        inference_fn: see `get_web_service_app`, as for the other arguments.
    """

    def __init__(
        self, inference_fn: Callable[..., Any], title: str | None, max_chars: int, requests_per_minute: int,
        feedback_file: str | Path | None, public_feedback: bool,
    ) -> None:  # fmt: skip
        """Read off the function what it takes and what it carries."""
        batch_fn, explain_fn = (getattr(inference_fn, name, None) for name in ("batch_fn", "explain_fn"))
        self.names = _get_field_names(inference_fn)
        self.own_title, self.title = title, title or WORDS[f"title_{min(2, len(self.names))}"][0]
        self.max_chars, self.info = max_chars, dict(getattr(inference_fn, "info", {}))
        self.examples = [list(texts) for texts in getattr(inference_fn, "examples", ())]
        self.input_model, self.batch_model, self.feedback_model = make_models(self.names, max_chars)
        checkpoint = self.info.get("checkpoint", "")
        self.feedback = Feedback(Path(feedback_file), self.names, checkpoint) if feedback_file else None
        self._public_feedback = public_feedback
        self.limit = RateLimit(requests_per_minute)
        threads = 1 if batch_fn else THREADS
        self.answers = Batcher(lambda fields: inference_fn(**fields), batch_fn, threads, MAX_REQUESTS)
        self.can_explain = explain_fn is not None
        self.explanations = Batcher(lambda fields: explain_fn(**fields), max_requests=MAX_EXPLANATIONS)  # type: ignore[misc]

    def answer(self, batcher: Batcher, values: Sequence[Any]) -> list[Any]:
        """Check inputs and have them answered; what is wrong with one stands in the place of its answer."""
        checked = [try_to_check(value, self.input_model) for value in values]
        good = [fields for fields in checked if isinstance(fields, dict)]
        answers = iter(batcher.answer(good, request.environ.get("waitress.client_disconnected")))
        return [check_answer(next(answers)) if isinstance(one, dict) else one for one in checked]

    def ask(self, batcher: Batcher, value: Any) -> Any:
        """Check one input and have it answered, or raise what is wrong with it."""
        (result,) = self.answer(batcher, [value])
        if isinstance(result, ApiError):
            raise result
        return result

    def answer_one(self, batcher: Batcher, credits: float) -> Response:
        """Answer the request's one input."""
        with self.admit():
            self.charge(credits - 1)
            return jsonify(self.ask(batcher, read(request, self.input_model)))

    def explain(self) -> Response:
        """Explain the request's one input, if the function can."""
        if not self.can_explain:
            raise ApiError("cannot_explain")
        return self.answer_one(self.explanations, CREDITS_PER_EXPLANATION)

    def answer_batch(self) -> Response:
        """Answer or refuse each input of the request on its own, in their order."""
        request.max_content_length = max(BATCH_BYTES, current_app.config["MAX_CONTENT_LENGTH"])
        with self.admit():
            batch = read(request, self.batch_model)
            self.charge(len(batch["inputs"]) * CREDITS_PER_INPUT)
            results = self.answer(self.answers, batch["inputs"])
        language = get_api_language()
        described = [{"error": describe_error(one, language)} if isinstance(one, ApiError) else one for one in results]
        return jsonify({"results": described})

    @property
    def takes_feedback(self) -> bool:
        """Whether feedback is kept: of strangers only if the owner asked for it."""
        return self.feedback is not None and (self._public_feedback or not is_limited())

    def keep_feedback(self) -> Response:
        """Write down the right label of a text, beside the answer that it gets here and now."""
        if self.feedback is None or not self.takes_feedback:
            raise ApiError("no_feedback")
        with self.admit():
            given = read(request, self.feedback_model)
            fields = check(given["input"], self.input_model)
            answer = self.ask(self.answers, fields)
            labels = list(answer.get("probabilities", [answer.get("prediction")]))
            if given["label"] not in labels:
                raise ApiError("unknown_label", "label", labels=labels, got=given["label"][:40])
            count = self.feedback.add(list(fields.values()), given["label"], str(answer.get("prediction")))
        return jsonify({"count": count})

    def show_page(self) -> str:
        """Show the page, and give visitors who share a key a signed cookie to be told apart by; else, all are one."""
        if is_limited() and "visitor" not in session and not self.limit.charge(f"visits at {get_address()}", 1):
            session["visitor"] = secrets.token_urlsafe(9)
            self.limit.welcome(session["visitor"], get_address())
        fields = [(field.alias, field.title) for field in self.input_model.model_fields.values()]
        return self._render("index.html", fields=fields, batch_limit=BATCH_LIMIT)

    def show_docs(self) -> str:
        """Show the API for people."""
        return self._render("docs.html", document=self.describe(), sentences=SENTENCES)

    def _render(self, template: str, **values: Any) -> str:
        static = f"{current_app.static_url_path}/"[1:]  # relative: it may be shown below a proxy's path
        return render_template(template, service=self, static=static, **values)

    def describe(self) -> dict[str, Any]:
        """Describe the API for programs."""
        models: dict[str, Any] = {"/api": self.input_model, "/api/batch": self.batch_model}
        models |= {"/api/explain": self.input_model} if self.can_explain else {}
        models |= {"/api/feedback": self.feedback_model} if self.takes_feedback else {}
        return describe_api(self.title, models, bool(request.environ.get(ACCESS_KEY)))

    def admit(self) -> AbstractContextManager[None]:
        """Let a request in, for one credit where strangers can reach the page."""
        return self.limit.admit(name_visitor(), get_address()) if is_limited() else nullcontext()

    def charge(self, credits: float) -> None:
        """Make a visitor who has been admitted pay for more than a request."""
        if is_limited():
            self.limit.charge(name_visitor(), credits, must_have=False)
            self.limit.charge(f"all at {get_address()}", credits, must_have=False, size=2)

    def is_ready(self) -> dict[str, str]:
        """Say that requests are answered, unless the function hangs."""
        if self.answers.is_stuck():
            raise ApiError(503, retry_after=60)
        return {"status": "ready"}

    def close(self) -> None:
        """Stop the threads; a later request starts them anew."""
        self.answers.close()
        self.explanations.close()


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
        trusted_hosts: names besides localhost under which a proxy shows this page, such as `["hub.example.org"]`.
        requests_per_minute: of one visitor, while a tunnel is open or a key is set.
        feedback_file: CSV file for what visitors say of answers (texts, label, answer, time, checkpoint), which
            `train` reads; None: they are not asked.
        public_feedback: ask them also while a tunnel is open or a key is set.

    Returns:
        The app, for `serve(app)` or, on this machine alone, `app.run()`.

    Raises:
        ValueError: `inference_fn` has no text parameter, or one that cannot be passed by name; or no request
            is allowed; or `feedback_file` has other columns.
        OSError: `feedback_file` cannot be read.
    """
    if requests_per_minute < 1:
        raise ValueError(f"requests_per_minute: expected 1 or more, got {requests_per_minute}")
    service = Service(inference_fn, title, max_chars, requests_per_minute, feedback_file, public_feedback)
    app = WebServiceApp(__name__, static_url_path=f"/static/{hash_static_files()}")
    app.extensions["nlpbook"] = service
    _configure(app, cors_origins, trusted_hosts)
    _add_paths(app, service)
    return app


def _configure(app: Flask, cors_origins: Sequence[str], trusted_hosts: Sequence[str]) -> None:
    """Set what holds for every request: who may come in, how much may be sent, which headers an answer has."""
    service: Service = app.extensions["nlpbook"]
    # JSON may spell a character as two \uXXXX escapes: 12 bytes.
    app.config["MAX_CONTENT_LENGTH"] = 4096 + 12 * service.max_chars * len(service.names)
    # Browsers keep one jar for all ports of a host: a second page must not overwrite the first one's cookie.
    cookie = f"nlpbook_session_{secrets.token_hex(4)}"
    app.config |= {"SESSION_COOKIE_NAME": cookie, "SESSION_COOKIE_SAMESITE": "Lax"}
    app.secret_key = secrets.token_bytes()
    app.json.ensure_ascii, app.json.sort_keys = False, False  # type: ignore[attr-defined]
    app.jinja_env.policies["json.dumps_kwargs"] = {}  # not sorted either
    if cors_origins:
        options = {"origins": list(cors_origins), "expose_headers": ["Retry-After"]}
        CORS(app, resources=dict.fromkeys(API_PATHS, options), methods=["POST"])
    app.before_request(lambda: access.check_host(trusted_hosts))
    wrong_keys = RateLimit(WRONG_KEYS_PER_MINUTE)
    app.before_request(lambda: access.require_key(wrong_keys))
    app.after_request(finish)
    app.context_processor(find_words)
    app.register_error_handler(HTTPException, answer_error)


def _add_paths(app: Flask, service: Service) -> None:
    """Add what a visitor may ask for."""
    app.add_url_rule("/", "page", service.show_page)
    app.add_url_rule("/healthz", "healthz", lambda: {"status": "ok"})
    app.add_url_rule("/readyz", "readyz", service.is_ready)
    app.add_url_rule("/docs", "docs", service.show_docs)
    app.add_url_rule("/openapi.json", "openapi", service.describe)
    app.add_url_rule("/api", "api", lambda: service.answer_one(service.answers, credits=1), methods=["POST"])
    app.add_url_rule("/api/batch", "batch", service.answer_batch, methods=["POST"])
    app.add_url_rule("/api/explain", "explain", service.explain, methods=["POST"])
    app.add_url_rule("/api/feedback", "feedback", service.keep_feedback, methods=["POST"])


def _get_field_names(inference_fn: Callable[..., Any]) -> list[str]:
    """Read the names of the texts a function wants off its signature."""
    parameters = inspect.signature(inference_fn).parameters.values()
    wanted = [parameter for parameter in parameters if parameter.default is parameter.empty]
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if not wanted or any(parameter.kind not in by_name for parameter in wanted):
        got = inspect.signature(inference_fn)
        raise ValueError(
            f"expected an inference function with named text parameters, as inference_fn(sentence), got {got}"
        )
    return [parameter.name for parameter in wanted]
