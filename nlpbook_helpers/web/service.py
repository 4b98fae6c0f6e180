"""What stands behind a page: inputs are checked, answered, explained, and what visitors say is kept."""

import inspect
import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from flask import Response, current_app, jsonify, render_template, request, session

from nlpbook_helpers.values import USUAL_COLUMNS
from nlpbook_helpers.web.access import ACCESS_KEY, RateLimit, get_address, is_limited, name_visitor
from nlpbook_helpers.web.batching import Batcher
from nlpbook_helpers.web.feedback import Feedback
from nlpbook_helpers.web.language import SENTENCES, WORDS, get_api_language, get_title_key
from nlpbook_helpers.web.openapi import describe_api
from nlpbook_helpers.web.requests import BATCH_LIMIT, ApiError, check, describe_error, make_models, read, try_to_check
from nlpbook_helpers.web.responses import check_answer

BATCH_BYTES = 4 * 2**20
"""Longest body of `POST /api/batch`: 1,000 texts of 4,000 bytes."""
THREADS = 4
"""Inputs answered at a time by a function that takes one only."""
MAX_REQUESTS, MAX_EXPLANATIONS = 48, 8
"""Most requests waiting or being answered; the server has more threads, so that some are free to refuse."""
WRONG_KEYS_PER_MINUTE = 30
CREDITS_PER_INPUT, CREDITS_PER_EXPLANATION = 0.1, 5
"""What an input of a batch and an explanation cost a visitor of a public page; a request costs 1."""


class Service:
    """What stands behind an app: checks inputs, has them answered, counts what visitors ask for.

    Args:
        inference_fn: see `get_web_service_app`, as for the other arguments.
    """

    name: str = ""
    """What it is called among several on one port."""
    trusted_hosts: Sequence[str] = ()
    """Names under which a proxy shows it."""

    def __init__(
        self, inference_fn: Callable[..., Any], title: str | None, max_chars: int, requests_per_minute: int,
        feedback_file: str | Path | None, public_feedback: bool,
    ) -> None:  # fmt: skip
        """Read off the function what it takes and what it carries."""
        self.names = _get_field_names(inference_fn)
        self.own_title, self.title = title, title or WORDS[get_title_key(self.names)][0]
        self.max_chars = max_chars
        self.max_bytes = 4096 + 12 * max_chars * len(self.names)  # JSON may spell a character as two \uXXXX escapes
        self.input_model, self.batch_model, self.feedback_model = make_models(self.names, max_chars)
        self.feedback = Feedback(Path(feedback_file), self.names) if feedback_file else None
        self._public_feedback = public_feedback
        self.together: list[Service] = [self]
        self.limit, self.wrong_keys = RateLimit(requests_per_minute), RateLimit(WRONG_KEYS_PER_MINUTE)
        self.replace(inference_fn)
        # The function is looked up with each batch, as another may take its place.
        batch_fn = (lambda inputs: self._function.batch_fn(inputs)) if hasattr(inference_fn, "batch_fn") else None
        threads = 1 if batch_fn else THREADS
        self.answers = Batcher(lambda fields: self._function(**fields), batch_fn, threads, MAX_REQUESTS)
        self.explanations = Batcher(lambda fields: self._function.explain_fn(**fields), max_requests=MAX_EXPLANATIONS)

    def replace(self, inference_fn: Callable[..., Any]) -> None:
        """Answer with another function, as of a checkpoint trained anew, from the next batch on; no request is lost.

        Raises:
            ValueError: it takes other texts, which pages that are open now do not send.
        """
        if (names := _get_field_names(inference_fn)) != self.names:
            raise ValueError(f"expected a function of {', '.join(self.names)}, got one of {', '.join(names)}")
        self._function: Any = inference_fn
        self.info = dict(getattr(inference_fn, "info", {}))
        self.examples = [list(texts) for texts in getattr(inference_fn, "examples", ())]
        self.can_explain = hasattr(inference_fn, "explain_fn")

    @property
    def errors(self) -> int | None:
        """How often it errs in 100 answers, as far as that was measured."""
        accuracy = self.info.get("accuracy")
        return round(100 * (1 - float(accuracy))) if accuracy else None

    @property
    def comparable(self) -> list["Service"]:
        """The others on this port that read as many texts: their answers can stand beside this one's."""
        return [one for one in self.together if one is not self and len(one.names) == len(self.names)]

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
            count = self.feedback.add([*fields.values()], given["label"], answer, self.info.get("checkpoint", ""))
        return jsonify({"count": count})

    def show_page(self) -> str:
        """Show the page, and give visitors who share a key a signed cookie to be told apart by; else, all are one."""
        if is_limited() and "visitor" not in session and not self.limit.charge(f"visits at {get_address()}", 1):
            session["visitor"] = secrets.token_urlsafe(9)
            self.limit.welcome(session["visitor"], get_address())
        fields = [(field.alias, field.title) for field in self.input_model.model_fields.values()]
        columns = USUAL_COLUMNS.get(len(fields), [])
        return self._render("index.html", fields=fields, columns=columns, batch_limit=BATCH_LIMIT)

    def show_docs(self) -> str:
        """Show the API for people."""
        return self._render("docs.html", document=self.describe(), sentences=SENTENCES)

    def _render(self, template: str, **values: Any) -> str:
        static = f"{current_app.static_url_path}/"[1:]  # relative: it may be shown below a proxy's path
        others = "../" if request.script_root.endswith(f"/models/{self.name}") else "models/"
        return render_template(template, service=self, static=static, others=others, **values)

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
        if any(service.answers.is_stuck() for service in self.together):
            raise ApiError(503, retry_after=60)
        return {"status": "ready"}

    def close(self) -> None:
        """Stop the threads; a later request starts them anew."""
        self.answers.close()
        self.explanations.close()


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
