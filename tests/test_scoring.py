"""A file is scored row by row: nothing lost, nothing twice, whatever happens to it."""

import codecs
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
import unicodedata
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nlpbook_helpers import Classifier, CorpusError, ScoringError, read_rows, score_file, scoring
from nlpbook_helpers.corpora import ClassificationExample

PROBABILITIES = ["probability_negative", "probability_positive"]
ADDED = ["predicted_label", "predicted_name", *PROBABILITIES, "remark"]
WORDS = ["정말", "재미있는", "영화", "지루한", "이야기", "배우가", "좋았다", "다시"]


class Stopping(Classifier):
    """A classifier that fails at a batch, as a machine does."""

    batches = 1_000
    meanwhile = staticmethod(lambda: None)

    def encode(self, examples):
        self.batches -= 1
        self.meanwhile()
        if self.batches < 0:
            raise InterruptedError("the machine went down")
        return super().encode(examples)


def stop_after(batches: int, classifier, source, output) -> None:
    classifier.batches = batches
    with pytest.raises(InterruptedError, match="the machine went down"):
        score_file(classifier, source, output)


@pytest.fixture
def checkpoint(tmp_path, make_model, tokenizer) -> Path:
    model = make_model()
    model.config.id2label = {0: "부정 (negative)", 1: "긍정 (positive)"}
    model.save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def classifier(checkpoint) -> Stopping:
    return Stopping.from_checkpoint(checkpoint, max_seq_length=32)  # type: ignore[return-value]


def make_texts(count: int) -> list[str]:
    random = np.random.default_rng(7)
    return [" ".join(random.choice(WORDS, random.integers(1, 20))) for _ in range(count)]


def write_csv(path: Path, texts, name: str = "text") -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", name), *((f"{n:03}", text) for n, text in enumerate(texts))])
    return path


def write_folder(folder: Path) -> Path:
    """Four formats, one of them deeper, and files that are none of them; each is a batch."""
    texts = make_texts(20)
    write_csv(folder / "2024" / "a.csv", texts)
    columns = {"text": texts, "stars": pa.array(range(20), "int8"), "tags": [["a"], None] * 10}
    pq.write_table(pa.table(columns), folder / "b.parquet")
    (folder / "c.json").write_text(json.dumps([{"text": text} for text in texts]), encoding="utf-8")
    (folder / "d.tsv").write_text("text\n", encoding="utf-8")  # a header and no row
    (folder / "README").write_text("nothing to score")
    (folder / ".hidden.csv").write_text("text\n영화\n", encoding="utf-8")
    return folder


def read(path: Path) -> list:
    return [row for _, row in read_rows(path, [])]


