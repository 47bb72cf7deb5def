"""The user's profiler always wins, and nothing crashes: every row of torch's nested-profiler table, in real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.programs import ours, with_and_without
from tests.capture.zygote import Zygote

EVENTS = """
def events(prof, path="theirs.json"):
    import json
    prof.export_chrome_trace(path)
    names = [e["name"] for e in json.load(open(path))["traceEvents"]]
    print("theirs", names.count("aten::addmm") > 0)
"""

# Each body runs 24 steps; the user's profiler lives at different times relative to our windows (look at step 1, warm-up
# 10 to 12, timing 13 to 17, shapes 18).
CASES = {
    "with block around ours": """
with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as prof:
    with block() as doctor:
        for x, y in loader(24):
            train(x, y)
events(prof)
""",
    "with block inside our timing window": """
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        if i == 15:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as prof:
                train(x, y)
        else:
            train(x, y)
events(prof)
""",
    "schedule whose warm-up covers our start": """
with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU],
                            schedule=torch.profiler.schedule(wait=10, warmup=5, active=3, repeat=1),
                            on_trace_ready=events) as prof:
    with block() as doctor:
        for x, y in loader(24):
            train(x, y)
            prof.step()
""",
    "schedule that warms up inside our warm-up": """
with block() as doctor:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU],
                                schedule=torch.profiler.schedule(wait=11, warmup=1, active=3, repeat=1),
                                on_trace_ready=events) as prof:
        for x, y in loader(24):
            train(x, y)
            prof.step()
""",
    "autograd profiler inside our timing window": """
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        with torch.autograd.profiler.profile(enabled=i == 14) as prof:
            train(x, y)
        if i == 14:
            events(prof)
""",
    "legacy profiler inside our timing window": """
from torch.autograd import profiler_legacy
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        with profiler_legacy.profile(enabled=i == 14) as prof:
            train(x, y)
        if i == 14:
            print("theirs", any("addmm" in e.name for e in prof.function_events))
""",
    "NVTX or ITT ranges around ours": """
with torch.autograd.profiler.emit_itt():
    with block() as doctor:
        for x, y in loader(24):
            train(x, y)
print("theirs", True)
""",
    "ITT ranges inside our timing window": """
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        with torch.autograd.profiler.emit_itt(enabled=i == 14):
            train(x, y)
print("theirs", True)
""",
    "profiler started and stopped by hand over our whole timing": """
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        if i == 9:
            prof = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
            prof.start()
        train(x, y)
    prof.stop()
events(prof)
""",
    "profiler that closes whatever is open, as Lightning's does, in our window": """
with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        if i == 15:
            try:
                torch.autograd._disable_profiler()
            except (AttributeError, RuntimeError):
                pass
            prof = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
            prof.start()
        train(x, y)
    prof.stop()
events(prof)
""",
}


@pytest.mark.parametrize("name", CASES)
def test_the_users_profiler_wins_and_nothing_crashes(zygote: Zygote, tmp_path: Path, name: str) -> None:
    watched, _ = with_and_without(zygote, tmp_path, EVENTS + CASES[name])
    assert watched.code == 0
    assert len(watched.losses) == 24
    assert "theirs True" in watched.out  # their data is complete
    written = ours(tmp_path)
    assert any("profiler" in note for note in written.facts.notes), written.facts.notes
    assert not any("more steps" in note for note in written.facts.notes)  # the run was long enough
    assert written.facts.timed_steps_s  # what needs no profiler is still there


def test_a_window_cut_by_another_profiler_keeps_its_whole_steps(zygote: Zygote, tmp_path: Path) -> None:
    with_and_without(zygote, tmp_path, EVENTS + CASES["with block inside our timing window"])
    written = ours(tmp_path)
    assert written.facts.windows[0].steps == 2
    assert written.steps[:2] == [13, 14]
    assert written.named("mfu_doctor.unfinished_step")


def test_a_profiler_on_another_thread_waits_for_the_end_of_our_step(zygote: Zygote, tmp_path: Path) -> None:
    body = """
def other():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as prof:
        (torch.ones(3) * 2).sum()
    prof.export_chrome_trace("theirs.json")
    print("theirs", "aten::mul" in open("theirs.json").read())

with block() as doctor:
    for i, (x, y) in enumerate(loader(24)):
        if i == 14:
            thread = threading.Thread(target=other)
            thread.start()
        train(x, y)
        time.sleep(0.01)
thread.join()
with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as prof:
    train(x, y)
"""
    watched, _ = with_and_without(zygote, tmp_path, body)
    assert watched.code == 0
    assert "theirs True" in watched.out
