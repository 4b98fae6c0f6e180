"""How fast are the two engines of `predict`, and what memory do they take? `tests/benchmarks/engines.py 10000 100000`.

Runs the command as a user does, on so many rows of NSMC's training file (`NLPBOOK_CORPUS_DIR`; else the embedded
sample), read again from the start where it has fewer. Memory is that of the command and all its children, pages that
they share counted once (PSS), sampled while it runs.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import psutil
from measuring import CHECKPOINTS_DIR, PACKAGE_DIR, describe_machine

PAUSE = 1.0  # seconds between two samples, which take time themselves
QUARTERS = (0.25, 0.5, 0.75, 1.0)


def write_input(path: Path, rows: int) -> None:
    """Write so many rows of NSMC, each of them with a number of its own."""
    folder = Path(os.environ.get("NLPBOOK_CORPUS_DIR", ""), "nsmc")
    folder = folder if folder.is_dir() else PACKAGE_DIR / "samples" / "nsmc-sample"
    with (folder / "ratings_train.txt").open(encoding="utf-8") as source, path.open("w", encoding="utf-8") as target:
        header, *lines = source
        print("number", header, sep="\t", end="", file=target)
        target.writelines(f"{number}\t{line}" for number, line in enumerate(islice(cycle(lines), rows)))


def measure_memory(process: psutil.Process) -> float:
    """Return MiB of a process and its children; of those that may be looked into."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            facts = member.memory_full_info()
            total += getattr(facts, "pss", facts.uss)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total / 2**20


def watch(process: subprocess.Popen) -> Iterator[tuple[float, float]]:
    """Yield seconds and MiB until the process ends."""
    begin, about = time.perf_counter(), psutil.Process(process.pid)
    while process.poll() is None:
        try:
            yield time.perf_counter() - begin, measure_memory(about)
        except psutil.NoSuchProcess:
            return
        time.sleep(PAUSE)


def run(engine: str, source: Path, rows: int, checkpoint: str) -> tuple[str, Path]:
    """Score the file with an engine; return its row of the table and the output.

    Raises:
        RuntimeError: The command failed; the message holds what it said.
    """
    output = source.with_name(f"{engine}.tsv")
    command = [sys.executable, "-m", "nlpbook_helpers", "predict", "--checkpoint", checkpoint, "--engine", engine]
    begin = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--input", str(source), "--output", str(output)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    samples = list(watch(process))
    seconds = time.perf_counter() - begin
    said, noise = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{engine} failed: {noise.strip()[-2000:]}")
    print(f"{engine}: {said.strip()}", flush=True)
    memory = [mib for _, mib in samples]
    at = [memory[min(len(memory) - 1, int(share * len(memory)))] for share in QUARTERS]
    at[-1] = max(memory[-max(1, len(memory) // 20) :])  # the last moment is that of leaving
    cells = [engine, f"{rows:,}", f"{seconds:,.1f}", f"{rows / seconds:,.0f}", f"{max(memory):,.0f}"]
    return " | ".join([*cells, " / ".join(f"{mib:,.0f}" for mib in at)]), output


def compare(outputs: list[Path]) -> str:
    """Say how far the answers of two outputs are apart."""
    files = [output.open(encoding="utf-8") for output in outputs]
    labels, largest, rows = 0, 0.0, 0
    next(zip(*files, strict=True))  # the header
    for mine, other in zip(*files, strict=True):
        ours, theirs = mine.rstrip("\n").split("\t"), other.rstrip("\n").split("\t")
        rows += 1
        labels += ours[-4] != theirs[-4]
        largest = max(largest, abs(float(ours[-1]) - float(theirs[-1])))
    return f"{rows:,} rows: {labels} labels differ, largest difference of a probability {largest:g}"


def main() -> int:
    """Measure the engines one after another and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("rows", type=int, nargs="+", help="how many, for example 10000 100000")
    parser.add_argument("--engines", nargs="+", default=["local", "ray"], choices=("local", "ray"))
    parser.add_argument("--checkpoint", default=str(CHECKPOINTS_DIR / "doccls"))
    parser.add_argument("--scratch", help="folder for input and outputs (default: a temporary one)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.scratch))
    lines, notes = [], []
    try:
        for rows in args.rows:
            write_input(folder / "in.tsv", rows)
            done = [run(engine, folder / "in.tsv", rows, args.checkpoint) for engine in args.engines]
            lines += [line for line, _ in done]
            notes += [compare([output for _, output in done])] if len(done) == 2 else []
            for _, output in done:
                output.unlink()
    finally:
        shutil.rmtree(folder)
    print(", ".join(f"{name} {value}" for name, value in describe_machine().items()))
    print("\n| engine | rows | seconds | rows/s | peak MiB | MiB at 25/50/75/100 % |\n|---|---|---|---|---|---|")
    print("\n".join(f"| {line} |" for line in lines), *notes, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
