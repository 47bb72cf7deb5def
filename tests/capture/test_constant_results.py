"""What functions give in each step is compared: only what is the same, and made of the same, is called constant."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.facts.constant_results import ConstantResults
from mfu_doctor.capture.profiler.python_calls import PythonCalls
from mfu_doctor.facts.wasted_work import ConstantResult

torch = pytest.importorskip("torch", reason="torch is not installed")

N = 32


def mask(n: int) -> Any:
    return torch.ones(n, n).triu()


def prepared(x: Any) -> Any:
    return (x.cumsum(0), x.shape)


def decided(x: Any, model: Any) -> Any:
    with torch.no_grad():
        return model(x).argmax(1)


def scores(x: Any, model: Any) -> Any:
    return model(x)


def adjacency(n: int) -> Any:
    return torch.eye(n).roll(1, 0).to_sparse()


def spread(n: int) -> Any:
    return mask(n).expand(2, n, n).transpose(1, 2)


def fails(n: int) -> Any:
    kept = mask(n)
    if kept.any():
        raise ValueError(n)


class Bias(torch.nn.Module):  # type: ignore[misc,name-defined]
    """A module with weights, and a table that it computes without them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(N, N)

    def table(self, n: int) -> Any:
        return torch.arange(n * n, dtype=torch.float32).view(n, n).sqrt()

    def order(self, n: int) -> Any:
        return torch.arange(n * n).view(n, n)


def found(*steps: Callable[[], object], most: int = 10_000) -> tuple[ConstantResult, ...] | None:
    """What is told of the calls of these steps."""
    notes, results = Notes(), ConstantResults()
    calls = PythonCalls(most, results, notes)
    for step in steps:
        calls.start()
        step()
        calls.stop()
    assert notes.said == []
    return results.found()


def names(told: tuple[ConstantResult, ...] | None) -> list[str]:
    return sorted(one.function for one in told or ())


def twice(step: Callable[[], object]) -> list[str]:
    return names(found(step, step))


def test_a_mask_that_is_computed_in_each_step_is_constant() -> None:
    def step() -> None:
        for _ in range(3):
            mask(N)

    (told,) = found(step, step, step) or ()
    assert (told.function, told.calls, told.steps) == ("mask", 3, 3)
    assert told.place == f"test_constant_results.py:{mask.__code__.co_firstlineno}"


def test_what_is_made_of_a_batch_is_not() -> None:
    batches = [torch.rand(N, N), torch.rand(N, N)]
    assert twice(lambda: prepared(batches.pop())) == []


def test_what_is_equal_of_other_things_is_not() -> None:
    """A mask of lengths that are the same in two batches by chance."""
    batches = [torch.rand(N, N), torch.rand(N, N)]

    def lengths(x: Any) -> Any:
        return x.cumsum(0) > -1.0 + torch.arange(N) % 2 * 100

    assert twice(lambda: lengths(batches.pop())) == []


def test_what_is_made_of_data_that_stays_is_constant_as_long_as_nothing_writes_into_it() -> None:
    data = torch.rand(N, N)
    assert twice(lambda: prepared(data)) == ["prepared"]

    def step() -> None:
        data.add_(1)
        prepared(data)

    assert twice(step) == []


def test_what_the_step_writes_into_is_needed_anew() -> None:
    def step(kept: list[Any]) -> None:
        kept[:] = [mask(N)]
        kept[0].add_(1)

    kept: list[Any] = []
    assert twice(lambda: step(kept)) == []


def test_memory_that_the_program_has_freed_is_not_read() -> None:
    flat = torch.rand(4 * N)
    part = flat[N:]

    def freed() -> Any:
        return part

    flat.untyped_storage().resize_(0)
    assert twice(freed) == []


def test_nothing_is_looked_at_where_a_device_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert found(lambda: mask(N), lambda: mask(N)) is None


def test_what_trained_modules_decide_is_not_constant() -> None:
    x, model, frozen = (
        torch.rand(N, N),
        torch.nn.Linear(N, N),
        torch.nn.Linear(N, N).requires_grad_(requires_grad=False),
    )
    assert twice(lambda: decided(x, model)) == []
    assert twice(lambda: decided(x, frozen)) == ["decided"]
    assert twice(lambda: scores(x, model)) == []


def test_a_table_of_a_module_is_constant_where_its_weights_cannot_be_a_part_of_it() -> None:
    bias = Bias()
    assert twice(lambda: bias.table(N)) == ["table"]
    assert twice(lambda: bias.order(N)) == [], "an update need not change a decision"


def test_a_sparse_matrix_and_one_seen_in_another_way_are_read() -> None:
    assert twice(lambda: adjacency(N)) == ["adjacency"]
    assert twice(lambda: spread(N)) == ["mask", "spread"]


@pytest.mark.parametrize("n", [4, 0])
def test_a_few_numbers_are_equal_by_accident(n: int) -> None:
    assert twice(lambda: mask(n)) == []


def test_so_are_zeros() -> None:
    def zeros() -> Any:
        return torch.zeros(N, N)

    assert twice(zeros) == []


def test_a_function_that_gives_it_only_sometimes_is_not_constant() -> None:
    turns = iter(range(10))

    def changing() -> Any:
        return mask(N) * next(turns)

    assert twice(changing) == ["mask"]


def test_an_exception_leaves_nothing_behind() -> None:
    def step() -> None:
        with pytest.raises(ValueError, match=str(N)):
            fails(N)
        mask(N)

    assert twice(step) == ["mask"]


def test_one_step_tells_nothing_nor_does_one_of_too_many_calls() -> None:
    assert found(lambda: mask(N)) is None
    assert found(lambda: mask(N), lambda: [mask(N) for _ in range(100)], most=100) is None
    few = 4  # numbers
    assert found(lambda: mask(N), lambda: [mask(few) for _ in range(6_000)], most=100_000) is None


def test_no_tensor_is_kept() -> None:
    kept: list[weakref.ref[Any]] = []

    def step() -> None:
        given = torch.rand(N, N)
        kept.append(weakref.ref(given))
        kept.append(weakref.ref(prepared(given)[0]))

    found(step, step)
    assert all(one() is None for one in kept)


def test_an_error_of_ours_is_noted_and_not_raised() -> None:
    class Broken(ConstantResults):
        def look(self, *_: object) -> None:
            raise RuntimeError("ours")

    notes = Notes()
    calls = PythonCalls(10_000, Broken(), notes)
    calls.start()
    assert mask(N).shape == (N, N)
    calls.stop()
    assert notes.said == ["what functions return could not be compared: RuntimeError: ours"]
