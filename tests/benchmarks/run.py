"""Run the benchmarks and print one table: `python tests/benchmarks/run.py [P1 P6 P7 T1 …]`.

Without names all but the experiments run. Times mean nothing on a shared machine: every target but T1, P6's size and
P7 is a ratio of two ways measured in turns, and nothing fails because of a time. To add a benchmark, write a function
of the inputs that returns rows, and name it here.
"""

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from measuring import BENCHMARKS_DIR, Inputs, Row, describe_machine, find_inputs, find_median

BENCHMARKS = {
    "P1": "training_step:run",
    "P3": "one_sentence:run",
    "P4": "corpus_scoring:run",
    "P5": "web_service:run",
    "P6": "feature_building:run",
    "P7": "start_up:run",
    "PLOT": "cost_curves:run",
    "T1": "code_size:run",
}
EXPERIMENTS = {  # run by name only: they answer "would it pay to change this?"
    "P1X": "training_experiments:run",
}
OUTPUT = BENCHMARKS_DIR / "results.json"
HEADER = ("id", "what", "reference", "ours", "ratio", "target", "met")


def load_benchmark(id: str) -> Callable[[Inputs], Sequence[Row]]:
    """Import a benchmark only when it is asked for: counting lines needs no torch."""
    module, function = (BENCHMARKS | EXPERIMENTS)[id].split(":")
    return getattr(import_module(module), function)


def format_values(values: Sequence[float]) -> str:
    """Write a median with its spread: "0.63 (0.61 to 0.70)"."""
    if not values:
        return "–"
    shown = [format_number(value) for value in (find_median(values), min(values), max(values))]
    return shown[0] if len(values) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"


def format_number(value: float) -> str:
    """Write a number with three significant digits, and all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def format_table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, their notes below it."""
    lines = [" | ".join(HEADER), " | ".join("---" for _ in HEADER)]
    notes = []
    for row in rows:
        met = {True: "yes", False: "no", None: "–"}[row.is_met]
        ratio = "–" if row.ratio is None else f"{row.ratio:.2f}" if row.ratio < 10 else f"{row.ratio:.1f}"
        mark = ""
        if row.note:
            notes.append(row.note)
            mark = f" [{len(notes)}]"
        cells = (row.id, row.what + mark, format_values(row.reference), format_values(row.ours), ratio)
        lines.append(" | ".join((*cells, row.target or "–", met)))
    return "\n".join([f"| {line} |" for line in lines] + [f"[{n}] {note}" for n, note in enumerate(notes, start=1)])


def main(ids: Sequence[str]) -> int:
    """Run the benchmarks of some ids; return 2 for an id that does not exist, else 0."""
    known = [*BENCHMARKS, *EXPERIMENTS]
    if unknown := sorted(set(ids) - set(known)):
        print(f"benchmarks: expected ids out of {known}, got {unknown}: correct them", file=sys.stderr)
        return 2
    os.environ.setdefault("NLPBOOK_CACHE_DIR", str(BENCHMARKS_DIR / "results" / "cache"))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        inputs = find_inputs(Path(scratch))
        print(f"inputs: {inputs.description}", flush=True)
        for id in ids or BENCHMARKS:
            print(f"{id} …", file=sys.stderr, flush=True)
            rows += load_benchmark(id)(inputs)
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), format_table(rows), sep="\n\n")
    content = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "inputs": inputs.description}
    content |= {"machine": machine, "rows": [dataclasses.asdict(row) for row in rows]}
    OUTPUT.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {OUTPUT.relative_to(BENCHMARKS_DIR.parents[1])}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
