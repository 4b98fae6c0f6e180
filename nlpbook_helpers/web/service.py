"""What stands behind a page: inputs are checked, answered, explained, and what visitors say is kept."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flask import Response, current_app, jsonify, render_template, request

from nlpbook_helpers.values import USUAL_COLUMNS
from nlpbook_helpers.web.access import ACCESS_KEY, RateLimit, is_public, name_visitor
from nlpbook_helpers.web.batching import Batcher
from nlpbook_helpers.web.feedback import Feedback
from nlpbook_helpers.web.language import SENTENCES, WORDS, get_api_language
from nlpbook_helpers.web.openapi import describe_api
from nlpbook_helpers.web.requests import BATCH_LIMIT, ApiError, check, make_models, read
from nlpbook_helpers.web.responses import check_answer

BATCH_BYTES = 4 * 2**20  # length of a request's body that is always accepted: 1,000 texts of 4,000 bytes
THREADS = 4  # inputs answered at a time by a function that takes one only
LEAST_TESTED = 100  # texts that an error rate is given for; of fewer, how many were answered rightly
# Most requests waiting or being answered; the server has more threads, so that some are free to refuse.
MAX_REQUESTS, MAX_EXPLANATIONS = 48, 8
# What an input of a batch and an explanation cost a visitor of a public page; a request costs 1.
CREDITS_PER_INPUT, CREDITS_PER_EXPLANATION = 0.1, 5


class Service:
    """What stands behind an app: checks inputs, has them answered, counts what visitors ask for.

    Args:
        inference_fn: see `get_web_service_app`, as for the other arguments.

    Attributes:
        name: what it is called among several on one port.
        together: all on that port.
        errors: how often it errs in 100 answers, as far as that was measured.
        tried: of too few texts for that, how many it answered rightly, and of how many.
    """

    def __init__(
        self, inference_fn: Callable[..., Any], title: str | None, max_chars: int, requests_per_minute: int,
        trusted_hosts: Sequence[str], feedback_file: str | Path | None, public_feedback: bool,
    ) -> None:  # fmt: skip
        """Read off the function what it takes and what it carries."""
        self.names = _get_field_names(inference_fn)
        self.name, self.together = "", [self]
        self.title_key = f"title_{min(2, len(self.names))}"  # in `WORDS`, of a page without a title of its own
        self.own_title, self.title = title, title or WORDS[self.title_key][0]
        self.max_chars = max_chars
        # JSON may spell a character as two \uXXXX escapes.
        self.max_bytes = max(BATCH_BYTES, 4096 + 12 * max_chars * len(self.names))
        self.input_model, self.batch_model, self.feedback_model = make_models(self.names, max_chars)
        self.trusted_hosts, self.limit = trusted_hosts, RateLimit(requests_per_minute)
        self.feedback = Feedback(Path(feedback_file), self.names) if feedback_file else None
        self._public_feedback = public_feedback
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
        accuracy = self.info.get("accuracy")
        # Whoever writes an `info` by hand may leave out on how many texts it was measured.
        tested = int(self.info.get("tested_on", LEAST_TESTED))
        is_known = accuracy is not None
        self.errors = round(100 * (1 - float(accuracy))) if is_known and tested >= LEAST_TESTED else None
        self.tried = (round(float(accuracy) * tested), tested) if is_known and 0 < tested < LEAST_TESTED else None
        self.examples = [list(texts) for texts in getattr(inference_fn, "examples", ())]
        self.can_explain = hasattr(inference_fn, "explain_fn")

    @property
    def comparable(self) -> list["Service"]:
        """The others on this port that read as many texts: their answers can stand beside this one's."""
        return [one for one in self.together if one is not self and len(one.names) == len(self.names)]

    @property
    def takes_feedback(self) -> bool:
        """Whether feedback is kept: of strangers only if the owner asked for it."""
        return self.feedback is not None and (self._public_feedback or not is_public())

    def _answer(self, batcher: Batcher, values: Sequence[Any]) -> list[Any]:
        """Check inputs and have them answered; what is wrong with one stands in the place of its answer."""
        results: list[Any] = []
        for value in values:
            try:
                results.append(check(value, self.input_model))
            except ApiError as error:
                results.append(error)
        good = [result for result in results if isinstance(result, dict)]
        askers = (name_visitor(), f"all at {request.remote_addr}") if is_public() else ()
        answers = iter(batcher.answer(good, askers, request.environ.get("waitress.client_disconnected")))
        return [check_answer(next(answers)) if isinstance(result, dict) else result for result in results]

    def _answer_one(self, batcher: Batcher, value: Any) -> Any:
        """Check one input and have it answered, or raise what is wrong with it."""
        (result,) = self._answer(batcher, [value])
        if isinstance(result, ApiError):
            raise result
        return result

    def answer(self) -> Response:
        """Answer the request's one input."""
        self.limit.admit()
        return jsonify(self._answer_one(self.answers, read(self.input_model)))

    def explain(self) -> Response:
        """Explain the request's one input, if the function can."""
        if not self.can_explain:
            raise ApiError("cannot_explain")
        self.limit.admit(CREDITS_PER_EXPLANATION)
        return jsonify(self._answer_one(self.explanations, read(self.input_model)))

    def answer_batch(self) -> Response:
        """Answer or refuse each input of the request on its own, in their order."""
        self.limit.admit()
        inputs = check(read(self.batch_model), self.batch_model)["inputs"]
        self.limit.charge(len(inputs) * CREDITS_PER_INPUT)
        results = self._answer(self.answers, inputs)
        language = get_api_language()
        told = [{"error": one.describe(language)} if isinstance(one, ApiError) else one for one in results]
        return jsonify({"results": told})

    def keep_feedback(self) -> Response:
        """Write down the right label of a text, beside the answer that it gets here and now."""
        if self.feedback is None or not self.takes_feedback:
            raise ApiError("no_feedback")
        self.limit.admit()
        given = check(read(self.feedback_model), self.feedback_model)
        fields = check(given["input"], self.input_model)
        answer = self._answer_one(self.answers, fields)
        labels = list(answer.get("probabilities", [answer.get("prediction")]))
        if given["label"] not in labels:
            raise ApiError("unknown_label", "label", labels=labels, got=given["label"][:40])
        count = self.feedback.add([*fields.values()], given["label"], answer, self.info.get("checkpoint", ""))
        return jsonify({"count": count})

    def show_page(self) -> str:
        """Show the page, and tell its visitor from others."""
        self.limit.welcome()
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
        bodies: dict[str, Any] = {"/api": self.input_model, "/api/batch": self.batch_model}
        bodies |= {"/api/explain": self.input_model} if self.can_explain else {}
        bodies |= {"/api/feedback": self.feedback_model} if self.takes_feedback else {}
        return describe_api(self.title, bodies, bool(request.environ.get(ACCESS_KEY)))

    def is_ready(self) -> dict[str, str]:
        """Say that requests are answered, unless the function hangs."""
        if any(service.answers.is_stuck for service in self.together):
            raise ApiError(503, retry_after=60)
        return {"status": "ready"}

    def close(self) -> None:
        """Stop the threads; a later request starts them anew."""
        self.answers.close()
        self.explanations.close()


def _get_field_names(inference_fn: Callable[..., Any]) -> list[str]:
    """Read the names of the texts a function wants off its signature."""
    got = inspect.signature(inference_fn)
    wanted = [parameter for parameter in got.parameters.values() if parameter.default is parameter.empty]
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if not wanted or any(parameter.kind not in by_name for parameter in wanted):
        expected = "an inference function with named text parameters, as inference_fn(sentence)"
        raise ValueError(f"expected {expected}, got {got}: name one for each text, without a default")
    return [parameter.name for parameter in wanted]
