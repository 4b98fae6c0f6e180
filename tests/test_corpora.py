"""Every example is what its row says, or is refused with file and line; labels are those that a reader means."""

import gzip
import json
import unicodedata

import pytest
from reviews import REVIEWS, write_reviews

from nlpbook_helpers.arguments import ClassificationTrainArguments
from nlpbook_helpers.corpora import (
    ClassificationExample,
    CorpusError,
    CsvCorpus,
    KlueNLICorpus,
    NsmcCorpus,
    make_corpus,
)
from nlpbook_helpers.download import REMOTE_FILES, compute_git_blob_id
from nlpbook_helpers.values import get_short_names, show_label

PAIRS = [
    {"guid": "1", "premise": "비가 온다.", "hypothesis": "날이 맑다.", "gold_label": "contradiction", "author": "x"},
    {"guid": "2", "premise": "비가 온다.", "hypothesis": "물이 내린다.", "gold_label": "entailment"},
    {"guid": "3", "premise": "비가 온다.", "hypothesis": "춥다.", "gold_label": "-"},
]


def write(folder, labels, name="train.csv", header="text,label"):
    """Write a corpus with a short text for each label."""
    lines = [header, *(f"글 {number},{label}" for number, label in enumerate(labels))]
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return folder


def read_labels(folder, mode="train", **settings):
    corpus = CsvCorpus(**{"labels": None} | settings)
    return [example.label for example in corpus.get_examples(folder, mode)], corpus.get_labels()


def test_quotes_and_empty_documents_survive(tmp_path):
    write_reviews(tmp_path, REVIEWS)
    examples = NsmcCorpus().get_examples(tmp_path, "train")
    assert examples == [ClassificationExample(text, None, label) for _, text, label in REVIEWS]


@pytest.mark.corpora
def test_all_of_nsmc_is_read(corpus_dir):
    train, test = (NsmcCorpus().get_examples(corpus_dir / "nsmc", mode) for mode in ("train", "test"))
    assert (len(train), len(test)) == (150_000, 50_000)
    assert max(len(example.text_a) for example in train + test) == 146
    assert sum(not example.text_a for example in train) == 5
    assert len({example.text_a for example in train}) == 146_183


@pytest.mark.corpora
@pytest.mark.parametrize(
    ("name", "corpus", "train", "test"),
    [
        ("klue-nli", KlueNLICorpus(), [8_561, 8_489, 7_948], 3_000),
        ("korean-hate-speech", CsvCorpus(["comments"], "hate", ["none", "offensive", "hate"],
         files={"train": ["train.tsv"], "test": ["dev.tsv"]}), [3_486, 2_499, 1_911], 471),
    ],
)  # fmt: skip
def test_all_of_the_other_corpora_is_read(corpus_dir, name, corpus, train, test):
    labels = [example.label for example in corpus.get_examples(corpus_dir / name, "train")]
    assert [labels.count(label) for label in corpus.get_labels()] == train
    assert len(corpus.get_examples(corpus_dir / name, "test")) == test
    for remote in REMOTE_FILES:
        if remote.corpus == name == "korean-hate-speech":
            assert compute_git_blob_id((corpus_dir / name / remote.name).read_bytes()) == remote.git_blob


