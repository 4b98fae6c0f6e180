"""A folder, any format, any address: what goes in comes out under the same name, with its answers."""

import json
from pathlib import Path

import pytest
from test_inference import trained  # noqa: F401
from test_scoring import ADDED, Stopped, classifier, make_texts, stop_after, write_csv  # noqa: F401

from nlpbook_helpers import CorpusError, ScoringError, read_rows, score_file, scoring


def write_folder(folder: Path, texts: list[str]) -> Path:
    """Three formats, one of them deeper, and a file that is none of them."""
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    from pyarrow.parquet import write_table

    (folder / "2024").mkdir(parents=True)
    write_csv(folder / "2024" / "a.csv", [(n, text, "") for n, text in enumerate(texts)])
    columns = {"text": texts, "stars": pyarrow.array(range(len(texts)), "int8"), "tags": [["a"], None] * 10}
    write_table(pyarrow.table(columns), folder / "b.parquet")
    (folder / "c.json").write_text(json.dumps([{"text": text} for text in texts]), encoding="utf-8")
    (folder / "d.tsv").write_text("text\n", encoding="utf-8")  # a header and no row
    (folder / "README").write_text("nothing to score")
    return folder


def test_a_folder_gives_a_folder_of_the_same_names(classifier, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(scoring, "BATCH_ROWS", 8)
    texts = make_texts(20)
    source, output = write_folder(tmp_path / "in", texts), tmp_path / "out"
    stop_after(monkeypatch, 6)
    with pytest.raises(Stopped):
        score_file(classifier, source, output)
    summary = score_file(classifier, source, output)
    assert summary.startswith("scored 60 rows of 4 files in ")
    assert summary.endswith(f"; 0 refused; written: {output}")
    names = ["2024/a.csv", "b.parquet", "c.json.jsonl", "d.tsv"]
    assert sorted(path.relative_to(output).as_posix() for path in output.rglob("*.*")) == names
    for name in names[:3]:
        rows = [row for _, row in read_rows(output / name, ["text", *ADDED])]
        assert [row["text"] for row in rows] == texts
    assert (output / "d.tsv").read_text() == "\t".join(["text", *ADDED]) + "\n"
    assert not (tmp_path / "out.parts").exists()
    with pytest.raises(ScoringError, match=r"a.csv is there already"):
        score_file(classifier, source, output)
    with pytest.raises(ScoringError, match=r"output: expected a folder, as the input .* is one, got .*out.csv"):
        score_file(classifier, source, tmp_path / "out.csv")
    with pytest.raises(ScoringError, match=r"output: expected a folder outside the input"):
        score_file(classifier, source, source / "scored")
    with pytest.raises(CorpusError, match=r"expected files that end with one of .* in .*nothing, found none"):
        (tmp_path / "nothing").mkdir()
        score_file(classifier, tmp_path / "nothing", output)


def test_a_folder_may_grow_while_its_run_is_interrupted(classifier, tmp_path, monkeypatch):  # noqa: F811
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a.csv", "b.csv"):
        write_csv(source / name, [(1, "정말", "")])
    stop_after(monkeypatch, 3)  # a's only part, that there are no more, b's only part
    with pytest.raises(Stopped):
        score_file(classifier, source, output)
    write_csv(source / "c.csv", [(1, "영화", "")])
    assert "3 files" in score_file(classifier, source, output)
    assert sorted(path.name for path in output.iterdir()) == ["a.csv", "b.csv", "c.csv"]


def test_parquet_keeps_its_types_and_holds_columns_that_change(classifier, tmp_path, monkeypatch):  # noqa: F811
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    from pyarrow.parquet import read_table

    monkeypatch.setattr(scoring, "BATCH_ROWS", 8)
    source = write_folder(tmp_path / "in", make_texts(20)) / "b.parquet"
    score_file(classifier, source, tmp_path / "b.parquet")
    table = read_table(tmp_path / "b.parquet")
    assert table.select(["text", "stars", "tags"]).equals(read_table(source))
    assert table.column_names == ["text", "stars", "tags", *ADDED]
    values = [*range(8), *(n + 0.5 for n in range(8)), "many", [1], {"a": None}, None]
    rows = [{"text": "정말", "n": n} if n != 3 else {"text": "정말", "n": 3, "new": n} for n in values]
    rows[10]["late"] = True
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    score_file(classifier, tmp_path / "in.jsonl", tmp_path / "out.parquet")
    table = read_table(tmp_path / "out.parquet")
    assert table.column_names == ["text", "n", "new", "late", *ADDED]
    assert table["n"].to_pylist()[7:] == ["7", *(str(n + 0.5) for n in range(8)), "many", "[1]", '{"a": null}', None]
    assert table["late"].to_pylist() == [None] * 10 + [True] + [None] * 9
    assert table.schema.field("predicted_label").type == pyarrow.int64()


def test_any_address_of_fsspec_is_read_and_written(classifier, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip("upath", reason="addresses need universal_pathlib")
    from upath import UPath

    monkeypatch.setattr(scoring, "BATCH_ROWS", 8)
    local, store = write_folder(tmp_path / "in", make_texts(20)), UPath("memory://bucket/in")
    for path in local.rglob("*.*"):
        target = store / path.relative_to(local).as_posix()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    stop_after(monkeypatch, 4)
    with pytest.raises(Stopped):
        score_file(classifier, "memory://bucket/in", "memory://bucket/out")
    assert "20 rows were done before" in score_file(classifier, "memory://bucket/in", "memory://bucket/out")
    score_file(classifier, local.as_uri(), tmp_path / "out")
    there = UPath("memory://bucket/out")
    assert sorted(path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()) == [
        "2024/a.csv", "b.parquet", "c.json.jsonl", "d.tsv",
    ]  # fmt: skip
    for path in (tmp_path / "out").rglob("*.*"):
        assert (there / path.relative_to(tmp_path / "out").as_posix()).read_bytes() == path.read_bytes()
    assert [path.name for path in UPath("memory://bucket").iterdir()] == ["in", "out"]
    with pytest.raises(CorpusError, match="nosuch://a.csv: .*install what is missing, or correct the address"):
        score_file(classifier, "nosuch://a.csv", tmp_path / "no.csv")
