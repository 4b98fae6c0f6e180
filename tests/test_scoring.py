"""A file is scored row by row: nothing lost, nothing twice, whatever happens to it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_inference import save_bare, trained  # noqa: F401

from nlpbook_helpers import Classifier, CorpusError, ScoringError, read_rows, score_batches, score_file, scoring
from nlpbook_helpers.features import predict_probabilities

WORDS = ["정말", "재미있는", "영화", "지루한", "이야기", "배우가", "좋았다", "다시"]
ADDED = ["predicted_label", "predicted_name", "probability_negative", "probability_positive"]


@pytest.fixture
def classifier(trained, tmp_path) -> Classifier:  # noqa: F811
    return Classifier.from_checkpoint(tmp_path / "models")


def make_texts(count: int) -> list[str]:
    random = np.random.default_rng(7)
    return [" ".join(random.choice(WORDS, random.integers(1, 40))) for _ in range(count)]


def write_csv(path: Path, rows, header=("id", "text", "note")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def read_csv(path: Path) -> list[dict]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_comes_back_in_order_with_its_answer(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "BATCH_ROWS", 32)
    texts = make_texts(150)
    texts[3], texts[4] = '그가 "최고"라고,\n두 줄로', "영화\t이야기"
    source = write_csv(tmp_path / "in.csv", [(n, text, f"메모 {n}") for n, text in enumerate(texts)])
    summary = score_file(classifier, source, tmp_path / "out.csv")
    rows = read_csv(tmp_path / "out.csv")
    assert list(rows[0]) == ["id", "text", "note", *ADDED]
    assert [row["text"] for row in rows] == texts
    assert [row["note"] for row in rows] == [f"메모 {n}" for n in range(150)]
    expected = classifier.predict(texts)
    found = np.array([[float(row[name]) for name in ADDED[2:]] for row in rows])
    assert found == pytest.approx(expected, abs=0.01)
    assert [int(row["predicted_label"]) for row in rows] == found.argmax(axis=1).tolist()
    assert {row["predicted_name"] for row in rows} <= set(classifier.labels)
    assert summary.startswith("scored 150 rows in ")
    assert summary.endswith(f"0 refused; written: {tmp_path / 'out.csv'}")
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.csv"]


def test_the_answers_of_a_batch_are_those_of_predict(classifier):
    texts = make_texts(20)
    (batch,) = score_batches(classifier, ((n, {"text": text}) for n, text in enumerate(texts)), ["text"])
    assert np.array_equal(batch.probabilities, classifier.predict(texts))
    assert batch.reasons == [None] * 20


def test_rows_that_cannot_be_scored_are_kept_with_their_reason(classifier, tmp_path):
    lines = [
        b"\xef\xbb\xbfid,text,note", b"1,\xec\xa0\x95\xeb\xa7\x90,a", b"2,,b", b"3,\xb0\xa1,c", b"4,too,many,fields",
        b"5,short", b'6,"open" quote,d', b"7,  ,e", '8,"영화 ""최고"", 정말",f'.encode(), "9,영화,".encode() + b"\xb0",
    ]  # fmt: skip
    (tmp_path / "in.csv").write_bytes(b"\r\n".join(lines) + b"\r\n")
    summary = score_file(classifier, tmp_path / "in.csv", tmp_path / "out.csv")
    assert [row["id"] for row in read_csv(tmp_path / "out.csv")] == ["1", "8"]
    side = tmp_path / "out.csv.refused.jsonl"
    refused = [json.loads(line) for line in side.read_text().splitlines()]
    assert [(row["line"], row["reason"]) for row in refused] == [
        (3, "text: expected a text, got an empty one"),
        (4, "byte 0xb0 is not UTF-8; save the file as UTF-8"),
        (5, "expected 3 columns, got 4"),
        (6, "expected 3 columns, got 2"),
        (7, "',' expected after '\"'; expected quotes inside a quoted text to be doubled"),
        (8, "text: expected a text, got an empty one"),
        (10, "byte 0xb0 is not UTF-8; save the file as UTF-8"),
    ]  # fmt: skip
    assert refused[0]["row"] == {"id": "2", "text": "", "note": "b"}
    assert refused[4]["row"] == '6,"open" quote,d\r\n'
    assert "scored 2 rows" in summary
    assert f"7 refused (see {side})" in summary


def test_what_an_open_quote_swallowed_is_kept_to_the_last_line(classifier, tmp_path):
    (tmp_path / "in.csv").write_text('text\n정말\n"지루한\n다시 영화\n', encoding="utf-8")
    score_file(classifier, tmp_path / "in.csv", tmp_path / "out.csv")
    (refused,) = (tmp_path / "out.csv.refused.jsonl").read_text().splitlines()
    assert json.loads(refused)["row"] == '"지루한\n다시 영화\n'


def test_a_quote_that_is_never_closed_costs_its_row_and_not_the_memory(classifier, tmp_path, monkeypatch):
    from nlpbook_helpers import corpora as rows

    monkeypatch.setattr(rows, "MAX_FIELD", 2_000)
    lines = ["text", "정말", '"지루한', *["다시 영화"] * 1_000]
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    score_file(classifier, tmp_path / "in.csv", tmp_path / "out.csv")
    assert len(read_csv(tmp_path / "out.csv")) > 500
    (refused,) = (tmp_path / "out.csv.refused.jsonl").read_text().splitlines()
    assert json.loads(refused)["line"] == 3
    assert "field larger than field limit" in json.loads(refused)["reason"]


def test_objects_keep_their_own_fields(classifier, tmp_path):
    rows = [{"text": "정말", "tags": ["a"]}, {"text": "영화", "stars": 4}, {"other": 1}, {"text": None}, {"text": 5}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows] + ["{broken", "[1]", '{"text": "\\ud800"}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    score_file(classifier, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in found] == ["정말", "영화", 5]
    assert found[0]["tags"] == ["a"]
    assert list(found[1]) == ["text", "stars", *ADDED]
    assert sum(found[1][name] for name in ADDED[2:]) == pytest.approx(1, abs=1e-5)
    refused = [json.loads(line) for line in (tmp_path / "out.jsonl.refused.jsonl").read_text().splitlines()]
    assert [row["line"] for row in refused] == [3, 4, 6, 7, 8]
    assert refused[-1]["reason"].startswith("half a surrogate pair")
    score_file(classifier, tmp_path / "in.jsonl", tmp_path / "out.tsv")  # columns of the first row only
    (misfit, *_) = [json.loads(line) for line in (tmp_path / "out.tsv.refused.jsonl").read_text().splitlines()]
    assert misfit["reason"] == "columns ['stars'] are not in the first row: write to a .jsonl file to keep them"
    assert [row["tags"] for _, row in read_rows(tmp_path / "out.tsv", ["tags"])] == ['["a"]', ""]


def test_pairs_and_parquet_are_scored(tmp_path, make_model, encoder_dir):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    save_bare(tmp_path / "bare.ckpt", 3, make_model)
    classifier = Classifier.from_checkpoint(tmp_path / "bare.ckpt", pretrained_model_name=encoder_dir)
    pairs = {"premise": ["정말 영화", "다시"], "hypothesis": ["영화", "보고 싶다"]}
    pandas.DataFrame(pairs).to_parquet(tmp_path / "in.parquet")
    score_file(classifier, tmp_path / "in.parquet", tmp_path / "out.csv")
    found = read_csv(tmp_path / "out.csv")
    expected = classifier.predict(list(zip(*pairs.values(), strict=True)))
    assert [float(row["probability_entailment"]) for row in found] == pytest.approx(expected[:, 0], abs=1e-5)


def test_text_columns_are_found_or_asked_for(classifier, tmp_path):
    for header in (["document"], ["sentence"], ["text"], ["review"]):  # the first is what the training's file had
        source = write_csv(tmp_path / "in.csv", [["정말"]], header)
        score_file(classifier, source, tmp_path / "out.csv", overwrite=True)
        assert len(read_csv(tmp_path / "out.csv")) == 1
    source = write_csv(tmp_path / "in.csv", [["1", "정말"]], ["id", "내용"])
    with pytest.raises(
        CorpusError, match=r"in.csv: expected text columns of a usual name, \[\['document'\], .*--text-col"
    ):
        score_file(classifier, source, tmp_path / "no.csv")
    score_file(classifier, source, tmp_path / "named.csv", text_columns=["내용"])
    with pytest.raises(CorpusError, match=r"line 1: expected columns \['별'\], found \['id', '내용'\]"):
        score_file(classifier, source, tmp_path / "no.csv", text_columns=["별"])
    with pytest.raises(ScoringError, match=r"text columns: expected 1, .* got \['id', '내용'\]"):
        score_file(classifier, source, tmp_path / "no.csv", text_columns=["id", "내용"])
    assert not list(tmp_path.glob("no.csv*"))


def test_an_output_that_must_not_be_written_is_refused(classifier, tmp_path):
    source = write_csv(tmp_path / "in.csv", [["1", "정말", ""]])
    with pytest.raises(ScoringError, match="expected another file than the input"):
        score_file(classifier, source, tmp_path / "." / "in.csv", overwrite=True)
    (tmp_path / "old.csv").write_text("precious")
    with pytest.raises(ScoringError, match="old.csv is there already: choose another name, or ask for it to be overwr"):
        score_file(classifier, source, tmp_path / "old.csv")
    assert (tmp_path / "old.csv").read_text() == "precious"
    score_file(classifier, source, tmp_path / "old.csv", overwrite=True)
    with pytest.raises(ScoringError, match=r"expected a file that ends with one of .*, or a folder, got 'out.xlsx'"):
        score_file(classifier, source, tmp_path / "out.xlsx")
    with pytest.raises(ScoringError, match="expected a folder at .*nowhere, found none"):
        score_file(classifier, source, tmp_path / "nowhere" / "out.csv")
    with pytest.raises(ScoringError, match=r"expected no columns \['predicted_label', .* which are added: rename them"):
        score_file(classifier, tmp_path / "old.csv", tmp_path / "again.csv")
    with pytest.raises(CorpusError, match="holds no row to score"):
        score_file(classifier, write_csv(tmp_path / "empty.csv", []), tmp_path / "out.csv", text_columns=["text"])
    assert not list(tmp_path.glob("out.csv*"))


class Stopped(Exception):
    """A run that ends in the middle."""


def stop_after(monkeypatch, batches: int) -> None:
    """Make the model fail at a batch, once."""
    calls = iter(range(batches))

    def score(*args):
        if next(calls, None) is None:
            monkeypatch.setattr(scoring, "predict_probabilities", predict_probabilities)
            raise Stopped
        return predict_probabilities(*args)

    monkeypatch.setattr(scoring, "predict_probabilities", score)


def test_an_interrupted_run_goes_on_and_ends_the_same(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "BATCH_ROWS", 16)
    texts = make_texts(100)
    texts[5] = texts[90] = ""
    source = write_csv(tmp_path / "in.csv", [(n, text, "") for n, text in enumerate(texts)])
    score_file(classifier, source, tmp_path / "whole.csv")
    stop_after(monkeypatch, 3)
    with pytest.raises(Stopped):
        score_file(classifier, source, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    parts = tmp_path / "out.csv.parts" / "in.csv"
    assert sorted(path.name for path in parts.glob("*.json")) == ["000000.json", "000001.json", "000002.json"]
    (parts / "000001.json").unlink()  # a part without it was not finished by a killed run
    (parts / "000001.csv").write_bytes(b"half a row of a killed r")
    scored: list[int] = []
    monkeypatch.setattr(
        scoring, "predict_probabilities", lambda *args: scored.append(1) or predict_probabilities(*args)
    )
    summary = score_file(classifier, source, tmp_path / "out.csv")
    assert len(scored) == 5 + 1  # of 7 batches, 2 were done; the last call says that there are no more
    assert "(32 rows were done before)" in summary
    assert summary.startswith("scored 98 rows")
    for name in ("{}", "{}.refused.jsonl"):
        assert (tmp_path / name.format("out.csv")).read_bytes() == (tmp_path / name.format("whole.csv")).read_bytes()
    assert {path.name for path in tmp_path.glob("out.csv*")} == {"out.csv", "out.csv.refused.jsonl"}


def test_another_run_does_not_go_on_where_this_one_stopped(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "BATCH_ROWS", 16)
    source = write_csv(tmp_path / "in.csv", [(n, text, text) for n, text in enumerate(make_texts(50))])
    stop_after(monkeypatch, 2)
    with pytest.raises(Stopped):
        score_file(classifier, source, tmp_path / "out.csv")
    parts = tmp_path / "out.csv.parts"
    again = "expected the same run that was interrupted, got another"
    with pytest.raises(ScoringError, match=rf"{again} text columns .*: delete .*out.csv.parts to start again"):
        score_file(classifier, source, tmp_path / "out.csv", text_columns=["note"])
    with pytest.raises(ScoringError, match=rf"{again} stride \(8 → None\)"):
        score_file(Classifier.from_checkpoint(tmp_path / "models", stride=None), source, tmp_path / "out.csv")
    weight = classifier.model.classifier.bias.data
    kept = weight.clone()
    weight += 1
    with pytest.raises(ScoringError, match=rf"{again} checkpoint "):
        score_file(classifier, source, tmp_path / "out.csv")
    weight.copy_(kept)
    then = source.stat().st_mtime_ns
    os.utime(source, (1, 1))
    with pytest.raises(ScoringError, match=rf"{again} input in.csv \(\d+ bytes"):
        score_file(classifier, source, tmp_path / "out.csv")
    os.utime(source, ns=(then, then))
    (parts / "in.csv" / "000000.json").write_text("{")
    with pytest.raises(ScoringError, match=r"000000.json cannot be read .*: delete it to score its rows again"):
        score_file(classifier, source, tmp_path / "out.csv")
    (parts / "run.json").write_text("{")
    with pytest.raises(ScoringError, match="run.json cannot be read .*: delete .*out.csv.parts to start again"):
        score_file(classifier, source, tmp_path / "out.csv")
    shutil.rmtree(parts)
    score_file(classifier, source, tmp_path / "out.csv")
    assert len(read_csv(tmp_path / "out.csv")) == 50


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither SIGKILL nor SIGINT for one process")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_command_goes_on_where_it_stopped(classifier, tmp_path, how):
    texts = make_texts(600)
    source = write_csv(tmp_path / "in.csv", [(n, text, "") for n, text in enumerate(texts)])
    code = (
        # a shell's background job, which this test may be part of, ignores SIGINT and so would its children
        "import signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from nlpbook_helpers import __main__, scoring; scoring.BATCH_ROWS = 20; "
        "real = scoring.predict_probabilities; "
        "scoring.predict_probabilities = lambda *args: (time.sleep(float(sys.argv[1])), real(*args))[1]; "
        "sys.exit(__main__.main(sys.argv[2:]))"
    )
    arguments = ["predict", "--checkpoint", str(tmp_path / "models"), "--input", str(source), "--output"]
    output, whole = tmp_path / "out.csv", tmp_path / "whole.csv"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "0.3", *arguments, str(output)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    parts = tmp_path / "out.csv.parts" / "in.csv"
    deadline = time.monotonic() + 90
    while not list(parts.glob("*.json")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(how)
    _, said = process.communicate(timeout=30)
    assert process.returncode == (-9 if how == signal.SIGKILL else 130), said.decode()
    if how == signal.SIGINT:
        assert said.decode().splitlines() == ["", "stopped: the same command goes on from here"]
    done = sum(json.loads(path.read_text())["read"] for path in parts.glob("*.json"))
    assert 0 < done < 600
    assert not output.exists()
    run = subprocess.run(
        [sys.executable, "-c", code, "0", *arguments, str(output)], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("scored 600 rows in ")
    assert f"({done} rows were done before)" in run.stdout
    subprocess.run([sys.executable, "-c", code, "0", *arguments, str(whole)], check=True, capture_output=True)
    assert output.read_bytes() == whole.read_bytes()
    again = subprocess.run(
        [sys.executable, "-c", code, "0", *arguments, str(output)], capture_output=True, text=True, check=False
    )
    assert again.returncode == 1
    assert "is there already: choose another name" in again.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
def test_a_full_disk_is_one_sentence_and_leaves_no_half_a_file(classifier, tmp_path, monkeypatch):
    source = write_csv(tmp_path / "in.csv", [(n, text, "") for n, text in enumerate(make_texts(200))])
    code = (
        "import resource, sys; from nlpbook_helpers import __main__, scoring; scoring.BATCH_ROWS = 40; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, -1)); sys.exit(__main__.main())"
    )
    command = [sys.executable, "-c", code, "predict", "--checkpoint", str(tmp_path / "models"), "--input", str(source)]
    run = subprocess.run([*command, "--output", str(tmp_path / "out.csv")], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert (
        run.stderr == f"{tmp_path}/out.csv cannot be written (File too large): make room, then the same call goes on\n"
    )
    assert [path.name for path in tmp_path.glob("out.csv*")] == ["out.csv.parts"]  # each part was small enough
    assert not list(tmp_path.rglob("*.part"))
    monkeypatch.setattr(scoring, "BATCH_ROWS", 40)
    assert "(200 rows were done before)" in score_file(classifier, source, tmp_path / "out.csv")
    assert len(read_csv(tmp_path / "out.csv")) == 200
