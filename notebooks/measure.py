"""Measure what the lessons claim, over several seeds, and write it into them: `measure.py [01 03] [--seeds 7 8 9]`.

A notebook's own cells are run once for every seed, with nothing changed but the seed; the scores go into its cell
`measured`, the one place of a notebook with figures that no reader's run has made. In the quick profile a seed takes one
core about twelve minutes for notebook 01, and six for 03. Run it again whenever the embedded encoder or a sample corpus
has changed.
"""

import argparse
import os
import re
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
from tqdm import tqdm

HERE = Path(__file__).parent
# cells that only show something, or need Colab's magics, and on which no later cell of the measurement depends
SKIPPED = {
    "01": ["cell-002", "cell-004", "heads", "random-heads", "loss-by-hand", "twins-duel"]
    + [f"cell-0{number}" for number in (43, 45, 47, 49, 50, 52, 56, 57, 59, 61, 63, 65)]
    + ["epochs", "epochs-plot", "duel", "moved", "moved-plot", "color", "color-show", "own", "ladder", "full"],
    "03": ["cell-002", "cell-003", "heat", "control", "overlap", "klue-traces", "cell-062", "cell-064"]
    + ["moved", "moved-plot", "well-read", "ladder", "color", "color-show", "own", "box"],
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
    variables: dict[str, Any] = {"os": os, "Path": Path, "find_spec": find_spec}  # what the skipped cells import
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
    whole = {"1000: 3}": "1000: 3, len(train_dataset): 3}", limit: "if False:\n    pass"}
    return run_cells(path, seed, "race", {"from torch.utils.data import Subset": TEST_REVIEWS, **whole})["curve"]


def measure_pairs(seed: int) -> dict[str, float]:
    """Return test accuracies of notebook 03 by what was read, and the shares of its two questions answered rightly."""
    (path,) = HERE.glob("03*.ipynb")
    run = run_cells(path, seed, "cell-074", {})
    names = ("가설의 낱말만", "가설만 읽은 BERT", "둘 다 읽은 BERT")
    return {name: run["scores"][name] for name in names} | {"1. 정해지는가": run["first"], "2. 맞는가": run["second"]}


def write_reviews(runs: list[dict[str, dict[int, float]]]) -> str:
    """Return the cell's source: a list of accuracies, in the order of the seeds, by model and number of reviews."""
    lines = ["measured = {"]
    for name, by_size in runs[0].items():
        lines.append(f'    "{name}": {{')
        for size in by_size:
            lines.append(f"        {size}: {[round(float(run[name][size]), 3) for run in runs]},")
        lines.append("    },")
    return "\n".join([*lines, "}"])


def write_pairs(runs: list[dict[str, float]]) -> str:
    """Return the cell's source: a list of accuracies, in the order of the seeds, by what was read."""
    rows = [f'    "{name}": {[round(float(run[name]), 3) for run in runs]},' for name in runs[0]]
    return "\n".join(["measured = {", *rows, "}"])


MEASURES: dict[str, tuple[Callable[[int], Any], Callable[[list], str]]] = {
    "01": (measure_reviews, write_reviews),
    "03": (measure_pairs, write_pairs),
}


def main() -> None:
    """Measure the notebooks named on the command line and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help=" or ".join(MEASURES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[7, 8, 9, 10, 11])
    options = parser.parse_args()
    os.environ.setdefault("NLPBOOK_PROFILE", "quick")
    os.environ.setdefault("MPLBACKEND", "agg")
    if unknown := set(options.notebooks) - set(MEASURES):
        parser.error(f"expected notebooks out of {list(MEASURES)}, got {sorted(unknown)}")
    for number in options.notebooks or MEASURES:
        measure, write = MEASURES[number]
        runs = [measure(seed) for seed in tqdm(options.seeds, desc=number, unit="seed")]
        (path,) = HERE.glob(f"{number}*.ipynb")
        notebook = nbformat.read(path, as_version=4)
        (cell,) = (cell for cell in notebook.cells if cell.id == "measured")
        cell.source = write(runs)
        (prose,) = (cell for cell in notebook.cells if "씨앗을 바꾸어 재어 둔 값" in cell.source)
        named = ", ".join(f"`{seed}`" for seed in options.seeds)
        prose.source = re.sub(r"씨앗 (`\d+`(?:, )?)+", f"씨앗 {named}", prose.source)
        nbformat.write(notebook, path)
        print(cell.source)


if __name__ == "__main__":
    main()
