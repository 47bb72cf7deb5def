"""What embeddings and convolutions read is looked at for padding when the step is over; the training stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mfu_doctor.capture.facts.padded_inputs import PaddedInputs
from mfu_doctor.facts.wasted_work import PaddedInput
from tests.capture.programs import PRELUDE, ours, with_and_without
from tests.capture.zygote import Zygote

torch = pytest.importorskip("torch", reason="torch is not installed")
nn = torch.nn


def padded(module: Any, data: Any) -> tuple[PaddedInput, ...]:
    inputs = PaddedInputs(None)
    inputs.called(module, (data,))
    inputs.look()
    assert inputs.told is not None
    return inputs.told


def tokens(*, left: bool) -> Any:
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
    assert padded(nn.Linear(20, 8), tokens(left=False).float()) == ()


def test_data_that_was_written_since_or_that_a_layer_made_is_not_looked_at() -> None:
    ids, inputs = tokens(left=False), PaddedInputs(None)
    inputs.called(nn.Embedding(100, 8), (ids,))
    ids.zero_()
    inputs.called(nn.Conv1d(2, 4, 3), (torch.zeros(3, 2, 40, requires_grad=True),))
    inputs.look()
    assert inputs.told == ()


TRAINED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(50, 8), nn.Linear(8, 4)
    def forward(self, ids): return self.out(self.table(ids).mean(1))
net = Net()
sgd = torch.optim.SGD(net.parameters(), lr=0.1)
with torch.profiler.record_function("all"), block() as doctor:
    for i in range(24):
        ids = torch.randint(1, 50, (4, 16))
        ids[:, 8:] = 0
        loss = nn.functional.cross_entropy(net(ids), ids[:, 0] % 4)
        loss.backward()
        sgd.step(); sgd.zero_grad()
        print("loss", loss.item().hex(), sys.getrefcount(ids))
print("loss", [p.detach().double().sum().item().hex() for p in net.parameters()], torch.rand(1).item())
"""


COMPILED = """
compiled = torch.compile(nn.Linear(8, 8), backend="eager")
compiled(torch.ones(4, 8))
"""


def test_where_a_function_is_compiled_no_padding_is_claimed_to_be_looked_for(zygote: Zygote, tmp_path: Path) -> None:
    watched, _ = with_and_without(zygote, tmp_path, COMPILED + TRAINED)
    assert watched.code == 0, watched.err
    assert ours(tmp_path).facts.padded is None


def test_a_tensor_of_a_class_of_its_own_is_not_read() -> None:
    spread = type("Spread", (torch.Tensor,), {})  # stands for a tensor whose values lie on several ranks
    assert padded(nn.Embedding(100, 8), tokens(left=False).as_subclass(spread)) == ()


def test_a_recording_tells_the_padding_of_its_tokens_and_trains_the_same(zygote: Zygote, tmp_path: Path) -> None:
    watched, _ = with_and_without(zygote, tmp_path, TRAINED)
    assert (watched.code, watched.err) == (0, "")
    told = ours(tmp_path).facts.padded
    assert told is not None
    (found,) = told
    assert (found.dims, found.axis) == ((4, 16), 1)
    assert found.least == pytest.approx(7 / 16)
    lines = (PRELUDE + TRAINED).splitlines()
    assert found.place == f"program.py:{next(at for at, line in enumerate(lines, 1) if 'self.table(ids)' in line)}"
    assert not [event for event in ours(tmp_path).events if event["name"] in ("aten::flip", "aten::cumprod")]
