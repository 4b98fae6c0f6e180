"""Every row is read as it stands, or refused with file and line."""

import json

import pytest
from conftest import REVIEWS, write_reviews

from nlpbook_helpers.corpora import ClassificationExample, CorpusError, CsvCorpus, KlueNLICorpus, NsmcCorpus
from nlpbook_helpers.download import REMOTE_FILES, compute_git_blob_id
from nlpbook_helpers.features import ClassificationDataset

PAIRS = [
    {"guid": "1", "premise": "비가 온다.", "hypothesis": "날이 맑다.", "gold_label": "contradiction", "author": "x"},
    {"guid": "2", "premise": "비가 온다.", "hypothesis": "물이 내린다.", "gold_label": "entailment"},
]


def write_nsmc(folder, text, encoding="utf-8"):
    folder.mkdir(exist_ok=True)
    (folder / "ratings_train.txt").write_bytes(text.encode(encoding))
    return folder


def test_quotes_and_empty_documents_survive(tmp_path):
    write_reviews(tmp_path, REVIEWS)
    examples = NsmcCorpus().get_examples(tmp_path, "train")
    assert examples == [ClassificationExample(text, None, label) for _, text, label in REVIEWS]


@pytest.mark.corpora
def test_all_of_nsmc_is_read(corpus_dir):
    corpus = NsmcCorpus()
    train, test = (corpus.get_examples(corpus_dir / "nsmc", mode) for mode in ("train", "test"))
    assert (len(train), len(test)) == (150_000, 50_000)
    assert max(len(example.text_a) for example in train + test) == 146
    assert sum(not example.text_a for example in train) == 5
    assert len({example.text_a for example in train}) == 146_183
    assert corpus.get_labels() == ["0", "1"]


@pytest.mark.corpora
def test_all_of_klue_nli_is_read(corpus_dir):
    corpus = KlueNLICorpus()
    train, test = (corpus.get_examples(corpus_dir / "klue-nli", mode) for mode in ("train", "test"))
    assert (len(train), len(test)) == (24_998, 3_000)
    assert [sum(example.label == label for example in train) for label in corpus.get_labels()] == [8_561, 8_489, 7_948]


@pytest.mark.corpora
def test_all_of_korean_hate_speech_is_read(corpus_dir):
    folder = corpus_dir / "korean-hate-speech"
    files = {"train": ["train.tsv"], "test": ["dev.tsv"]}
    corpus = CsvCorpus(["comments"], "hate", labels=["none", "offensive", "hate"], files=files)
    train, test = (corpus.get_examples(folder, mode) for mode in ("train", "test"))
    assert [sum(example.label == label for example in train) for label in corpus.get_labels()] == [3_486, 2_499, 1_911]
    assert [sum(example.label == label for example in test) for label in corpus.get_labels()] == [160, 189, 122]
    for name, remote in REMOTE_FILES["korean-hate-speech"].items():
        assert compute_git_blob_id((folder / name).read_bytes()) == remote.git_blob


@pytest.mark.parametrize("name", ["klue_nli_train.json", "klue-nli-v1.1_train.json"])
def test_pairs_are_read_under_both_file_names(tmp_path, name):
    (tmp_path / name).write_text(json.dumps(PAIRS), encoding="utf-8")
    examples = KlueNLICorpus().get_examples(tmp_path, "train")
    assert examples[0] == ClassificationExample("비가 온다.", "날이 맑다.", "contradiction")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\tdocument\tlabel\n1\t좋다\t1\n2\t나쁘다\n", r"ratings_train.txt, line 3: expected a value in \['label'\]"),
        ("id\tdocument\tlabel\n1\t좋다\t2\n", r"line 2: label: expected one of \['0', '1'\], got '2'"),
        ("id\tdocument\tlabel\n1\t좋다\t1\t더\n", "line 2: expected 3 columns, got 4"),
        ("id\ttext\tlabel\n1\t좋다\t1\n", r"line 1: expected columns \['document'\], found"),
        ('id\tdocument\tlabel\n1\t"좋다\t1\n', "line 2: unexpected end of data; expected quotes"),
        ("id\tdocument\tlabel\n", "holds no row"),
        ("document\tdocument\tlabel\n", "line 1: expected different column names"),
    ],
)
def test_a_malformed_row_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(CorpusError, match=message):
        NsmcCorpus().get_examples(write_nsmc(tmp_path, text), "train")


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path):
    write_nsmc(tmp_path, "id\tdocument\tlabel\n1\tgood\t1\n2\t좋다\t1\n", encoding="cp949")
    with pytest.raises(CorpusError, match="line 3: byte 0x.. is not UTF-8; save the file as UTF-8"):
        NsmcCorpus().get_examples(tmp_path, "train")