@pytest.mark.parametrize("name", ["klue_nli_train.json", "klue-nli-v1.1_train.json"])
def test_pairs_are_read_under_both_file_names_and_undecided_ones_counted_aloud(tmp_path, name, caplog):
    (tmp_path / name).write_text(json.dumps(PAIRS), encoding="utf-8")
    examples = KlueNLICorpus().get_examples(tmp_path, "train")
    assert examples[0] == ClassificationExample("비가 온다.", "날이 맑다.", "contradiction") and len(examples) == 2
    assert f"{name}: skipped 1 rows without an agreed label, kept 2" in caplog.text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2\t나쁘다", "ratings_train.txt, line 4: expected 3 columns, got 2"),
        ("2\t좋다\t1\t더", "line 4: expected 3 columns, got 4"),
        ("2\t좋다\t2", r"line 4: label: expected one of \['0', '1'\], got '2'; correct it, or set skip_bad_rows"),
        ('2\t"좋다\t1', "line 4: unexpected end of data; expected a text with quotes to be quoted .*quoting=False"),
        ('2\t"좋다" 참\t1', "line 4: .* expected a text with quotes to be quoted .*quoting=False"),
        ("id\tdocument\tlabel", "line 4: the header stands here once more"),
    ],
)
def test_a_malformed_row_is_named_with_its_line_or_skipped_aloud(tmp_path, row, message, caplog):
    header, rows = "id\tdocument\tlabel\n", "0\t그래\t0\n1\t좋다\t1\n"
    (tmp_path / "ratings_train.txt").write_text(header + rows + row, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        NsmcCorpus().get_examples(tmp_path, "train")
    assert len(NsmcCorpus(skip_bad_rows=True).get_examples(tmp_path, "train")) == 2
    assert "ratings_train.txt: skipped 1 malformed rows (line 4: " in caplog.text
    (tmp_path / "ratings_train.txt").write_text(header, encoding="utf-8")
    with pytest.raises(CorpusError, match="holds no row to learn from"):
        NsmcCorpus().get_examples(tmp_path, "train")


@pytest.mark.parametrize("name", ["train.xlsx", "Train.txt"])
def test_a_missing_file_is_named_with_what_is_there(tmp_path, name):
    with pytest.raises(CorpusError, match="found nothing: call download_downstream_dataset"):
        read_labels(tmp_path / "no")
    with pytest.raises(CorpusError, match=rf"found \['{name}'\]: .*a workbook saved as 'CSV UTF-8'"):
        read_labels(write(tmp_path, "ab", name))
    with pytest.raises(ValueError, match=r"mode: expected one of \['train', 'val', 'test'\], got 'dev'"):
        read_labels(tmp_path, "dev")


@pytest.mark.parametrize("name", ["train.CSV", "train.json", "train.jsonl", "train.csv.gz"])
def test_files_are_found_under_their_usual_names(tmp_path, name):
    rows = "text,label\n좋다,1\n나쁘다,0\n"
    if "json" in name:
        rows = '{"text": "좋다", "label": 1}\n{"text": "나쁘다", "label": 0}'
    (tmp_path / name).write_bytes(gzip.compress(rows.encode()) if name.endswith(".gz") else rows.encode())
    assert read_labels(tmp_path) == (["1", "0"], ["0", "1"])


@pytest.mark.parametrize(
    "changes",
    [{"text_columns": "text"}, {"text_columns": ["text", "label"]}, {"labels": ["a", "a"]}, {"labels": [1, "1.0 "]},
     {"labels": {"a": "c", "b": "c"}}, {"label_names": ["좋음 (x)", "좋음 (x)"]}, {"label_names": ["a"]}],
)  # fmt: skip
def test_a_corpus_that_makes_no_sense_is_refused_at_once(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))}.*expected|different columns, got text_columns"):
        CsvCorpus(**changes)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["긍정", "긍정 ", " 부정", "부정\u200b", "긍정\u00a0"], ["긍정", "부정"]),
        ([1, "1.0", "1.00", 0, "0.", "-1", "-1.0"], ["-1", "0", "1"]),
        (["긍정", unicodedata.normalize("NFD", "긍정"), "부정"], ["긍정", "부정"]),
        (
            ["매우  좋음", "매우 좋음", "매우 나쁨", "IT/과학", "생활/문화"],
            ["IT/과학", "매우 나쁨", "매우 좋음", "생활/문화"],
        ),
        (["１", "1", "0", "０", "+1", "\u22121", "1e0", "-1.000e+00"], ["-1", "0", "1"]),
        (
            ["긍정\u00ad", "긍정 \u200b", "\u200e부정\u202c", "부정", "ＡＢ", "AB", "\u3000A\u200dB"],
            ["AB", "긍정", "부정"],
        ),
        (["A&amp;B", "R&amp;D", "A&amp;B"], ["A&amp;B", "R&amp;D"]),  # whose signs separate nothing
        ([10, 2, 1], ["1", "2", "10"]),
        (["문의 (일반)", "불만 (일반)", "문의 (일반)"], ["문의 (일반)", "불만 (일반)"]),
    ],
)
def test_labels_that_mean_the_same_are_one(tmp_path, labels, expected):
    write(tmp_path, labels)
    found, known = read_labels(tmp_path)
    assert known == expected and len(found) == len(labels)
    assert read_labels(tmp_path, labels=[f" {label}" for label in expected]) == (found, expected)


