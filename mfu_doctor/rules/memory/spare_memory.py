"""GPU memory is free, and part of each step does not depend on the batch size.

What it measures
    The peak of the allocator against the GPU memory, and the part of the step that a larger batch would not make longer: idle
    time, the optimizer, exposed communication.

Why it costs
    This time is the same for every step. With more samples per step, it is smaller per sample.

How the gain is predicted
    b is the current batch size and b' the new one (at most 2b, limited by memory). The new step time is
    T(b') = fixed + variable x b'/b. The gain in throughput is b'/b x T(b) / T(b') - 1. The gain is in samples per second: the
    step becomes longer, not shorter, so replay is not used.

How to fix
    Use a larger batch size. Adjust the learning rate if necessary.

When it is wrong
    The rule promises too much if convergence needs more samples with a larger batch. Activations that do not grow linearly, and
    other processes on the GPU, change what fits.

References
    McCandlish et al., An Empirical Model of Large-Batch Training, 2018 (gradient noise scale)
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.device_memory import USABLE_SHARE, device_memory
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.quantities import number, percent, share
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Above this share of the device too little memory is free.
FULL_SHARE = 0.7
MOST_GROWTH = 2.0
# A gain below this is within what a new batch size changes anyway.
LEAST_GAIN = 0.10


@rule(
    "spare-memory",
    "ME002",
    "memory is free for a larger batch",
    needs=(Need.DEVICE, Need.FACTS),
    also=("batch-size", "memory-headroom"),
)
def spare_memory(run: Run) -> Outcome:
    """Judge the room for a larger batch."""
    memory = device_memory(run)
    if run.facts is None or run.facts.memory is None or memory is None:
        return Skip("the peak of the allocator was not recorded")
    used = memory.used
    if used >= FULL_SHARE or run.facts.memory.alloc_retries:
        return None
    batch = run.facts.loaders[0].batch_size if run.facts.loaders else None
    growth = _growth(used, batch)
    fixed = _fixed_ns(run)
    step = steady_of(run).step_ns
    gain = growth * step / (fixed + (step - fixed) * growth) - 1.0
    if gain < LEAST_GAIN:
        return None
    wanted = f"{round(batch * growth)}" if batch else f"...  # {growth:.1f} times as large"
    return Finding(
        summary=f"{share(1 - used, 1.0)} of the GPU memory is free, and {share(fixed, step)} of the step "
        "does not depend on the batch size",
        fix=f"batch_size={wanted}",
        detail=f"{number(growth)} times the batch would give {percent(gain, 0)} more samples per second; "
        "the step itself becomes longer",
        evidence=(
            shown("peak memory", memory.peak, "bytes"),
            shown("device memory", memory.total, "bytes"),
            shown("independent of the batch", seconds(fixed), "s"),
        ),
        risk="convergence",
        throughput_gain=gain,
    )


def _growth(used: float, batch: int | None) -> float:
    """How many times as large the batch may become: as memory allows, in whole samples if the batch is known."""
    growth = min(USABLE_SHARE / used, MOST_GROWTH)
    return int(batch * growth) / batch if batch else growth


def _fixed_ns(run: Run) -> float:
    """Mean time of a steady step that does not grow with the batch, in nanoseconds."""
    steady = steady_of(run)
    idle = run.breakdown.mean_ns("idle", "communication")
    entries = steady.entries(run) & (run.activity.kind == COMPUTE) & run.kernels.is_kind("optimizer")
    return idle + steady.per_step(float((run.activity.end - run.activity.start)[entries].sum()))
