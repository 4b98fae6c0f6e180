"""Measure what the lessons claim, over several seeds, and write it into them: `measure.py [01 03 klue claims] [--seeds 7 8]`.

A notebook's own cells are run once for every seed, with nothing changed but the seed; the scores go into its cell
`measured`, the place of a notebook with figures that no reader's run has made. In the quick profile a seed takes one
core about twelve minutes for notebook 01, and six for 03. Run it again whenever the embedded encoder or a sample corpus
has changed.

`klue`, which must be named, teaches the encoder of notebook 03 pairs of the real corpus, ever more of them, and writes
its cell `klue-measured`. It needs `NLPBOOK_CORPUS_DIR` and five minutes of a GPU for a seed, or two hours of one core.
`claims`, likewise, groups the answers of `paircls` to the dev file by their probability and writes `claims-measured` of
notebook 04; nothing is learned, so one seed is as good as five.
"""

import argparse
import os
import re
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm
from transformers import AutoTokenizer, BertForSequenceClassification

import nlpbook_helpers as nlpbook

HERE = Path(__file__).parent
KLUE_SIZES = (300, 1_200, 2_400, 4_800, 9_600, 24_998)
CLAIMS = (0.33, 0.6, 0.8, 0.95, 1.0)  # what separates notebook 04's groups of answers
# cells that only show something, or need Colab's magics, and on which no later cell of the measurement depends
SKIPPED = {
    "01": [
        "cell-002",
        "cell-004",
        "heads",
        "random-heads",
        "loss-by-hand",
        "twins-duel",
    ]
    + [f"cell-0{number}" for number in (43, 45, 47, 49, 50, 52, 56, 57, 59, 61, 63, 65)]
    + [
        "epochs",
        "epochs-plot",
        "duel",
        "moved",
        "moved-plot",
        "color",
        "color-show",
        "own",
        "ladder",
        "full",
    ],
    "03": [
        "cell-002",
        "cell-003",
        "heat",
        "control",
        "overlap",
        "klue-traces",
        "cell-062",
        "cell-064",
        "mistakes-overlap",
        "eight",
    ]
    + [
        "moved",
        "moved-plot",
        "well-read",
        "ladder",
        "klue-means",
        "klue-plot",
        "meaning",
        "meaning-fair",
        "meaning-heat",
        "four-premises",
        "four-again",
        "color",
        "color-show",
        "own",
        "box",
    ],
}
# of notebook 01, whose own training is no part of what is measured
TEST_REVIEWS = """
test_dataset = nlpbook.ClassificationDataset(args=args, corpus=corpus, tokenizer=tokenizer, mode="test")
test_texts = [example.text_a for example in test_dataset.get_examples(range(len(test_dataset)))]
from torch.utils.data import Subset"""


def run_cells(path: Path, seed: int, last: str, replace: dict[str, str]) -> dict[str, Any]:
    """Run a notebook's cells up to one of them in this process, in a folder that is thrown away.

    Args:
        path: The notebook.
        seed: Put into the cell of the arguments, where 7 stands.
        last: Id of the last cell to run.
        replace: Further texts and what stands in their place.

    Returns:
        The notebook's variables.

    Raises:
        ValueError: A text to replace is in no cell: the notebook has changed, and with it what would be measured.
    """
    cells = nbformat.read(path, as_version=4).cells
    number = next(i for i, cell in enumerate(cells) if cell.id == last)
    code = [c for c in cells[: number + 1] if c.cell_type == "code" and c.id not in SKIPPED[path.name[:2]]]
    source = "\n".join(f"# {cell.id}\n{cell.source}" for cell in code)
    for old, new in {"    seed=7,": f"    seed={seed},", **replace}.items():
        if old not in source:
            raise ValueError(f"{path.name}: expected a cell with {old.strip()!r}, found none: correct measure.py")
        source = source.replace(old, new)
    variables: dict[str, Any] = {
        "os": os,
        "Path": Path,
        "find_spec": find_spec,
    }  # what the skipped cells import
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            exec(compile(source, path.name, "exec"), variables)  # noqa: S102
        finally:
            os.chdir(home)
    return variables