@pytest.mark.parametrize(
    "word", ["", "nan", "NaN", "NULL", "None", "none", "N/A", "<NA>", "NaT", "---", "#REF!", "#DIV/0!", "\\N", "(null)"]
)
def test_a_missing_label_is_no_label_unless_it_is_given(tmp_path, word, caplog):
    write(tmp_path, ["a", "b", word, "b"])
    with pytest.raises(CorpusError, match=r"line 4: label: expected one of \['a', 'b'\], got no label"):
        read_labels(tmp_path)
    assert read_labels(tmp_path, skip_bad_rows=True) == (["a", "b", "b"], ["a", "b"])
    assert "skipped 1 malformed rows (line 4: label: expected one of ['a', 'b'], got no label" in caplog.text
    if word:
        assert f"got no label ({word}; if that is a class, give labels)" in caplog.text
        args = ClassificationTrainArguments("x", downstream_corpus_name="mine", labels=["a", "b", word])
        assert make_corpus(args).get_examples(tmp_path, "train")[2].label == word


def test_labels_that_look_alike_are_listed_with_their_rows(tmp_path, caplog):
    assert len(read_labels(write(tmp_path, ["Spam", "spam", "SPAM", "01", "1", "1", "ham"]))[1]) == 6
    assert "alike are classes of their own: {'Spam': 1, 'spam': 1, 'SPAM': 1, '01': 1, '1': 2}; merge" in caplog.text


@pytest.mark.parametrize(
    "labels",
    [["매우 좋음", "매우좋음"], ["'spam'", "spam"], ["very-bad", "very_bad"], ['"1,000"', "1000"], ["bad.", "bad"]],
)
def test_labels_that_differ_in_what_is_not_read_aloud_look_alike(tmp_path, labels, caplog):
    assert len(read_labels(write(tmp_path, [*labels, "-1", "1", "C", "C++", "★", "★★"]))[1]) == 8
    assert "look alike are classes of their own: {" in caplog.text
    assert all(repr(label) not in caplog.text for label in ("-1", "C", "★"))


@pytest.mark.parametrize("labels", [["ㄱ", "ㄴ"], ["①", "②"], ["👨\u200d👩\u200d👧", "👨👩👧"], ["❤️", "★"]])
def test_a_label_is_shown_as_the_file_writes_it(tmp_path, labels):
    found, known = read_labels(write(tmp_path, labels * 2))
    assert found == labels * 2 and set(known) == set(labels)
    assert read_labels(tmp_path, labels=known)[0] == found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": {"긍정", "부정"}}, "labels: expected a list, in the order of the model's outputs, got {"),
        ({"labels": "01"}, "labels: expected a list, .* got '01'"),
        ({"labels": 2}, "labels: expected a list, .* got 2"),
        ({"labels": ["a", None]}, r"labels: expected each to be a text, got \['a', None\]"),
        ({"labels": {"a": "", "b": "x"}}, "labels: expected each to be a text"),
        ({"label_names": "xy"}, "label_names: expected a list of names, got 'xy'"),
        ({"label_names": ["x", "x "]}, "label_names: expected 2 different ones"),
    ],
)
def test_labels_whose_order_or_names_are_unclear_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CsvCorpus(**settings)


