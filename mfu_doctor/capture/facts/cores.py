"""The cores that this process may use: what the machine has, what its affinity allows, and the quota of its container.

A container on a large machine can see all cores but may use only two. More threads, workers or readers than that only slow each
other.
"""

from __future__ import annotations

import os
from pathlib import Path

from mfu_doctor.capture.facts.system_files import text_of
from mfu_doctor.facts import HostFacts
from mfu_doctor.units import NS_PER_S

CGROUP = Path("/sys/fs/cgroup")
_US_PER_S = 1_000_000


def core_facts(cgroup: Path = CGROUP) -> HostFacts:
    """Only the facts about cores.

    Args:
        cgroup: where Linux states the limits of this process's control group.
    """
    return HostFacts(
        cores=os.cpu_count(),
        affinity=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        cgroup_cpus=_quota(cgroup),
    )


def processes_at_once(cgroup: Path = CGROUP) -> int:
    """How many processes of ours can run at once, at least one: whole cores, for a part of one is no place for another."""
    return max(int(core_facts(cgroup).usable_cores or 1), 1)


def throttled_seconds(cgroup: Path = CGROUP) -> float | None:
    """Seconds for which the quota has stopped this control group, summed over cores; None if there is no such count."""
    for name, count, per_s in (("cpu.stat", "throttled_usec", _US_PER_S), ("cpu/cpu.stat", "throttled_time", NS_PER_S)):
        words = (text_of(cgroup / name) or "").split()
        told = dict(zip(words[::2], words[1::2], strict=False)).get(count, "")
        if told.isdigit():
            return int(told) / per_s
    return None


def _quota(cgroup: Path) -> float | None:
    """CPU quota in cores, of version 2 of control groups or version 1; None if there is none."""
    text = text_of(cgroup / "cpu.max")
    if text is not None:
        quota, _, period = text.strip().partition(" ")
        return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None
    quota_us = text_of(cgroup / "cpu/cpu.cfs_quota_us")
    period_us = text_of(cgroup / "cpu/cpu.cfs_period_us")
    if quota_us is None or period_us is None or int(quota_us) <= 0:
        return None
    return int(quota_us) / int(period_us)
