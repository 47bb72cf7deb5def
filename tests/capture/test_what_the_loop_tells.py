"""What the loop tells of itself, kept apart as it must be: first fetches from later ones, recorded from plain ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.facts.loop import LoopFacts
from mfu_doctor.capture.facts.settings import Compiled, compile_facts
from mfu_doctor.capture.profiler.limits import EVENT_BUDGET, StepSize, steps_within_budget
from mfu_doctor.capture.profiler.session import Options

torch = pytest.importorskip("torch", reason="torch is not installed")

MS = 1_000_000


def batches() -> Iterator[int]:
    yield from range(100)


def test_the_wait_for_a_batch_is_that_of_fetches_which_nothing_recorded() -> None:
    """A profiler slows the collation of a batch by half: what was fetched meanwhile is no wait of the run's."""
    loop, iterator = LoopFacts(), batches()
    for wait_ms, plain in ((500, True), (4, True), (5, True), (6, True), (90, False), (90, False), (90, False)):
        loop.fetched(iterator, 0, wait_ms * MS, plain=plain)
    (loader,) = loop.loaders
    assert loader.fetches == 7
    assert loader.wait_s == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("batch", "elements"),
    [
        (torch.zeros(2, 3), 6),
        (
            {
                "input_ids": torch.zeros(2, 77),
                "pixel_values": [torch.zeros(2, 3, 8, 8), torch.zeros(2)],
                "path": "a.png",
            },
            545,
        ),
        ((torch.zeros(2), 1.0, None), 4),
        ((torch.zeros(2), object()), None),
        ([1] * 100_000, None),
    ],
)
def test_a_batch_is_as_large_as_all_that_it_holds(batch: Any, elements: int | None) -> None:
    loop = LoopFacts()
    loop.fetched(batches(), batch, 1, plain=True)
    assert loop.batch_elements == elements


def test_the_cpu_time_of_a_batch_is_that_of_the_thread_and_not_its_wait() -> None:
    loop, iterator = LoopFacts(), batches()
    for _ in range(6):
        loop.fetching(iterator)
        until = time.thread_time() + 0.01
        while time.thread_time() < until:
            pass
        time.sleep(0.02)
        loop.fetched(iterator, 0, 30 * MS, plain=True)
    (loader,) = loop.loaders
    assert loader.cpu_s is not None
    assert 0.01 <= loader.cpu_s < 0.02


class Queue:
    """The queue of a DataLoader's iterator."""

    def __init__(self) -> None:
        self.batches = 0

    def empty(self) -> bool:
        return not self.batches


class Workers:
    """A DataLoader's iterator with workers, as far as it is looked at."""

    _num_workers = 2

    def __init__(self) -> None:
        self._data_queue, self._rcvd_idx = Queue(), 0
        self._task_info: dict[int, tuple[int, ...]] = {}


def test_a_batch_is_ready_if_it_is_in_the_queue_or_came_out_of_order() -> None:
    loop, iterator = LoopFacts(), Workers()
    for queued, kept in ((1, ()), (0, ()), (3, (0,)), (0, (0, 1)), (0, (0,))):  # the first fetch is told apart
        iterator._data_queue.batches, iterator._task_info = queued, {0: kept}
        loop.fetching(iterator)
        loop.fetched(iterator, 0, (2 if queued or len(kept) > 1 else 40) * MS, plain=True)
    assert loop.loaders[0].ready_share == pytest.approx(2 / 4)
    assert loop.loaders[0].ready_wait_s == pytest.approx(0.002), "of these alone"


def test_without_workers_no_batch_can_be_ready() -> None:
    loop, iterator = LoopFacts(), batches()
    for _ in range(3):
        loop.fetching(iterator)
        loop.fetched(iterator, 0, 4 * MS, plain=True)
    assert loop.loaders[0].ready_share is None


def test_a_fetch_whose_beginning_was_not_seen_has_no_cpu_time() -> None:
    loop, iterator = LoopFacts(), batches()
    for _ in range(3):
        loop.fetched(iterator, 0, 4 * MS, plain=True)
    assert loop.loaders[0].cpu_s is None


def test_the_first_fetch_of_an_epoch_waits_for_the_workers_and_is_told_apart() -> None:
    loop, epochs = LoopFacts(), [batches() for _ in range(3)]
    for iterator, first_ms in zip(epochs, (700, 800, 900), strict=True):
        for wait_ms in (first_ms, 4, 6):
            loop.fetched(iterator, 0, wait_ms * MS, plain=True)
    (loader,) = loop.loaders
    assert loader.first_wait_s == pytest.approx(0.8)
    assert loader.wait_s == pytest.approx(0.005)


