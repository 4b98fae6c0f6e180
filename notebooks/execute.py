"""Run notebooks top to bottom without a browser, with a progress bar: `execute.py [--store] NOTEBOOK …`.

With `--store` the outputs are written into the notebooks; without it nothing is changed.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tqdm import tqdm

WIDGET = "application/vnd.jupyter.widget-view+json"


class EchoingClient(NotebookClient):
    """Shows what a cell prints while it runs, so that nobody watches a silent screen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Leave output widgets alone.

        nbclient would answer them on the socket on which it waits for the cell's reply, past asyncio's back: a reply
        that arrives in that moment is never noticed, and the notebook stands still for ever.
        """
        super().__init__(*args, **kwargs)
        self.widget_registry = {}

    def output(self, outs: list, msg: dict, display_id: str, cell_index: int) -> Any:
        """Store a message as usual, and repeat what it says on this terminal."""
        content = msg["content"]
        if msg["msg_type"] == "stream" and content["name"] == "stdout":
            for line in _drop_progress_bars(content["text"]).splitlines():
                tqdm.write(f"    {line[:110]}")
        return super().output(outs, msg, display_id, cell_index)


def execute(path: Path, store: bool) -> None:
    """Run one notebook in its own folder.

    Raises:
        CellExecutionError: A cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    code_cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=code_cells, desc=path.name, unit="cell", dynamic_ncols=True) as bar:
        client = EchoingClient(
            notebook,
            timeout=None,
            kernel_name="python3",
            coalesce_streams=True,  # a line may come in two messages
            resources={"metadata": {"path": str(path.parent)}},
            on_cell_executed=lambda cell, cell_index, execute_reply: bar.update(),
        )
        client.execute()
    if store:
        _tidy(notebook)
        nbformat.write(notebook, path)


def _tidy(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs from run to run without saying anything: timings, widget states, progress bars."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.text = _drop_progress_bars(output.text)
            if any(WIDGET in output.get("data", {}) for output in cell.outputs):
                cell.outputs = []  # nor what a widget shows: without its kernel it is dead
            cell.outputs = [output for output in cell.outputs if output.get("text") != ""]


def _drop_progress_bars(text: str) -> str:
    """Return the lines that are not states of a progress bar."""
    lines = (line.rsplit("\r", 1)[-1] for line in text.splitlines(keepends=True))
    return "".join(line for line in lines if line.strip() and "it/s" not in line)


def main() -> int:
    """Run the notebooks named on the command line; return 1 at the first that fails."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # a console may lack a letter
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--store", action="store_true", help="write the outputs into the notebooks")
    args = parser.parse_args()
    for path in args.notebooks:
        try:
            execute(path, args.store)
        except CellExecutionError as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
