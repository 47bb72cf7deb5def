"""Operators of a step are looked at: what they made before, what nobody reads, and the padding of what the model reads first."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfu_doctor.capture.facts.operator_watch import OperatorWatch, _in_use, can_watch
from mfu_doctor.capture.facts.value_samples import Sampler
from mfu_doctor.capture.profiler.mode_isolation import without_user_modes
from mfu_doctor.facts.wasted_work import OperatorResults, PaddedInput
from tests.capture.programs import PRELUDE, TRACE, read
from tests.capture.zygote import Zygote

torch = pytest.importorskip("torch", reason="torch is not installed")
nn, functional = torch.nn, torch.nn.functional

Step = Callable[[int], Any]
WATCHES: list[OperatorWatch] = []  # what is told of backward passes
SIDE = 64  # of square tensors: large enough to be worth a word


def plainly(call: Callable[..., Any], *args: Any) -> Any:
    return call(*args)


def looked_at(step: Step, *, count: int = 2) -> OperatorWatch:
    """A watch that saw every second step."""
    watch = OperatorWatch(None, enabled=True)
    WATCHES.append(watch)
    for number in range(count):
        step(2 * number)
        watch.begin()
        watch.settle(plainly)
        step(2 * number + 1)
        watch.end()
        watch.settle(plainly)
    assert not torch._C._len_torch_dispatch_stack()
    return watch


def told(step: Step, *, count: int = 2) -> dict[str, OperatorResults]:
    """What is told of each operator."""
    seen = looked_at(step, count=count).told
    assert seen is not None
    return {one.operator.removeprefix("aten::"): one for one in seen.results}


def batch(number: int) -> Any:
    return torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(number))


def trained(loss: Callable[[Any, Any], Any]) -> Step:
    """One step of a layer on a batch of its own."""
    layer = nn.Linear(SIDE, SIDE)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)

    def step(number: int) -> None:
        value = loss(layer, batch(number))
        optimizer.zero_grad()
        with without_user_modes():
            for watch in WATCHES:
                watch.backward((value,))
        value.backward()
        optimizer.step()
        value.item()

    return step


def test_what_is_the_same_in_every_step_is_told_at_its_line() -> None:
    def distance() -> Any:
        places = torch.arange(SIDE).float()
        return (places[:, None] - places).exp()

    found = told(trained(lambda layer, x: (distance() @ layer(x)).mean()))
    assert found.keys() == {"sub", "exp"}
    assert (found["exp"].calls, found["exp"].constant, found["exp"].again) == (1, 1, 0)
    assert found["exp"].dims == ((SIDE, SIDE),)
    assert str(found["exp"].place).startswith("test_operator_watch.py:")


def test_what_a_step_computes_twice_is_told_once_less() -> None:
    found = told(trained(lambda layer, x: (layer(x).tanh() + layer(x).tanh() * x.exp() * x.exp()).mean()))
    assert {name: (one.calls, one.again, one.constant) for name, one in found.items()} == {
        "addmm": (2, 1, 0),
        "tanh": (2, 1, 0),
        "exp": (2, 1, 0),
    }


def test_random_numbers_copies_and_what_depends_on_the_batch_are_no_repetition() -> None:
    def loss(layer: Any, x: Any) -> Any:
        kept = functional.dropout(layer(x), 0.5) + functional.dropout(layer.weight.clone(), 0.5)
        return (kept + torch.zeros(SIDE, SIDE) + torch.randn(SIDE, SIDE)).relu().mean()

    assert told(trained(loss)) == {}


def test_whole_numbers_that_differ_in_one_place_are_not_the_same() -> None:
    def loss(layer: Any, x: Any) -> Any:
        first, second = torch.arange(4096), torch.arange(4096)
        second[1] = 0
        return layer(x).mean() + (first + 1).float().mean() * 0.1 + (second + 1).float().mean()

    assert {name: one.again for name, one in told(trained(loss), count=1).items()} == {}


def test_a_head_that_no_loss_uses_is_unread_with_all_that_leads_to_it() -> None:
    head = nn.Sequential(nn.Linear(SIDE, SIDE), nn.BatchNorm1d(SIDE), nn.ReLU(), nn.Linear(SIDE, 2 * SIDE))

    def both(layer: Any, x: Any) -> tuple[Any, Any]:
        hidden = layer(x).exp()
        return hidden, head(hidden)

    found = told(trained(lambda layer, x: both(layer, x)[0].mean()))
    assert {name for name, one in found.items() if one.unread} == {"addmm", "native_batch_norm", "relu"}
    assert "exp" not in found


@pytest.mark.parametrize(
    "use",
    [
        lambda out: out.detach().numpy(),
        lambda out: out.sum().item(),
        lambda out: out.argmax(1),
        lambda out: (out > 0).float().mean(),
    ],
)
def test_a_result_that_a_metric_reads_is_read(use: Callable[[Any], Any]) -> None:
    head = nn.Linear(SIDE, SIDE)

    def loss(layer: Any, x: Any) -> Any:
        hidden = layer(x)
        use(head(hidden).tanh())
        return hidden.mean()

    assert not any(one.unread for one in told(trained(loss)).values())


@pytest.mark.parametrize("form", ["sparse", "meta"])
def test_what_an_operator_on_other_tensors_reads_is_read(form: str) -> None:
    graph = torch.eye(SIDE).to_sparse()

    def loss(layer: Any, x: Any) -> Any:
        hidden = layer(x).tanh()
        if form == "meta":
            torch.empty(SIDE, SIDE, device="meta").exp()
        return (torch.sparse.mm(graph, hidden) if form == "sparse" else hidden).mean()

    assert told(trained(loss)) == {}


def test_a_result_that_is_kept_is_read() -> None:
    kept: list[Any] = []
    head = nn.Linear(SIDE, SIDE)

    def loss(layer: Any, x: Any) -> Any:
        hidden = layer(x)
        kept.append(head(hidden))
        return hidden.mean()

    assert not any(one.unread for one in told(trained(loss)).values())


def test_a_loss_with_a_weight_of_zero_is_read_by_nothing() -> None:
    """Neither in forward, with what leads to its target, nor by its own backward."""
    head = nn.Linear(SIDE, SIDE)
    weight = 0.0

    def loss(layer: Any, x: Any) -> Any:
        hidden = layer(x)
        extra = functional.mse_loss(head(hidden).tanh(), x.sin())
        return hidden.exp().mean() + weight * extra

    found = told(trained(loss))
    assert {name for name, one in found.items() if one.unread} == {"addmm", "tanh", "sin", "mse_loss"}
    assert {name for name, one in found.items() if one.zeroed} == {"addmm", "tanh", "mse_loss"}


def test_what_has_another_way_to_the_loss_is_read() -> None:
    def loss(layer: Any, x: Any) -> Any:
        hidden = layer(x).tanh()
        return hidden.mean() + 0 * hidden.square().mean()

    assert {name for name, one in told(trained(loss)).items() if one.unread} == {"pow", "mean"}


def padded(read_first: Callable[[Any], Any], data: Any) -> tuple[PaddedInput, ...]:
    def step(_number: int) -> None:
        read_first(data).sum().backward()

    seen = looked_at(step).told
    assert seen is not None
    return seen.padded


def tokens(*, left: bool = False) -> Any:
    """Four samples of 20 places; the longest has 12."""
    ids = torch.arange(1, 81).view(4, 20)
    for sample, length in enumerate((12, 8, 4, 8)):
        ids[sample, length:] = 0
    return ids.flip(1) if left else ids


@pytest.mark.parametrize("left", [False, True])
def test_tokens_that_no_sample_has_are_padding(left: bool) -> None:
    (found,) = padded(nn.Embedding(100, 8), tokens(left=left))
    assert (found.dims, found.axis, found.whole) == ((4, 20), 1, True)
    assert found.least == pytest.approx(7 / 20)
    assert found.mean == pytest.approx(11 / 20)


def test_sound_that_ends_in_silence_is_padding_along_time() -> None:
    sound = torch.randn(3, 2, 40)
    sound[:, :, 30:] = 0
    (found,) = padded(nn.Conv1d(2, 4, 3), sound)
    assert (found.axis, found.whole) == (2, False)
    assert found.least == pytest.approx(9 / 40)


def test_data_without_padding_and_of_one_value_is_none() -> None:
    (full,) = padded(nn.Embedding(100, 8), torch.arange(80).view(4, 20))
    assert full.least == 0
    assert padded(nn.Embedding(100, 8), torch.zeros(4, 20, dtype=torch.long)) == ()
    assert padded(nn.Embedding(100, 8), torch.arange(20)) == ()


NETWORKS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "convolution": lambda: (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), nn.MaxPool2d(2), nn.Flatten()),
        torch.randn(4, 3, 16, 16),
    ),
    "lstm": lambda: (Recurrent(nn.LSTM), torch.randn(4, 16, 8)),
    "gru": lambda: (Recurrent(nn.GRU), torch.randn(4, 16, 8)),
    "attention": lambda: (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), torch.randn(4, 8, 16)),
    "double": lambda: (nn.Bilinear(8, 8, 8).double(), (torch.randn(4, 8).double(), torch.randn(4, 8).double())),
}


class Recurrent(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.layer = kind(8, 8, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.layer(x)[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_that_is_looked_at_learns_the_same_to_the_last_bit(name: str) -> None:
    def learned(*, watched: bool) -> list[Any]:
        torch.manual_seed(0)
        model, data = NETWORKS[name]()
        inputs = data if isinstance(data, tuple) else (data,)
        optimizer = torch.optim.AdamW(model.parameters(), 0.01)

        def step(_number: int) -> None:
            out = model(*inputs)
            loss = functional.binary_cross_entropy_with_logits(out, torch.ones_like(out)) + out.square().mean().sqrt()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        if watched:
            looked_at(step)
        else:
            for number in range(4):
                step(number)
        return [*(one.detach() for one in model.parameters()), torch.get_rng_state()]

    for plain, watched in zip(learned(watched=False), learned(watched=True), strict=True):
        assert torch.equal(plain, watched)


def test_a_mode_of_the_program_is_left_alone() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Own(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*args, **(kwargs or {}))

    assert can_watch()
    with Own():  # type: ignore[no-untyped-call]
        assert not can_watch()
        watch = OperatorWatch(None, enabled=True)
        with without_user_modes():
            watch.begin()
        watch.settle(plainly)
        assert torch._C._len_torch_dispatch_stack() == 1
    assert not torch._C._len_torch_dispatch_stack()


def test_a_mode_that_a_step_enters_and_leaves_stays_its_own() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    counted: list[int] = []
    learn = trained(lambda layer, x: layer(x).mean())

    def step(number: int) -> None:
        with FlopCounterMode(display=False) as counter:
            learn(number)
        counted.append(counter.get_total_flops())

    looked_at(step)
    assert len(set(counted)) == 1


def test_nothing_is_kept_of_a_step_that_was_looked_at() -> None:
    layer = nn.Linear(SIDE, SIDE)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    hidden: list[Any] = []

    def step(number: int) -> None:
        hidden[:] = [layer(batch(number))]
        hidden[0].mean().backward()
        optimizer.step()
        assert not any(map(weakref.getweakrefcount, layer.parameters()))

    looked_at(step)
    assert not any(map(weakref.getweakrefcount, hidden))
    assert not _in_use


def test_a_transform_of_functions_is_not_looked_into() -> None:
    def step(number: int) -> None:
        torch.func.vmap(lambda row: row.exp().sum())(batch(number))

    assert told(step) == {}


def test_a_failure_of_ours_ends_the_looking_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[BaseException] = []

    def guarded(call: Callable[..., Any], *args: Any) -> Any:
        try:
            return call(*args)
        except Exception as error:  # noqa: BLE001 - what the boundary does
            failures.append(error)
            return None

    watch = OperatorWatch(None, enabled=True)
    watch.begin()
    watch.settle(guarded)
    monkeypatch.setattr(Sampler, "of", broken)
    total = batch(0).exp() + batch(0).exp()
    watch.end()
    watch.settle(guarded)
    assert len(failures) == 1
    assert torch.equal(total, 2 * batch(0).exp())


def broken(_sampler: Sampler, _tensor: Any) -> bytes:
    raise RuntimeError("ours")


def test_a_forked_child_is_not_looked_at() -> None:
    watch = OperatorWatch(None, enabled=True)
    watch.begin()
    watch.settle(plainly)
    child = os.fork()
    if child == 0:
        os._exit(int(torch._C._len_torch_dispatch_stack()))
    _, status = os.waitpid(child, 0)
    watch.end()
    watch.settle(plainly)
    assert os.waitstatus_to_exitcode(status) == 0


UNSEEN = """
from torch.utils._python_dispatch import TorchDispatchMode

