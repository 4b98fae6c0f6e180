"""What a monitoring system asks for: `/metrics` in Prometheus' form, where its client library is installed."""

import time
from collections.abc import Sequence
from typing import Any

from flask import Response, request

from nlpbook_helpers.web.access import ACCESS_KEY, BEGAN, is_at_this_machine
from nlpbook_helpers.web.requests import ApiError

try:
    import prometheus_client as prometheus
except ImportError:  # the extra `metrics`
    prometheus = None
else:
    _WHERE = ["model", "endpoint", "status"]
    _seconds = prometheus.Histogram("nlpbook_request_seconds", "From a request's arrival to its answer.", _WHERE)
    _waiting = prometheus.Gauge("nlpbook_inputs", "Inputs waiting or being answered.", ["model"])
    _opinions = prometheus.Gauge("nlpbook_feedback_rows", "Rows of the file of feedback.", ["model"])


def count_request(model: str, status: int) -> None:
    """Count an answer, with the time that it took."""
    if prometheus and (began := request.environ.get(BEGAN)):
        _seconds.labels(model, request.endpoint or "none", status).observe(time.monotonic() - began)


def show_metrics(services: Sequence[Any]) -> Response:
    """Answer who has the key, or sits at this machine; a page without a key does not tell the world how it does.

    Raises:
        ApiError: 404, somebody else asks; 501, the library is not installed.
    """
    if not request.environ.get(ACCESS_KEY) and not is_at_this_machine():
        raise ApiError(404)
    if not prometheus:
        raise ApiError("no_metrics")
    for service in services:
        _waiting.labels(service.name).set(service.answers.inputs + service.explanations.inputs)
        _opinions.labels(service.name).set(service.feedback.count if service.feedback else 0)
    return Response(prometheus.generate_latest(), content_type=prometheus.CONTENT_TYPE_LATEST)
