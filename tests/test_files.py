"""Files are written whole or not at all: inputs, devices, links and what stood there before survive whatever goes wrong."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mfu_doctor.errors import DoctorError
from mfu_doctor.files import replacing, saving, write_file
from tests.patience import LONGEST_S
from tests.traces import ROOT


def test_the_old_content_stays_until_the_new_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with replacing(target) as stream:
        stream.write(b"new")
        stream.flush()
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_one_sentence_and_changes_nothing() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(DoctorError, match=r"/dev/full cannot be written \(No space left on device"):
        write_file("/dev/full", "text")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_a_pipe_is_written_as_a_stream_and_stays_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mfu_doctor.files.LONGEST_WAIT_S", LONGEST_S)
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, "through")
    reader.join()
    assert got == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "a.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    write_file(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


@pytest.mark.parametrize("alias", ["itself", "symbolic", "hard"])
def test_an_input_is_never_replaced_by_whatever_name(tmp_path: Path, alias: str) -> None:
    source, target = tmp_path / "trace.json", tmp_path / "out.json"
    source.write_text("precious")
    if alias == "itself":
        target = tmp_path / "." / "trace.json"
    elif alias == "symbolic":
        target.symlink_to(source)
    else:
        target.hardlink_to(source)
    with pytest.raises(DoctorError, match="is an input file"):
        write_file(target, "gone", inputs=[tmp_path / "missing", source])
    assert source.read_text() == "precious"


def test_two_writers_of_one_name_leave_one_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    with replacing(target) as one, replacing(target) as two:
        one.write(b"1" * 100_000)
        two.write(b"2" * 100_000)
    assert target.read_bytes() in (b"1" * 100_000, b"2" * 100_000)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_directory_and_a_missing_one_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DoctorError, match=r"cannot be written \(Is a directory"):
        write_file(tmp_path, "text")
    with pytest.raises(DoctorError, match=r"cannot be written \(No such file or directory"):
        write_file(tmp_path / "missing" / "a.json", "text")


def test_permissions_of_the_old_file_stay_and_a_new_one_obeys_the_umask(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("x")
    old.chmod(0o640)
    before = os.umask(0o027)
    try:
        for path in (old, new):
            write_file(path, "y")
    finally:
        os.umask(before)
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert stat.S_IMODE(new.stat().st_mode) == 0o640


def test_text_that_is_not_unicode_is_escaped_and_not_lost(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_file(target, "name \udcff")
    assert target.read_text(encoding="utf-8") == "name \\xff"


def test_an_error_of_the_block_itself_is_not_taken_for_the_disks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ours"), saving(tmp_path / "a.json"):
        raise ValueError("ours")


def test_a_killed_writer_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    if not hasattr(os, "O_TMPFILE"):
        pytest.skip("this system has no files without a name")
    (tmp_path / "a.json").write_text("old")
    code = (
        "import os, signal\nfrom mfu_doctor.files import replacing\n"
        "with replacing('a.json') as s:\n s.write(bytes(100_000)); s.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, timeout=LONGEST_S).returncode == -9
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_where_files_need_a_name_an_unfinished_one_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    test_two_writers_of_one_name_leave_one_whole_file(tmp_path)
    test_permissions_of_the_old_file_stay_and_a_new_one_obeys_the_umask(tmp_path)


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="no process reads this pipe"), replacing(pipe, patient=False):
        pytest.fail("it was opened")
    monkeypatch.setattr("mfu_doctor.files.LONGEST_WAIT_S", 0.01)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # it never reads
    with pytest.raises(OSError, match="its reader took nothing"), replacing(pipe, patient=False) as stream:
        stream.write(bytes(10 << 20))
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_whose_reader_is_slow_gets_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mfu_doctor.files.LONGEST_WAIT_S", LONGEST_S)
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    opened = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(opened, True)

    def read() -> None:
        with os.fdopen(opened, "rb") as stream:
            got.append(stream.read())

    reader = threading.Thread(target=read)
    with replacing(pipe, patient=False) as stream:
        reader.start()
        stream.write(b"x" * (3 << 20))
    reader.join()
    assert got == [b"x" * (3 << 20)]
