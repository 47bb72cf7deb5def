"""A program that compiles for the first time in a step that is watched closely compiles as it does alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.programs import ours, with_and_without
from tests.capture.zygote import Zygote

COMPILES = """
from torch._dynamo.utils import counters
run = model
with block() as doctor:
    for i, (x, y) in enumerate(loader(26)):
        if i == AT: run = torch.compile(model, backend="eager")
        loss = nn.functional.cross_entropy(run(x), y)
        loss.backward(); optimizer.step(); optimizer.zero_grad()
        print("loss", loss.item().hex())
print("loss", dict(counters["stats"]), dict(counters["graph_break"]))
print("loss", bool(nn.modules.module._has_any_global_hook()), torch.compile.__module__, torch._dynamo.optimize.__module__)
"""


@pytest.mark.parametrize(
    "at", [18, 19, 20]
)  # beside the step with shapes operators are looked at; in it, calls of modules
def test_what_is_compiled_first_in_a_watched_step_is_compiled_whole(zygote: Zygote, tmp_path: Path, at: int) -> None:
    """Hooks on all modules broke its graph at every module; a mode kept it from being compiled at all, for good."""
    watched, plain = with_and_without(zygote, tmp_path, COMPILES.replace("AT", str(at)))
    assert (watched.code, watched.err) == (0, "")
    assert "'unique_graphs': 1" in plain.losses[-2]
    assert [(window.kind, window.steps) for window in ours(tmp_path).facts.windows] == [("timing", 5), ("shapes", 1)]
