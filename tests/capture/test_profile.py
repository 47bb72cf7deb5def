"""`profile()` around ordinary loops: what is recorded, and that the training does not notice."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

import mfu_doctor
from mfu_doctor.facts import Facts
from tests.capture.programs import LOOP, ours, with_and_without
from tests.capture.zygote import Zygote


def test_an_ordinary_loop_gets_both_windows_and_honest_times(zygote: Zygote, tmp_path: Path) -> None:
    ended, plain = with_and_without(zygote, tmp_path, LOOP)
    written = ours(tmp_path)
    facts = written.facts
    assert ended.code == 0
    assert len(ended.losses) == 24
    assert ended.err == plain.err == ""  # Kineto's own chatter included
    assert facts.step_source == "optimizer"
    assert [window.kind for window in facts.windows] == ["timing", "shapes"]
    assert [window.steps for window in facts.windows] == [5, 1]
    assert len(facts.timed_steps_s) == len(facts.profiled_steps_s) == 5
    assert len(facts.after_steps_s) == 3
    assert written.steps == [13, 14, 15, 16, 17, 19]
    assert facts.site == "program.py:17"  # where `profile(` is written
    assert facts.notes == ()


def test_windows_are_where_the_facts_say_and_ids_never_collide(zygote: Zygote, tmp_path: Path) -> None:
    with_and_without(zygote, tmp_path, LOOP)
    written = ours(tmp_path)
    base = 1  # times are compared with each other only
    timing, shapes = written.facts.windows
    assert timing.start_ns < timing.end_ns < shapes.start_ns < shapes.end_ns
    marks = sorted(
        (event["ts"], event["ts"] + event["dur"]) for event in written.events if "ProfilerStep" in event["name"]
    )
    assert all(first[1] <= second[0] + base for first, second in pairwise(marks))
    ops = [event for event in written.events if event.get("cat") == "cpu_op"]
    assert len({event["args"]["External id"] for event in ops}) == len(ops)
    shaped = [event for event in ops if "Input Dims" in event["args"]]
    assert shaped
    assert {event["name"] for event in shaped} >= {"aten::addmm"}
    assert min(event["ts"] for event in shaped) >= marks[5][0] - base


@pytest.mark.parametrize(
    ("steps", "timing", "shapes"), [(1, 0, 0), (2, 1, 0), (3, 1, 0), (4, 2, 0), (6, 2, 1), (12, 3, 1), (19, 5, 1)]
)
def test_a_short_run_scales_its_phases_to_the_loader(
    zygote: Zygote, tmp_path: Path, steps: int, timing: int, shapes: int
) -> None:
    with_and_without(zygote, tmp_path, LOOP.replace("24", str(steps)))
    facts = ours(tmp_path).facts
    counted = {window.kind: window.steps for window in facts.windows}
    assert (counted.get("timing", 0), counted.get("shapes", 0)) == (timing, shapes)
    assert facts.notes  # it says so
    assert len(facts.timed_steps_s) >= (steps >= 3)


def test_a_run_that_ends_early_keeps_its_second_step(zygote: Zygote, tmp_path: Path) -> None:
    body = """
with block() as doctor:
    for x, y in loader(100):
        train(x, y)
        if len(seen := globals().setdefault("seen", [])) == 5: break
        seen.append(1)
"""
    with_and_without(zygote, tmp_path, body)
    written = ours(tmp_path)
    assert [window.kind for window in written.facts.windows] == ["timing"]
    assert written.steps == [1]
    assert written.facts.notes == ("profile() ended after 6 of 20 steps: only the second step was recorded",)
    assert len(written.facts.timed_steps_s) == 4


def test_facts_describe_the_loop_without_being_asked(zygote: Zygote, tmp_path: Path) -> None:
    body = """
with block(model_flops=1e6) as doctor, torch.autocast("cpu", torch.bfloat16, enabled=True):
    for epoch in range(2):
        for x, y in loader(12):
            train(x, y)
"""
    with_and_without(zygote, tmp_path, body)
    facts: Facts = ours(tmp_path).facts
    (loader,), (optimizer,) = facts.loaders, facts.optimizers
    assert (loader.class_name, loader.batch_size, loader.num_workers) == ("SingleProcessDataLoader", 4, 0)
    assert loader.wait_s is not None
    assert (optimizer.class_name, optimizer.elements, optimizer.dtypes) == (
        "AdamW",
        8 * 16 + 16 + 16 * 4 + 4,
        ("float32",),
    )
    assert optimizer.module == "torch.optim.adamw"
    assert optimizer.options == ("foreach", "fused")
    assert optimizer.sparse_gradients is False
    assert facts.batch_shape == (4, 8)
    assert facts.batch_elements is not None
    assert facts.batch_elements >= 4 * 8
    assert facts.micro_batches == 1.0
    assert facts.precision is not None
    assert facts.host is not None
    assert facts.host.torch_threads == 1
    assert facts.given is not None
    assert facts.given.model_flops == 1e6
    assert dict(facts.versions)["torch"].startswith("2.")
    assert {peak.dtype for peak in facts.measured_peaks} == {"float32", "bfloat16"}


def test_a_file_named_json_is_plain_and_one_named_gz_is_not(tmp_path: Path) -> None:
    """TensorBoard's plugin goes by the suffix: it cannot read gzip behind `.json`."""
    pytest.importorskip("torch", reason="torch is not installed")
    for name, begins in (("run.pt.trace.json", b"{"), ("run.pt.trace.json.gz", b"\x1f\x8b")):
        with mfu_doctor.profile(tmp_path / name, print_report=False):
            pass
        assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_recorder_entered_twice_leaves_the_floor_to_the_next(tmp_path: Path) -> None:
    """The second block of one recorder once stayed open for good, and the next profile() raised into the training."""
    again = mfu_doctor.profile(tmp_path / "again.pt.trace.json.gz", print_report=False)
    for _ in range(2):
        with again:
            pass
    with mfu_doctor.profile(tmp_path / "next.pt.trace.json.gz", print_report=False):
        pass
