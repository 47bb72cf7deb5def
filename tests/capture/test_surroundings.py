"""What a user may have around, under or after the block: modes, cleared callbacks, generators, coroutines, cells, odd loaders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.programs import LOOP, ours, told_by_the_program, with_and_without
from tests.capture.zygote import Zygote

LOG = """
from collections import Counter
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
seen = Counter()
class Dispatched(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        seen[str(func)] += 1
        return func(*args, **(kwargs or {}))
class Called(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        seen[getattr(func, "__name__", str(func))] += 1
        return func(*args, **(kwargs or {}))
"""
# torch's own profiler reads the parameters' gradients in the window with stacks; nothing else may differ.
TELL = """
seen.pop("__get__", None)
print("loss", sorted(seen.items()))
"""

WHOLE = {
    "a FLOP counter": LOG + "with FlopCounterMode(display=False) as counter:" + LOOP.replace("\n", "\n    ")
    + "\nprint('loss', counter.get_total_flops())",
    "a mode that logs operators": LOG + "with Dispatched():" + LOOP.replace("\n", "\n    ") + TELL,
    "a mode that logs functions": LOG + "with Called():" + LOOP.replace("\n", "\n    ") + TELL,
    "a mode and batches of another loader": LOG
    + "data = list(loader(24))\nwith Dispatched():"
    + LOOP.replace("loader(24)", "doctor.batches(data)").replace("\n", "\n    ")
    + TELL,
    "garbage callbacks cleared by the program": """
import gc
from torch.utils.data import dataloader
def patched():
    return (dataloader._BaseDataLoaderIter.__next__, torch.autocast.__enter__, torch.amp.GradScaler.step,
            sorted(thread.name for thread in threading.enumerate()))
before = patched()
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        if i == 4: gc.callbacks.clear()
        train(x, y)
print("loss", patched() == before)
""",
    "a data set whose length fails": """
class Odd(torch.utils.data.Dataset):
    asked = 0
    def __len__(self):
        Odd.asked += 1
        if Odd.asked > 12: raise ValueError("the user's own")
        return 96
    def __getitem__(self, i): return torch.ones(8) * i, i % 4
with block() as doctor:
    for x, y in DataLoader(Odd(), batch_size=4): train(x, y)
""",
    "two tasks that take turns in one thread": """
import asyncio
other = nn.Linear(8, 4)
sgd = torch.optim.SGD(other.parameters(), lr=0.1)
async def second():
    for i in range(50):
        other(torch.ones(2, 8)).sum().backward()
        sgd.step(); sgd.zero_grad()
        await asyncio.sleep(0)
async def first():
    with block() as doctor:
        for x, y in loader(24):
            train(x, y)
            await asyncio.sleep(0)
async def main(): await asyncio.gather(first(), second())
asyncio.run(main())
""",
    "epochs that are left early": """
with block() as doctor:
    for epoch in range(6):
        for i, (x, y) in enumerate(loader(24)):
            train(x, y)
            if i == 4: break
""",
    "cells of a notebook, run twice": """
cell = compile('''
with block(path) as doctor:
    for x, y in loader(24): train(x, y)
''', "<ipython-input-3-abc>", "exec")
for path in ("first.pt.trace.json.gz", "out.pt.trace.json.gz"): exec(cell, globals())
""",
    "other defaults at the end, no standard error, no home": """
os.environ.pop("XDG_CACHE_HOME", None)
os.environ["HOME"] = "/proc/1/nowhere"
with block(print_report=True) as doctor:
    for x, y in loader(24): train(x, y)
    torch.set_default_dtype(torch.float64); torch.set_default_device("meta")
    sys.stderr = None
""",
    "a compiled step and a scaler that skips": """
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
compiled = torch.compile(forward, backend="eager")
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        loss = compiled(x, y) * (float("inf") if i % 7 == 3 else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        print("loss", loss.item().hex())
""",
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_the_program_sees_nothing_of_ours_and_the_capture_is_whole(zygote: Zygote, tmp_path: Path, name: str) -> None:
    watched, _ = with_and_without(zygote, tmp_path, WHOLE[name])
    assert watched.code == 0, watched.err
    assert told_by_the_program(watched) == ""
    assert [(window.kind, window.steps) for window in ours(tmp_path).facts.windows] == [("timing", 5), ("shapes", 1)]


GENERATOR = """
def training():
    with block() as doctor:
        for x, y in loader(24):
            train(x, y)
            yield
generator = training()
for i in range(16): next(generator)
"""


def test_a_generator_that_nobody_finishes_is_reported_at_exit(zygote: Zygote, tmp_path: Path) -> None:
    """Python closes it when half of the interpreter is gone: nothing may be raised then, and nothing lost."""
    watched, _ = with_and_without(zygote, tmp_path, GENERATOR)
    assert (watched.code, watched.err) == (0, "")
    facts = ours(tmp_path).facts
    assert facts.windows[0].steps == 2
    assert "the timing recording ended early: the interpreter exited" in facts.notes


def test_a_generator_closed_on_another_thread_leaves_the_profiler_to_the_user(zygote: Zygote, tmp_path: Path) -> None:
    """Only the thread that started a session may stop it; the user's own profiler must still work afterwards."""
    body = (
        GENERATOR
        + """
thread = threading.Thread(target=generator.close)
thread.start(); thread.join()
from torch.profiler import profile
with profile() as theirs:
    for x, y in loader(3): train(x, y)
theirs.export_chrome_trace("theirs.json")
print("loss", os.path.getsize("theirs.json") > 10_000)
"""
    )
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert (watched.code, watched.err) == (0, "")
    assert ours(tmp_path).facts.windows[0].steps == 1


def test_ctrl_c_between_the_windows_is_the_users(zygote: Zygote, tmp_path: Path) -> None:
    body = """
import signal
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        train(x, y)
        if i == 7: os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)
"""
    watched, plain = with_and_without(zygote, tmp_path, body)
    assert "KeyboardInterrupt" in watched.err
    assert watched.err.count("File") == plain.err.count("File")
    assert ours(tmp_path).facts.windows[0].steps == 1
