"""Notebook 06 promises that a training which was cut off goes on as if nothing had happened."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

NOTEBOOK = Path(__file__).parent.parent.parent / "notebooks" / "06_pytorch_from_scratch.ipynb"
CELLS = {
    cell["id"]: "".join(cell["source"])
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    if cell["cell_type"] == "code"
}


class CutError(Exception):
    """The connection is lost."""


@pytest.fixture
def notebook(make_model, tmp_path):
    """The notebook's variables after its cells about training, with a tiny model on eleven reviews of seven tokens."""
    rows = torch.Generator().manual_seed(1)
    data = TensorDataset(
        torch.randint(5, 20, (11, 7), generator=rows), torch.ones((11, 7), dtype=torch.long), torch.arange(11) % 2
    )
    names = {
        "torch": torch, "Path": Path, "state_dir": tmp_path, "full": False, "report_every": 2, "model_name": "tiny",
        "learning_rate": 1e-3, "max_length": 7, "batch_size": 2, "epochs": 2, "seed": 42, "labels": ["0", "1"],
        "train_data": data, "val_data": data, "device": torch.device("cpu"), "DataLoader": DataLoader,
    }  # fmt: skip
    names["train_loader"] = DataLoader(data, 2, shuffle=True, generator=torch.Generator())
    names["model"] = make_model()
    definitions = CELLS["cell-032"].split("\n\n\nprint(")[0], CELLS["cell-034"].split("\n\n\nbegan = ")[0]
    for source in (
        CELLS["cell-026"].split("\n\n\nsteps = ")[0],
        CELLS["cell-028"],
        CELLS["state-save"].replace("else len(train_loader)", "else 2"),
        CELLS["state-restore"],
        CELLS["progress"],
        CELLS["cell-030"],
        *definitions,
    ):
        exec(source, names)
    return names


def train(names: dict, model: torch.nn.Module, cut_after: int | None = None) -> list[torch.Tensor]:
    torch.manual_seed(42)
    optimizer, scheduler = names["make_optimizer"](model, 12)
    if cut_after is not None:
        steps = iter(range(cut_after))

        def step_or_cut(module: torch.nn.Module, inputs: tuple) -> None:
            if module.training and next(steps, None) is None:
                raise CutError

        model.register_forward_pre_hook(step_or_cut)
    names["train"](model, names["train_loader"], optimizer, scheduler)
    return list(model.parameters())


@pytest.mark.parametrize("cut_after", [1, 3, 5, 8])
def test_a_training_that_was_cut_off_ends_with_the_same_weights(notebook, cut_after, capsys):
    model = notebook["model"]
    begun_again = copy.deepcopy(model)
    cut = copy.deepcopy(model)
    expected = train(notebook, model)
    with pytest.raises(CutError):
        train(notebook, cut, cut_after)
    capsys.readouterr()
    actual = train(notebook, begun_again)
    assert ("끊긴 학습을" in capsys.readouterr().out) == (cut_after >= 2)  # a state is written every two steps
    for one, other in zip(expected, actual, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not [path for path in notebook["state_files"] if path.exists()]


def test_a_file_half_written_or_of_other_settings_is_passed_over(notebook):
    model = notebook["model"]
    optimizer, scheduler = notebook["make_optimizer"](model, 12)
    parts = (model, optimizer, scheduler)
    notebook["save_state"](*parts, 1, 2)
    notebook["save_state"](*parts, 1, 4)
    older, newer = sorted(notebook["state_files"], key=lambda path: path.stat().st_mtime_ns)
    newer.write_bytes(newer.read_bytes()[:-100])
    assert notebook["restore_state"](*parts) == (1, 2)
    newer.write_bytes(b"")
    assert notebook["restore_state"](*parts) == (1, 2)
    notebook["settings"][1] = 2e-5
    assert notebook["restore_state"](*parts) == (1, 0)
    older.unlink()
    assert notebook["restore_state"](*parts) == (1, 0)
