"""What a run is called: the largest removable share of its step, whatever fix is ranked first."""

from __future__ import annotations

from typing import Any

import pytest

from mfu_doctor.diagnosis.bottleneck import bound_by
from mfu_doctor.result.bottleneck import BOUND_BY, BUCKET_OF
from mfu_doctor.result.step import BUCKETS, Breakdown
from tests.goldens import GOLDENS


def split(**parts: Any) -> Breakdown:
    causes = parts.pop("idle_causes", {"launch": parts.get("idle", 0.0)})
    compute = 1.0 - sum(parts.values())
    return Breakdown(step_s=1.0, compute=compute, idle_causes=causes, **parts)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ({"data_loading": 0.32, "idle": 0.1}, "input-bound"),
        ({"communication": 0.19, "idle": 0.14}, "communication-bound"),
        ({"idle": 0.2, "communication": 0.19}, "host-bound"),
        ({"memory_copy": 0.15, "idle": 0.1}, "copy-bound"),
        ({"idle": 0.09, "data_loading": 0.09}, "compute-bound"),
        ({"idle": 0.4, "idle_causes": {"queue": 0.35, "launch": 0.05}}, "compute-bound"),
        ({"idle": 0.8, "idle_causes": {"queue": 0.7, "launch": 0.1}}, None),
        ({"idle": 0.8, "idle_causes": {"other": 0.2, "queue": 0.3, "launch": 0.3}}, None),
        ({"idle": 0.4, "communication": 0.2, "idle_causes": {"queue": 0.25, "launch": 0.15}}, "communication-bound"),
    ],
)
def test_the_largest_removable_share_names_the_run(parts: dict[str, Any], name: str | None) -> None:
    assert bound_by(split(**parts)) == name


def test_a_report_without_a_split_is_not_called_anything_removable() -> None:
    assert bound_by(Breakdown()) == "compute-bound"


def test_every_bucket_has_one_name_and_every_name_one_bucket() -> None:
    assert set(BOUND_BY) == set(BUCKETS)
    assert {BUCKET_OF[name]: name for name in BOUND_BY.values()} == BOUND_BY


@pytest.mark.parametrize("name", GOLDENS)
def test_golden_reports_are_named_as_a_real_one_would_be(name: str) -> None:
    report = GOLDENS[name]()
    assert report.bound == bound_by(report.breakdown)


def test_idle_time_whose_cause_is_not_known_names_nobody() -> None:
    """Kernels alone, without a host in the trace: that the host was late is a guess."""
    split = Breakdown(
        step_s=1.0,
        compute=0.5,
        communication=0.0,
        memory_copy=0.0,
        data_loading=0.0,
        idle=0.5,
        idle_causes={"other": 0.5},
    )
    assert bound_by(split) == "compute-bound"
