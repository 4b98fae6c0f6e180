"""Every benchmark still runs, on a toy; what it measures there means nothing."""

import dataclasses

import pytest
import torch
from history import add_to_history, read_history
from measuring import Row, compare, find_inputs
from run import BENCHMARKS, format_table, main, run_benchmark


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return find_inputs(tmp_path_factory.mktemp("benchmarks"), is_toy=True)


@pytest.mark.parametrize("id", BENCHMARKS)
def test_a_benchmark_gives_rows_that_can_be_read(id, toy):
    rows = run_benchmark(id, toy)
    assert [row.note for row in rows if row.what == "failed"] == []
    assert all(row.id == id and row.ours for row in rows)
    lines = format_table(rows).splitlines()
    assert sum(line.startswith(f"| {id} |") for line in lines) == len(rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which takes a minute to measure")
def test_without_a_gpu_an_epoch_on_one_is_left_out(toy):
    (row,) = run_benchmark("P2", dataclasses.replace(toy, is_toy=False))
    assert not row.ours
    assert "none here" in row.what


def test_of_a_benchmark_that_fails_a_row_says_so(toy):
    (row,) = run_benchmark("P4", dataclasses.replace(toy, corpus_name="nowhere"))
    assert (row.id, row.what) == ("P4", "failed")
    assert "nowhere" in row.note


def test_a_slower_commit_is_named_and_drawn(tmp_path):
    machine = {"cpu": "one", "cores": 2, "python": "3.13.0", "torch": "2.13.0", "transformers": "5.23.0"}
    about = {"when": "2026-11-26T00:00:00+00:00", "inputs": "a sample", "machine": machine}
    rows = [
        compare("P1", "step, s", [20.0], [1.0]),
        compare("P3", "sentence, ms", [8.0], [1.0]),
        Row("P7", "start, s", (1,)),
    ]
    assert add_to_history(rows, about, tmp_path) == []
    slower = [compare("P1", "step, s", [19.0], [1.0]), compare("P3", "sentence, ms", [6.0], [1.0])]
    assert add_to_history(slower, {**about, "machine": {**machine, "cpu": "another"}}, tmp_path) == []
    (sentence,) = add_to_history(slower, about, tmp_path)
    assert sentence.endswith("P3 sentence, ms: 8 → 6")
    runs = read_history(tmp_path)
    assert [list(run["ratios"].values()) for run in runs] == [[20.0, 8.0], [19.0, 6.0], [19.0, 6.0]]
    assert "P3: times better" in (tmp_path / "ratios.svg").read_text(encoding="utf-8")


def test_an_unknown_id_is_refused(capsys):
    assert main(["P1", "P9"]) == 2
    assert "got ['P9']" in capsys.readouterr().err
