"""P5: how many requests a second does the web service answer when 32 clients ask at once?

The same model stands behind three servers of one process, which take turns: ours; ours with a function that takes one
input at a time; and the book's, Flask's development server, which answers one request after the other. The clients are
another process. `python tests/benchmarks/web_service.py load URL SECONDS CLIENTS FILE` puts load on any address.
"""

import http.client
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from measuring import CHECKPOINTS_DIR, Inputs, Row, compare, find_median, limit, run_python

CLIENTS = 32
SECONDS = 4
ROUNDS = 3
SOAK_SECONDS = 60
SENTENCES = 2_000


def put_load(url: str, seconds: float, clients: int, sentences: Sequence[str]) -> dict[str, float]:
    """Let clients send one sentence after the other, each on a connection of its own.

    Returns:
        `requests` answered, `errors` (any status but 200), `rate` a second, and `p50` and `p99` in milliseconds.
    """
    latencies: list[float] = []
    errors: list[str] = []
    end = time.perf_counter() + seconds

    def ask(order: random.Random) -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        while time.perf_counter() < end:
            body = json.dumps({"sentence": order.choice(sentences)}).encode()
            begin = time.perf_counter()
            try:
                connection.request("POST", "/api", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                errors.append(repr(error))
                connection.close()
                continue
            latencies.append(1e3 * (time.perf_counter() - begin))
            if answer.status != 200:
                errors.append(str(answer.status))

    begin = time.perf_counter()
    threads = [threading.Thread(target=ask, args=(random.Random(number),)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed, latencies = time.perf_counter() - begin, sorted(latencies)
    p50, p99 = (latencies[int(len(latencies) * share)] for share in (0.5, 0.99))
    count = len(latencies)
    return {"requests": count, "errors": len(errors), "rate": count / elapsed, "p50": p50, "p99": p99}


class Bench:
    """One model behind three servers.

    Args:
        encoder: configuration, tokenizer and perhaps weights in Hugging Face layout; missing weights are random.
        scratch: folder for the classifier and the sentences.
        sentences: what the clients ask.
        backend: what answers; see `Classifier.from_checkpoint`.
    """

    def __init__(self, encoder: Path, scratch: Path, sentences: Sequence[str], backend: Any = "torch") -> None:
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

        from nlpbook_helpers import Classifier

        torch.manual_seed(7)
        config = AutoConfig.from_pretrained(encoder, num_labels=2)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(scratch / encoder.name)
        AutoTokenizer.from_pretrained(encoder).save_pretrained(scratch / encoder.name)
        classifier = Classifier.from_checkpoint(scratch / encoder.name, max_seq_length=128, backend=backend)
        self.function: Any = classifier.inference_fn
        self.sentences, self._file = sentences, scratch / "sentences.json"
        self._file.write_text(json.dumps(sentences), encoding="utf-8")

    def measure(self, url: str, clients: int = CLIENTS, seconds: float = SECONDS) -> dict[str, float]:
        """Put load on a server from another process."""
        return json.loads(run_python(__file__, "load", url, str(seconds), str(clients), str(self._file)))

    @contextmanager
    def serve_all(self) -> Iterator[dict[str, str]]:
        """Open the servers; gives their addresses."""
        from nlpbook_helpers import get_web_service_app, serve

        def answer_alone(sentence: str) -> dict[str, str]:
            return self.function(sentence)

        ours, alone = get_web_service_app(self.function), get_web_service_app(answer_alone)
        with serve(ours, 0, None) as one, serve(alone, 0, None) as two, _serve_as_the_book(answer_alone) as book:
            yield {"ours": one.url, "unbatched": two.url, "book": book}


@contextmanager
def _serve_as_the_book(inference_fn: Callable[[str], Any]) -> Iterator[str]:
    """Serve a function as the book does: Flask's development server, one request at a time."""
    import logging

    from flask import Flask, jsonify, request
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = Flask("book")
    app.post("/api")(lambda: jsonify(inference_fn(request.get_json()["sentence"])))
    server = make_server("127.0.0.1", 0, app, threaded=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def measure_model(name: str, bench: Bench, is_target: bool) -> list[Row]:
    """Measure the servers in turns."""
    with bench.serve_all() as urls:
        for url in urls.values():
            bench.measure(url, seconds=1)
        alone = bench.measure(urls["ours"], clients=1, seconds=2)["p50"]
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in urls}
        for _ in range(ROUNDS):
            for way, url in urls.items():
                runs[way].append(bench.measure(url))
    costs = {way: [1e3 / run["rate"] for run in measured] for way, measured in runs.items()}
    p99 = {way: [run["p99"] for run in measured] for way, measured in runs.items()}
    errors = {way: int(sum(run["errors"] for run in measured)) for way, measured in runs.items()}
    rates = ", ".join(f"{way} {1e3 / find_median(values):,.0f}/s" for way, values in costs.items())
    note = f"{rates}; errors: {errors}"
    gain = find_median(costs["unbatched"]) / find_median(costs["ours"])
    bound = 4 * alone * CLIENTS / gain
    words = f"4 × the unloaded median ({alone:.1f} ms) × {CLIENTS} / the gain ({gain:.2f})"
    unit = f"{CLIENTS} clients (ms per request)"
    return [
        compare("P5", f"{name}: unbatched, {unit}", costs["unbatched"], costs["ours"], 2 if is_target else None, note),
        compare("P5", f"{name}: Book's server, {unit}", costs["book"], costs["ours"]),
        limit("P5", f"{name}: p99 (ms); reference: unbatched", p99["ours"], bound, p99["unbatched"], words),
        limit("P5", f"{name}: errors; reference: Book's server", [errors["ours"]], 0, [errors["book"]]),
    ]


def soak(name: str, bench: Bench) -> list[Row]:
    """Put load on our server for long, and see whether it remembers what it should not."""
    import psutil

    from nlpbook_helpers import get_web_service_app, serve

    process = psutil.Process()
    with serve(get_web_service_app(bench.function), 0, None) as server:
        bench.measure(server.url, seconds=10)
        before = process.memory_info().rss / 2**20
        run = bench.measure(server.url, seconds=SOAK_SECONDS)
        after = process.memory_info().rss / 2**20
    note = (
        f"{run['requests']:,.0f} requests, {run['errors']:.0f} errors; resident memory {before:.0f} to {after:.0f} MiB"
    )
    what = f"{name}: {CLIENTS} clients for {SOAK_SECONDS} s, growth of memory (MiB)"
    return [limit("P5", what, [after - before], 16, note=note)]


def run(inputs: Inputs) -> Sequence[Row]:
    """Measure P5."""
    from nlpbook_helpers import NsmcCorpus

    examples = NsmcCorpus().get_examples(str(Path(inputs.corpus_dir) / inputs.corpus_name), "test")
    texts = [example.text_a for example in examples if example.text_a.strip()]
    sentences = random.Random(7).sample(texts, min(SENTENCES, len(texts)))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        large = Path(inputs.encoder_dir)
        rows += measure_model("kcbert-base", Bench(large, Path(scratch), sentences), True)
        rows += measure_model("kcbert-base in 8 bits", Bench(large, Path(scratch), sentences, "onnx"), False)
        small = Bench(CHECKPOINTS_DIR / "nlpbook-mini", Path(scratch), sentences)
        rows += measure_model("nlpbook-mini", small, False)
        rows += soak("nlpbook-mini", small)
    return rows


if __name__ == "__main__":
    url, seconds, clients, file = sys.argv[2:]
    sentences = json.loads(Path(file).read_text(encoding="utf-8"))
    print(json.dumps(put_load(url, float(seconds), int(clients), sentences)))
