"""Every benchmark still runs, on a toy; what it measures there means nothing."""

import dataclasses

import pytest
from measuring import find_inputs
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


def test_of_a_benchmark_that_fails_a_row_says_so(toy):
    (row,) = run_benchmark("P4", dataclasses.replace(toy, corpus_name="nowhere"))
    assert (row.id, row.what) == ("P4", "failed")
    assert "nowhere" in row.note


def test_an_unknown_id_is_refused(capsys):
    assert main(["P1", "P9"]) == 2
    assert "got ['P9']" in capsys.readouterr().err
