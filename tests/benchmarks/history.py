"""What earlier runs measured: a line of JSON for each, a picture, and a word about what became slower.

Only ratios are kept, since times of different days say nothing; and only runs of one processor are compared.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import BENCHMARKS_DIR, Row

HISTORY_DIR = BENCHMARKS_DIR / "history"
SLOWER = 0.9  # of the ratio before; less is more than chance, as runs of one commit differ by some percent
KEPT = ("cpu", "cores", "gpu", "python", "torch", "transformers")


def read_history(folder: Path = HISTORY_DIR) -> list[dict[str, Any]]:
    """Return what earlier runs left, the oldest first."""
    file = folder / "runs.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def add_to_history(rows: Sequence[Row], about: dict[str, Any], folder: Path = HISTORY_DIR) -> list[str]:
    """Append a run, draw the picture anew, and compare with the run before on such a machine.

    Args:
        rows: What was measured; those without a ratio are left out.
        about: `when`, `inputs` and `machine` of the run.
        folder: Where `runs.jsonl` and `ratios.svg` are.

    Returns:
        A sentence for each ratio that fell below `SLOWER` of the one before.
    """
    git = ["git", "-C", str(BENCHMARKS_DIR), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, check=False, capture_output=True, text=True).stdout.strip() or "unknown"
    ratios = {f"{row.id} {row.what}": round(row.ratio, 3) for row in rows if row.ratio is not None}
    machine = {name: about["machine"].get(name) for name in KEPT}
    run = {"when": about["when"], "commit": commit, "machine": machine, "inputs": about["inputs"], "ratios": ratios}
    before = [one for one in read_history(folder) if _is_comparable(one, run)]
    folder.mkdir(exist_ok=True)
    with (folder / "runs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(run, ensure_ascii=False) + "\n")
    draw(read_history(folder), folder / "ratios.svg")
    sentences = []
    for name, ratio in ratios.items():
        earlier = [(one["ratios"][name], one["commit"]) for one in before if name in one["ratios"]]
        if earlier and ratio < SLOWER * earlier[-1][0]:
            sentences.append(f"slower than at {earlier[-1][1]}: {name}: {earlier[-1][0]:.3g} → {ratio:.3g}")
    return sentences


def draw(history: Sequence[dict[str, Any]], picture: Path) -> None:
    """Draw a panel for each benchmark: its ratios over the runs, joined where they are of one machine and input."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = sorted({name for run in history for name in run["ratios"]})
    ids = sorted({name.split()[0] for name in names})
    kinds = [(run["machine"]["cpu"], run["machine"]["cores"], run["inputs"]) for run in history]
    figure = Figure(figsize=(10, 2.4 * len(ids)), layout="constrained")
    panels = dict(zip(ids, figure.subplots(len(ids), 1, sharex=True, squeeze=False)[:, 0], strict=True))
    for name in names:
        panel = panels[name.split()[0]]
        color = f"C{len(panel.lines) % 10}"
        for number, kind in enumerate(dict.fromkeys(kinds)):
            places = [place for place, run in enumerate(history) if kinds[place] == kind and name in run["ratios"]]
            ratios = [history[place]["ratios"][name] for place in places]
            panel.plot(places, ratios, color=color, marker="o", label=None if number else name)
    for id, panel in panels.items():
        panel.set(ylabel=f"{id}: times better", ylim=(0, None))
        panel.legend(fontsize=7, loc="lower left")
        panel.grid(alpha=0.3)
    panels[ids[-1]].set_xticks(range(len(history)), [run["commit"] for run in history], rotation=45, fontsize=7)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "nlpbook"}):  # the same runs give the same small file
        figure.savefig(picture, metadata={"Date": None})


def _is_comparable(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two runs measured the same on such a machine."""
    machines = one["machine"], other["machine"]
    # runs of old do not say that they had no GPU
    is_same = all(machines[0].get(key) == machines[1].get(key) for key in ("cpu", "cores", "gpu"))
    return is_same and one["inputs"] == other["inputs"]
