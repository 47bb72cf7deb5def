"""Usable cores: the least of machine, affinity and the container's quota, for recorded facts and for this process alike."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mfu_doctor.capture.facts.cores import core_facts, processes_at_once
from mfu_doctor.facts import HostFacts


@pytest.mark.parametrize(
    ("facts", "usable"),
    [
        (HostFacts(cores=64, affinity=16, cgroup_cpus=2.5), 2.5),
        (HostFacts(cores=64, affinity=2, cgroup_cpus=8.0), 2.0),
        (HostFacts(cores=4), 4.0),
        (HostFacts(cores=4, cgroup_cpus=64.0), 4.0),
        (HostFacts(), None),
    ],
)
def test_the_least_of_what_is_known(facts: HostFacts, usable: float | None) -> None:
    assert facts.usable_cores == usable


def machine_of(monkeypatch: pytest.MonkeyPatch, cores: int, affinity: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)


def test_a_quota_below_the_affinity_counts_for_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine_of(monkeypatch, cores=64, affinity=16)
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert core_facts(tmp_path) == HostFacts(cores=64, affinity=16, cgroup_cpus=2.5)
    assert processes_at_once(tmp_path) == 2


def test_a_quota_of_the_first_version_of_control_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine_of(monkeypatch, cores=64, affinity=16)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert processes_at_once(tmp_path) == 3


@pytest.mark.parametrize(("text", "usable"), [("max 100000\n", 16), ("20000 100000\n", 1), ("800000 100000\n", 8)])
def test_no_quota_less_than_a_core_and_more_than_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, usable: int
) -> None:
    machine_of(monkeypatch, cores=64, affinity=16)
    (tmp_path / "cpu.max").write_text(text)
    assert processes_at_once(tmp_path) == usable


def test_a_machine_without_control_groups_or_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert core_facts(tmp_path) == HostFacts(cores=8)
    assert processes_at_once(tmp_path) == 8
