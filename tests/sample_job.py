"""A job's report with every field filled, as a real run would fill it: one rank waits for its loader and all others wait for it.

The screens and the page are built and looked at with it, at 8 and at 1,024 ranks.
"""

from __future__ import annotations

import random

from mfu_doctor.result.caveats import FIGURES, Caveat
from mfu_doctor.result.findings import Evidence, Plan, PlanStep, Saving
from mfu_doctor.result.job import (
    STRAGGLER,
    Arrival,
    Blame,
    Clock,
    CollectiveRow,
    GroupRow,
    JobFinding,
    JobReport,
    Matching,
    RankLeftOut,
    RankRow,
    RankStrip,
    WhatIf,
)
from mfu_doctor.result.run import ReplayInfo
from mfu_doctor.result.run_verdict import Limit, Loss, RunVerdict
from mfu_doctor.result.step import Breakdown, step_time_of

STEP, LATE = 0.412, 0.0431
GPUS = 8  # of a host
BUCKETS_OF_STEP = 12


def job(ranks: int = 8, *, slow: int = 5) -> JobReport:
    """A job of so many ranks in which `slow` comes late."""
    dice = random.Random(7)
    rows = tuple(_row(rank, ranks, slow, dice) for rank in range(ranks))
    mean = _split(LATE * (ranks - 1) / ranks, 0.009 + LATE / ranks)
    return JobReport(
        version="0.1.0",
        created="2026-11-30T06:00:00+00:00",
        source="runs/7",
        world_size=ranks + 1,
        ranks=rows,
        missing=(ranks,),
        left_out=(RankLeftOut(reason="it is empty", rank=ranks, trace=f"rank{ranks}.pt.trace.json.gz"),),
        step_time_s=step_time_of([STEP * factor for factor in (0.99, 1.0, 1.01, 1.002, 0.998)], "trace"),
        mfu=0.314,
        mfu_low=0.309,
        mfu_high=0.318,
        typical=1,
        breakdown=mean,
        wait_s=LATE * (ranks - 1) / ranks,
        exposed_wait_s=0.9 * LATE * (ranks - 1) / ranks,
        groups=(GroupRow(name="0", description="dp", ranks=tuple(range(ranks)), complete=False),),
        collectives=_collectives(),
        matching=Matching(matched=60, unmatched=2, method="group and sequence number"),
        clock=Clock(resolution_s=4e-6, offsets_s=dict.fromkeys(range(ranks), 0.0), method="ends of 60 collectives"),
        blames=(_blame(slow),),
        findings=_findings(slow),
        what_ifs=(
            WhatIf(name="no skew between ranks", step_s=STEP - LATE, saving_s=LATE),
            WhatIf(name="collectives at the link's rate", step_s=STEP - 0.012, saving_s=0.012),
        ),
        plan=Plan(
            steps=(
                PlanStep(rule="straggler-rank", step_s=STEP - LATE, saving_s=LATE),
                PlanStep(rule="host-bound", step_s=STEP - LATE - 0.02, saving_s=0.02),
            ),
            saving_low_s=0.055,
            saving_high_s=0.063,
        ),
        replay=ReplayInfo(error=0.006, predicted_s=STEP * 1.006, measured_s=STEP, trusted=True),
        verdict=RunVerdict(
            sentence=f"All ranks wait 43 ms of a 412 ms step for rank {slow}, whose loader takes 61 ms against 9 ms "
            "on the others. "
            "Mended, the step is about 370 ms (43 ms less).",
            limit=Limit(owner="rank_wait", seconds=LATE, share=LATE / STEP),
            loss=Loss(rule="straggler-rank", place="train.py:41", saving_s=LATE, sure="modelled"),
        ),
        caveats=(
            Caveat(kind="missing-ranks", text=f"1 of {ranks + 1} ranks has no trace: who waits for it is not known",
                   remedy="record all ranks", spoils=FIGURES),
            Caveat(kind="note", text="2 collectives of 62 could not be matched"),
        ),
        arrivals=_arrivals(ranks, slow, dice),
        strips=tuple(_strip(rank, slow, dice) for rank in range(ranks)),
    )  # fmt: skip


def _split(wait: float, loading: float) -> Breakdown:
    communication = 0.021 + wait
    rest = 0.018
    causes = {"launch": 0.011, "python": 0.005, "other": 0.002}
    return Breakdown(
        step_s=STEP,
        compute=STEP - communication - loading - rest,
        communication=communication,
        data_loading=loading,
        idle=rest,
        idle_causes=causes,
    )


