"""A file is read row by row, whatever its format; whatever is wrong is named with its line and the way out."""

import gzip
import json
import unicodedata

import pyarrow
import pytest
from pyarrow.parquet import write_table

from nlpbook_helpers import CorpusError, read_rows
from nlpbook_helpers.reading import BadRow, get_values
from nlpbook_helpers.values import MissingColumnsError, is_blank

ROWS = [{"sentence": "비가 온다", "score": 1}, {"sentence": '그가, "최고"라고; 했다', "score": 2}]


def write(path, content, encoding="utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def make_file(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        write_table(pyarrow.Table.from_pylist(ROWS), path)
        return path
    lines, delimiter = "\n\n".join(map(json.dumps, ROWS)), {".tsv": "\t", ".txt": ";", ".psv": "|"}.get(suffix, ",")
    text = f'sentence{delimiter}score\n비가 온다{delimiter}1\n"그가, ""최고""라고; 했다"{delimiter}2\n'
    texts = {".json": json.dumps(ROWS, indent=1), ".jsonl": lines, ".ndjson": lines, ".JSON": lines}
    content = texts.get(suffix, text).encode()
    return write(path, gzip.compress(content) if suffix.endswith(".gz") else content)


@pytest.mark.parametrize(
    ("suffix", "lines"),
    [(".csv", [2, 3]), (".CSV", [2, 3]), (".tsv", [2, 3]), (".txt", [2, 3]), (".psv", [2, 3]), (".csv.gz", [2, 3]),
     (".json", [1, 2]), (".jsonl", [1, 3]), (".ndjson", [1, 3]), (".JSON", [1, 3]), (".parquet", [1, 2])],
)  # fmt: skip
def test_every_format_gives_the_same_texts(tmp_path, suffix, lines):
    rows = list(read_rows(make_file(tmp_path, suffix), ["sentence"]))
    assert [get_values(row, ["sentence", "score"]) for _, row in rows] == [[*map(str, row.values())] for row in ROWS]
    assert [line for line, _ in rows] == lines


def test_a_file_is_read_as_a_stream(tmp_path):
    path = write(tmp_path / "long.csv", "sentence\n" + "비가 온다\n" * 200_000 + '"끝나지 않는 글')
    rows = read_rows(path, ["sentence"])
    assert next(rows) == (2, {"sentence": "비가 온다"})  # the broken end has not been seen yet
    with pytest.raises(CorpusError, match="line 200002: unexpected end of data"):
        list(rows)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text;label\n비;1\n", r"a.csv, line 1: expected columns \['sentence'\], found \['text', 'label'\]"),
        ("a.csv", "내용,별점\n비,1\n", r"found \['내용', '별점'\]: name those to read, perhaps \['내용'\]"),
        ("a.csv", "sentence,a,a\n", "line 1: expected different column names"),
        ("a.csv", b"sentence,\xea\xb0\x80\xb0\n", "line 1: column .* is not UTF-8, .*name its encoding"),
        ("a.csv", "sentence,a\n비\n", "line 2: expected 2 columns, got 1"),
        ("a.csv", "2024년 리뷰,\nsentence,a\n비,1\n", "; a table's first line .*delete what stands above it"),
        ("a.csv", "sep=;\nsentence;a\n비;1\n", "; a table's first line .*delete what stands above it"),
        ("a.csv", "\n# made by hand\nsentence,a\n", "; a table's first line .*delete what stands above it"),
        ("a.csv", "sentence,a\n비, 눈,1\n", "expected 2 columns, got 3: quote texts that hold ','"),
        ("a.csv", "sentence\n비, 눈\n", "expected 1 columns, got 2: quote texts that hold ','; a table's first line"),
        ("a.csv", 'sentence, a\n "비, 눈", 1\n', "got 3: quote texts that hold ','"),
        ("a.csv", 'a, sentence\n1, "비, 눈"\n', "got 3: delete the spaces before quote marks, .*, or correct"),
        ("a.csv", 'a, "sentence"\n1, "비"\n', "expected names of columns, found .*: delete the spaces before quote"),
        ("a.csv", "sentences,label\n비,1\n", r"columns \['sentence'\], found .*: name those to read, perhaps \['sent"),
        ("a.csv", '{"sentence": "비"}\n', "a.csv is JSON, expected a table: end its name with .jsonl"),
        ("a.csv", "", "a.csv is empty: write it again; if it was downloaded"),
        ("a.csv", b"PK\3\4\0\0", "a.csv is a workbook, expected text: save it as 'CSV UTF-8'"),
        (
            "a.xls",
            "\ufeff\n<table><tr><td>sentence",
            "a.xls is a web page or XML, expected text: save it as 'CSV UTF-8'",
        ),
        ("a.csv", b"PAR1\x15\0", "a.csv is a Parquet file, expected text: end its name with .parquet"),
        ("a.csv", "version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS, .*git lfs pull"),
        ("a.csv.xz", b"\xfd7zXZ\0\0", "a.csv.xz is an archive, expected text: unpack it"),
        ("a.csv", b"%PDF-1.4\n%\xe2\xe3", "a.csv is no table, expected text: save it as 'CSV UTF-8'"),
        ("a.csv", b"sentence.txt" + bytes(500) + b"ustar", "a.csv is not in the encoding 'utf-8'; encoding=… names"),
        ("a.csv", bytes(500), "a.csv is not in the encoding 'utf-8'; encoding=… names"),
        ("a.csv", bytes(range(256)), "a.csv is not in the encoding 'utf-8'; encoding=… names its own"),
        ("a.csv.gz", gzip.compress("sentence\n비\n".encode(), mtime=0)[:-9], "a.csv.gz: .*expected a whole file"),
        (
            "a.jsonl",
            '{"sentence": "비"}\n{"sentence": ',
            "a.jsonl, line 2: .*expected an array of JSON objects, or one",
        ),
        ("a.json", '[{"sentence": "비"},\n{"sentence": ]', "a.json, line 2: .*expected an array of JSON objects"),
        ("a.json", '["비"]\n', "a.json, line 1: expected a JSON object, got str"),
        ("a.json", '{"sentence": {"0": "비"}, "label": {"0": 1}}', "got columns of dict: write one for each row"),
        ("a.jsonl", '{"sentence": "비", "sentence": "눈"}', "expected different names in an object"),
        ("a.jsonl", '{"sentence": "비"}\n["비"]', "a.jsonl, line 2: expected a JSON object, got list"),
        ("a.npy", b"\x93NUMPY\1\0", "a.npy is no table, expected text"),
        ("a.csv", 'sentence,a\n"그가 \\"좋다\\" 했다",1\n', "quotes with a backslash before them, .*doubled"),
        ("a.parquet", "PAR1", "a.parquet: .*expected a Parquet file"),
        ("a.parquet.gz", b"PAR1\x15\0", "a Parquet file, .*unpack it"),
        ("a.csv", "sentence::a\n비::1\n", "name its columns, with a comma, a semicolon, a tab or a bar between"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path, name, content, message):
    with pytest.raises(CorpusError, match=message):
        list(read_rows(write(tmp_path / name, content), ["sentence"]))


@pytest.mark.parametrize(
    ("content", "quoting", "message"),
    [
        ("text,sentiment\n비,1\n", True, r"found \['text', 'sentiment'\]: .*perhaps \['sentiment'\]$"),
        ("id,review,text,kind\n1,눈,비,1\n", True, r"perhaps \['id', 'review', 'kind'\]$"),
        ("text\n비\n", True, r"columns \['label'\], found \['text'\]: add it, or name another$"),
        ("id,document,label\n1,비,1\n", True, r"columns \['text'\], found .* perhaps \['document'\]$"),
        ('text,label\n"비, 눈",1\n', False, r"got 3: these quotes enclose texts: .*quoting=True"),
        ('"text","label"\n"비","1"\n', False, r"names of columns, found .*: these quotes enclose texts"),
    ],
)
def test_what_a_training_file_lacks_is_named(tmp_path, content, quoting, message):
    with pytest.raises(CorpusError, match=message):
        list(read_rows(write(tmp_path / "a.csv", content), ["text", "label"], quoting=quoting))


def test_a_missing_file_or_column_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"expected a file at .*no.csv, found none"):
        list(read_rows(tmp_path / "no.csv", ["sentence"]))
    with pytest.raises(CorpusError, match="expected a file at .*, found a folder: name a file in it"):
        list(read_rows(tmp_path, ["sentence"]))
    with pytest.raises(CorpusError, match="delimiter: expected one character, got '::'"):
        list(read_rows(write(tmp_path / "a.csv", "sentence::a\n"), ["sentence"], delimiter="::"))
    with pytest.raises(CorpusError, match="expected a path, got dict: write it to a file"):
        list(read_rows({"sentence": ["비"]}, ["sentence"]))  # type: ignore[arg-type]
    with pytest.raises(MissingColumnsError, match=r"rows.parquet: expected columns \['text'\], found") as caught:
        list(read_rows(make_file(tmp_path, ".parquet"), ["text"]))
    assert caught.value.columns == ["sentence", "score"]


