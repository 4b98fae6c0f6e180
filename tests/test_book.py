"""The book's own cells run with only their import lines changed."""

import json

import torch
from reviews import REVIEWS

# The cells as the book's readers have them: chapters on document classification, training and deployment.
TRAINING_CELLS = """
from nlpbook_helpers import ClassificationTrainArguments
args = ClassificationTrainArguments(
    pretrained_model_name=encoder, downstream_corpus_name="nsmc", downstream_corpus_root_dir=root,
    downstream_model_dir=model_dir, batch_size=32 if torch.cuda.is_available() else 4, learning_rate=5e-5,
    max_seq_length=32, epochs=2, tpu_cores=0 if torch.cuda.is_available() else 8, seed=7,
)
import nlpbook_helpers as nlpbook
nlpbook.set_seed(args)
nlpbook.set_logger(args)
nlpbook.download_downstream_dataset(args)
from transformers import BertTokenizer
tokenizer = BertTokenizer.from_pretrained(args.pretrained_model_name, do_lower_case=False)
from nlpbook_helpers import ClassificationDataset, NsmcCorpus
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
corpus = NsmcCorpus()
train_dataset = ClassificationDataset(args=args, corpus=corpus, tokenizer=tokenizer, mode="train")
train_dataloader = DataLoader(
    train_dataset, batch_size=args.batch_size, sampler=RandomSampler(train_dataset, replacement=False),
    collate_fn=nlpbook.data_collator, drop_last=False, num_workers=args.cpu_workers,
)
val_dataset = ClassificationDataset(args=args, corpus=corpus, tokenizer=tokenizer, mode="test")
val_dataloader = DataLoader(
    val_dataset, batch_size=args.batch_size, sampler=SequentialSampler(val_dataset),
    collate_fn=nlpbook.data_collator, drop_last=False, num_workers=args.cpu_workers,
)
from transformers import BertConfig, BertForSequenceClassification
pretrained_model_config = BertConfig.from_pretrained(args.pretrained_model_name, num_labels=corpus.num_labels)
model = BertForSequenceClassification.from_pretrained(args.pretrained_model_name, config=pretrained_model_config)
from nlpbook_helpers import ClassificationTask
task = ClassificationTask(model, args)
trainer = nlpbook.get_trainer(args)
trainer.fit(task, train_dataloaders=train_dataloader, val_dataloaders=val_dataloader)
"""
DEPLOYMENT_CELLS = """
from nlpbook_helpers import ClassificationDeployArguments
args = ClassificationDeployArguments(
    pretrained_model_name=encoder, downstream_model_dir=model_dir, max_seq_length=32,
)
from transformers import BertTokenizer
tokenizer = BertTokenizer.from_pretrained(args.pretrained_model_name, do_lower_case=False)
import torch
fine_tuned_model_ckpt = torch.load(args.downstream_model_checkpoint_fpath, map_location=torch.device("cpu"))
from transformers import BertConfig
pretrained_model_config = BertConfig.from_pretrained(
    args.pretrained_model_name,
    num_labels=fine_tuned_model_ckpt["state_dict"]["model.classifier.bias"].shape.numel(),
)
from transformers import BertForSequenceClassification
model = BertForSequenceClassification(pretrained_model_config)
loaded = model.load_state_dict({k.replace("model.", ""): v for k, v in fine_tuned_model_ckpt["state_dict"].items()})
model.eval()
def inference_fn(sentence):
    inputs = tokenizer([sentence], max_length=args.max_seq_length, padding="max_length", truncation=True)
    with torch.no_grad():
        outputs = model(**{k: torch.tensor(v) for k, v in inputs.items()})
        prob = outputs.logits.softmax(dim=1)
        positive_prob = round(prob[0][1].item(), 4)
        negative_prob = round(prob[0][0].item(), 4)
        pred = "긍정 (positive)" if torch.argmax(prob) == 1 else "부정 (negative)"
    return {
        "sentence": sentence, "prediction": pred,
        "positive_data": f"긍정 {positive_prob}", "negative_data": f"부정 {negative_prob}",
        "positive_width": f"{positive_prob * 100}%", "negative_width": f"{negative_prob * 100}%",
    }
from nlpbook_helpers import get_web_service_app
app = get_web_service_app(inference_fn)
"""