def test_an_excel_byte_order_mark_is_not_part_of_the_header(tmp_path):
    write_nsmc(tmp_path, "\ufeffid\tdocument\tlabel\n1\t좋다\t1\n")
    assert NsmcCorpus().get_examples(tmp_path, "train") == [ClassificationExample("좋다", None, "1")]


def test_bad_rows_are_skipped_only_when_asked_and_counted_aloud(tmp_path, caplog):
    write_nsmc(tmp_path, "id\tdocument\tlabel\n1\t좋다\t1\n2\t나쁘다\n3\t글쎄\t-\n")
    assert len(NsmcCorpus(skip_bad_rows=True).get_examples(tmp_path, "train")) == 1
    assert "ratings_train.txt: skipped 2 malformed rows, kept 1" in caplog.text


def test_a_missing_and_an_empty_file_say_how_to_fetch_them(tmp_path):
    with pytest.raises(CorpusError, match=r"expected ratings_train.txt in .*call download_downstream_dataset"):
        NsmcCorpus().get_examples(tmp_path, "train")
    with pytest.raises(
        CorpusError,
        match=r"ratings_train.txt is empty: write it again, or delete it and call download_downstream_dataset",
    ):
        NsmcCorpus().get_examples(write_nsmc(tmp_path, ""), "train")
    with pytest.raises(ValueError, match=r"mode: expected one of \['train', 'test'\], got 'dev'"):
        NsmcCorpus().get_examples(tmp_path, "dev")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"premise": "a"}', "expected a JSON array of objects, got dict"),
        ("[1, 2]", "expected a JSON array of objects"),
        ('[{"premise": "a",]', "line 1: .*expected a JSON array"),
        ('[{"premise": "a", "gold_label": "neutral"}]', r"line 1: expected a value in \['hypothesis'\]"),
        ('[{"premise": "a", "hypothesis": "b", "gold_label": "?"}]', r"gold_label: expected one of .*got '\?'"),
        ('[{"premise": "a", "hypothesis": "b", "gold_label": "-"}]', "holds no row to learn from"),
    ],
)
def test_malformed_pairs_are_named(tmp_path, content, message):
    (tmp_path / "klue_nli_train.json").write_text(content)
    with pytest.raises(CorpusError, match=message):
        KlueNLICorpus().get_examples(tmp_path, "train")


def test_pairs_without_an_agreed_label_are_skipped_and_counted_aloud(tmp_path, caplog):
    undecided = {"premise": "비가 온다.", "hypothesis": "춥다.", "gold_label": "-"}
    (tmp_path / "klue_nli_train.json").write_text(json.dumps([*PAIRS, undecided]), encoding="utf-8")
    assert len(KlueNLICorpus().get_examples(tmp_path, "train")) == 2
    assert "klue_nli_train.json: skipped 1 rows without an agreed label" in caplog.text


def test_any_pair_corpus_is_read_by_its_column_names(tmp_path):
    (tmp_path / "train.tsv").write_text("sentence1\tsentence2\tgold_label\n비가 온다\t날이 맑다\tcontradiction\n")
    labels = KlueNLICorpus().get_labels()
    corpus = CsvCorpus(("sentence1", "sentence2"), "gold_label", labels=labels)
    assert corpus.get_examples(tmp_path, "train") == [ClassificationExample("비가 온다", "날이 맑다", "contradiction")]


def test_a_corpus_that_makes_no_sense_is_refused_at_once():
    with pytest.raises(ValueError, match="text_columns: expected one column name or two in a list, got 'text'"):
        CsvCorpus("text")
    with pytest.raises(ValueError, match="labels: expected at least two different ones"):
        CsvCorpus(labels=["a", "a"])
    with pytest.raises(ValueError, match="labels: expected at least two different ones"):
        CsvCorpus(labels=[1, "1"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="expected different columns, got text_columns .*'label'"):
        CsvCorpus(["text", "label"])
    with pytest.raises(ValueError, match="label_names: expected a different English name for each label"):
        CsvCorpus(label_names=["좋음 (x)", "나쁨 (x)"])
    with pytest.raises(ValueError, match="label_names: expected 2, one per label, got 1"):
        CsvCorpus(label_names=["a"])


WEATHER = [("비가 온다", "날씨"), ("연장전이다", "운동"), ("눈이 온다", "날씨")]


def write_csv(path, rows=WEATHER, header="text,label"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]), encoding="utf-8")