@pytest.mark.parametrize(("order", "begun"), [((0, 0, 1, 1, 2), 3), ((0, 1, 0, 1, 0), 2), ((0, 1, 2, 3, 4), 5)])
def test_iterators_of_a_loader_are_counted_once_each(order: tuple[int, ...], begun: int) -> None:
    """Epochs, zip(loader, loader), and next(iter(loader)) in each step."""
    data = torch.utils.data.DataLoader(torch.ones(8, 1), batch_size=2)
    loop, iterators = LoopFacts(), [iter(data) for _ in range(5)]
    for number in order:
        loop.fetched(iterators[number], 0, MS, plain=True)
    (loader,) = loop.loaders
    assert (loader.begun, loader.fetches, loader.length) == (begun, 5, 4)


def test_what_was_compiled_before_the_block_is_not_counted_in_it() -> None:
    found = compile_facts(Compiled(3, 2, 4), Compiled(5, 3, 10))
    assert found is not None
    assert (found.unique_graphs, found.graph_breaks, found.recompiles) == (2, 1, 6)


def test_no_more_steps_are_recorded_than_the_event_budget_holds_and_it_is_said() -> None:
    """Each event costs memory and time while the window is written: a user's run must not pay for a gigabyte of them."""
    notes = Notes()
    assert steps_within_budget(5, StepSize(events=EVENT_BUDGET // 2), Options(cuda=False), notes) == 2
    assert len(notes.said) == 1
    assert notes.said[0].startswith("2 of 5 steps recorded")


@pytest.mark.parametrize(
    ("looked", "step_s", "steps"),
    [
        (EVENT_BUDGET // 5, 100.0, 5),  # what was counted wins over what the step's time allows
        (10 * EVENT_BUDGET, None, 1),  # one step is recorded however dense it is
        (None, 60.0, 1),
        (None, 0.001, 5),
        (None, None, 5),
    ],
)
def test_a_step_that_was_not_looked_at_is_bound_by_its_time(
    looked: int | None, step_s: float | None, steps: int
) -> None:
    notes = Notes()
    assert steps_within_budget(5, StepSize(step_s, looked), Options(cuda=False), notes) == steps
    assert bool(notes.said) == (steps < 5)


def test_calls_from_python_count_where_source_lines_are_recorded() -> None:
    """Such a call costs as much as four operators."""
    size, notes = StepSize(0.1, EVENT_BUDGET // 20, EVENT_BUDGET // 20), Notes()
    assert steps_within_budget(12, size, Options(cuda=False, shapes=True), notes) == 12
    assert steps_within_budget(12, size, Options(cuda=False, shapes=True, stacks=True), notes) == 4
    assert notes.said[0].startswith("4 of 12 steps recorded with shapes: a step has about 75000 events")


def test_an_optimizer_says_which_options_its_class_takes() -> None:
    """Advice that the class does not take is a TypeError for the user."""

    def home_made(self: Any, params: Any, lr: float) -> None:
        torch.optim.Optimizer.__init__(self, params, {"lr": lr})

    def passing(self: Any, params: Any, **kwargs: Any) -> None:
        torch.optim.SGD.__init__(self, params, **kwargs)

    def narrow(self: Any, params: Any, lr: float) -> None:
        torch.optim.SGD.__init__(self, params, lr=lr)

    def told(of: Any) -> Any:
        loop, weight = LoopFacts(), torch.nn.Parameter(torch.zeros(2))
        loop.stepped(of([weight], lr=0.1))
        return loop.optimizers[0].options

    assert told(torch.optim.SGD) == ("foreach", "fused")
    assert told(torch.optim.LBFGS) == ()
    assert told(type("HomeMade", (torch.optim.Optimizer,), {"__init__": home_made})) == ()
    assert told(type("Passing", (torch.optim.SGD,), {"__init__": passing})) == ("foreach", "fused")
    assert told(type("Narrow", (torch.optim.SGD,), {"__init__": narrow})) == ()


def test_sparse_gradients_are_told() -> None:
    loop, table = LoopFacts(), torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    loop.stepped(torch.optim.SparseAdam(table.parameters()))
    assert loop.optimizers[0].sparse_gradients is True
    assert loop.optimizers[0].module == "torch.optim.sparse_adam"