def measure_reviews(seed: int) -> dict[str, dict[int, float]]:
    """Return test accuracies of notebook 01 by model and number of reviews; the last number is the whole."""
    (path,) = HERE.glob("01*.ipynb")
    limit = 'if device == "cpu":\n    del repeats[300], repeats[1000]'
    whole = {
        "1000: 3}": "1000: 3, len(train_dataset): 3}",
        limit: "if False:\n    pass",
    }
    return run_cells(
        path,
        seed,
        "race",
        {"from torch.utils.data import Subset": TEST_REVIEWS, **whole},
    )["curve"]


def measure_pairs(seed: int) -> dict[str, float]:
    """Return test accuracies of notebook 03 by what was read, and the shares of its two questions answered rightly."""
    (path,) = HERE.glob("03*.ipynb")
    run = run_cells(path, seed, "cell-074", {})
    names = ("가설의 낱말만", "가설만 읽은 BERT", "둘 다 읽은 BERT")
    return {name: run["scores"][name] for name in names} | {
        "1. 정해지는가": run["first"],
        "2. 맞는가": run["second"],
    }


class HypothesisOnly(nlpbook.KlueNLICorpus):
    """KLUE-NLI without its premises."""

    def __init__(self) -> None:
        super().__init__()
        self.text_columns = ("hypothesis",)


def learn_klue(corpus: nlpbook.KlueNLICorpus, size: int, seed: int) -> tuple[float, float, float]:
    """Return what the embedded encoder reaches on KLUE-NLI's dev file after `size` of its training pairs, three shares.

    The settings are those of notebook 03 in the quick profile. The shares: pairs that are right; the answers to its two
    questions that are.
    """
    with tempfile.TemporaryDirectory() as folder:
        args = nlpbook.ClassificationTrainArguments(
            pretrained_model_name=str(nlpbook.get_embedded_path("nlpbook-mini")),
            downstream_task_name="pair-classification", downstream_corpus_name="klue-nli",
            downstream_corpus_root_dir=os.environ["NLPBOOK_CORPUS_DIR"], downstream_model_dir=folder,
            batch_size=16, learning_rate=1e-4, scheduler="linear", warmup_ratio=0.1, max_seq_length=64, epochs=5,
            seed=seed, monitor="min train_loss",
        )  # fmt: skip
        nlpbook.set_seed(args)
        tokenizer = AutoTokenizer.from_pretrained(args.pretrained_model_name)
        train, dev = (nlpbook.ClassificationDataset(args, corpus, tokenizer, mode) for mode in ("train", "test"))
        chosen = Subset(train, np.random.default_rng(seed).permutation(len(train))[:size].tolist())
        model = BertForSequenceClassification.from_pretrained(args.pretrained_model_name, num_labels=corpus.num_labels)
        loader = DataLoader(chosen, args.batch_size, shuffle=True, collate_fn=nlpbook.data_collator)
        nlpbook.get_trainer(args).fit(nlpbook.ClassificationTask(model, args), loader)
        report = nlpbook.evaluate(model, dev)
    decided = report.confusion[:2, :2]
    first = (decided.sum() + report.confusion[2, 2]) / report.confusion.sum()
    return report.accuracy, first, decided.trace() / decided.sum()


def measure_klue(seed: int) -> dict[str, dict[int, tuple[float, float, float]]]:
    """Return `learn_klue`'s shares by what was read and number of pairs; the last number is the whole."""
    return {
        "둘 다 읽은 BERT": {size: learn_klue(nlpbook.KlueNLICorpus(), size, seed) for size in KLUE_SIZES},
        "가설만 읽은 BERT": {KLUE_SIZES[-1]: learn_klue(HypothesisOnly(), KLUE_SIZES[-1], seed)},
    }


def write_reviews(runs: list[dict[str, dict[int, float]]]) -> str:
    """Return the cell's source: a list of accuracies, in the order of the seeds, by model and number of reviews."""
    return write_by_size("measured", runs, lambda score: round(float(score), 3))


