"""What the process and its workers read from storage: counted over the tree, a rate over the timed steps, unknown where it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from mfu_doctor.capture.facts.host import Busy, busy_now, host_facts, with_shares

OWN = os.getpid()
WORKER, GRANDCHILD, STRANGER = OWN + 1, OWN + 2, OWN + 3


def process(proc: Path, pid: int, parent: int, read: int | str | None) -> None:
    """A process in a folder like /proc; `read` is its read_bytes, the text of its io file, or None for no such file."""
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} (a (strange) name) S {parent} " + " ".join(["1"] * 30))
    if read is not None:
        text = read if isinstance(read, str) else f"rchar: 9\nwchar: 8\nread_bytes: {read}\nwrite_bytes: 7\n"
        (folder / "io").write_text(text)


def test_the_process_and_its_descendants_count_and_others_do_not(tmp_path: Path) -> None:
    for pid, parent, read in ((OWN, 1, 1_000), (WORKER, OWN, 200), (GRANDCHILD, WORKER, 30), (STRANGER, 1, 4)):
        process(tmp_path, pid, parent, read)
    busy = busy_now(tmp_path)
    assert busy.read_bytes == 1_230
    ticks = 4  # user, system, and both of the children waited for
    assert busy.tree_s == pytest.approx(3 * ticks / os.sysconf("SC_CLK_TCK"))


def test_what_loading_reads_is_of_its_workers_if_there_are_any(tmp_path: Path) -> None:
    """What comes from the page cache counts too."""
    for pid, parent, read in ((OWN, 1, 100), (WORKER, OWN, 2_000)):
        process(tmp_path, pid, parent, f"rchar: {read}\nread_bytes: 3\n")
    assert busy_now(tmp_path).loading_bytes == 100
    assert busy_now(tmp_path, loaders=frozenset({WORKER})).loading_bytes == 2_000
    assert busy_now(tmp_path, loaders=frozenset({WORKER})).read_bytes == 6
    process(tmp_path, GRANDCHILD, OWN, None)
    assert busy_now(tmp_path, loaders=frozenset({GRANDCHILD})).loading_bytes is None


def test_what_loading_reads_is_a_rate_of_the_same_workers() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    start = Busy(10.0, 1.0, 1.0, 1.0, loading_bytes=5, loaders=frozenset({WORKER}))
    end = Busy(12.0, 2.0, 2.0, 2.0, loading_bytes=4_005, loaders=frozenset({WORKER}))
    assert host_facts(start, end).loading_read_bytes_s == 2_000.0
    assert host_facts(replace(start, loaders=frozenset()), end).loading_read_bytes_s is None
    known = host_facts(start, end)  # at the end of the run its workers are gone
    assert with_shares(known, end, replace(end, wall_s=20.0, loaders=frozenset())).loading_read_bytes_s == 2_000.0


def test_a_process_that_ends_while_we_look_is_left_out(tmp_path: Path) -> None:
    process(tmp_path, OWN, 1, 1_000)
    process(tmp_path, WORKER, OWN, None)  # its stat was read, its io no more
    (tmp_path / str(GRANDCHILD)).mkdir()  # gone before its stat
    assert busy_now(tmp_path).read_bytes == 1_000


@pytest.mark.parametrize("text", [None, "", "rchar: 9\n", "read_bytes: many\n", "read_bytes:\n", "read_bytes: -1\n"])
def test_a_system_that_does_not_tell_is_unknown(tmp_path: Path, text: str | None) -> None:
    process(tmp_path, OWN, 1, text)
    process(tmp_path, WORKER, OWN, 200)
    assert busy_now(tmp_path).read_bytes is None


def test_no_proc_at_all_is_unknown(tmp_path: Path) -> None:
    busy = busy_now(tmp_path / "nowhere")
    assert busy.read_bytes is None
    assert busy.tree_s is None


def test_the_running_system_is_read_without_harm() -> None:
    busy = busy_now()
    assert busy.read_bytes is None or busy.read_bytes >= 0
    assert busy.tree_s is None or busy.tree_s > 0


def rate(before: int | None, after: int | None) -> float | None:
    """The fact for these counts at the two ends of two seconds."""
    pytest.importorskip("torch", reason="torch is not installed")
    start, end = Busy(10.0, 1.0, 1.0, 1.0, read_bytes=before), Busy(12.0, 2.0, 2.0, 2.0, read_bytes=after)
    return host_facts(start, end).disk_read_bytes_s


def test_the_rate_is_that_of_the_timed_steps() -> None:
    assert rate(1_000, 401_000) == 200_000.0
    assert rate(1_000, 1_000) == 0.0  # counted, and nothing was read
    assert host_facts(None, None).disk_read_bytes_s is None


def test_what_is_not_known_at_both_ends_is_unknown() -> None:
    assert rate(None, 1_000) is None
    assert rate(1_000, None) is None


def test_a_process_that_left_with_its_count_makes_no_negative_rate() -> None:
    assert rate(5_000, 1_000) is None


def test_a_system_that_counts_nothing_is_unknown_and_not_idle() -> None:
    """gVisor has the file, and zeros in it."""
    assert rate(0, 0) is None


def test_a_worker_that_ends_in_between_takes_nothing_away(tmp_path: Path) -> None:
    """Linux hands the count of a child to the parent that waited for it."""
    earlier, later = tmp_path / "earlier", tmp_path / "later"
    earlier.mkdir()
    later.mkdir()
    process(earlier, OWN, 1, 1_000)
    process(earlier, WORKER, OWN, 500)
    process(later, OWN, 1, 1_000 + 700)
    before, after = busy_now(earlier), busy_now(later)
    assert before.read_bytes is not None
    assert after.read_bytes is not None
    assert after.read_bytes - before.read_bytes == 200


def test_a_real_child_counts_while_it_lives_and_after_it_has_ended(tmp_path: Path) -> None:
    """The system's own accounts: what a worker read is neither lost nor counted twice when it ends."""
    if not hasattr(os, "posix_fadvise") or busy_now().read_bytes is None:
        pytest.skip("this system does not count what processes read")
    file, size = tmp_path / "data", 4 << 20
    with file.open("wb") as written:
        written.write(os.urandom(size))
        written.flush()
        os.fsync(written.fileno())
        os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # out of the page cache
    program = "import sys; n = len(open(sys.argv[1], 'rb').read()); print(n, flush=True); sys.stdin.read()"
    before = busy_now()
    with subprocess.Popen(
        [sys.executable, "-c", program, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert int(child.stdout.readline()) == size
        living = busy_now()
    ended = busy_now()
    counts = [busy.read_bytes for busy in (before, living, ended)]
    at_first, alive, over = (count if count is not None else pytest.fail("not counted") for count in counts)
    if alive - at_first < size:
        pytest.skip("this folder is in memory, or its file system counts no reads")
    assert size <= over - at_first < 2 * (alive - at_first)
