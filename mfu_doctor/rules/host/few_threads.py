"""CPU operators use fewer threads than there are cores.

What it measures
    The number of intra-op threads (torch.get_num_threads) against the cores that this process may use, without what workers and
    other processes used of them, and the time of the operators that could use more of them. OMP_NUM_THREADS=1, which torchrun
    sets, is the usual reason.

Why it costs
    Matmuls and convolutions on a CPU become faster almost in proportion to the cores. With one thread, the other cores are idle.

How the gain is predicted
    Low: matmuls, convolutions and attention use all cores, and each added core counts 70 %.
    Mid: for these operators each added core counts 85 %. Other operators on more than 32,768 elements are parallel in PyTorch
    too: for them it counts 70 %, because the cores share the memory bandwidth.
    High: each added core counts in full for all operators.
    Replay gives the new step time. Cores are divided by the ranks that share the machine.

How to fix
    torch.set_num_threads(N), or OMP_NUM_THREADS=N before Python starts.

When it is wrong
    The rule promises too much if it is not known what workers or other processes need of the cores. If the counted cores are
    hyper-threads, expect the low estimate: they add little to matmuls. Ranks on several machines are counted as if they shared
    one machine.

References
    https://pytorch.org/docs/stable/notes/cpu_threading_torchscript_inference.html
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.analysis.evidence.loader_cores import taken_by_others
from mfu_doctor.analysis.replay.edits import Change, ScaleDevice
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMPUTE
from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need

_LOW_EFFICIENCY, _MID_EFFICIENCY = 0.7, 0.85  # of adding a core; dense matmuls on two to eight cores reach 0.8 to 0.95
_GRAIN = 32_768  # elements below which PyTorch does not split an operator (at::internal::GRAIN_SIZE)
_FLOAT_BYTES = 4
# Tensors that an operator usually reads or writes at most: with more traffic than so many grains, one of them is split.
_OPERANDS = 3


@rule(
    "few-threads",
    "HO030",
    "operators use fewer threads than there are cores",
    needs=(Need.FACTS,),
    also=("omp-num-threads",),
)
def few_threads(run: Run) -> Outcome:
    """Judge the number of threads of a CPU run."""
    if not run.is_cpu:
        return None
    host = run.facts.host if run.facts is not None else None
    if host is None or host.torch_threads is None:
        return Skip("the number of threads was not recorded")
    if host.usable_cores is None:
        return Skip("the number of usable cores was not recorded")
    ranks = (run.facts.world_size if run.facts is not None else None) or 1
    others = taken_by_others(run) if ranks == 1 else 0.0  # the other ranks have their part
    free = int(host.usable_cores) // ranks - (host.worker_cpu_share or 0.0) - others
    threads, cores = host.torch_threads, max(round(free), 1)
    if threads >= cores:
        return None
    return Finding(
        summary=f"Operators run on {threads} of {cores} cores",
        fix=f"torch.set_num_threads({cores})",
        decides=Ends(
            low="an added core counts 70 %, and in matmuls only", high="each added core counts in full in all operators"
        ),
        change=_change(run, threads, free),
        detail="OMP_NUM_THREADS sets the default; torchrun sets it to 1",
        evidence=(shown("threads", threads, "count"), shown("usable cores", cores, "count")),
        effort="setting",
        risk="rounding",
        raised_peak=max(run.peaks.dense.values(), default=0.0) * cores / threads or None,
    )


def _change(run: Run, threads: int, cores: float) -> Change:
    compute = run.activity.kind == COMPUTE
    products = distinct(run.activity.row[compute & run.kernels.matmul_like])
    moved = run.least_bytes
    large = compute & ~run.kernels.matmul_like & (moved > _OPERANDS * _GRAIN * _FLOAT_BYTES)
    others = distinct(run.activity.row[large])
    everything = distinct(run.activity.row[compute])

    def scaled(rows: np.ndarray[tuple[int], np.dtype[np.int64]], efficiency: float) -> ScaleDevice:
        speedup = 1.0 + (cores / threads - 1.0) * efficiency
        return ScaleDevice(rows, np.full(len(rows), 1.0 / speedup))

    usual = (scaled(products, _MID_EFFICIENCY), scaled(others, _LOW_EFFICIENCY))
    return Change((scaled(products, _LOW_EFFICIENCY),), usual, (scaled(everything, 1.0),))