def test_one_label_in_a_list_or_in_bytes_is_that_label_and_a_file_may_be_named_without_a_list(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "가", "label": ["x"]}\n{"text": "나", "label": "y"}\n', encoding="utf-8"
    )
    corpus = CsvCorpus(labels=None, files={"train": "a.jsonl"})
    assert [example.label for example in corpus.get_examples(tmp_path, "train")] == ["x", "y"]
    assert show_label(b"x") == "x"


def test_texts_that_say_that_there_is_none_and_signs_as_labels_are_said(tmp_path, caplog):
    (tmp_path / "train.csv").write_text("text,label\nNULL,a\nnan,b\n좋다,a\n나쁘다,b\n모름,-\n", encoding="utf-8")
    read_labels(tmp_path)
    assert "2 of 5 texts are words for a missing value" in caplog.text
    assert "signs are classes of their own: {'-': 1}" in caplog.text


def test_a_file_whose_rows_were_all_skipped_says_why(tmp_path):
    write(tmp_path, ["a", "b"])
    with pytest.raises(CorpusError, match="no row to learn from: skipped malformed rows .*expected one of"):
        read_labels(tmp_path, labels=["c", "d"], skip_bad_rows=True)


def test_true_and_1_of_json_look_alike(tmp_path, caplog):
    rows = [
        f'{{"text": "{text}", "label": {label}}}\n'
        for text, label in zip("가나다라", ("true", "1", "false", "0"), strict=False)
    ]
    (tmp_path / "train.jsonl").write_text("".join(rows), encoding="utf-8")
    CsvCorpus(labels=None).get_examples(tmp_path, "train")
    assert "alike are classes of their own: {'True': 1, '1': 1, 'False': 1, '0': 1}" in caplog.text


def test_a_class_of_one_row_and_a_text_with_two_labels_are_said(tmp_path, caplog):
    read_labels(write(tmp_path, [*["좋다", "나쁘다"] * 20, "20"]))  # the last as a sum below a table
    assert "labels that stand in one or two rows only: {'20': 1}; correct or delete" in caplog.text
    assert "with another label" not in caplog.text
    (tmp_path / "train.csv").write_text("text,label\n굿,0\n굿,1\n굿,1\n별로,0\n", encoding="utf-8")
    CsvCorpus().get_examples(tmp_path, "train")
    assert "1 of 4 texts are there before, with another label" in caplog.text


def test_texts_of_the_training_file_are_said_where_they_are_tested_on(tmp_path, caplog):
    write(tmp_path, ["0", "1"] * 50)  # texts of their own
    texts = (tmp_path / "train.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    corpus = CsvCorpus()
    corpus.get_examples(tmp_path, "train")
    for mode, leaked in (("test", 6), ("val", 5)):
        new = [f"새 글 {number},1\n" for number in range(100 - leaked)]
        (tmp_path / f"{mode}.csv").write_text("".join([*texts[: leaked + 1], *new]), encoding="utf-8")
        corpus.get_examples(tmp_path, mode)
    assert "test.csv: 6 of 100 texts are in the training file too: see whether" in caplog.text
    assert caplog.text.count("training file too") == 1


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (["0,12", "0,57", "1,93", "2,84", "12,05"] * 3, "5 numbers such as .'0,12'.*: to estimate them is regression"),
        ([f"{number / 2}kg" for number in range(1, 15)] * 2, "got 14 numbers such as .*regression"),
        (["1:02:03", "0:30:00", "1 day, 0:00:00"] * 3, "got 3 dates such as .*regression"),
        (["기쁨", "슬픔", "기쁨·슬픔"] * 3, "expected one label a row, got '기쁨·슬픔': several labels"),
        (["기쁨", "슬픔", "슬픔_기쁨"] * 3, "expected one label a row, got '슬픔_기쁨'"),
        (["#기쁨", "#슬픔", "#기쁨 #슬픔"] * 3, "expected one label a row, got '#기쁨 #슬픔'"),
        (["1,0,1", "0,1,1", "0,0,1"] * 3, "expected one label a row, got '1,0,1'"),
        (["1 0 1", "0 1 1"] * 3, "expected one label a row, got '1 0 1'"),
        ([' "pos"', ' "neg"'] * 3, "in quote marks: delete the marks, or the spaces"),
    ],
)
def test_what_is_no_class_in_other_spellings_is_refused(tmp_path, labels, sentence):
    rows = "".join(f"{number}번 글;{label}\n" for number, label in enumerate(labels))
    (tmp_path / "train.csv").write_text(f"text;label\n{rows}", encoding="utf-8")
    with pytest.raises(CorpusError, match=sentence):
        read_labels(tmp_path)


