"""missing-gpu-events: launches whose kernels were not recorded."""

from __future__ import annotations

from mfu_doctor.rules.trace.missing_gpu_events import missing_gpu_events
from tests.rules.judging import caution, run_of, silent
from tests.rules.trace.drawing import loop


def test_missing_gpu_events() -> None:
    drawn = loop()
    lost = [e for e in drawn.events if e["cat"] == "kernel"][::2]
    drawn.events = [e for e in drawn.events if e not in lost]
    assert "have no kernel" in caution(missing_gpu_events, run_of(drawn))


def test_a_host_whose_kernels_were_not_recorded_at_all() -> None:
    drawn = loop()
    drawn.events = [e for e in drawn.events if e["cat"] != "kernel"]
    assert caution(missing_gpu_events, run_of(drawn)).startswith("The trace has no GPU kernels")


def test_a_kernel_cut_off_at_the_edge_of_the_recording_is_no_loss() -> None:
    drawn = loop((1_000,) * 60)
    drawn.events.remove([e for e in drawn.events if e["cat"] == "kernel"][-1])
    silent(missing_gpu_events, run_of(drawn))