def test_labels_are_those_of_the_training_file_for_every_mode(tmp_path):
    write_csv(tmp_path / "train.csv")
    write_csv(tmp_path / "test.csv", WEATHER[:1])
    corpus = CsvCorpus(labels=None)
    with pytest.raises(ValueError, match="labels are not known yet: call get_examples"):
        corpus.get_labels()
    assert [example.label for example in corpus.get_examples(tmp_path, "test")] == ["날씨"]
    assert corpus.get_labels() == corpus.label_names == ["날씨", "운동"]
    assert corpus.num_labels == 2
    write_csv(tmp_path / "test.csv", [("주가가 올랐다", "경제")])
    with pytest.raises(CorpusError, match=r"test.csv, line 2: label: expected one of \['날씨', '운동'\], got '경제'"):
        corpus.get_examples(tmp_path, "test")
    assert corpus.get_examples(tmp_path, "test", check_labels=False)[0].label == "경제"


def test_labels_that_are_numbers_are_sorted_as_numbers(tmp_path):
    write_csv(tmp_path / "train.csv", [("가", 10), ("나", 2), ("다", 1)])
    corpus = CsvCorpus(labels=None, label_names=["하나 (one)", "둘 (two)", "열 (ten)"])
    assert corpus.get_examples(tmp_path, "train")[0].label == "10"
    assert corpus.get_labels() == ["1", "2", "10"]
    assert [example.label for example in CsvCorpus(labels=[1, 2, 10]).get_examples(tmp_path, "train")] == [
        "10",
        "2",
        "1",
    ]  # type: ignore[list-item]


def test_labels_can_be_renamed_and_merged(tmp_path):
    write_csv(tmp_path / "train.csv", [("가", "none"), ("나", "offensive"), ("다", "hate")])
    corpus = CsvCorpus(labels={"none": "괜찮음 (fine)", "offensive": "나쁨 (bad)", "hate": "나쁨 (bad)"})
    labels = [example.label for example in corpus.get_examples(tmp_path, "train")]
    assert labels == ["괜찮음 (fine)", "나쁨 (bad)", "나쁨 (bad)"]
    assert corpus.num_labels == 2
    with pytest.raises(ValueError, match="labels: expected at least two different ones"):
        CsvCorpus(labels={"none": "같음", "hate": "같음"})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("가", "하나"), ("나", "")], "expected 2 to 1,000 different labels in column 'label', got 1"),
        ([(number, f"글 {number}") for number in range(1_500)], "in column 'label', got 1,001: choose another"),
    ],
)
def test_a_column_that_holds_no_labels_is_not_taken_for_one(tmp_path, rows, message):
    write_csv(tmp_path / "train.csv", rows)
    with pytest.raises(CorpusError, match=message):
        CsvCorpus(labels=None).get_examples(tmp_path, "train")


def test_inferred_labels_need_the_training_file(tmp_path):
    write_csv(tmp_path / "test.csv")
    with pytest.raises(CorpusError, match="expected train.csv or train.tsv or train.jsonl or train.parquet in"):
        CsvCorpus(labels=None).get_examples(tmp_path, "test")


def test_suffixes_may_be_upper_case(tmp_path):
    write_csv(tmp_path / "train.CSV")
    assert len(CsvCorpus(labels=None).get_examples(tmp_path, "train")) == 3


def test_a_corpus_in_jsonl_becomes_a_dataset(tmp_path, make_args, tokenizer):
    folder = tmp_path / "corpora" / "mine"
    folder.mkdir(parents=True)
    rows = [{"text": text, "label": int(label)} for _, text, label in REVIEWS]
    (folder / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    corpus = CsvCorpus(labels=None)
    args = make_args(downstream_corpus_name="mine")
    dataset = ClassificationDataset(args, corpus, tokenizer, "train")
    assert dataset.labels.tolist() == [int(label) for _, _, label in REVIEWS]
    again = ClassificationDataset(args, CsvCorpus(labels=None), tokenizer, "train")
    assert again.labels.tolist() == dataset.labels.tolist()
