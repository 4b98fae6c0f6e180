"""Run the benchmarks and print one table: `python tests/benchmarks/run.py [--toy] [P1 P6 P7 …]`.

Times mean nothing on a shared machine: every target but a size and P7's seconds is a ratio of two ways measured in
turns, and nothing fails because of a time. Ratios are added to the history (history.py). To add a benchmark, write a
function of the inputs that returns rows, and name it here. `--toy` asks only whether everything still runs.
"""

import dataclasses
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from history import HISTORY_DIR, add_to_history
from measuring import BENCHMARKS_DIR, Inputs, Row, describe_machine, find_inputs, find_median

BENCHMARKS = {
    "P1": "training_step:measure_steps",
    "P2": "accelerator:measure_epochs",
    "P3": "answers:measure_sentence",
    "P4": "answers:measure_corpus",
    "P5": "web_service:measure_servers",
    "P6": "processes:measure_features",
    "P7": "processes:measure_start",
    "P8": "processes:measure_predict",
}
OUTPUT = BENCHMARKS_DIR / "results.json"
HEADER = ("id", "what", "reference", "ours", "ratio", "target", "met")


def run_benchmark(id: str, inputs: Inputs) -> list[Row]:
    """Run one benchmark; of one that fails the row says so, and the others go on."""
    module, function = BENCHMARKS[id].split(":")
    print(f"{id} …", file=sys.stderr, flush=True)
    try:
        return list(getattr(import_module(module), function)(inputs))
    except Exception as error:  # whatever it is, hours of other rows are worth more
        traceback.print_exc()
        return [Row(id, "failed", note=f"{type(error).__name__}: {error}")]


def format_values(values: Sequence[float]) -> str:
    """Write a median with its spread: "0.63 (0.61 to 0.70)"."""
    if not values:
        return "–"
    # three significant digits, and all digits before the point
    summary = (find_median(values), min(values), max(values))
    middle, low, high = (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" for value in summary)
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def format_table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, their notes below it."""
    lines, notes = [HEADER, ["---"] * len(HEADER)], [row.note for row in rows if row.note]
    for row in rows:
        mark = f" [{notes.index(row.note) + 1}]" if row.note else ""
        ratio = "–" if row.ratio is None else f"{row.ratio:.3g}"
        met = {True: "yes", False: "no", None: "–"}[row.is_met]
        values = (format_values(row.reference), format_values(row.ours))
        lines.append((row.id, row.what + mark, *values, ratio, row.target or "–", met))
    table = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join(table + [f"[{number}] {note}" for number, note in enumerate(notes, start=1)])


def main(arguments: Sequence[str]) -> int:
    """Run the benchmarks of some ids; return 2 for an id that does not exist, 1 if one failed, else 0."""
    ids = [one for one in arguments if one != "--toy"] or list(BENCHMARKS)
    if unknown := sorted(set(ids) - set(BENCHMARKS)):
        print(f"benchmarks: expected ids out of {list(BENCHMARKS)}, got {unknown}: correct them", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("NLPBOOK_CACHE_DIR", str(Path(scratch) / "cache"))
        inputs = find_inputs(Path(scratch), is_toy="--toy" in arguments)
        print(f"inputs: {inputs.description}", flush=True)
        rows = [row for id in ids for row in run_benchmark(id, inputs)]
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), format_table(rows), sep="\n\n")
    content = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "inputs": inputs.description}
    content |= {"machine": machine, "rows": [dataclasses.asdict(row) for row in rows]}
    OUTPUT.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {OUTPUT.relative_to(BENCHMARKS_DIR.parents[1])}")
    if not inputs.is_toy and any(row.ratio is not None for row in rows):
        print(*add_to_history(rows, content), sep="\n")
        print(f"added to: {HISTORY_DIR.relative_to(BENCHMARKS_DIR.parents[1])}, to be committed")
    return int(any(row.what == "failed" for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
