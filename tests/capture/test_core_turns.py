"""What threads had of the cores, and who had the rest: from files in the form of Linux's /proc, and from this very process."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from mfu_doctor.capture.facts.cores import throttled_seconds
from mfu_doctor.capture.facts.host import Busy, Stretch, busy_now, with_shares
from mfu_doctor.capture.facts.process_tree import ProcessTree, process_tree
from mfu_doctor.capture.facts.turns import Threads, core_turns, threads_now
from mfu_doctor.facts import HostFacts
from mfu_doctor.facts.core_turns import CoreTurns
from mfu_doctor.units import NS_PER_MS

TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
POOL, BACKWARD = 7_000_001, 7_000_002  # no system gives a thread such a number


def thread(proc: Path, number: int, schedstat: str, name: str = "python") -> None:
    """One thread of this process, as Linux lists it."""
    task = proc / "self" / "task" / str(number)
    task.mkdir(parents=True, exist_ok=True)
    (task / "schedstat").write_text(f"{schedstat}\n")
    (task / "comm").write_text(f"{name}\n")


def at(training: tuple[int, int], **others: tuple[int, int]) -> Threads:
    """The threads at one moment, in milliseconds on a core and in line for one."""
    numbers = {"pool": POOL, "second": POOL + 10, "python": 3, "autograd": BACKWARD}
    turns = {1: training} | {numbers[name]: turn for name, turn in others.items()}
    in_ns = {number: (ran * NS_PER_MS, waited * NS_PER_MS) for number, (ran, waited) in turns.items()}
    return Threads(in_ns, 1, {3: "writer"} if 3 in in_ns else {}, frozenset({BACKWARD} & in_ns.keys()))


def test_the_training_thread_and_its_pool_are_told_from_threads_of_python() -> None:
    """Of one second training ran 600 ms and waited 200; two threads of the pool waited 150 and 50."""
    before = at((100, 10), pool=(50, 5), second=(0, 0), python=(5, 5))
    after = at((700, 210), pool=(750, 155), second=(300, 50), python=(900, 900))
    assert core_turns(before, after, 1.0, 2.495) == CoreTurns(
        training_ran=0.6,
        training_waited=0.2,
        pool_threads=2,
        pool_ran=1.0,
        pool_waited=0.2,
        pool_most_waited=0.15,
        python_ran=0.895,
        python_busiest="writer",
    )


def test_a_thread_that_has_ended_is_what_the_process_had_besides() -> None:
    """A log writer is closed before the run is over: its count is gone, 0.2 of a core."""
    before, after = at((0, 0), pool=(0, 0), python=(5, 5)), at((700, 0), pool=(500, 0))
    found = core_turns(before, after, 1.0, 1.4)
    assert found is not None
    assert (found.python_ran, found.python_busiest) == (0.2, "writer")


def test_autograd_has_a_thread_of_its_own_beside_a_gpu_and_takes_turns_with_training() -> None:
    found = core_turns(at((0, 0)), at((400, 30), autograd=(500, 60)), 1.0, None)
    assert found == CoreTurns(training_ran=0.9, training_waited=0.09)


def test_a_number_that_a_new_thread_got_counts_from_its_beginning() -> None:
    found = core_turns(at((0, 0), pool=(800, 90)), at((900, 0), pool=(100, 20)), 1.0, None)
    assert found is not None
    assert (found.pool_ran, found.pool_waited) == (0.1, 0.02)


def test_the_counts_are_read_where_linux_has_them(tmp_path: Path) -> None:
    mine, helper = threading.get_native_id(), threading.Event()
    other = threading.Thread(target=helper.wait, name="writer")
    other.start()
    try:
        for number, name in (
            (mine, "python"),
            (other.native_id or 0, "python"),
            (POOL, "python"),
            (BACKWARD, "pt_autograd_0"),
        ):
            thread(tmp_path, number, f"{number} 17 3", name)
        found = threads_now(tmp_path)
    finally:
        helper.set()
        other.join()
    assert found is not None
    assert found.turns[POOL] == (POOL, 17)
    assert found.training == mine
    assert found.backward == {BACKWARD}
    assert found.python[other.native_id or 0] == "writer"


@pytest.mark.parametrize("schedstat", ["0 0 0", "", "no such file"])
def test_a_system_that_does_not_count_is_unknown(tmp_path: Path, schedstat: str) -> None:
    thread(tmp_path, threading.get_native_id(), schedstat)
    assert threads_now(tmp_path) is None
    assert threads_now(tmp_path / "none") is None
    assert core_turns(None, at((1, 1)), 1.0, 1.0) is None
    assert core_turns(at((1, 1)), Threads({}, 2, {}, frozenset()), 1.0, 1.0) is None  # the thread has ended


def busy(wall_s: float, *, own: float, loaders: float, tree: float, who: frozenset[int] = frozenset({8})) -> Busy:
    return Busy(wall_s=wall_s, own_s=own, tree_s=tree, machine_s=1_000 + 2 * tree, loaders_s=loaders, loaders=who)


def test_workers_of_the_loader_are_told_from_other_children() -> None:
    """In ten seconds this process used 9, the loader's workers 6 and other children 4."""
    before, after = busy(0, own=50, loaders=1, tree=60), busy(10, own=59, loaders=7, tree=79)
    found = with_shares(HostFacts(), before, after)
    assert (found.cpu_share, found.worker_cpu_share, found.loader_cpu_share) == (0.9, 1.0, 0.6)
    assert found.shares_s == 10


