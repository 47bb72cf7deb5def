"""A table of operations of a pipeline job as summaries of its ranks: what each worker did when.

An operation starts when the one before it on its stream is done; a receive is before the forward or backward of its micro-batch,
which is before its send; gathers of parameters are before the first forward, and reductions of gradients after the last backward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from msgspec.structs import replace

from mfu_doctor.arrays.intervals import union
from mfu_doctor.job.summary import Collectives, Group, Ledger, RankSummary, Reach
from mfu_doctor.result.report import Report, RunInfo
from mfu_doctor.result.step import RECORDED, step_time_of

NS = 1_000_000_000
START = 1_700_000_000 * NS

# Of each type: its stream, and how it communicates. Pairs: from which stage, counted from the receiver's.
COMPUTE = ("forward-compute", "backward-compute", "optimizer", "gc")
PAIRS = {
    "forward-send": (+1, True),
    "forward-recv": (-1, False),
    "backward-send": (-1, True),
    "backward-recv": (+1, False),
}
KINDS = {
    "params-all-gather": "allgather",
    "grads-reduce-scatter": "reducescatter",
    "layernorm-grads-all-reduce": "allreduce",
    "embedding-grads-all-reduce": "allreduce",
    "optimizer-clip-main-grad": "allreduce",
}
AFTER_BACKWARD = tuple(KINDS)[1:]


@dataclass(frozen=True)
class Op:
    """One operation of a worker in a step, in seconds from the begin of the step."""

    type: str
    seq: int
    start: float
    duration: float

    @property
    def order(self) -> tuple[float, float]:
        return self.start, self.start + self.duration


Worker = tuple[int, int]  # place in the data-parallel group, stage
Steps = Sequence[Sequence[Op]]
Key = tuple[int, str, int]  # step, type, seq


def summaries_of(job: Mapping[Worker, Steps]) -> list[RankSummary]:
    """The summaries of all workers, in order of stage and then of the data-parallel rank."""
    workers = sorted(job, key=lambda worker: (worker[1], worker[0]))
    number = {worker: i for i, worker in enumerate(workers)}
    begins = begins_of(job)
    return [_summary(worker, job[worker], begins, number) for worker in workers]


def begins_of(job: Mapping[Worker, Steps]) -> list[int]:
    """When each step begins, and the last one ends: each when all workers have ended the one before."""
    ends = [max(op.start + op.duration for ops in step for op in ops) for step in zip(*job.values(), strict=True)]
    return list(accumulate((round(end * NS) for end in ends), initial=START))


def _summary(worker: Worker, steps: Steps, begins: Sequence[int], number: Mapping[Worker, int]) -> RankSummary:
    every = [
        (begin, op) for begin, ops in zip(begins, steps, strict=False) for op in sorted(ops, key=lambda op: op.order)
    ]
    meets = [(at, op) for at, op in every if op.type not in COMPUTE]
    ends = [max(op.start + op.duration for op in ops) for ops in steps]
    edge = np.array(begins, np.int64)
    rank = number[worker]
    return RankSummary(
        rank=rank,
        world_size=len(number),
        trace=f"rank{rank}",
        host=None,
        report=Report(run=RunInfo(trace=f"rank{rank}"), step_time_s=step_time_of(ends, RECORDED)),
        steps=tuple(range(len(steps))),
        step_start=edge,
        steady=np.ones(len(steps), np.bool_),
        collectives=_collectives(meets, worker, number),
        ledger=_ledger(every, meets, edge),
        reach=reach_of(steps, {}),
        reach_reason=None,
        transfer_ns=np.zeros(len(meets)),
        mended=(),
        flops=np.full(len(steps), np.nan),
        options={},
    )


def _at(begin: int, seconds: float) -> int:
    return begin + round(seconds * NS)


def _collectives(meets: Sequence[tuple[int, Op]], worker: Worker, number: Mapping[Worker, int]) -> Collectives:
    dp, stage = worker
    stages = sorted({one for _, one in number})

    def group(op: Op) -> Group:
        if op.type == "optimizer-clip-main-grad" or op.type in PAIRS:
            members = list(number.values())
        elif op.type == "embedding-grads-all-reduce":
            members = [number[dp, one] for one in (stages[0], stages[-1])]
        elif op.type == "layernorm-grads-all-reduce":
            members = [number[worker]]
        else:
            members = [i for (_, one), i in number.items() if one == stage]
        ranks = tuple(sorted(members))
        return Group(f"{op.type}" if op.type not in PAIRS else "pp", op.type, ranks, len(ranks))

    made = [group(op) for _, op in meets]
    groups = tuple(dict.fromkeys(made))
    peers = [number[dp, stage + PAIRS[op.type][0]] if op.type in PAIRS else -1 for _, op in meets]
    sends = [PAIRS[op.type][1] if op.type in PAIRS else None for _, op in meets]
    start = np.array([_at(at, op.start) for at, op in meets], np.int64)
    end = np.array([_at(at, op.start + op.duration) for at, op in meets], np.int64)
    return Collectives(
        group=np.array([groups.index(one) for one in made], np.int64),
        groups=groups,
        kind=tuple(
            KINDS[op.type] if sent is None else "send" if sent else "recv"
            for (_, op), sent in zip(meets, sends, strict=True)
        ),
        sequence=np.full(len(meets), -1, np.int64),
        order=np.zeros(len(meets), np.int64),
        size=np.full(len(meets), -1, np.int64),
        peer=np.array(peers, np.int64),
        arrive=start,
        end=end,
        exposed=end - start,
        step=np.unique([at for at, _ in meets], return_inverse=True)[1].astype(np.int64),
    )


def _ledger(
    every: Sequence[tuple[int, Op]], meets: Sequence[tuple[int, Op]], edge: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Ledger:
    """Computing, and communication in all other time of a step."""
    computing = [(_at(at, op.start), _at(at, op.start + op.duration)) for at, op in every if op.type in COMPUTE]
    busy = union(np.array([a for a, _ in computing], np.int64), np.array([b for _, b in computing], np.int64))

    def account(times: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        worked = busy.covered_before(times)
        return np.column_stack([times - edge[0] - worked, worked]).astype(np.int64)

    arrive = np.array([_at(at, op.start) for at, op in meets], np.int64)
    end = np.array([_at(at, op.start + op.duration) for at, op in meets], np.int64)
    return Ledger(("communication", "compute"), account(arrive), account(end), account(edge))


def reach_of(steps: Steps, takes: Mapping[str, float]) -> Reach:
    """The replay of a worker by the dependencies above.

    Args:
        steps: its operations.
        takes: seconds that each operation of a type takes; others take as long as recorded.
    """
    points: list[tuple[list[tuple[int, float]], int]] = [([], -1)]  # sources with delays, collective
    edges, lasts, met = [0], [], 0
    for ops in steps:
        node: dict[tuple[str, int], int] = {}
        stream: dict[str, int] = {}
        for op in sorted(ops, key=lambda op: op.order):
            is_compute = op.type in COMPUTE
            took = round(takes.get(op.type, op.duration) * NS) if is_compute else 0
            own = "compute" if is_compute else op.type if op.type in PAIRS else "collectives"
            before = [stream[own]] if own in stream else [edges[-1]]
            before += [node[name] for name in _needs(op) if name in node]
            before += [stream["compute"]] if op.type in AFTER_BACKWARD and "compute" in stream else []
            points.append(([(one, float(took)) for one in before], -1 if is_compute else met))
            node[op.type, op.seq] = stream[own] = len(points) - 1
            if not is_compute:
                lasts.append(op.duration * NS)
                met += 1
        points.append(([(one, 0.0) for one in stream.values()], -1))
        edges.append(len(points) - 1)
    return _reach(points, edges, lasts)


def _needs(op: Op) -> list[tuple[str, int]]:
    """What an operation waits for on other streams of its worker."""
    way, _, what = op.type.partition("-")
    if what == "compute":
        return [(f"{way}-recv", op.seq), ("params-all-gather", 0)]
    if op.type in ("forward-send", "backward-send"):
        return [(f"{way}-compute", op.seq)]
    return [("optimizer-clip-main-grad", 0)] if op.type == "optimizer" else []


def _reach(
    points: Sequence[tuple[list[tuple[int, float]], int]], edges: Sequence[int], lasts: Sequence[float]
) -> Reach:
    source = [one for sources, _ in points for one, _ in sources]
    return Reach(
        since_ns=np.zeros(len(points)),
        pointer=np.cumsum([0, *(len(sources) for sources, _ in points)], dtype=np.int64),
        source=np.array(source, np.int64),
        delay_ns=np.array([delay for sources, _ in points for _, delay in sources]),
        collective=np.array([collective for _, collective in points], np.int64),
        step=np.array(edges, np.int64),
        inside=np.ones(len(lasts), np.bool_),
        lasts_ns=np.array(lasts),
        weight=(1,) * (len(edges) - 1),
        measured_ns=0.0,
        second_ns=float(NS),
        begin=START,
        edge=np.array(edges, np.int64),
    )


def with_reaches(
    summaries: Sequence[RankSummary], job: Mapping[Worker, Steps], takes: Mapping[str, float]
) -> list[RankSummary]:
    """The same with operations of these types taking so long in the replay."""
    workers = sorted(job, key=lambda worker: (worker[1], worker[0]))
    return [replace(one, reach=reach_of(job[worker], takes)) for one, worker in zip(summaries, workers, strict=True)]