@pytest.mark.parametrize(
    "encoding",
    [
        "cp949",
        "euc-kr",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "utf-32-le",
        "utf-32-be",
        "iso2022_kr",
        "johab",
        "utf-7",
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_another_encoding_is_named_and_read_when_asked(tmp_path, encoding, name):
    text = "sentence,n\n비가 온다,1\n" if name == "a.csv" else '{"sentence": "비가 온다"}\n{"sentence": "눈"}'
    path, likely = write(tmp_path / name, text, encoding), encoding.replace("euc-kr", "cp949")
    with pytest.raises(CorpusError, match=rf"not in the encoding 'utf-8'; it looks like {likely}: encoding='{likely}'"):
        list(read_rows(path, ["sentence"], keep_errors=True))
    assert next(read_rows(path, ["sentence"], encoding=encoding))[1]["sentence"] == "비가 온다"
    for other in ("cp949", "utf-16", "utf-32"):
        with pytest.raises(CorpusError, match=f"not in the encoding '{other}'; it looks like utf-8"):
            list(read_rows(write(path, text), ["sentence"], encoding=other))
    for name in ("utf9", "hex", None):
        with pytest.raises(CorpusError, match=f"encoding: expected a name like 'utf-8' or 'cp949', got {name!r}"):
            list(read_rows(path, ["sentence"], encoding=name))


def test_several_byte_order_marks_are_passed_over_and_a_truth_value_is_no_text(tmp_path):
    for name, text in {"a.csv": "sentence\n비\n", "a.jsonl": '{"sentence": "비"}'}.items():
        path = write(tmp_path / name, f"\ufeff\ufeff{text}")
        assert [row for _, row in read_rows(path, ["sentence"])] == [{"sentence": "비"}]
    with pytest.raises(CorpusError, match="expected a text in 'sentence', got bool: name another column"):
        get_values({"sentence": True}, ["sentence"])


def test_what_is_called_euc_kr_or_packed_is_read_whatever_its_name(tmp_path):
    path = write(tmp_path / "a.csv", gzip.compress("sentence\n똠방각하\n".encode("cp949")))
    assert [row for _, row in read_rows(path, ["sentence"], encoding="euc-kr")] == [{"sentence": "똠방각하"}]
    path = write(tmp_path / "a.csv.gz", "sentence\n비\n")
    assert [row for _, row in read_rows(path, ["sentence"])] == [{"sentence": "비"}]


def test_a_single_bad_byte_is_its_rows_fault(tmp_path):
    path = write(tmp_path / "a.csv", "sentence\n비가 온다\n".encode() + "눈\n".encode("cp949"))
    (_, good), (_, bad) = read_rows(path, ["sentence"])
    assert get_values(good, ["sentence"]) == ["비가 온다"]
    with pytest.raises(CorpusError, match="byte 0xb4 is not UTF-8, .*save the file as UTF-8, or name its encoding"):
        get_values(bad, ["sentence"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", 'sentence\tlabel\n"비\t1\n눈\t0\n해"\t1\n달\t0\n'),
        ("a.tsv", 'sentence\tn\tlabel\n비\t"1\t1\n눈\t2\t0\n해\t3"\t1\n달\t4\t0\n'),
        ("a.csv", 'sentence,n,label\n"비,1,1\n눈,2,0\n해",3,1\n달,4,0\n'),
        ("a.csv", 'sentence,label\n"비,1\n눈,0\n해",1\n달,0\n'),
        ("a.csv", 'label,sentence\n1,"비\n0,눈\n1,해"\n0,달\n'),
        ("a.csv", 'label,sentence\n1,"비\n0,눈\n1,해"\n0,달\n'.replace("\n0,눈", "\n0, 눈")),
    ],
)
def test_rows_between_two_quotes_are_never_merged(tmp_path, name, text):
    path = write(tmp_path / name, text)
    with pytest.raises(CorpusError, match="line 4: expected a row, got several from line 2 on .*quoting=False"):
        list(read_rows(path, ["sentence"]))
    bad, good = (row for _, row in read_rows(path, ["sentence"], keep_errors=True))
    assert isinstance(bad, BadRow) and bad.raw == "".join(text.splitlines(True)[1:4]) and good["sentence"] == "달"
    assert [row["label"] for _, row in read_rows(path, ["sentence"], quoting=False)] == ["1", "0", "1", "0"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"비,궂음\n눈,맑음\n해",궂음\n', None),  # the same label again
        ('달,맑음\n별,궂음\n"비,궂음\n해",맑음\n', None),  # labels of the rows above
        ('맑음,달\n궂음,별\n궂음,"비\n맑음,해"\n', None),
        ('a1,"비\na2,눈\na3,해"\n', None),  # numbers of rows
        ('"비, 바람\n해",궂음\n', ["비, 바람\n해"]),
    ],
)
def test_words_as_labels_tell_rows_from_lines_of_a_text(tmp_path, text, expected):
    path = write(tmp_path / "a.csv", f"sentence,label\n{text}")
    rows = [row for _, row in read_rows(path, ["sentence"], keep_errors=True)]
    assert isinstance(rows[-1], BadRow) if expected is None else [row["sentence"] for row in rows] == expected


def test_texts_of_several_lines_excels_empty_columns_and_any_line_end_are_read(tmp_path):
    text = '\ufeffsentence,n,,\r\n"비, 바람\n\n눈, 해",1,,\r해,2,,\n\n'
    rows = list(read_rows(write(tmp_path / "a.csv", text), ["sentence"]))
    assert [row for _, row in rows] == [{"sentence": "비, 바람\n\n눈, 해", "n": "1"}, {"sentence": "해", "n": "2"}]
    long = write(tmp_path / "long.csv", f"sentence\n{'비' * 200_000}\n")
    assert len(next(read_rows(long, ["sentence"]))[1]["sentence"]) == 200_000


def test_what_stands_in_a_row_becomes_text_or_is_refused(tmp_path):
    decomposed = unicodedata.normalize("NFD", "문장,별점\n좋다,1\n")
    _, row = next(read_rows(write(tmp_path / "a.csv", decomposed), ["문장"]))
    assert get_values(row, ["문장", "별점"]) == ["좋다", "1"]
    row = {"whole": 3.0, "part": 2.5, "count": 10, "text": "007"}
    assert get_values(row, list(row)) == ["3", "2.5", "10", "007"]
    for value, message in ((None, "a value"), (float("nan"), "a value"), (["비"], "a text"), ("\ud83d", "")):
        with pytest.raises(CorpusError, match=f"expected {message} in 'text'" if message else "half a surrogate pair"):
            get_values({"text": value}, ["text"])


@pytest.mark.parametrize(
    "text", ["", " \t", "\u200b\u200b", "\ufeff", "ㅤ", "\u115f\u1160", "\x00\x1f", "\u00a0\u2800", "\ufe0f"]
)
def test_what_cannot_be_seen_is_blank(text):
    assert is_blank(text)
    assert not is_blank(f"{text}ㅋ") and not is_blank(f"😀{text}")