def _row(rank: int, ranks: int, slow: int, dice: random.Random) -> RankRow:
    late = rank == slow
    return RankRow(
        rank=rank,
        trace=f"rank{rank}.pt.trace.json.gz",
        host=f"node{rank // GPUS}",
        device="NVIDIA H100 80GB HBM3",
        group={"dp": rank // 4, "tp": rank % 4},
        step_s=STEP * (1 + dice.uniform(-0.002, 0.002)),
        mfu=dice.uniform(0.309, 0.318),
        breakdown=_split(0.0 if late else LATE, 0.009 + (LATE if late else 0.0)),
        wait_s=0.0004 if late else LATE * dice.uniform(0.95, 1.05),
        waited_for_s=LATE if late else dice.uniform(0.0, 0.0005),
        verdict="Input-bound: waiting for data takes 52 % of the step."
        if late
        else "70 % computing, 16 % communication.",
        finding="input-bound" if late else "exposed-communication",
        steps_s=tuple(STEP * dice.uniform(0.98, 1.03) for _ in range(5)),
    )


def _blame(slow: int) -> Blame:
    return Blame(
        kind=STRAGGLER,
        ranks=(slow,),
        wait_s=LATE,
        share=0.94,
        causes={"data_loading": 0.0409, "idle: python": 0.0031, "compute: matmul": -0.0009},
        cause="data_loading",
        steps=5,
        place="train.py:41",
        sentence=f"rank {slow} is last in 58 of 60 collectives: it waits 61 ms for its loader, the others 9 ms",
    )


def _findings(slow: int) -> tuple[JobFinding, ...]:
    return (
        JobFinding(
            rule="straggler-rank",
            code="CO021",
            summary=f"rank {slow} comes 43 ms late in every step because its loader takes 61 ms against 9 ms on the others",
            fix="DataLoader(..., num_workers=4, persistent_workers=True)",
            place="train.py:41",
            ranks=(slow,),
            saving=Saving(low=0.039, mid=LATE, high=0.044),
            evidence=(Evidence(name="waiting for data", value=0.061, unit="s"),),
        ),
        JobFinding(
            rule="host-bound",
            code="HO001",
            summary="the CPU launches kernels too slowly",
            fix="model = torch.compile(model)",
            saving=Saving(low=0.012, mid=0.02, high=0.021),
        ),
    )


def _collectives() -> tuple[CollectiveRow, ...]:
    return (
        CollectiveRow(group="dp", kind="allreduce", size_bytes=25 << 20, count=12.0, duration_s=0.0592, wait_s=0.0411,
                      transfer_s=0.0181, exposed_s=0.046, algorithm_bytes_s=17.4e9, bus_bytes_s=30.4e9, link_bytes_s=450e9),
        CollectiveRow(group="tp", kind="allgather", size_bytes=4096, count=48.0, duration_s=0.0032, wait_s=0.0009,
                      transfer_s=0.0023, exposed_s=0.0008),
    )  # fmt: skip


def _arrivals(ranks: int, slow: int, dice: random.Random) -> tuple[Arrival, ...]:
    made = []
    for index in range(BUCKETS_OF_STEP):
        at = 0.12 + index * 0.022
        arrive = tuple(
            at + (LATE if rank == slow and index == 0 else dice.uniform(0.0, 0.0006)) for rank in range(ranks)
        )
        made.append(
            Arrival(group="dp", kind="allreduce", last_rank=slow, arrive_s=arrive, ranks=tuple(range(ranks)),
                    end_s=max(arrive) + 0.0015)
        )  # fmt: skip
    return tuple(made)


def _strip(rank: int, slow: int, dice: random.Random) -> RankStrip:
    loading = 0.009 + (LATE if rank == slow else 0.0)
    parts = [(0.0, loading, "data_loading"), (loading, loading + 0.011, "launch"), (loading + 0.011, 0.14, "compute")]
    at = 0.14
    for _ in range(BUCKETS_OF_STEP):
        wait = 0.0 if rank == slow else dice.uniform(0.002, 0.005)
        parts += [(at, at + 0.014, "compute"), (at + 0.014, at + 0.014 + wait, "wait")]
        parts += [(at + 0.014 + wait, at + 0.0195, "communication"), (at + 0.0195, at + 0.022, "python")]
        at += 0.022
    return RankStrip(rank=rank, parts=(*parts, (at, STEP, "idle")))
