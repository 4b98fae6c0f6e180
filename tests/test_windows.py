"""What Windows does otherwise, on any system: spawned processes, lines that end in CR LF, consoles without UTF-8."""

import csv
import os
import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing
import sys

from nlpbook_helpers.__main__ import main

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("encoding", "workers"), [("cp949", "1"), ("cp1252", "0")])
def test_a_table_of_windows_is_learned_from_and_scored(encoding, workers, tmp_path, encoder_dir):
    rows = [
        (f"{word} 정말 {number}", label) for number in range(6) for word, label in (("영화", "긍정"), ("배우", "부정"))
    ]
    with (tmp_path / "reviews.csv").open("w", encoding="cp949", newline="") as file:
        csv.writer(file, lineterminator="\r\n").writerows([("text", "label"), *rows, ("두 줄\r\n이야기", "긍정")])
    (tmp_path / "run.py").write_text(SCRIPT, encoding="utf-8")
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}

    def run(*arguments: str) -> str:
        command = [sys.executable, "run.py", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr.decode(encoding)[-3000:]
        return done.stdout.decode(encoding)

    small = ["--pretrained_model_name", encoder_dir, "--max_seq_length", "32", "--epochs", "1", "--batch_size", "4"]
    said = run("train", "reviews.csv", *small, "--cpu_workers", workers)
    assert "13 rows" in said and "val: accuracy" in said
    assert ("긍정 7" in said) == (encoding == "cp949")  # which the other console has no letters for
    where = ["--input", "reviews.csv", "--encoding", "cp949", "--output", "scored.csv"]
    assert "scored 13 rows" in run("predict", "--checkpoint", "nlpbook/reviews", *where)
    with (tmp_path / "scored.csv").open(encoding="utf-8-sig", newline="") as file:
        scored = list(csv.DictReader(file))
    assert [row["label"] for row in scored] == [label for _, label in rows] + ["긍정"]
    assert {row["predicted_name"] for row in scored} <= {"긍정", "부정"}
    assert scored[-1]["text"].split() == ["두", "줄", "이야기"]
