"""P6, P7 and P8: what do features, a start and `predict` cost, each in a fresh process?

`python processes.py features WAY CORPUS_DIR CORPUS MODEL_DIR` and `python processes.py predict CHECKPOINT IN OUT` print
what one process measured.
"""

import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from measuring import BENCHMARKS_DIR, CHECKPOINTS_DIR, Inputs, Row, compare, limit, run_python

BOOK_ROWS = 15_000  # the book's way on all of NSMC wants more memory than many machines have
SERVE = ("-u", "-m", "nlpbook_helpers", "serve", "--port", "0", "--checkpoint")


def measure_memory() -> float:
    """Return this process's peak memory, MB.

    Linux hands a parent's `ru_maxrss` down through exec, so there the process's own high-water mark is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts bytes


def build_features(way: str, corpus_dir: str, corpus_name: str, model_dir: str) -> dict[str, float]:
    """Build features in this process; seconds and MB are of the building alone, imports and tokenizer not counted."""
    from transformers import AutoTokenizer

    from nlpbook_helpers import ClassificationDataset, ClassificationTrainArguments, NsmcCorpus

    args = ClassificationTrainArguments(
        model_dir, downstream_corpus_root_dir=corpus_dir, downstream_corpus_name=corpus_name, max_seq_length=128
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
    tokenizer(["예열"])  # the first call starts the threads
    before, begin, scale = measure_memory(), time.perf_counter(), 1.0
    if way == "book":  # padded lists, in a Python object for each example
        examples = NsmcCorpus().get_examples(str(Path(corpus_dir, corpus_name)), "train")
        scale = max(1.0, len(examples) / BOOK_ROWS)
        texts = [example.text_a for example in examples[:BOOK_ROWS]]
        encoding = tokenizer(texts, max_length=128, padding="max_length", truncation=True)
        kept: Any = [{name: encoding[name][row] for name in encoding} for row in range(len(texts))]
    else:
        kept = ClassificationDataset(args, NsmcCorpus(), tokenizer, "train")
    seconds, memory = time.perf_counter() - begin, measure_memory() - before
    return {"seconds": seconds * scale, "memory": memory * scale, "rows": len(kept)}


def measure_features(inputs: Inputs) -> list[Row]:
    """Measure P6."""
    found: dict[str, list[dict[str, float]]] = {"book": [], "build": [], "reload": []}
    for _ in range(inputs.choose(3, 1)):
        with tempfile.TemporaryDirectory() as cache:
            for way, measured in found.items():
                place = (inputs.corpus_dir, inputs.corpus_name, inputs.model_dir)
                output = run_python(__file__, "features", way, *place, NLPBOOK_CACHE_DIR=cache)
                measured.append(json.loads(output))
            size = sum(file.stat().st_size for file in Path(cache).rglob("*.safetensors")) / 1e6

    def get(way: str, name: str) -> list[float]:
        return [measured[name] for measured in found[way]]

    scaled = f"Book measured on {found['book'][0]['rows']:,} rows and scaled to {found['build'][0]['rows']:,}"
    return [
        compare("P6", "features, peak extra memory (MB)", get("book", "memory"), get("build", "memory"), 20, scaled),
        compare("P6", "features, building (s)", get("book", "seconds"), get("build", "seconds")),
        compare("P6", "features, reload against building (s)", get("build", "seconds"), get("reload", "seconds"), 20),
        limit("P6", "features, size of the columns (MB)", [size], 40),
    ]


def measure_page(begin: float) -> float:
    """Return the seconds from the start of `serve` to the page of the embedded classifier.

    Raises:
        RuntimeError: The server ended before it gave a page.
    """
    command = [sys.executable, *SERVE, str(CHECKPOINTS_DIR / "doccls")]
    with subprocess.Popen(command, cwd=BENCHMARKS_DIR, stdout=subprocess.PIPE, text=True) as server:
        try:
            words = itertools.chain.from_iterable(line.split() for line in server.stdout or ())
            url = next((word for word in words if word.startswith("http")), None)
            if url is None:
                raise RuntimeError("serve: expected the page's address, got none: run it by hand")
            urllib.request.urlopen(url, timeout=60).close()
            return time.perf_counter() - begin
        finally:
            server.kill()


def measure_start(inputs: Inputs) -> list[Row]:
    """Measure P7."""
    seconds: dict[str, list[float]] = {"pass": [], "import nlpbook_helpers": [], "help": []}
    for round in range(inputs.choose(12, 2)):
        for code, times in seconds.items():
            begin = time.perf_counter()
            run_python(*(("-m", "nlpbook_helpers", "--help") if code == "help" else ("-c", code)))
            times += [time.perf_counter() - begin] if round else []  # the first start reads the files from disk
    bare, ours, shown = seconds.values()
    pages = [measure_page(time.perf_counter()) for _ in range(inputs.choose(3, 1))]
    return [
        limit("P7", "`import nlpbook_helpers`, process included; reference: bare Python (s)", ours, 0.3, bare),
        limit("P7", "`nlpbook --help`; reference: bare Python (s)", shown, 0.5, bare),
        limit("P7", "page up from a fresh `nlpbook serve`, embedded classifier (s)", pages, 5),
    ]


def measure_predict(inputs: Inputs) -> list[Row]:
    """Measure P8; NLPBOOK_BENCH_ROWS sets the larger number of rows."""
    counts = [inputs.choose(10_000, 20), int(os.environ.get("NLPBOOK_BENCH_ROWS", inputs.choose(50_000, 40)))]
    texts, found = inputs.get_texts("train"), []
    with tempfile.TemporaryDirectory() as scratch:
        for count in counts[: inputs.choose(2, 1)]:
            source, target = Path(scratch) / f"{count}.jsonl", Path(scratch) / f"{count}.csv"
            with source.open("w", encoding="utf-8") as file:
                lines = (json.dumps({"text": text}) + "\n" for text in itertools.cycle(texts))
                file.writelines(itertools.islice(lines, count))
            place = (str(CHECKPOINTS_DIR / "doccls"), str(source), str(target))
            found.append(json.loads(run_python(__file__, "predict", *place)))
    small, large = found[0]["memory"], found[-1]["memory"]
    rates = (f"{count / one['seconds']:,.0f} rows/s of {count:,}" for count, one in zip(counts, found, strict=False))
    what = f"predict, peak memory of {counts[1]:,} rows; reference: of {counts[0]:,} (MB)"
    note = f"embedded classifier, start included: {', '.join(rates)}"
    return [limit("P8", what, [large], min(900, 1.2 * small), [small], note)]


def predict(checkpoint: str, source: str, target: str) -> dict[str, float]:
    """Score a file in this process, as the command does."""
    from nlpbook_helpers.__main__ import main

    begin = time.perf_counter()
    if main(["predict", "--checkpoint", checkpoint, "--input", source, "--output", target]):
        sys.exit("predict was refused")
    return {"seconds": time.perf_counter() - begin, "memory": measure_memory()}


if __name__ == "__main__":
    print(json.dumps({"features": build_features, "predict": predict}[sys.argv[1]](*sys.argv[2:])))
