"""The run is sacred: whatever happens in or around the block, losses, exit status and exceptions are those of the script alone.

Each case is a real process run twice (`with_and_without` compares losses bit for bit, and exit status).
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.capture.programs import ours, with_and_without
from tests.capture.zygote import Zygote

# Program, how it ends, and how many timing steps it leaves; steps 13 to 17 are the timing window.
ENDINGS = {
    "exception inside the timing window": (
        """
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        train(x, y)
        if i == 15: raise ValueError("the user's own")
""",
        1,
        3,
    ),
    "sys.exit inside the timing window": (
        """
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        train(x, y)
        if i == 15: sys.exit(7)
""",
        7,
        3,
    ),
    "Ctrl-C inside the timing window": (
        """
import signal
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        train(x, y)
        if i == 15: os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)
""",
        -signal.SIGINT,
        3,
    ),
    "block left by break in the warm-up": (
        """
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        train(x, y)
        if i == 11: break
""",
        0,
        1,
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_however_the_block_ends_what_was_recorded_is_kept(zygote: Zygote, tmp_path: Path, name: str) -> None:
    body, code, steps = ENDINGS[name]
    watched, plain = with_and_without(zygote, tmp_path, body)
    assert watched.code == code
    assert watched.err.replace(str(tmp_path / "ours"), "") == plain.err.replace(str(tmp_path / "alone"), "")
    facts = ours(tmp_path).facts
    assert facts.windows[0].kind == "timing"
    assert facts.windows[0].steps == steps


# Programs that never leave the block: nothing is written, and nothing crashes.
ABRUPT = {
    "interpreter exit while recording": """
doctor = block().__enter__()
for i, (x, y) in enumerate(loader(24)):
    train(x, y)
    if i == 15: sys.exit(3)
""",
    "os._exit while recording": """
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        train(x, y)
        if i == 15: os._exit(4)
""",
    "SIGTERM while recording": """
import signal
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        train(x, y)
        if i == 15: os.kill(os.getpid(), signal.SIGTERM)
""",
    "recorder dropped while recording": """
import gc
doctor = block()
doctor.__enter__()
for i, (x, y) in enumerate(loader(24)):
    train(x, y)
    if i == 15:
        del doctor
        gc.collect()
""",
    "a thread that ends while it records": """
def work():
    block().__enter__()
    for i, (x, y) in enumerate(loader(24)):
        train(x, y)
        if i == 15: return
thread = threading.Thread(target=work)
thread.start()
thread.join()
""",
    "exit while a daemon thread is still recording": """
ready = threading.Event()
def work():
    block().__enter__()
    for i, (x, y) in enumerate(loader(24)):
        train(x, y)
        if i == 15:
            ready.set()
            time.sleep(60)
threading.Thread(target=work, daemon=True).start()
ready.wait()
""",
}


@pytest.mark.parametrize("name", ABRUPT)
def test_a_process_that_ends_while_recording_ends_as_it_would_alone(zygote: Zygote, tmp_path: Path, name: str) -> None:
    with_and_without(zygote, tmp_path, ABRUPT[name])


# Programs with other processes and threads: the trace is complete, their results are those of the script alone.
COMPANY = {
    "forked loader workers": """
with block() as doctor:
    for x, y in loader(24, num_workers=2):
        train(x, y)
""",
    "forked persistent workers over epochs": """
with block() as doctor:
    batches = loader(8, num_workers=1, persistent_workers=True)
    for epoch in range(3):
        for x, y in batches:
            train(x, y)
""",
    "a spawned loader worker": """
if __name__ == "__main__":
    with block() as doctor:
        for x, y in loader(24, num_workers=1, multiprocessing_context="spawn"):
            train(x, y)
""",
    "a child forked while recording trains on and leaves the block": """
def pages():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        if i == 15:
            child = os.fork()
            if child == 0:
                for _ in range(2000): torch.ones(1)
                before = pages()
                for _ in range(4000): torch.ones(1)
                assert pages() - before < 400  # recording would take a kilobyte for each operator
                train(x, y)
                break
            assert os.waitpid(child, 0)[1] == 0
        train(x, y)
""",
    "training in a thread, evaluation in another": """
def work():
    with block() as doctor:
        for x, y in loader(24):
            train(x, y)
stop = threading.Event()
other = nn.Linear(8, 4)
sgd = torch.optim.SGD(other.parameters())
inputs = torch.ones(8, 8)
def evaluate():
    while not stop.is_set():  # draws nothing from the global generator, which only the training may
        for x in DataLoader(inputs, 4, generator=torch.Generator()):
            other(x).sum().backward()
            sgd.step()
second = threading.Thread(target=evaluate)
first = threading.Thread(target=work)
second.start(); first.start()
first.join(); stop.set(); second.join()
""",
}


@pytest.mark.parametrize("name", COMPANY)
def test_other_processes_and_threads_do_not_notice(zygote: Zygote, tmp_path: Path, name: str) -> None:
    watched, _ = with_and_without(zygote, tmp_path, COMPANY[name])
    assert watched.code == 0
    facts = ours(tmp_path).facts
    assert [window.kind for window in facts.windows] == ["timing", "shapes"]
    assert facts.windows[0].steps >= 2


def test_nothing_stays_changed_after_the_block(zygote: Zygote, tmp_path: Path) -> None:
    body = """
import gc, random, signal
from torch.autograd import profiler, profiler_legacy
from torch.optim import optimizer as optim
from torch.utils.data import dataloader

def world():
    return {
        "env": dict(os.environ),
        "rng": torch.get_rng_state().tolist(), "random": random.getstate(),
        "precision": torch.get_float32_matmul_precision(), "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(), "deterministic": torch.are_deterministic_algorithms_enabled(),
        "gc": (gc.callbacks[:], gc.get_threshold(), gc.isenabled()),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "hooks": (dict(optim._global_optimizer_post_hooks), dict(optim._global_optimizer_pre_hooks)),
        "methods": [dataloader._BaseDataLoaderIter.__next__, torch.amp.GradScaler.step, torch.autocast.__enter__,
                    profiler.profile._prepare_trace, profiler.emit_itt.__enter__, profiler.emit_nvtx.__enter__,
                    profiler_legacy.profile.__enter__],
        "threads running": sorted(t.name for t in threading.enumerate()),
        "profiling": torch._C._autograd._profiler_enabled(),
        "cuda": torch.cuda.is_initialized(),
        "streams": (sys.stdout, sys.stderr, sys.excepthook),
        "folder": os.getcwd(), "files": [f for f in os.listdir() if not f.startswith("out")],
    }

train(*next(iter(loader(1))))
before = world()
with block() as doctor:
    pass
between = world()
assert before == between, [k for k in before if before[k] != between[k]]
with block() as doctor:
    for x, y in loader(24):
        train(x, y)
        inside = world()
after = world()
changed = [k for k in before if before[k] != after[k] and k != "rng"]
assert not changed, changed
assert inside["env"] == before["env"]
print("cuda", torch.cuda.is_initialized())
"""
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert watched.code == 0, watched.err
    assert "cuda False" in watched.out