@pytest.mark.parametrize("labels", [["1점", "2점", "3점"], ["5/5", "3/5", "1/5"], ["10대", "20대"]])
def test_grades_with_a_unit_are_classes(tmp_path, labels):
    assert set(read_labels(write(tmp_path, labels * 3))[1]) == set(labels)


def test_codes_are_no_numbers(tmp_path):
    assert read_labels(write(tmp_path, ["1E1", "2E3", "10", "B2"]))[1] == ["10", "1E1", "2E3", "B2"]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_header_that_was_pasted_in_is_named(tmp_path, mark):
    (tmp_path / "train.csv").write_text(f"{mark}text,label\n글,a\n말,b\n" * 2, encoding="utf-8")
    with pytest.raises(CorpusError, match="line 4: the header stands here once more"):
        read_labels(tmp_path)


def test_many_numbers_and_odd_texts_are_said(tmp_path, caplog):
    read_labels(write(tmp_path, [*range(50)] * 6))
    assert "50 numbers are classes of their own; where they are amounts, to estimate them is regression" in caplog.text
    assert "texts are" not in caplog.text
    (tmp_path / "train.csv").write_text("text,label\n1,a\n2.5,b\n \u200b,a\n,b\n-3,a\n", encoding="utf-8")
    read_labels(tmp_path)
    assert "train.csv: 2 of 5 texts are empty: " in caplog.text
    assert "train.csv: 3 of 5 texts are numbers: see whether these are the texts" in caplog.text


@pytest.mark.parametrize(
    ("meant", "read_as"),
    [
        ("cp949", "latin-1"),
        ("utf-8", "latin-1"),
        ("cp949", "cp1252"),
        ("ascii", "ascii"),
    ],  # the last loses all: ?? ?????
)
def test_texts_that_were_saved_in_the_wrong_encoding_are_said(tmp_path, caplog, meant, read_as):
    words = "Café Müller, ¡très bien!"  # which is as it should be
    saved = "정말 재미있는 영화".encode(meant, "replace").decode(read_as, "ignore")
    rows = [saved, words, "좋다 ÄÖÜ 정말??", words, "글"]
    (tmp_path / "train.csv").write_text(
        "text,label\n" + "".join(f'"{row}",a\n"{row}!",b\n' for row in rows[1:]), "utf-8"
    )
    read_labels(tmp_path)
    assert "garbled" not in caplog.text
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f'"{row}",a\n"{row}!",b\n' for row in rows), "utf-8")
    read_labels(tmp_path)
    assert (
        "train.csv: 2 of 10 texts are garbled (Korean that was read in another encoding and saved so: " in caplog.text
    )


