"""The large jobs that benchmarks draw: ranks that wait take no longer for their own work, and waiting ends with the lateness."""

from __future__ import annotations

import gzip
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.ranks import find_ranks
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.what_if import like_the_others
from mfu_doctor.job.diagnose import read_ranks
from tests.job.drawn_traces import BASE_NS
from tests.rules.drawing import collective
from tests.timeline import Timeline
from tests.traces import ROOT

STEPS, RANKS, SLOW = 5, 4, 2
HOST, COMPUTE, TRANSFER, BESIDE = 2_000, 3_000, 400, 600  # us


@pytest.fixture
def make_job(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("make_job")


def source(folder: Path) -> Path:
    """Two ranks that compute beside a collective, and whose host waits for nothing."""
    folder.mkdir()
    for rank in range(2):
        drawn = Timeline()
        drawn.header["distributedInfo"] = {"backend": "nccl", "rank": rank, "world_size": 2}
        drawn.header["baseTimeNanoseconds"] = BASE_NS
        for _ in range(STEPS):
            with drawn.step():
                drawn.python(HOST)
                drawn.op("aten::mm", kernel=COMPUTE)
                drawn.sync()
                collective(drawn, TRANSFER, size=1 << 20, ranks=2)
                drawn.op("aten::add_", kernel=BESIDE)
                drawn.python(BESIDE + 100)
        (folder / f"rank{rank}.json.gz").write_bytes(gzip.compress(json.dumps(drawn.json()).encode()))
    return folder


def drawn_job(make_job: Any, tmp_path: Path, late: float) -> Job:
    """A job of which one rank takes so many times longer for its own work."""
    folder = tmp_path / f"late {late}"
    make_job.LATE, make_job.JITTER = late, 0.0
    make_job.draw(RANKS, folder, source(tmp_path / f"of {late}"), slow=SLOW)
    summaries, _ = read_ranks(find_ranks([str(folder)]), Overrides(), None, None, None)
    return Job(tuple(sorted(summaries, key=lambda one: one.rank or 0)), str(folder))


def test_what_runs_beside_a_collective_takes_as_long_as_it_did(make_job: Any, tmp_path: Path) -> None:
    drawn_job(make_job, tmp_path, 2.0)
    waiting = json.loads((tmp_path / "late 2.0" / "rank0.pt.trace.json").read_text())["traceEvents"]
    beside = [e["dur"] for e in waiting if e.get("cat") == "kernel" and e["name"] == "aten::add_"]
    assert beside == pytest.approx([BESIDE] * STEPS, rel=0.01)


def test_waiting_ends_with_the_lateness(make_job: Any, tmp_path: Path) -> None:
    late, healthy = (drawn_job(make_job, tmp_path, factor) for factor in (2.0, 0.0))
    costs = late.replay.measured_ns.mean() - healthy.replay.measured_ns.mean()
    saved = late.replay.measured_ns - late.replay.steps_ns(like_the_others(late, (SLOW,)).mid)
    assert costs > healthy.replay.measured_ns.mean()
    assert saved == pytest.approx(np.full(RANKS, costs), rel=0.05)
