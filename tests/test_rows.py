"""A file is read row by row, whatever its format; whatever is wrong is named with its line."""

import builtins
import json

import pyarrow
import pytest
from pyarrow.parquet import write_table

from nlpbook_helpers import CorpusError, read_rows
from nlpbook_helpers.corpora import get_values

ROWS = [{"sentence": "비가 온다", "score": 1}, {"sentence": '그가, "최고"라고; 했다', "score": 2}]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def make_file(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    if suffix.lower() == ".parquet":
        write_table(pyarrow.Table.from_pylist(ROWS), path)
        return path
    delimiter = {".tsv": "\t", ".txt": ";"}.get(suffix.lower(), ",")
    text = f'sentence{delimiter}score\n비가 온다{delimiter}1\n"그가, ""최고""라고; 했다"{delimiter}2\n'
    texts = {".json": json.dumps(ROWS), ".jsonl": "\n\n".join(map(json.dumps, ROWS))}
    return write(path, texts.get(suffix.lower(), text))


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".tsv", ".txt", ".json", ".jsonl", ".JSONL", ".parquet"])
def test_every_format_gives_the_same_texts_without_a_label(tmp_path, suffix):
    rows = list(read_rows(make_file(tmp_path, suffix), ["sentence"]))
    assert [get_values(row, ["sentence", "score"]) for _, row in rows] == [
        ["비가 온다", "1"],
        ['그가, "최고"라고; 했다', "2"],
    ]
    first = 2 if suffix in (".csv", ".CSV", ".tsv", ".txt") else 1
    second = 3 if suffix.lower() == ".jsonl" else first + 1  # an empty line lies between
    assert [line for line, _ in rows] == [first, second]


def test_a_file_is_read_as_a_stream(tmp_path):
    path = write(tmp_path / "long.csv", "sentence\n" + "비가 온다\n" * 200_000 + '"끝나지 않는 글')
    rows = read_rows(path, ["sentence"])
    assert next(rows) == (2, {"sentence": "비가 온다"})  # the broken end has not been seen yet
    with pytest.raises(CorpusError, match="line 200002: unexpected end of data"):
        list(rows)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "text;label\n비;1\n", r"a.csv, line 1: expected columns \['sentence'\], found \['text;label'\]"),
        ("a.jsonl", '{"sentence": "비"}\n{"sentence": ', "a.jsonl, line 2: .*expected one JSON object on each line"),
        ("a.jsonl", '["비"]\n', "a.jsonl, line 1: expected a JSON object, got list"),
        ("a.json", '{"sentence": "비"}\n{"sentence": "눈"}\n', "line 2: Extra data; .*are a .jsonl file"),
        ("a.parquet", "PAR1", "a.parquet: .*expected a Parquet file"),
        ("old.csv", "text,label\r좋다,1\r", r"old.csv, line 1: expected lines that end in \\n, got \\r alone"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path, name, text, message):
    with pytest.raises(CorpusError, match=message):
        list(read_rows(write(tmp_path / name, text), ["sentence"]))


def test_a_missing_file_or_parquet_column_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"expected a file at .*no.csv, found none"):
        list(read_rows(tmp_path / "no.csv", ["sentence"]))
    with pytest.raises(CorpusError, match=r"rows.parquet: expected columns \['text'\], found \['sentence', 'score'\]"):
        list(read_rows(make_file(tmp_path, ".parquet"), ["text"]))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"sentence": None}, r"expected a value in \['sentence'\], the row has none"),
        ({"sentence": float("nan")}, r"expected a value in \['sentence'\]"),
        ({"sentence": ["비"]}, r"expected a value in \['sentence'\]"),
        ({"sentence": "비", None: ["더"]}, "expected 1 columns, got 2"),
    ],
)
def test_a_row_without_its_value_is_refused(row, message):
    with pytest.raises(CorpusError, match=message):
        get_values(row, ["sentence"])


def test_numbers_become_their_digits():
    row = {"whole": 3.0, "part": 2.5, "count": 10, "text": "007"}
    assert get_values(row, list(row)) == ["3", "2.5", "10", "007"]


def test_without_pyarrow_the_reader_is_told_what_to_install(tmp_path, monkeypatch):
    path = make_file(tmp_path, ".parquet")
    found = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(CorpusError, match="rows.parquet: Parquet needs pyarrow: pip install pyarrow"):
        list(read_rows(path, ["sentence"]))