class Own(TorchDispatchMode):
    calls = 0
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))

own, depths = Own(), set()
with block(skip=1, timed=1, warmup=1, active=1):
    for number, (x, y) in enumerate(loader(30)):
        depths.add(torch._C._len_torch_dispatch_stack())
        with own if number % 2 else contextlib.nullcontext():
            loss = forward(x, y) + (1 + model(x).sigmoid()).prod(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print("loss", loss.item().hex())
        with torch.no_grad():
            model(x)
weight = model[0].weight
torch.utils.swap_tensors(weight, nn.Parameter(weight.detach().clone()))
compiled = []
def backend(graph, _inputs):
    compiled.append(graph)
    return graph.forward
torch.compile(lambda x: x.sin() + 1, backend=backend)(torch.ones(3))
print("seen", depths, torch._C._len_torch_dispatch_stack(), own.calls, len(compiled))
"""


def test_a_recording_looks_at_no_operator(zygote: Zygote, tmp_path: Path) -> None:
    """No bit of the program, no mode of its own, and nothing that it does afterwards is another."""
    plain = zygote.run(PRELUDE + UNSEEN, tmp_path, "plain")
    recorded = zygote.run(PRELUDE + UNSEEN, tmp_path)
    assert (recorded.code, recorded.err) == (0, plain.err)
    assert recorded.losses == plain.losses
    assert recorded.out == plain.out
    assert "seen {0} 0 " in recorded.out
    assert recorded.out.endswith(" 1\n")
    assert read(tmp_path / TRACE).facts.operators is None
