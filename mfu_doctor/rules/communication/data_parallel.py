"""nn.DataParallel copies the model to all GPUs in each step, from one process.

What it measures
    Broadcast, Scatter and Gather of nn.DataParallel, on the GPU and on the CPU.

Why it costs
    One Python process drives all GPUs, copies all parameters in each forward pass, and collects outputs and gradients on the
    first GPU.

How the gain is predicted
    Low: half of the time of these copies is removed.
    Mid: 90 % is removed.
    High: all of it is removed.
    Other costs of the single process are not included.

How to fix
    Use DistributedDataParallel with one process per GPU.

When it is wrong
    No exception is known: PyTorch itself recommends DistributedDataParallel instead of DataParallel.

References
    https://pytorch.org/docs/stable/generated/torch.nn.DataParallel.html
"""

from __future__ import annotations

import re

from mfu_doctor.analysis.evidence.attribution import calls_of, device_ns, scaled, work_of
from mfu_doctor.analysis.evidence.steady_steps import spans, steady_of
from mfu_doctor.analysis.replay.edits import Change, Edit, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

# Not DataParallel.forward itself: the replicas compute inside it.
_REPLICATION = re.compile(r"^(Broadcast|Gather|Scatter|ReduceAddCoalesced)(Backward)?$")
_SURE = re.compile(r"^(DataParallel\.forward|Broadcast|BroadcastBackward)$")


@rule("data-parallel", "CO005", "nn.DataParallel copies the model in each step", needs=(Need.DEVICE,), also=("ddp",))
def data_parallel(run: Run) -> Outcome:
    """Look for the replication of nn.DataParallel."""
    steady = steady_of(run)
    calls = steady.issued(run, calls_of(run, _SURE))
    if not len(calls):
        return None
    mask = work_of(run, _REPLICATION)
    where = spans(run, calls_of(run, _REPLICATION))
    device, host = device_ns(run, steady, mask), steady.host_ns(where)

    def left(factor: float) -> tuple[Edit, ...]:
        return (*scaled(run, mask, factor), ScaleHost(where, factor))

    return Finding(
        summary=f"nn.DataParallel copies the model in each step, which takes {steady.share(host)} of the step on the CPU",
        fix="model = DistributedDataParallel(model, device_ids=[local_rank])  # torchrun --nproc-per-node=N train.py",
        decides=Ends(
            low="half of these copies remain as all-reduces that nothing hides",
            high="backward hides all of its all-reduces",
        ),
        change=Change(left(0.5), left(0.1), left(0.0)),
        evidence=(shown("GPU time", seconds(device), "s"), shown("CPU time", seconds(host), "s")),
        place=run.places(calls[:1])[0],
        effort="refactor",
    )