def test_a_class_may_be_called_as_its_column_and_empty_rows_are_counted(tmp_path, caplog):
    (tmp_path / "train.csv").write_text("text,hate\n글,hate\n말,fine\n,\n,\n")
    assert read_labels(tmp_path, label_column="hate") == (["hate", "fine"], ["fine", "hate"])
    assert "train.csv: skipped 2 empty rows, kept 2" in caplog.text
    (tmp_path / "train.csv").write_text("text,hate\n글,hate\n Text , Hate\n말,fine\n")
    with pytest.raises(CorpusError, match="line 3: the header stands here once more"):
        read_labels(tmp_path, label_column="hate")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([number / 10 for number in range(26)], r"got 26 numbers such as \['0.1', '0.2', '0.3'\]: .*regression"),
        (range(40), "got 40 numbers .*regression"),
        (["anger", "sad", "anger|sad"], r"got 'anger\|sad': .*multi-label"),
        (["anger", "sad", '"sad, anger"'], "got 'sad, anger': .*multi-label"),
        (["a", "\"['a', 'b']\""], "multi-label"),
        (['"[""a""]"', '"[""b""]"'], "multi-label"),
        (["anger", "sad", "sad anger"], "got 'sad anger': .*multi-label"),
        (["C", "C++", "C/C++"], r"got 'C/C\+\+': .*or give labels="),
        (["anger", "sad", "anger#sad"], "got 'anger#sad': .*multi-label"),
        (['"1,000"', *(f"{number}%" for number in range(30))], "got 31 numbers such as .*regression"),
        (["10.5%", "20%", "10.5%", "20%"], r"got 2 numbers such as \['10.5%'\]: .*regression"),
        (["2024-01-01", "2024.1.2", "2024-01-01 09:00"], r"got 3 dates such as \['2024-01-01'.*regression"),
        (["하나", ""], "expected 2 to 1,000 different labels, .*got 1: choose another label_column"),
        ([f"글 {number}" for number in range(1_500)], "different labels, .*got more"),
    ],
)
def test_what_is_no_class_is_refused_with_what_to_use_instead(tmp_path, labels, message):
    with pytest.raises(CorpusError, match=f"train.csv, column 'label': .*{message}"):
        read_labels(write(tmp_path, labels))


def test_a_list_of_labels_is_refused(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "글", "label": ["a", "b"]}\n')
    with pytest.raises(CorpusError, match=r"train.jsonl, line 1: expected one label, got \['a', 'b'\]: .*multi-label"):
        read_labels(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"text": "글", "점수": 1}\n')
    with pytest.raises(CorpusError, match=r"train.jsonl: expected columns \['label'\], found \['text', '점수'\]"):
        read_labels(tmp_path)


def test_labels_are_those_of_the_training_file_for_every_mode(tmp_path):
    write(write(tmp_path, ["날씨", "운동"]), ["날씨"], "test.csv")
    with pytest.raises(ValueError, match="labels are not known yet: call get_examples"):
        CsvCorpus(labels=None).get_labels()
    assert read_labels(tmp_path, "test") == (["날씨"], ["날씨", "운동"])
    write(tmp_path, ["경제"], "test.csv")
    with pytest.raises(CorpusError, match=r"test.csv, line 2: label: expected one of \['날씨', '운동'\], got '경제'"):
        read_labels(tmp_path, "test")
    assert CsvCorpus(labels=None).get_examples(tmp_path, "test", check_labels=False)[0].label == "경제"


def test_labels_can_be_renamed_and_merged(tmp_path):
    labels = {"none": "괜찮음 (fine)", "offensive": "나쁨 (bad)", "hate": "나쁨 (bad)"}
    found, known = read_labels(write(tmp_path, labels), labels=labels)
    assert found == [*labels.values()] and known == ["괜찮음 (fine)", "나쁨 (bad)"]
    assert [get_short_names(name) for name in (known[0], "문의 (일반)")] == [("괜찮음", "fine"), ("문의 (일반)",) * 2]


def test_the_arguments_say_how_a_file_is_read(tmp_path):
    args = ClassificationTrainArguments("x", downstream_corpus_name="mine", text_columns=["글"], label_column="값")
    args.encoding, args.quoting = "cp949", False  # type: ignore[attr-defined]
    (tmp_path / "train.csv").write_bytes('글,값\n"좋다,1\n나쁘다,0\n'.encode("cp949"))
    assert [example.text_a for example in make_corpus(args).get_examples(tmp_path, "train")] == ['"좋다', "나쁘다"]
    with pytest.raises(ValueError, match="downstream_task_name: expected document-classification for the text columns"):
        make_corpus(ClassificationTrainArguments("x", "pair-classification", "mine", text_columns=["글"]))