# What the chapters on pairs have instead.
PAIR_CHANGES = {
    'downstream_corpus_name="nsmc"': 'downstream_task_name="pair-classification", downstream_corpus_name="klue-nli"',
    "NsmcCorpus": "KlueNLICorpus",
    "def inference_fn(sentence):": "def inference_fn(premise, hypothesis):",
    "tokenizer([sentence],": "tokenizer([(premise, hypothesis)],",
}
PAIR_ANSWER = """
        entailment_prob = round(prob[0][0].item(), 2)
        contradiction_prob = round(prob[0][1].item(), 2)
        neutral_prob = round(prob[0][2].item(), 2)
        pred = ["참 (entailment)", "거짓 (contradiction)", "중립 (neutral)"][torch.argmax(prob)]
    return {
        "premise": premise, "hypothesis": hypothesis, "prediction": pred,
        "entailment_data": f"참 {entailment_prob}", "contradiction_data": f"거짓 {contradiction_prob}",
        "neutral_data": f"중립 {neutral_prob}", "entailment_width": f"{entailment_prob * 100}%",
        "contradiction_width": f"{contradiction_prob * 100}%", "neutral_width": f"{neutral_prob * 100}%",
    }
from nlpbook_helpers import get_web_service_app
app = get_web_service_app(inference_fn)
"""


def run_cells(cells: str, tmp_path, corpora_root, make_model, variables: dict) -> None:
    """Run the cells as a notebook would, with a small encoder in the layout that BertTokenizer reads."""
    encoder = str(tmp_path / "book-bert")
    words = sorted({char for _, text, _ in REVIEWS for char in text})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *(f"##{word}" for word in words)]
    make_model(vocab_size=len(vocabulary)).bert.save_pretrained(encoder)
    (tmp_path / "book-bert" / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    variables |= {"encoder": encoder, "root": str(corpora_root), "model_dir": str(tmp_path / "models"), "torch": torch}
    exec(cells, variables)


def test_the_books_document_cells_train_and_deploy(corpora_root, tmp_path, make_model, capsys):
    cells: dict = {}
    run_cells(TRAINING_CELLS + DEPLOYMENT_CELLS, tmp_path, corpora_root, make_model, cells)
    assert str(cells["loaded"]) == "<All keys matched successfully>"
    response = cells["app"].test_client().post("/api", json={"sentence": "정말 재미있는 영화"})
    assert response.json == cells["inference_fn"]("정말 재미있는 영화")
    assert "set seed: 7" in capsys.readouterr().out


def test_the_books_pair_cells_train_and_deploy(corpora_root, tmp_path, make_model):
    texts = [text or "영화" for _, text, _ in REVIEWS]
    labels = ["entailment", "contradiction", "neutral"] * 3
    pairs = [
        {"premise": text, "hypothesis": other, "gold_label": label}
        for text, other, label in zip(texts, reversed(texts), labels, strict=False)
    ]
    (corpora_root / "klue-nli").mkdir()
    for mode in ("train", "dev"):
        (corpora_root / "klue-nli" / f"klue_nli_{mode}.json").write_text(json.dumps(pairs), encoding="utf-8")
    script = TRAINING_CELLS + DEPLOYMENT_CELLS[: DEPLOYMENT_CELLS.index("        positive_prob")].rstrip() + PAIR_ANSWER
    for old, new in PAIR_CHANGES.items():
        assert old in script
        script = script.replace(old, new)
    cells: dict = {}
    run_cells(script, tmp_path, corpora_root, make_model, cells)
    assert str(cells["loaded"]) == "<All keys matched successfully>"
    inputs = {"premise": "정말 재미있는 영화", "hypothesis": "지루한 이야기"}
    assert cells["app"].test_client().post("/api", json=inputs).json == cells["inference_fn"](**inputs)
