"""Who used the processors while the timed steps ran: this process, its workers, and everybody else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from mfu_doctor.capture.facts.host import Busy, busy_now, host_facts

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def test_loader_workers_are_not_other_processes() -> None:
    """In ten seconds the machine used 35: 9 this process, 21 its workers, and 5 others; half a core is theirs."""
    before = Busy(wall_s=100.0, own_s=50.0, tree_s=70.0, machine_s=1_000.0)
    after = Busy(wall_s=110.0, own_s=59.0, tree_s=100.0, machine_s=1_035.0)
    found = host_facts(before, after)
    assert found.cpu_share == pytest.approx(0.9)
    assert found.worker_cpu_share == pytest.approx(2.1)
    assert found.other_cpu_share == pytest.approx(0.5)


def test_what_the_system_does_not_tell_is_no_share_of_zero() -> None:
    before, after = Busy(100.0, 50.0, None, 1_000.0), Busy(110.0, 59.0, 100.0, 1_035.0)
    assert host_facts(before, after).other_cpu_share is None
    assert host_facts(before, after).worker_cpu_share is None
    assert host_facts(after, after).cpu_share is None  # no time passed


def test_an_idle_machine_uses_no_processor_time(tmp_path: Path) -> None:
    """/proc/stat, proc(5): user nice system idle iowait irq softirq steal guest guest_nice; guests are in user already.

    What other virtual machines took (steal) was used by no process of this one.
    """
    (tmp_path / "stat").write_text("cpu  100 20 30 9000 500 4 5 6 70 8\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    assert busy_now(tmp_path).machine_s == pytest.approx((100 + 20 + 30 + 4 + 5) * TICK_S)