def test_workers_that_ended_meanwhile_make_their_part_unknown() -> None:
    before, after = busy(0, own=50, loaders=1, tree=60), busy(10, own=59, loaders=0, tree=79, who=frozenset({9}))
    found = with_shares(HostFacts(), before, after)
    assert (found.worker_cpu_share, found.loader_cpu_share) == (1.0, None)
    known = with_shares(HostFacts(worker_cpu_share=0.8, loader_cpu_share=0.2), before, after)
    assert known.loader_cpu_share == 0.25  # as before they ended: a quarter of what the children use


def test_cores_that_other_virtual_machines_have_are_no_other_process(tmp_path: Path) -> None:
    """proc(5): user nice system idle iowait irq softirq steal."""
    (tmp_path / "stat").write_text("cpu  100 20 30 9000 500 4 5 60 70 8\n")
    now = busy_now(proc=tmp_path, cgroup=tmp_path)
    assert now.machine_s == pytest.approx((100 + 20 + 30 + 4 + 5) / TICKS_PER_S)
    assert now.stolen_s == pytest.approx(60 / TICKS_PER_S)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cpu.stat", "usage_usec 9000000\nnr_throttled 4\nthrottled_usec 2500000\n"),
        ("cpu/cpu.stat", "nr_periods 9\nnr_throttled 4\nthrottled_time 2500000000\n"),
    ],
)
def test_time_for_which_a_quota_stops_the_container_in_both_versions(tmp_path: Path, name: str, text: str) -> None:
    assert throttled_seconds(tmp_path) is None
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert throttled_seconds(tmp_path) == pytest.approx(2.5)


def test_a_descendant_counts_for_the_worker_that_started_it() -> None:
    """1 is this process; 8 a worker with a child 80; 9 another child, and 90 its own."""
    ticks = {1: 500, 8: 100, 80: 50, 9: 30, 90: 20}
    tree = ProcessTree(ticks, {8: 1, 80: 8, 9: 1, 90: 9, 1: 0})
    assert tree.used_s({8}) == pytest.approx(150 / TICKS_PER_S)
    assert tree.used_s({1}) == pytest.approx(700 / TICKS_PER_S)
    assert tree.used_s(()) == 0


def test_a_process_that_seems_to_be_its_own_ancestor_does_not_hang_the_walk(tmp_path: Path) -> None:
    """Numbers are given again while they are read: 5 was read as a child of 6, and 6 later as a child of another 5."""
    mine = os.getpid()
    for pid, above in ((5, 6), (6, 5), (mine, 6), (70, mine)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (train) S {above} 0 0 0 0 0 0 0 0 0 10 0 0 0 0\n")
    tree = process_tree(tmp_path)
    assert tree is not None
    assert tree.ticks == {mine: 10, 70: 10}
    assert tree.used_s({5}) == pytest.approx(20 / TICKS_PER_S)


def test_a_machine_that_lists_no_process_is_unknown(tmp_path: Path) -> None:
    assert process_tree(tmp_path) is None
    assert process_tree(tmp_path / "none") is None


def test_this_process_has_turns_where_linux_counts_them() -> None:
    before = busy_now()
    if before.threads is None:
        pytest.skip("this system does not tell how long threads wait for a core")
    enough_s = time.thread_time() + 0.05  # the count goes on at ticks of the system's clock
    while time.thread_time() < enough_s:
        sum(range(100_000))
    found = with_shares(HostFacts(), before, busy_now()).turns
    assert found is not None
    assert found.training_ran > 0
    assert found.training_waited >= 0


def test_a_stretch_with_much_beside_its_steps_does_not_stand_for_them() -> None:
    before, after = busy(0, own=0, loaders=0, tree=0), busy(10, own=9, loaders=0, tree=9)
    assert Stretch(before, after, 9.5).is_training
    assert not Stretch(before, after, 6.0).is_training
    assert not Stretch(after, after, 0.0).is_training
