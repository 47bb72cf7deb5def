"""What is counted of each kind of batch; None where nothing tells."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.batches import looked_at
from mfu_doctor.capture.loop.step_feed import StepFeed

ROWS, FEATURES, TOKENS = 8, 5, 7


@dataclass
class Pair:
    """A batch of the program's own."""

    x: Any
    y: Any


@dataclass(slots=True)
class Slotted:
    """Without a dictionary."""

    x: Any
    y: Any


class Own:
    """A class that is no dataclass."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y


class Table:
    """As pandas has it: a shape, keys, and values that are no function."""

    shape = (ROWS, FEATURES)
    values = np.zeros((ROWS, FEATURES))

    def keys(self) -> list[str]:
        """The columns."""
        return ["a"] * FEATURES


class Graphs:
    """As torch_geometric has it: nodes, edges and labels of several graphs in one, by name."""

    def __init__(self) -> None:
        self._store = {"x": X.new_zeros(31, 3), "edge_index": torch.zeros(2, 60), "y": torch.zeros(ROWS)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_store"], name)


X, Y = torch.zeros(ROWS, FEATURES), torch.zeros(ROWS)
IDS = torch.zeros(ROWS, TOKENS, dtype=torch.long)
IMAGES = [torch.zeros(3, 4, 4) for _ in range(ROWS)]

# Of each kind the samples that it tells by itself.
KINDS: dict[str, tuple[Any, int | None]] = {
    "tensor": (X, ROWS),
    "tensors": ((X, Y), ROWS),
    "nested tensors": ((Y, [X, X]), ROWS),
    "a name each": ({"x": X, "y": Y, "name": "train"}, ROWS),
    "arrays": ({"x": np.zeros((ROWS, 2)), "y": np.zeros(ROWS)}, ROWS),
    "encoding": (UserDict(input_ids=IDS, labels=Y), ROWS),
    "table": (Table(), ROWS),
    "table and labels": ((Table(), Y), ROWS),
    "dataclass": (Pair(X, Y), ROWS),
    "dataclass with slots": (Slotted(X, Y), ROWS),
    "own class": (Own(X, Y), ROWS),
    "scalar beside": ((X, torch.tensor(0.5)), ROWS),
    "two dataclasses": ((Pair(X, Y), Pair(X, Y)), None),  # or a list of two samples
    "graphs": (Graphs(), None),
    "images of their own sizes": ([tuple(IMAGES), tuple({"boxes": torch.zeros(2, 4)} for _ in range(ROWS))], None),
    "samples as they are": ([{"x": torch.zeros(3, 4), "y": 1} for _ in range(ROWS)], None),
    "rows that differ": ((X, torch.zeros(ROWS * TOKENS)), None),
    "text": (["a", "b"], None),
    "nothing": (None, None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_tells_its_samples_if_it_can(kind: str) -> None:
    batch, samples = KINDS[kind]
    assert looked_at(batch).samples == samples


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_that_change_are_another_kind_of_step(kind: str) -> None:
    batch = KINDS[kind][0]
    assert bool(looked_at(batch).shapes) == (kind not in ("text", "nothing"))


@pytest.mark.parametrize(
    "batch",
    [
        {"input_ids": IDS},
        UserDict(input_ids=IDS, mask=IDS),
        ({"input_ids": IDS}, Y),
        type("Encoded", (), {"input_ids": IDS})(),
    ],
)
def test_tokens_are_those_of_a_matrix_that_is_named_so(batch: Any) -> None:
    assert looked_at(batch).tokens == ROWS * TOKENS


class Numbers(Dataset[int]):
    """Twenty of them."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> int:
        return index


class Endless(IterableDataset[int]):
    """Twenty of them, which it does not say."""

    def __iter__(self) -> Any:
        return iter(range(20))


def fed(loader: DataLoader[Any]) -> list[tuple[int | None, int | None]]:
    """Samples and tokens of each step of an epoch of two."""
    feed = StepFeed(Notes())
    feed.start()
    try:
        for _ in range(2):
            for _ in loader:
                feed.log.append("step")
        found = [(step.samples, step.tokens) for _, step in feed.ended_steps()]
    finally:
        feed.stop()
    assert not feed.notes.said
    assert found[: len(found) // 2] == found[len(found) // 2 :]
    return found[len(found) // 2 :]


@pytest.mark.parametrize("kind", KINDS)
def test_a_loader_that_puts_samples_together_knows_them(kind: str) -> None:
    batch = KINDS[kind][0]
    told = fed(DataLoader(Numbers(), ROWS, collate_fn=lambda _: batch))
    assert [samples for samples, _ in told] == [ROWS, ROWS, 4]


def test_a_data_set_of_whole_batches_brings_their_rows() -> None:
    """Batches that are ready, which a loader hands on one by one."""
    whole = DataLoader(Numbers(), 1, collate_fn=lambda _: (X, Y))
    assert set(fed(whole)) == {(ROWS, None)}


def test_a_loader_that_leaves_the_rest_brings_full_batches() -> None:
    assert fed(DataLoader(Numbers(), ROWS, drop_last=True, collate_fn=list)) == [(ROWS, None)] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_of_other_loaders_the_batch_tells(kind: str) -> None:
    batch, samples = KINDS[kind]
    of_its_own = DataLoader(Numbers(), batch_sampler=[[0] * ROWS] * 3, collate_fn=lambda _: batch)
    whole = DataLoader(Endless(), None, collate_fn=lambda _: batch)
    assert {told for told, _ in fed(of_its_own)} == {told for told, _ in fed(whole)} == {samples}


def test_the_rows_of_what_only_yields_are_those_of_its_tensors() -> None:
    assert [samples for samples, _ in fed(DataLoader(Endless(), ROWS))] == [ROWS, ROWS, 4]


def test_a_batch_of_names_is_counted_in_passing_as_it_is_when_it_is_looked_at() -> None:
    batch = UserDict(labels=Y, input_ids=IDS)
    assert (
        fed(DataLoader(Numbers(), batch_sampler=[[0] * ROWS] * 4, collate_fn=lambda _: batch))
        == [(ROWS, ROWS * TOKENS)] * 4
    )


def test_a_real_table_is_counted() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.DataFrame({"input_ids": range(ROWS), "b": 0.0})
    assert looked_at((table, table["b"])) == (((ROWS, 2), (ROWS,)), ROWS, None)


def test_tensors_without_a_shape_tell_nothing_and_the_loader_goes_on() -> None:
    with pytest.warns(UserWarning, match="nested tensors"):
        nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.strided)
    feed = StepFeed(Notes())
    feed.start()
    try:
        assert len(list(DataLoader(Numbers(), ROWS, collate_fn=lambda _: [nested]))) == 3
        assert not list(feed.ended_steps())
        assert "shapes could not be seen" in feed.notes.said[0]
        assert len(list(DataLoader(TensorDataset(X), 4))) == 2
    finally:
        feed.stop()