def write_klue(runs: list[dict[str, dict[int, tuple[float, float, float]]]]) -> str:
    """Return the cell's source: a list of three shares, in the order of the seeds, by what was read and pairs."""
    return write_by_size(
        "klue_measured",
        runs,
        lambda shares: tuple(round(float(share), 3) for share in shares),
    )


def write_by_size(variable: str, runs: list[dict[str, dict[int, Any]]], shorten: Callable[[Any], Any]) -> str:
    """Return the source of what was measured by name and size, in the order of the seeds."""
    lines = [f"{variable} = {{"]
    for name, by_size in runs[0].items():
        lines.append(f'    "{name}": {{')
        for size in by_size:
            lines.append(f"        {size}: {[shorten(run[name][size]) for run in runs]},")
        lines.append("    },")
    return "\n".join([*lines, "}"])


def write_pairs(runs: list[dict[str, float]]) -> str:
    """Return the cell's source: a list of accuracies, in the order of the seeds, by what was read."""
    rows = [f'    "{name}": {[round(float(run[name]), 3) for run in runs]},' for name in runs[0]]
    return "\n".join(["measured = {", *rows, "}"])


def measure_claims(seed: int) -> list[tuple[int, float, float]]:
    """Return of each group that notebook 04 makes: pairs of KLUE-NLI's dev file, probability claimed, share right."""
    corpus, classifier = nlpbook.KlueNLICorpus(), nlpbook.Classifier.from_checkpoint("paircls")
    examples = corpus.get_examples(Path(os.environ["NLPBOOK_CORPUS_DIR"]) / "klue-nli", "test")
    answers = classifier.predict([example[:2] for example in examples])
    right = answers.argmax(axis=1) == [corpus.get_labels().index(example.label) for example in examples]
    claimed = answers.max(axis=1)
    groups = np.digitize(claimed, CLAIMS, right=True)
    return [
        (int(part.sum()), float(claimed[part].mean()), float(right[part].mean()))
        for part in (groups == number for number in range(1, len(CLAIMS)))
    ]


def write_claims(runs: list[list[tuple[int, float, float]]]) -> str:
    """Return the cell's source: a row for each group."""
    rows = [f"    ({count}, {claimed:.3f}, {right:.3f})," for count, claimed, right in runs[0]]
    return "\n".join(["claims_measured = [", *rows, "]"])


# what is measured, how it is written, into which cell of which notebook
MEASURES: dict[str, tuple[Callable[[int], Any], Callable[[list], str], str, str]] = {
    "01": (measure_reviews, write_reviews, "01", "measured"),
    "03": (measure_pairs, write_pairs, "03", "measured"),
    "klue": (measure_klue, write_klue, "03", "klue-measured"),
    "claims": (measure_claims, write_claims, "04", "claims-measured"),
}


def main() -> None:
    """Measure the notebooks named on the command line and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=" or ".join(MEASURES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[7, 8, 9, 10, 11])
    options = parser.parse_args()
    os.environ.setdefault("NLPBOOK_PROFILE", "quick")
    os.environ.setdefault("MPLBACKEND", "agg")
    if unknown := set(options.names) - set(MEASURES):
        parser.error(f"expected names out of {list(MEASURES)}, got {sorted(unknown)}")
    for name in options.names or ("01", "03"):
        measure, write, number, cell_id = MEASURES[name]
        runs = [measure(seed) for seed in tqdm(options.seeds, desc=name, unit="seed")]
        (path,) = HERE.glob(f"{number}*.ipynb")
        notebook = nbformat.read(path, as_version=4)
        ((prose, cell),) = ((one, two) for one, two in pairwise(notebook.cells) if two.id == cell_id)
        cell.source = write(runs)
        named = ", ".join(f"`{seed}`" for seed in options.seeds)
        prose.source = re.sub(r"씨앗 (`\d+`(?:, )?)+", f"씨앗 {named}", prose.source)
        nbformat.write(notebook, path)
        print(cell.source)


if __name__ == "__main__":
    main()
