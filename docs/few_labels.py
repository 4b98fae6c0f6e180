"""How good is a classifier with 8, 16 or 64 labelled texts per class? The measurement of few-labels.md.

    pip install setfit
    NLPBOOK_CORPUS_DIR=… python docs/few_labels.py     # the folder with nsmc/; some 20 minutes of one core

Texts to learn from are drawn by a seed from NSMC's training file; all answer the same 2,000 rows of its test file.
"""

import os
import random
import tempfile
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel, AutoTokenizer

import nlpbook_helpers as nlpbook

ENCODER = nlpbook.get_embedded_path("nlpbook-mini")
SIZES, SEEDS, TEST_ROWS, LENGTH = (8, 16, 64), (1, 2, 3), 2_000, 64
Rows = list[tuple[str, int]]


def read_nsmc(mode: str) -> Rows:
    """Return the rows of NSMC that have a text, in an order of their own that is always the same."""
    examples = nlpbook.NsmcCorpus().get_examples(Path(os.environ["NLPBOOK_CORPUS_DIR"], "nsmc"), mode)
    rows = [(example.text_a, int(example.label)) for example in examples if example.text_a.strip()]
    random.Random(0).shuffle(rows)  # noqa: S311
    return rows


def draw(rows: Rows, per_class: int, seed: int) -> Rows:
    """Return as many rows of each class as asked for."""
    shuffled = random.Random(seed).sample(rows, 4 * per_class + 100)  # noqa: S311
    return [row for label in (0, 1) for row in [one for one in shuffled if one[1] == label][:per_class]]


def embed(texts: list[str]) -> np.ndarray:
    """Return the mean of each text's last hidden states: float32, (texts, hidden)."""
    tokenizer, encoder = AutoTokenizer.from_pretrained(ENCODER), AutoModel.from_pretrained(ENCODER).float().eval()
    vectors = []
    for start in range(0, len(texts), 64):
        batch = texts[start : start + 64]
        inputs = tokenizer(batch, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
        with torch.inference_mode():
            states = encoder(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        vectors.append(((states * mask).sum(1) / mask.sum(1)).numpy())
    return np.concatenate(vectors)


def use_frozen_encoder(train: Rows, test_vectors: np.ndarray) -> np.ndarray:
    """Learn a logistic regression over vectors; the encoder stays as it is."""
    texts, labels = zip(*train, strict=True)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1_000))
    return classifier.fit(embed(list(texts)), labels).predict(test_vectors)


def fine_tune(train: Rows, test: list[str], seed: int) -> np.ndarray:
    """Train all weights; there is nothing to validate on, so the number of epochs is fixed beforehand."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "few").mkdir()
        lines = [f"{text}\t{label}" for text, label in train]
        (Path(folder) / "few/train.tsv").write_text("\n".join(["text\tlabel", *lines]), encoding="utf-8")
        args = nlpbook.ClassificationTrainArguments(
            pretrained_model_name=ENCODER,
            downstream_corpus_name="few",
            downstream_corpus_root_dir=folder,
            downstream_model_dir=f"{folder}/model",
            quoting=False,
            max_seq_length=LENGTH,
            batch_size=8,
            learning_rate=3e-4,
            scheduler="linear",
            warmup_ratio=0.1,
            epochs=max(5, 320 // len(train)),
            monitor="min train_loss",
            seed=seed,
        )
        return nlpbook.Classifier.from_checkpoint(nlpbook.train(args)).predict(test).argmax(axis=1)


def use_setfit(train: Rows, test: list[str], seed: int) -> np.ndarray:
    """Draw texts of one class together and those of two apart, then learn a logistic regression over vectors."""
    texts, labels = zip(*train, strict=True)
    model = SetFitModel.from_pretrained(ENCODER, local_files_only=True)
    model.model_body.max_seq_length = LENGTH
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, batch_size=16, num_epochs=1, num_iterations=max(2, 160 // len(train)),
            body_learning_rate=1e-4, seed=seed, report_to="none", save_strategy="no", show_progress_bar=False,
        )  # fmt: skip
        Trainer(model, settings, train_dataset=Dataset.from_dict({"text": list(texts), "label": list(labels)})).train()
    return np.asarray(model.predict(test, show_progress_bar=False))


def main() -> None:
    """Measure all and print the table of few-labels.md."""
    pool, (test, labels) = read_nsmc("train"), zip(*read_nsmc("test")[:TEST_ROWS], strict=True)
    vectors = embed(list(test))
    ways = {
        "frozen encoder, logistic regression": lambda train, seed: use_frozen_encoder(train, vectors),
        "fine-tuning": lambda train, seed: fine_tune(train, list(test), seed),
        "SetFit": lambda train, seed: use_setfit(train, list(test), seed),
    }
    print(f"| | {' | '.join(f'{size} per class' for size in SIZES)} |\n|---|{'---|' * len(SIZES)}")
    for name, answer in ways.items():
        cells = []
        for size in SIZES:
            right = [100 * np.mean(answer(draw(pool, size, seed), seed) == np.array(labels)) for seed in SEEDS]
            cells.append(f"{np.mean(right):.1f} ({', '.join(f'{one:.1f}' for one in right)})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
