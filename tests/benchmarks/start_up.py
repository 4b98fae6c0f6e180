"""P7: how long until something happens? Importing the package, and the first page of a fresh process."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from measuring import BENCHMARKS_DIR, CHECKPOINTS_DIR, Inputs, Row, limit, run_python

IMPORT_ROUNDS = 11
PAGE_ROUNDS = 3
PAGE_TIMEOUT = 60  # seconds
SERVE = """
import sys, time
import nlpbook_helpers as nlpbook
classifier = nlpbook.Classifier.from_checkpoint(sys.argv[1])
server = nlpbook.serve(nlpbook.get_web_service_app(classifier.inference_fn), port=0, tunnel=None)
print(server.url, flush=True)
time.sleep(600)
"""


def measure_import() -> Row:
    """Time `import nlpbook_helpers` in a fresh process, in turns with a Python that does nothing."""
    codes = {"pass": [], "import nlpbook_helpers": []}
    for code in (*codes, *codes):  # the first start reads the files from disk
        run_python("-c", code)
    for _ in range(IMPORT_ROUNDS):
        for code, seconds in codes.items():
            begin = time.perf_counter()
            run_python("-c", code)
            seconds.append(time.perf_counter() - begin)
    bare, ours = codes.values()
    return limit("P7", "`import nlpbook_helpers`, process included; reference: bare Python (s)", ours, 0.3, bare)


def measure_page(checkpoint: Path) -> float:
    """Return the seconds from the start of a process to the first page with a classifier behind it.

    Raises:
        RuntimeError: The process ended or gave no page in time.
    """
    begin = time.perf_counter()
    command = [sys.executable, "-c", SERVE, str(checkpoint)]
    with subprocess.Popen(
        command, cwd=BENCHMARKS_DIR, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            url = next((line.strip() for line in server.stdout or () if line.startswith("http")), None)
            if url is None:
                raise RuntimeError(f"the server ended: {server.stderr.read()[-2000:] if server.stderr else ''}")
            while time.perf_counter() - begin < PAGE_TIMEOUT:
                try:
                    with urllib.request.urlopen(url, timeout=PAGE_TIMEOUT) as answer:
                        if answer.status == 200:
                            return time.perf_counter() - begin
                except urllib.error.URLError:
                    time.sleep(0.01)
            raise RuntimeError(f"{url} gave no page in {PAGE_TIMEOUT} s")
        finally:
            server.kill()


def run(inputs: Inputs) -> Sequence[Row]:
    """Measure P7."""
    what = "page up from a fresh process, classifier loaded (s)"
    named = os.environ.get("NLPBOOK_BENCH_CHECKPOINT")
    candidates = [Path(named)] if named else [CHECKPOINTS_DIR / name for name in ("doccls", "nlpbook-mini")]
    checkpoint = next((folder for folder in candidates if folder.exists()), None)
    if checkpoint is None:
        missing = Row(
            "P7", what, target="at most 5", note="skipped: neither checkpoints/doccls nor nlpbook-mini exists"
        )
        return [measure_import(), missing]
    seconds = [measure_page(checkpoint) for _ in range(PAGE_ROUNDS)]
    return [measure_import(), limit("P7", what, seconds, 5, note=f"checkpoint: {checkpoint.name}")]
