"""Operators compute on the CPU during the step, and the GPU waits for them.

What it measures
    Operators on the training threads that launch nothing and take longer than dispatching them takes (50 us, and 50 us for each
    operator inside), outside of data loading: random numbers, augmentation, a loss or a metric on CPU tensors. And the idle time
    of the GPU meanwhile.

Why it costs
    The CPU launches nothing while it computes. Faster launching (torch.compile, CUDA graphs) does not help. The GPU would need
    microseconds for most of these operators.

How the gain is predicted
    Low: if the operators make tensors, they no longer run in the step, but their copies remain, as if workers of a DataLoader
    made them. Otherwise half of their time remains.
    Mid and high: each operator takes as long as other operators of this run take to launch. If it makes a tensor, the copy of
    the tensor to the GPU takes only the time of writing it in GPU memory, and the CPU does not wait for it.
    The time that other operators need on the GPU is not known and not counted.

How to fix
    Create tensors on the GPU: torch.randn(..., device="cuda"). Move inputs to the GPU before they are processed. Or process them
    in the Dataset, so that DataLoader workers do it during earlier steps.

When it is wrong
    The rule is wrong if the operator must run on the CPU (its result is the same for each seed only there, or its input is too
    large for the GPU). An operator that waited for a core looks the same.

References
    https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html#create-tensors-directly-on-the-target-device
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.attribution import first_place
from mfu_doctor.analysis.evidence.copies import Copies, copies_matching
from mfu_doctor.analysis.evidence.host_computing import Computed, computed_of, issued_instead, made_on_host
from mfu_doctor.analysis.evidence.steady_steps import Rows, part_of, steady_of
from mfu_doctor.analysis.evidence.syncs import upload_syncs
from mfu_doctor.analysis.names.vocabulary import TO_DEVICE
from mfu_doctor.analysis.replay.edits import AsyncCopies, Change, DropWaits, ShortenHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted, time_of
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import NS_PER_S, seconds

_NAMED = 3  # operators that are listed
# GPU memory is at least this many times as fast as the link to the host, if its bandwidth is not known.
_MEMORY_OVER_LINK = 10
_PINS = ("pin_memory", "_pin_memory")
_CONVERTS = ("to", "_to_copy", "copy_")


@rule(
    "host-computation",
    "HO033",
    "operators compute on the CPU",
    needs=(Need.DEVICE,),
    also=("cpu-ops", "cpu-randn", "cpu-preprocessing"),
)
def host_computation(run: Run) -> Outcome:
    """Judge operators that launch nothing."""
    steady = steady_of(run)
    idle = part_of(run, "host_compute")
    if idle.mean_ns < WORTH_SHARE * steady.step_ns:
        return None
    computed = computed_of(run, steady)
    if not computed:
        return None
    first = computed[0]
    place = first_place(run, first.rows)
    return Finding(
        summary=f"GPU waits {idle.of_step} while the CPU computes {_names(computed)}",
        fix=_fix(first),
        detail="; ".join(f"{c.name} takes {time_of(c.per_step_ns)} per step" for c in computed[:_NAMED])
        + (f"; the first is called at {place}" if place else ""),
        decides=Ends(low="they have to stay on the CPU", high="the operators can all run on the device"),
        change=_change(run, computed),
        evidence=(
            shown("GPU idle, CPU computes", seconds(idle.mean_ns), "s"),
            *(shown(c.name, seconds(c.per_step_ns), "s", first_place(run, c.rows)) for c in computed[:_NAMED]),
        ),
        place=place,
        confidence="modelled" if first.makes else "hint",
    )


def _names(computed: list[Computed]) -> str:
    names, rest = [c.name for c in computed[:_NAMED]], len(computed) - _NAMED
    if rest > 0:
        names.append(counted(rest, "other operator"))
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def _fix(first: Computed) -> str:
    name = first.name.removeprefix("aten::")
    if first.makes:
        called = "rand" if name == "uniform_" else name.rstrip("_")
        return f'x = torch.{called}(..., device="cuda")  # not torch.{called}(...).to("cuda")'
    if name in _PINS:
        return "DataLoader(..., pin_memory=True)  # a thread pins batches ahead; not batch.pin_memory() in the step"
    if name in _CONVERTS:
        return 'x = x.to("cuda", non_blocking=True).to(dtype)  # copy first, so that the GPU converts'
    return f'x = x.to("cuda", non_blocking=True)  # before {name}; or call {name} in the Dataset, with num_workers=2 or more'


def _change(run: Run, computed: list[Computed]) -> Change:
    names = run.trace.named(run.trace.name_ids({c.name for c in computed if c.makes}))
    rows = run.host.computing_rows
    makes = names[rows]
    instead = issued_instead(run, rows)
    others = issued_instead(run, rows[~makes])
    half = ShortenHost(others.start, others.end, (others.end - others.start) // 2)
    gone = _made_there(run, rows[makes])
    return Change((issued_instead(run, rows[makes]), half), (instead, *gone), (instead, *gone))


def _made_there(run: Run, makers: Rows) -> tuple[AsyncCopies, DropWaits]:
    """The copies of tensors that these operators made, as if the GPU made them."""
    copies = copies_matching(run, TO_DEVICE)
    copies = copies.only(made_on_host(run, copies) & _follow(run, copies, makers))
    written = copies.duration_ns / _MEMORY_OVER_LINK
    if run.peaks.bandwidth:
        written = np.minimum(copies.size / run.peaks.bandwidth * NS_PER_S, copies.duration_ns)
    waits = upload_syncs(run, run.launches.call[copies.entry])
    return AsyncCopies(run.activity.row[copies.entry], written.astype(np.int64)), DropWaits(waits)


def _follow(run: Run, copies: Copies, makers: Rows) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which copies are the first ones after one of these operators."""
    start = run.trace.events.start[copies.issuer(run)]
    order = np.argsort(start, kind="stable")
    next_one = np.searchsorted(start[order], run.trace.events.end[makers], side="left")
    found = np.zeros(len(start), np.bool_)
    found[order[next_one[next_one < len(order)]]] = True
    return found
