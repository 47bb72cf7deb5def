"""Traces of a small job, a file a rank: one waits for its loader in every step, and the others wait for it in an all-reduce.

In each step a rank loads a batch, computes, and reduces. All leave the reduction together, a transfer after the last one came.
So the ranks stay in step, and what the job waits for is known: the time that the slow loader takes longer.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from tests.rules.drawing import collective, wait_for_collectives
from tests.timeline import Timeline

STEPS = 6
FETCH, LATE, COMPUTE, TRANSFER = 3_000, 7_000, 5_000, 400  # us
BASE_NS = 1_795_499_893_000_000_000


def draw_rank(rank: int, ranks: int, *, slow: int | None) -> Timeline:
    """One rank of the job."""
    drawn = Timeline()
    drawn.header["distributedInfo"] = {"backend": "nccl", "rank": rank, "world_size": ranks}
    drawn.header["baseTimeNanoseconds"] = BASE_NS
    late = LATE if slow is not None else 0
    for number in range(STEPS):
        with drawn.step():
            drawn.fetch(FETCH + (late if rank == slow else 0))
            drawn.op("aten::mm", kernel=COMPUTE)
            drawn.sync()
            waits = late if rank != slow else 0
            collective(drawn, waits + TRANSFER, size=1 << 20, ranks=ranks)
            drawn.events[-2]["args"] |= {
                "Process Group Name": "0",
                "Process Group Description": "default_pg",
                "Process Group Ranks": str(list(range(ranks))),
                "Seq": number,
            }
            wait_for_collectives(drawn)
    return drawn


def write_job(folder: Path, ranks: int = 2, *, slow: int | None = 1) -> Path:
    """The traces of all ranks in one folder, as torchrun leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    for rank in range(ranks):
        path = folder / f"rank{rank}.pt.trace.json.gz"
        path.write_bytes(gzip.compress(json.dumps(draw_rank(rank, ranks, slow=slow).json()).encode()))
    return folder
