"""P5: how many requests a second does the web service answer when 32 clients ask at once?

The same model stands behind three servers of one process, which take turns: ours; ours with a function that takes one
input at a time; and the book's, Flask's development server, which answers one request after the other. The clients are
another process. `python tests/benchmarks/web_service.py URL SECONDS CLIENTS FILE` puts load on any address.
"""

import http.client
import json
import logging
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from measuring import Inputs, Row, compare, find_median, limit, run_python

CLIENTS = 32


def put_load(url: str, seconds: float, clients: int, sentences: Sequence[str]) -> dict[str, float]:
    """Let clients send one sentence after the other, each on a connection of its own.

    Returns:
        `errors` (lost connections, and any status but 200), `rate` of answers a second, `p50` and `p99` in ms.
    """
    latencies: list[float] = []
    errors: list[str] = []
    begin = time.perf_counter()

    def ask(number: int) -> None:
        order, connection = random.Random(number), http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        while time.perf_counter() < begin + seconds:
            body, sent = json.dumps({"sentence": order.choice(sentences)}).encode(), time.perf_counter()
            try:
                connection.request("POST", "/api", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                errors.append(repr(error))
                connection.close()
                continue
            latencies.append(1e3 * (time.perf_counter() - sent))
            if answer.status != 200:
                errors.append(str(answer.status))

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))
    rate = len(latencies) / (time.perf_counter() - begin)
    p50, p99 = (sorted(latencies)[int(len(latencies) * share)] for share in (0.5, 0.99))
    return {"errors": len(errors), "rate": rate, "p50": p50, "p99": p99}


@contextmanager
def serve_all(function: Callable[[str], Any]) -> Iterator[dict[str, str]]:
    """Open the three servers; gives their addresses."""
    from flask import Flask, jsonify, request
    from werkzeug.serving import make_server

    from nlpbook_helpers import get_web_service_app, serve

    def answer_alone(sentence: str) -> dict[str, str]:
        return function(sentence)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = Flask("book")
    app.post("/api")(lambda: jsonify(function(request.get_json()["sentence"])))
    book = make_server("127.0.0.1", 0, app, threaded=False)
    threading.Thread(target=book.serve_forever, daemon=True).start()
    ours, alone = get_web_service_app(function), get_web_service_app(answer_alone)
    with serve(ours, 0, None) as one, serve(alone, 0, None) as two:
        yield {"ours": one.url, "unbatched": two.url, "book": f"http://127.0.0.1:{book.server_port}"}
    book.shutdown()
    book.server_close()


def measure_model(name: str, function: Any, sentences: Path, inputs: Inputs) -> list[Row]:
    """Measure the servers in turns."""

    def measure(url: str, seconds: int, clients: int = CLIENTS) -> dict[str, float]:
        return json.loads(run_python(__file__, url, str(seconds), str(clients), str(sentences)))

    with serve_all(function) as urls:
        for url in urls.values():
            measure(url, 1)
        alone = measure(urls["ours"], inputs.choose(2, 1), clients=1)["p50"]
        rounds = [{way: measure(url, inputs.choose(4, 1)) for way, url in urls.items()}
                  for _ in range(inputs.choose(3, 1))]  # fmt: skip
    costs = {way: [1e3 / runs[way]["rate"] for runs in rounds] for way in urls}
    p99 = {way: [runs[way]["p99"] for runs in rounds] for way in urls}
    errors = {way: int(sum(runs[way]["errors"] for runs in rounds)) for way in urls}
    rates = ", ".join(f"{way} {1e3 / find_median(values):,.0f}/s" for way, values in costs.items())
    gain = find_median(costs["unbatched"]) / find_median(costs["ours"])
    words = f"4 × the unloaded median ({alone:.1f} ms) × {CLIENTS} / the gain ({gain:.2f})"
    unit = f"{CLIENTS} clients (ms per request)"
    return [
        compare("P5", f"{name}: unbatched, {unit}", costs["unbatched"], costs["ours"], 2, f"{name}: {rates}"),
        compare("P5", f"{name}: Book's server, {unit}", costs["book"], costs["ours"]),
        limit("P5", f"{name}: p99 (ms); reference: unbatched", p99["ours"], 4 * alone * CLIENTS / gain,
              p99["unbatched"], words),
        limit("P5", f"{name}: errors; reference: Book's server", [errors["ours"]], 0, [errors["book"]]),
    ]  # fmt: skip


def measure_servers(inputs: Inputs) -> list[Row]:
    """Measure P5."""
    from nlpbook_helpers import Classifier, get_embedded_path

    with tempfile.TemporaryDirectory() as scratch:
        sentences = Path(scratch) / "sentences.json"
        sentences.write_text(json.dumps(inputs.get_texts("test")[:2_000]), encoding="utf-8")
        large = inputs.open_classifier().inference_fn
        rows = measure_model("kcbert-base", large, sentences, inputs)
        if not inputs.is_toy:
            small = Classifier.from_checkpoint(get_embedded_path("doccls")).inference_fn
            rows += measure_model("embedded classifier", small, sentences, inputs)
        return rows


if __name__ == "__main__":
    url, seconds, clients, file = sys.argv[1:]
    print(json.dumps(put_load(url, float(seconds), int(clients), json.loads(Path(file).read_text("utf-8")))))