def read_refused(output: Path) -> list[dict]:
    lines = output.with_name(f"{output.name}.refused.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_every_row_comes_back_in_order_with_its_answer(classifier, tmp_path):
    texts = make_texts(150)
    texts[3], texts[4] = '그가 "최고"라고,\n두 줄로', "영화\t이야기"
    summary = score_file(classifier, write_csv(tmp_path / "in.csv", texts), tmp_path / "out.csv")
    rows = read(tmp_path / "out.csv")
    assert list(rows[0]) == ["id", "text", *ADDED]
    assert [row["text"] for row in rows] == texts
    assert rows[7]["id"] == "007"
    found = np.array([[float(row[name]) for name in PROBABILITIES] for row in rows])
    assert found == pytest.approx(classifier.predict(texts), abs=0.01)
    assert [int(row["predicted_label"]) for row in rows] == found.argmax(axis=1).tolist()
    assert {row["predicted_name"] for row in rows} <= set(classifier.labels)
    assert summary.startswith("scored 150 rows in ")
    assert summary.endswith(f"0 refused; written: {tmp_path / 'out.csv'}")
    assert [path.name for path in tmp_path.glob("out*")] == ["out.csv"]


def test_rows_that_cannot_be_scored_are_kept_with_their_reason(classifier, tmp_path):
    lines = [
        b"\xef\xbb\xbfid,text,note", *("1,정말,a".encode() for _ in range(3)), b"2,,b", b"3,\xb0\xa1,c", b"5,short",
        '6,"열린" quote,d'.encode(), "7,\u200b\u3164,e".encode(), "9,영화,".encode() + b"\xb0",
    ]  # fmt: skip
    (tmp_path / "in.csv").write_bytes(b"\r\n".join(lines) + b"\r\n")
    assert "scored 3 rows" in score_file(classifier, tmp_path / "in.csv", tmp_path / "out.csv")
    refused = read_refused(tmp_path / "out.csv")
    assert [row["line"] for row in refused] == [5, 6, 7, 8, 9, 10]
    reasons = ["text: expected a text, got an empty one", "byte 0xb0 is not UTF-8", "expected 3 columns, got 2",
               "expected", "text: expected a text, got an empty one", "holds bytes of another encoding"]  # fmt: skip
    for row, reason in zip(refused, reasons, strict=True):
        assert reason in row["reason"]
    assert refused[0]["row"] == {"id": "2", "text": "", "note": "b"}
    assert refused[2]["row"] == "5,short\r\n"
    assert refused[3]["row"] == '6,"열린" quote,d\r\n'
    assert "열린" in (tmp_path / "out.csv.refused.jsonl").read_text(encoding="utf-8")


def test_objects_keep_their_own_fields(classifier, tmp_path):
    rows = [{"text": "정말", "tags": ["a"]}, {"text": "영화", "stars": 4}, {"other": 1}, {"text": 5}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows] + ["{broken", '{"text": "\\ud800"}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    score_file(classifier, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    found = read(tmp_path / "out.jsonl")
    assert [row["text"] for row in found] == ["정말", "영화", 5]
    assert list(found[1]) == ["text", "stars", *ADDED]
    assert [row["line"] for row in read_refused(tmp_path / "out.jsonl")] == [3, 5, 6]
    score_file(classifier, tmp_path / "in.jsonl", tmp_path / "out.tsv")  # columns of the first row only
    misfit = read_refused(tmp_path / "out.tsv")[0]["reason"]
    assert misfit == "columns ['stars'] are not in the first row: write to a .jsonl file to keep them"
    assert [row["tags"] for row in read(tmp_path / "out.tsv")] == ['["a"]', ""]


def test_texts_are_normalized_and_doubted_but_kept(classifier, tmp_path):
    decomposed = unicodedata.normalize("NFD", "재미있는 영화")
    source = write_csv(tmp_path / "in.csv", [decomposed, "재미있는 영화", "漢" * 50, "NULL", "Á¤¸» Àç¹ÌÀÖ´Ù"])
    score_file(classifier, source, tmp_path / "out.csv")
    rows = read(tmp_path / "out.csv")
    assert rows[0]["text"] == decomposed
    assert [rows[0][name] for name in ADDED] == [rows[1][name] for name in ADDED]
    remarks = [row["remark"] for row in rows]
    assert remarks[:4] == ["", "", "mostly unknown to the tokenizer", "words for a missing value (nan, NULL …)"]
    assert remarks[4].startswith("garbled (Korean that was read in another encoding")


@pytest.mark.parametrize(("encoding", "quoting"), [("cp949", True), ("utf-16", True), ("utf-8", False)])
def test_other_ways_to_write_a_file_are_named(classifier, tmp_path, encoding, quoting):
    lines = "id\t내용\n1\t정말 재미있는 영화\n2\t지루한 이야기\n" if quoting else 'id\t내용\n1\t"정말\n2\t영화"\n'
    (tmp_path / "in.tsv").write_text(lines, encoding=encoding)
    with pytest.raises(CorpusError, match=f"encoding='{encoding}'" if quoting else "quoting=False"):
        score_file(classifier, tmp_path / "in.tsv", tmp_path / "out.tsv")
    assert not list(tmp_path.glob("out*"))
    summary = score_file(classifier, tmp_path / "in.tsv", tmp_path / "out.tsv", encoding=encoding, quoting=quoting)
    assert summary.startswith("scored 2 rows")


def test_a_file_keeps_the_mark_of_excel(classifier, tmp_path):
    write_csv(tmp_path / "in.csv", ["정말"])
    for encoding in ("utf-8", "utf-8-sig"):
        source = tmp_path / f"{encoding}.csv"
        source.write_text((tmp_path / "in.csv").read_text("utf-8"), encoding)
        score_file(classifier, source, tmp_path / "out.csv", overwrite=True)
        assert (tmp_path / "out.csv").read_bytes().startswith(codecs.BOM_UTF8) == (encoding == "utf-8-sig")
        assert read(tmp_path / "out.csv")[0]["text"] == "정말"


REFUSED = [
    ("other.csv", "no.csv", None, r"columns of a usual name \(sentence, .* found \['id', 'xyz'\]: name them"),
    ("headless.csv", "no.csv", None, r"found \['정말'\]: name them .*; a table's first line .*: add that line, or"),
    ("empty.csv", "no.csv", None, "empty.csv: expected rows below the line that names the columns, found none"),
    ("wrapped.json", "no.csv", None, r"found \['version', 'data'\]: name .*; write each object of 'data' as a row"),
    ("loop.csv", "no.csv", None, "expected a file at .*loop.csv, found"),
    ("other.csv", "no.csv", ["별"], r"line 1: expected columns \['별'\], found \['id', 'xyz'\]"),
    ("other.csv", "no.csv", ["id", "xyz"], r"text columns: expected one for each of .* got \['id', 'xyz'\]"),
    ("in.csv", "./in.csv", None, "expected another place than the input"),
    ("in.csv", "old.csv", None, "old.csv is there already: name another, or overwrite"),
    ("in.csv", "out.xlsx", None, "expected a file, one of .*, got .*out.xlsx"),
    ("in.csv.gz", "no.csv", None, "expected a file at .*in.csv.gz, found none"),
    ("empty.csv", "no.csv", ["text"], "expected rows to score, got none that can be scored .there is none"),
    ("blank.csv", "no.csv", None, "got none that can be scored .line 2: text: expected a text"),
    ("scored.csv", "no.csv", ["id"], r"expected no columns \['remark'\], which are added: rename them"),
    ("folder", "no.csv", None, "output: expected a folder, as the input is one, got .*no.csv"),
    ("folder", "folder/out", None, "expected another place than the input .*folder"),
    ("nothing", "out", None, "expected files that end with one of .*, found none"),
    ("nosuch://a.csv", "no.csv", None, "nosuch://a.csv: .*install what is missing, or correct the address"),
    ("abfs://box/a.csv", "no.csv", None, "abfs://box/a.csv: .*install what is missing, or correct the address"),
    ("twice", "out", None, r"expected a file for each input, got \['out/a.json.jsonl'.*rename one"),
    ("in.csv", f"{'가' * 80}.csv", None, "expected the name of a file, at most 240 bytes long, got 가"),
    ("in.csv", "folder.csv", None, "expected the name of a file, .* got folder.csv: name another"),
    pytest.param(
        *("pipe", "no.csv", None, "found a pipe, which can be read only once: write it to a file"),
        marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names"),
    ),
]


@pytest.mark.parametrize(("source", "output", "columns", "error"), REFUSED)
def test_what_cannot_be_done_is_refused(classifier, tmp_path, monkeypatch, source, output, columns, error):
    monkeypatch.chdir(tmp_path)
    files = {"in": ["정말"], "empty": [], "blank": ["", " "], "folder/a": ["영화"], "old": ["영화"]}
    for name, texts in files.items():
        write_csv(tmp_path / f"{name}.csv", texts)
    for name, column in (("other", "xyz"), ("scored", "remark"), ("nothing/.hidden", "text")):
        write_csv(tmp_path / f"{name}.csv", ["정말"], column)
    for name in ("a.json", "a.json.jsonl"):
        (tmp_path / "twice").mkdir(exist_ok=True)
        (tmp_path / "twice" / name).write_text('[{"text": "정말"}]', encoding="utf-8")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "headless.csv").write_text("정말\n영화\n", encoding="utf-8")
    (tmp_path / "wrapped.json").write_text('{"version": "1", "data": [{"text": "정말"}]}', encoding="utf-8")
    with suppress(OSError):  # Windows lets only some users make links
        (tmp_path / "loop.csv").symlink_to("loop.csv")
    if source == "pipe":
        os.mkfifo(source)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((CorpusError, ScoringError), match=error):
        score_file(classifier, source, output, columns)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_goes_on_and_gives_a_folder_of_the_same_names(classifier, tmp_path, capsys):
    source, output = write_folder(tmp_path / "in"), tmp_path / "out"
    stop_after(2, classifier, source, output)
    write_csv(source / "e.csv", ["정말"])  # a folder may grow
    os.utime(source / "2024" / "a.csv", (1, 1))  # as copying does
    classifier.batches = 2
    summary = score_file(classifier, source, output)
    assert "passed over 1 files that do not end with one of ('.csv'," in capsys.readouterr().out
    assert summary.startswith("scored 61 rows of 5 files in ")
    assert "(40 rows were done before)" in summary
    names = ["2024/a.csv", "b.parquet", "c.json.jsonl", "d.tsv", "e.csv"]
    assert sorted(path.relative_to(output).as_posix() for path in output.rglob("*.*")) == names
    for name in names[:3]:
        assert [row["text"] for row in read(output / name)] == make_texts(20)
    assert (output / "d.tsv").read_text() == "\t".join(["text", *ADDED]) + "\n"
    table = pq.read_table(output / "b.parquet")
    assert table.select(["text", "stars", "tags"]).equals(pq.read_table(source / "b.parquet"))
    assert not (tmp_path / "out.parts").exists()


@pytest.mark.parametrize("change", ["max_seq_length", "checkpoint", "input"])
def test_another_run_does_not_go_on(classifier, checkpoint, tmp_path, change):
    source = write_folder(tmp_path / "in")
    stop_after(1, classifier, source, tmp_path / "out")
    other = Classifier.from_checkpoint(checkpoint, max_seq_length=16 if change == "max_seq_length" else 32)
    if change == "checkpoint":
        other.model.classifier.bias.data += 1
    if change == "input":
        write_csv(source / "2024" / "a.csv", make_texts(20)[::-1])
    with pytest.raises(ScoringError, match=rf"expected the run that was interrupted, got another .*{change} .*--overw"):
        score_file(other, source, tmp_path / "out")
    assert "were done" not in score_file(other, source, tmp_path / "out", overwrite=True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_command_goes_on_and_nobody_else_writes_meanwhile(classifier, checkpoint, tmp_path):
    source, output = write_csv(tmp_path / "in.csv", make_texts(6_000)), tmp_path / "out.csv"
    options = {"checkpoint": checkpoint, "max-seq-length": 32, "input": source, "output": output}
    command = [sys.executable, "-m", "nlpbook_helpers", "predict"]
    process = subprocess.Popen([*command, *(part for name in options for part in (f"--{name}", str(options[name])))])
    answers = tmp_path / "out.csv.parts" / "jobs" / "answers"
    while not (answers.exists() and answers.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)  # it is still there, and so is its lock
    with pytest.raises(BlockingIOError, match="out.csv: another run is writing it: wait for its end, or name another"):
        score_file(classifier, source, output, overwrite=True)
    process.kill()
    process.wait()
    assert not output.exists()
    answers.write_bytes(answers.read_bytes() + b"cut")  # as a kill in the middle of a record leaves it
    summary = score_file(classifier, source, output)
    assert summary.startswith("scored 6,000 rows")
    assert "rows were done before" in summary
    assert [path.name for path in tmp_path.glob("out.csv*")] == ["out.csv"]
    score_file(classifier, source, tmp_path / "whole.csv")
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
def test_a_full_disk_is_one_sentence_and_leaves_no_half_a_file(classifier, tmp_path):
    resource = pytest.importorskip("resource")
    source, limits = write_csv(tmp_path / "in.csv", make_texts(500)), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    with pytest.raises(ScoringError, match=r"out.csv cannot be written \(File too large\): make room, then the same"):
        score_file(classifier, source, tmp_path / "out.csv")
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.glob("out.csv*")] == ["out.csv.parts"]
    assert "(500 rows were done before)" in score_file(classifier, source, tmp_path / "out.csv")


class Skimming(Classifier):
    """A classifier that reads the first word, so that long texts take no time."""

    def encode(self, examples):
        return super().encode([ClassificationExample(example.text_a[:2]) for example in examples])


def test_of_a_long_file_a_batch_is_in_memory_and_no_more(checkpoint, tmp_path):
    skimming = Skimming.from_checkpoint(checkpoint, max_seq_length=32)
    score_file(skimming, write_csv(tmp_path / "few.csv", ["영화"]), tmp_path / "few-out.csv")  # what is imported counts
    source = write_csv(tmp_path / "in.csv", ["영화 " * 4_000] * 1_000)  # 24 MB as Python's strings
    tracemalloc.start()
    score_file(skimming, source, tmp_path / "out.csv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000_000
    assert len(read(tmp_path / "out.csv")) == 1_000


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names in Unicode alone")
def test_a_name_in_another_encoding_and_a_place_that_cannot_be_written(classifier, tmp_path):
    source = write_csv(tmp_path / os.fsdecode("리뷰.csv".encode("cp949")), ["정말"])
    for name in ("결과.csv", "결과.parquet"):
        output = tmp_path / os.fsdecode(name.encode("cp949"))
        assert score_file(classifier, source, output).startswith("scored 1 rows in ")
        assert output.exists()
    with pytest.raises(ScoringError, match=r"/proc/out.csv cannot be written \(No such file .* or name another place"):
        score_file(classifier, source, "/proc/out.csv")


def test_an_input_that_changes_meanwhile_is_noticed(classifier, tmp_path):
    source = write_csv(tmp_path / "in.csv", make_texts(20))
    classifier.meanwhile = lambda: write_csv(source, make_texts(21))
    with pytest.raises(ScoringError, match="in.csv has changed while it was scored: overwrite=True"):
        score_file(classifier, source, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_any_address_of_fsspec_is_read_and_written(classifier, tmp_path):
    upath = pytest.importorskip("upath", reason="addresses need universal_pathlib")
    local, store = write_folder(tmp_path / "in"), upath.UPath("memory://bucket")
    store.fs.put(str(local), "/bucket/in", recursive=True)
    stop_after(2, classifier, "memory://bucket/in", "memory://bucket/out")
    classifier.batches = 9
    assert "(40 rows were done before)" in score_file(classifier, "memory://bucket/in", "memory://bucket/out")
    score_file(classifier, local.as_uri(), tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.*"):
        assert (store / "out" / path.relative_to(tmp_path / "out").as_posix()).read_bytes() == path.read_bytes()
    assert sorted(path.name for path in store.iterdir()) == ["in", "out"]


def test_pairs_are_scored(tmp_path, make_model, tokenizer):
    names = ["entailment", "contradiction", "neutral"]
    classifier = Classifier(make_model(3), tokenizer, names, ("premise", "hypothesis"), 32)
    pairs = {"premise": ["정말 영화", "다시"], "hypothesis": ["영화", "정말"]}
    pq.write_table(pa.table(pairs), tmp_path / "in.parquet")
    score_file(classifier, tmp_path / "in.parquet", tmp_path / "out.csv")
    found = [[float(row[f"probability_{name}"]) for name in names] for row in read(tmp_path / "out.csv")]
    assert found == pytest.approx(classifier.predict(list(zip(*pairs.values(), strict=True))), abs=1e-5)


@pytest.mark.skipif(find_spec("ray") is None, reason='Ray is not installed: pip install "ray[data]"')
def test_ray_goes_on_where_this_process_stopped_and_answers_alike(classifier, tmp_path):
    source = write_folder(tmp_path / "in")
    stop_after(1, classifier, source, tmp_path / "out")
    classifier.__class__ = Classifier  # Ray's processes do not know this module
    assert "(20 rows were done before)" in score_file(classifier, source, tmp_path / "out", engine="ray")
    score_file(classifier, source, tmp_path / "local")
    for name in ("2024/a.csv", "b.parquet", "c.json.jsonl"):
        ours, theirs = read(tmp_path / "local" / name), read(tmp_path / "out" / name)
        assert [row["text"] for row in ours] == [row["text"] for row in theirs]
        found, expected = ([float(row[PROBABILITIES[0]]) for row in rows] for rows in (theirs, ours))
        assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("engine", "error"), [("ray", r'engine "ray": .*: pip install "ray\[data\]"'), ("spark", "engine: expected one of")]
)
def test_an_engine_that_is_not_there_is_named(classifier, tmp_path, monkeypatch, engine, error):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ScoringError, match=error):
        score_file(classifier, write_csv(tmp_path / "in.csv", ["정말"]), tmp_path / "out.csv", engine=engine)


def test_a_header_that_was_pasted_in_is_refused(classifier, tmp_path):
    (tmp_path / "in.csv").write_text("\ufefftext,id\n정말,1\ntext,id\n\ufefftext,id\n영화,2\n", encoding="utf-8")
    assert "scored 2 rows" in score_file(classifier, tmp_path / "in.csv", tmp_path / "out.csv")
    refused = (tmp_path / "out.csv.refused.jsonl").read_text(encoding="utf-8")
    assert refused.count("the header stands here once more") == 2


def test_home_is_found_and_a_long_name_taken(classifier, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_csv(tmp_path / "in.csv", ["정말"])
    score_file(classifier, "~/in.csv", f"~/{'가' * 78}.csv")
    assert (tmp_path / f"{'가' * 78}.csv").is_file()


def test_in_a_log_a_line_comes_while_the_first_batch_is_being_scored(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr("sys.stderr", said)
    monkeypatch.setattr(scoring, "SILENT_SECONDS", 0)

    def score():
        end = time.monotonic() + 60
        while "5/9" not in said.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
        yield from ()

    scoring._keep_answers(score(), 9, 5)
    assert re.match(r" *56%.* 5/9 .*\n", said.getvalue())


def test_json_has_no_number_that_is_none(classifier, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "정말", "x": NaN, "y": [1e400, 1]}\n', encoding="utf-8")
    score_file(classifier, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    written = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert '"x": null, "y": [null, 1]' in written


def test_the_columns_that_were_guessed_are_said(classifier, tmp_path, capsys):
    (tmp_path / "in.csv").write_text("제목,내용\n가,정말\n", encoding="utf-8")
    score_file(classifier, tmp_path / "in.csv", tmp_path / "out.csv")
    assert "texts in '내용'; --text-columns" in capsys.readouterr().out


def test_a_row_keeps_fields_of_the_names_that_are_added_by_being_refused(classifier, tmp_path):
    rows = '{"text": "정말"}\n{"text": "영화", "predicted_label": 77, "remark": "mine"}\n'
    (tmp_path / "in.jsonl").write_text(rows, encoding="utf-8")
    score_file(classifier, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    refused = json.loads((tmp_path / "out.jsonl.refused.jsonl").read_text(encoding="utf-8"))
    assert refused["reason"] == "columns ['predicted_label', 'remark'] are added: rename them"
    assert refused["row"]["predicted_label"] == 77
    with pytest.raises(
        ScoringError, match="engine: expected .*, 'ray' with an address or gpus_per_worker, got 'local'"
    ):
        score_file(classifier, tmp_path / "in.jsonl", tmp_path / "x.jsonl", address="x")


def test_lists_and_bytes_of_parquet_are_written_as_text(classifier, tmp_path):
    columns = {"text": ["정말"], "tags": [["가", "b"]], "raw": ["글".encode() + b"\xff"], "none": [None]}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    for name in ("out.csv", "out.jsonl"):
        score_file(classifier, tmp_path / "in.parquet", tmp_path / name)
    (row,), (found,) = read(tmp_path / "out.csv"), read(tmp_path / "out.jsonl")
    assert (row["tags"], row["raw"], row["none"]) == ('["가", "b"]', "글\\xff", "")
    assert (found["tags"], found["raw"], found["none"]) == (["가", "b"], "글\\xff", None)
