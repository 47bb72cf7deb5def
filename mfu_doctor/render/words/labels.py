"""What the short values of a report mean in words: effort, confidence and risk of a fix, causes of idle time, step boundaries."""

from __future__ import annotations

from mfu_doctor.result.findings import SURE, Diagnosis

RISKS = {"rounding": "changes rounding", "convergence": "may change convergence"}
EFFORTS = {"setting": "change of settings", "line": "one-line change", "refactor": "code restructuring"}
UNCHANGED = "results unchanged"  # no risk
IDLE_MEANS = {
    "launch": "the CPU launches kernels too slowly",
    "host_compute": "operators compute on the CPU",
    "sync": "the CPU waited for the device and launches again",
    "allocator": "device memory is being allocated or freed",
    "compile": "code is being compiled (torch.compile, Triton)",
    "gc": "the Python garbage collector is running",
    "python": "the CPU runs Python code outside operators",
    "rank_wait": "another rank has not yet entered the collective",
    "queue": "kernels are launched, but something holds them",
    "other": "the cause is not known",
}
STEPS_FOUND_BY = {"optimizer": "optimizer steps", "periodicity": "repeated kernels"}

REPLAY = "Savings are predicted by replay: the recorded timeline is simulated again with the problem removed."
REPLAY_ERROR = "The replay error is the simulated step of the unchanged run against the measured step."
OVERLAP = "The shares of all kernels add up to more than 100 %, because some kernels run at the same time."


def idle_cause(name: str) -> str:
    """A cause of idle time and what it means: "launch: the CPU launches kernels too slowly"."""
    label = name.replace("_", " ")
    return f"{label}: {IDLE_MEANS[name]}" if name in IDLE_MEANS else label


def fix_tags(found: Diagnosis) -> tuple[str, ...]:
    """How a fix is meant, in words: how sure its saving is, what it asks of the user, and whether results change."""
    known = (
        f"sure: {found.sure} ({SURE[found.sure]})" if found.saving or found.throughput_gain is not None else "",
        EFFORTS.get(found.effort, found.effort) if found.effort else "",
        RISKS.get(found.risk, UNCHANGED) if found.risk else "",
    )
    return tuple(words for words in known if words)
