"""How far the sample corpora tell methods apart: `python checkpoints/compare.py`, about half an hour on two CPU cores.

Five seeds each: words alone (TF-IDF and logistic regression; of pairs also the hypothesis alone), a BERT of random
weights and `nlpbook-mini`, all with the same nine tenths of a sample's training file, scored on its test file with the
settings of notebooks 01 and 03. Prints the table of `checkpoints/README.md`.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from transformers import AutoConfig, AutoModel, AutoTokenizer

import nlpbook_helpers as nlpbook

HERE = Path(__file__).parent
SEEDS = (1, 2, 3, 4, 5)
SETTINGS = {
    "nsmc-sample": {
        "downstream_task_name": "document-classification", "max_seq_length": 128, "epochs": 3,
        "learning_rate": 3e-4, "batch_size": 16,
    },
    "klue-nli-sample": {
        "downstream_task_name": "pair-classification", "max_seq_length": 64, "epochs": 5,
        "learning_rate": 1e-4, "batch_size": 16,
    },
}  # fmt: skip
CORPORA = {"nsmc-sample": nlpbook.NsmcCorpus, "klue-nli-sample": nlpbook.KlueNLICorpus}


def score_words(name: str, seed: int, only_second: bool = False) -> float:
    """Return the test accuracy of words alone: no order, no meaning but what the training file teaches."""
    corpus = CORPORA[name]()
    folder = nlpbook.get_embedded_path(name)
    train, test = (corpus.get_examples(folder, mode) for mode in ("train", "test"))
    chosen = np.random.default_rng(seed).permutation(len(train))[: len(train) * 9 // 10]
    texts = [[row.text_b if only_second else " ".join(filter(None, row[:2])) for row in rows] for rows in (train, test)]
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=1_000))
    model.fit([texts[0][row] for row in chosen], [train[row].label for row in chosen])
    return model.score(texts[1], [row.label for row in test])


def score_encoder(name: str, seed: int, encoder: Path) -> float:
    """Return the test accuracy of an encoder that was fine-tuned as in the notebooks."""
    with tempfile.TemporaryDirectory() as folder:
        args = nlpbook.ClassificationTrainArguments(
            str(encoder), name, downstream_model_dir=folder, validation_size=0.1, seed=seed, **SETTINGS[name]
        )
        best = nlpbook.train(args)
        classifier = nlpbook.Classifier.from_checkpoint(best)
        test = nlpbook.ClassificationDataset(args, CORPORA[name](), classifier.tokenizer, "test")
        return nlpbook.evaluate(classifier.model, test).accuracy


def make_random_encoder(folder: Path) -> Path:
    """Write `nlpbook-mini` with weights as they are before any training."""
    nlpbook.set_seed(0)
    AutoModel.from_config(AutoConfig.from_pretrained(HERE / "nlpbook-mini")).save_pretrained(folder)
    AutoTokenizer.from_pretrained(HERE / "nlpbook-mini").save_pretrained(folder)
    return folder


def main() -> None:
    """Print a table: method, mean and standard deviation over the seeds, in percent."""
    encoder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "nlpbook-mini"
    with tempfile.TemporaryDirectory() as folder:
        random_encoder = make_random_encoder(Path(folder))
        methods = {
            "words alone": score_words,
            "hypothesis alone": lambda name, seed: score_words(name, seed, only_second=True),
            "random encoder": lambda name, seed: score_encoder(name, seed, random_encoder),
            "nlpbook-mini": lambda name, seed: score_encoder(name, seed, encoder),
        }
        lines = []
        for name in SETTINGS:
            for method, score in methods.items():
                if method == "hypothesis alone" and name == "nsmc-sample":
                    continue
                scores = [100 * score(name, seed) for seed in SEEDS]
                mean, spread = statistics.mean(scores), statistics.stdev(scores)
                lines.append(
                    f"| {name} | {method} | {mean:.1f} ± {spread:.1f} | {min(scores):.1f} | {max(scores):.1f} |"
                )
                print(lines[-1], flush=True)
    print("\n| corpus | method | mean ± deviation | lowest | highest |\n|---|---|---|---|---|", *lines, sep="\n")


if __name__ == "__main__":
    os.environ.setdefault("NLPBOOK_PROFILE", "quick")
    main()
