"""Ray gives the answers of this process, whoever is killed meanwhile; the real Ray, on this machine."""

import csv
import os
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest

from nlpbook_helpers import Classifier, ScoringError, read_rows, score_file, scoring
from nlpbook_helpers.runtime import supports_bfloat16

CHECKPOINT = Path(__file__).parent.parent / "checkpoints" / "paircls"
# other blocks than those of score_file below, and many more; workers are told by the command
COMMAND = "import sys; from nlpbook_helpers import __main__, scoring; scoring.BATCH_ROWS = 8; "
ONCE = COMMAND + "sys.exit(__main__.main(sys.argv[1:]))"
# several commands on one cluster, whose start takes most of the time
SEVERAL = COMMAND + (
    "from nlpbook_helpers import scoring as cluster; context = cluster._connect(None, 0); context.__enter__()\n"
    "for output in sys.argv.pop().split(','): print(__main__.main([*sys.argv[1:], '--output', output]), flush=True)\n"
    "context.__exit__(None, None, None)"
)
TEXTS = ["비가 온다", "버스가 늦게 왔다", "그는 어제 서울에서 친구를 만났다", "가게 문이 닫혀 있었다", "눈이 그쳤다"]
BAD_LINES = [b"900,,\xec\xa0\x95", b"901,\xb0\xa1,\xb0\xa1", b"902,short"]
ADDED = ["probability_entailment", "probability_contradiction", "probability_neutral"]

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason='Ray is not installed: pip install "ray[data]"')
not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


def make_pairs(count: int) -> list[tuple[int, str, str]]:
    random = np.random.default_rng(7)
    return [(n, *(" ".join(random.choice(TEXTS, random.integers(1, 4))) for _ in range(2))) for n in range(count)]


def write_csv(path: Path, rows: list[tuple[int, str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "premise", "hypothesis"), *rows])
    return path


def start(code: str, source: Path, *output: str, home: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", code, "predict", "--engine", "ray", "--checkpoint", str(CHECKPOINT)]
    return subprocess.Popen(
        [*command, "--input", str(source), *output],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"HOME": str(home)},  # Ray keeps a token there
    )  # fmt: skip


def wait_for(process: subprocess.Popen, parts: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while count_parts(parts) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def count_parts(parts: Path) -> int:
    return len(list(parts.rglob("0*.json")))


def find_children(process: subprocess.Popen, name: str) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if name in " ".join(child.cmdline())]


@pytest.fixture
def source(tmp_path) -> Path:
    """A folder of pairs in two formats, with three rows that cannot be scored."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    path = write_csv(tmp_path / "in" / "2024" / "a.csv", make_pairs(600))
    with path.open("ab") as file:
        file.write(b"\n".join(BAD_LINES) + b"\n")
    columns = dict(zip(("id", "premise", "hypothesis"), map(list, zip(*make_pairs(90), strict=True)), strict=True))
    table = pyarrow.table(columns | {"stars": pyarrow.array(columns["id"], "int8")})
    write_table(table, tmp_path / "in" / "b.parquet")
    return tmp_path / "in"


@needs_ray
@not_on_windows
def test_whoever_is_killed_no_row_is_lost(source, tmp_path, monkeypatch):
    output, parts = tmp_path / "out", tmp_path / "out.parts"
    first = start(ONCE, source, "--output", str(output), home=tmp_path)
    wait_for(first, parts, 4)
    children = [*find_children(first, "MapWorker"), *find_children(first, "raylet")]
    first.kill()
    first.communicate(timeout=30)
    done = count_parts(parts)
    assert 4 <= done < 80
    assert not list(output.rglob("*.csv*"))
    assert len(children) >= 2
    assert psutil.wait_procs(children, timeout=30)[1] == []  # nothing works on without its driver

    refusing = tmp_path / "refusing"
    obstacle = tmp_path / "refusing.parts" / "2024" / "a.csv" / "000002.csv"
    obstacle.mkdir(parents=True)
    second = start(SEVERAL, source, f"{refusing},{output}", home=tmp_path)
    wait_for(second, parts, done + 4)
    find_children(second, "MapWorker")[0].kill()
    said, noise = second.communicate(timeout=120)
    assert noise == f"{obstacle} cannot be written (Is a directory): make room, then the same call goes on\n"
    failed, summary, finished = said.splitlines()
    assert (failed, finished) == ("1", "0")
    assert re.match(r"scored 690 rows of 2 files in .*, \d+ rows/s \(\d+ rows were done before\): ", summary)
    assert summary.endswith(f"; 3 refused (see {output}/*.refused.jsonl); written: {output}")
    assert not parts.exists()
    assert not list(refusing.rglob("*.csv*"))

    classifier, local, whole = Classifier.from_checkpoint(CHECKPOINT), tmp_path / "local", tmp_path / "whole"
    score_file(classifier, source, whole)
    monkeypatch.setattr(scoring, "BATCH_ROWS", 8)
    score_file(classifier, source, local)
    names = ["2024/a.csv", "2024/a.csv.refused.jsonl", "b.parquet"]
    assert sorted(path.relative_to(output).as_posix() for path in output.rglob("*.*")) == names
    assert (output / names[1]).read_bytes() == (local / names[1]).read_bytes() == (whole / names[1]).read_bytes()
    for name in (names[0], names[2]):
        compare(output / name, local / name, 1e-3)
        compare(output / name, whole / name, 0.02 if supports_bfloat16() else 1e-3)  # it rounds as rows are padded


def compare(path: Path, other: Path, tolerance: float) -> None:
    ours, theirs = ([row for _, row in read_rows(file, ADDED)] for file in (path, other))
    assert [row["id"] for row in ours] == [row["id"] for row in theirs]
    found, expected = (np.array([[float(row[name]) for name in ADDED] for row in rows]) for rows in (ours, theirs))
    assert np.abs(found - expected).max() <= tolerance
    is_clear = np.diff(np.sort(expected))[:, -1] > 2 * tolerance
    mine, others = (np.array([row["predicted_name"] for row in rows]) for rows in (ours, theirs))
    assert np.array_equal(mine[is_clear], others[is_clear])


def test_without_ray_the_reader_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    source = write_csv(tmp_path / "in.csv", make_pairs(4))
    with pytest.raises(ScoringError, match=r'engine "ray": .*: pip install "ray\[data\]"'):
        score_file(Classifier.from_checkpoint(CHECKPOINT), source, tmp_path / "out.csv", engine="ray")


def test_an_unknown_engine_is_refused(tmp_path):
    source = write_csv(tmp_path / "in.csv", make_pairs(4))
    with pytest.raises(ScoringError, match="engine: expected 'local' or 'ray', got 'spark'"):
        score_file(Classifier.from_checkpoint(CHECKPOINT), source, tmp_path / "out.csv", engine="spark")  # type: ignore[arg-type]
