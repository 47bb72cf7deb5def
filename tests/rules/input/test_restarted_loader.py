"""restarted-loader: a loop that begins its DataLoader anew for each batch pays for what surrounds each fetch."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.facts import LoaderFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.host.host_bound import host_bound
from mfu_doctor.rules.input.restarted_loader import restarted_loader
from tests.rules.drawing import WORKERS
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

STEPS, MAKE, FETCH, END = 6, 3_000, 2_000, 1_000


def run_with(own_us: int = 0, **facts: Any) -> Any:
    """Steps of 10 ms of computing; workers are started before a fetch and ended after it."""
    drawn = Timeline(device=None)
    for _ in range(STEPS):
        with drawn.step():
            drawn.op("aten::mm", host=100)
            drawn.op("aten::item", host=1)  # the program reads its loss
            drawn.python(own_us)
            drawn.op("aten::empty", host=0)
            drawn.op("aten::random_", host=0)  # the seed of the workers
            drawn.python(MAKE)
            drawn.op("aten::randperm", host=0)
            drawn.fetch(FETCH, WORKERS)
            drawn.python(END)
            drawn.op("aten::mm", host=10_000)
    loader: dict[str, Any] = {
        "class_name": "DataLoader",
        "num_workers": 2,
        "fetches": 20,
        "begun": 20,
        "length": 40,
    } | facts
    return run_of(drawn, loaders=(LoaderFacts(**loader),))


def test_all_from_the_first_seed_goes_where_each_batch_has_an_iterator_of_its_own() -> None:
    price = price_us(restarted_loader, run_with())
    assert price.low_ns == close((MAKE + FETCH) / 2)
    assert price.mid_ns == close(MAKE + FETCH)
    assert price.high_ns == close(MAKE + FETCH + END)
    finding = found(restarted_loader, run_with())
    assert "2 workers" in finding.summary
    assert "iter(loader)" in finding.fix
    assert "restarted-loader" in found(host_bound, run_with()).symptom_of


def test_what_the_program_does_before_a_fetch_is_its_own() -> None:
    assert price_us(restarted_loader, run_with(own_us=20_000)).high_ns == close(MAKE + FETCH + END)
    assert "restarted-loader" not in found(host_bound, run_with(own_us=20_000)).symptom_of


@pytest.mark.parametrize(
    "facts",
    [
        {"begun": 1},
        {"begun": 10},
        {"length": 1},
        {"begun": 1, "length": None},
        {"fetches": 4, "begun": 4},
        {"num_workers": 0},
    ],
)
def test_epochs_loaders_of_one_batch_streams_and_loaders_without_workers_are_no_finding(facts: dict[str, Any]) -> None:
    silent(restarted_loader, run_with(**facts))


@pytest.mark.parametrize("facts", [{"begun": None}, {"length": None}])
def test_what_was_not_counted_is_not_passed(facts: dict[str, Any]) -> None:
    """Recordings of an earlier version have no number of iterators: 0 of them was taken for a loader that goes on."""
    assert isinstance(restarted_loader.judge(run_with(**facts)), Skip)
