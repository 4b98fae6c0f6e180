"""Our page beside Gradio's, with one classifier in one process: what a visitor waits for, what a program gets.

`pip install gradio`, then `python tests/benchmarks/beside_gradio.py`; needs Chromium. Gradio answers without its
queue, which is its fastest way.
"""

import json
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import gradio  # type: ignore[import-not-found]
import httpx
from playwright.sync_api import Browser, sync_playwright

from nlpbook_helpers import Classifier, NsmcCorpus, get_embedded_path, get_web_service_app, serve

ROUNDS, SECONDS = 5, 5


def open_gradio(classifier: Classifier) -> str:
    """Open a page with a text field and an answer; returns its address."""

    def answer(sentence: str) -> dict[str, float]:
        (shares,) = classifier.predict([sentence])
        return dict(zip(classifier.labels, map(float, shares), strict=True))

    with gradio.Blocks() as page:
        field, label = gradio.Textbox(label="sentence"), gradio.Label()
        gradio.Button("Submit").click(answer, field, label, queue=False, api_name="predict")
    return page.launch(prevent_thread_lock=True, quiet=True)[1].rstrip("/")


def load_page(browser: Browser, url: str) -> tuple[float, float]:
    """Load a page with an empty cache; returns seconds until one can type, and KB that came over the wire."""
    page, received = browser.new_page(), []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    begin = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.locator("textarea").first.fill("좋은 영화")
    seconds = time.perf_counter() - begin
    page.wait_for_load_state("networkidle")
    page.close()
    return seconds, sum(received) / 1_000


def put_load(url: str, make_body: Callable[[str], Any], threads: int, texts: list[str]) -> float:
    """Ask from several threads, each on a connection of its own; returns answers a second."""
    end = time.perf_counter() + SECONDS

    def ask(number: int) -> int:
        order, count = random.Random(number), 0
        with httpx.Client(timeout=60) as client:
            while time.perf_counter() < end:
                client.post(url, json=make_body(order.choice(texts))).raise_for_status()
                count += 1
        return count

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(ask, range(threads))) / SECONDS


def main() -> None:
    """Measure both in turns and print medians."""
    classifier = Classifier.from_checkpoint(get_embedded_path("doccls"))
    texts = [example.text_a for example in NsmcCorpus().get_examples(get_embedded_path("nsmc-sample"), "test")]
    found: dict[str, list] = {}
    with serve(get_web_service_app(classifier.inference_fn), 0, None) as server, sync_playwright() as playwright:
        pages = {"ours": server.url, f"Gradio {version('gradio')}": open_gradio(classifier)}
        ways = {
            "ours": (f"{server.url}/api", lambda text: {"sentence": text}),
            f"Gradio {version('gradio')}": (
                f"{[*pages.values()][1]}/gradio_api/run/predict",
                lambda text: {"data": [text]},
            ),
        }
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for _ in range(ROUNDS):
            for name, url in pages.items():
                seconds, size = load_page(browser, url)
                values = {"s until one can type": seconds, "KB": size}
                values |= {
                    f"answers/s, {threads} threads": put_load(*ways[name], threads, texts) for threads in (1, 16)
                }
                for what, value in values.items():
                    found.setdefault(what, {name: [] for name in pages})[name].append(value)
        browser.close()
    print(
        json.dumps(
            {
                what: {name: round(statistics.median(runs), 2) for name, runs in by.items()}
                for what, by in found.items()
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
