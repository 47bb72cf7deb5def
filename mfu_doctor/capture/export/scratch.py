"""Room for the uncompressed windows: hundreds of megabytes, which must not stay behind for good if the process is killed.

Kineto writes a file under a name and renames it, so it needs a directory. Each one is locked by its process for as long as that
lives, and whoever comes next on this machine removes those that nobody locks. A directory may be shared by machines that do not
see each other's locks: what another one made is removed when it is a day old, which no export is.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mfu_doctor.capture.destination import scratch_places
from mfu_doctor.capture.facts.system_files import text_of

_ENOUGH_ROOM = 1 << 30  # bytes: a full event budget is a tenth of this
_LOCKED, _NEW = ".mfu-doctor-windows-", ".mfu-doctor-new-"
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # the same in all containers of a machine, which share its locks
_DAY_S = 86_400


@contextmanager
def scratch(target: Path) -> Iterator[Path | None]:
    """A directory of our own that is gone afterwards; None if there is no place for one."""
    with suppress(OSError):
        for place in scratch_places(target):
            _sweep(place)
    made = _in_the_roomiest(target)
    if made is None:
        yield None
        return
    lock = _opened(made)
    try:
        with suppress(OSError):  # a file system without locks: it is never swept
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            made = made.rename(made.with_name(made.name.replace(_NEW, f"{_LOCKED}{_machine()}-")))
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(lock)


def _machine() -> str:
    """Tells the machines apart that may share a directory."""
    return (text_of(_BOOT) or socket.gethostname()).strip().replace(os.sep, "")


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _sweep(place: Path) -> None:
    """Remove the directories of processes that were killed."""
    own = f"{_LOCKED}{_machine()}-"
    for left in place.glob(f"{_LOCKED}*"):
        with suppress(OSError):
            if not left.name.startswith(own) and time.time() - left.stat().st_mtime < _DAY_S:
                continue
            lock = _opened(left)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
            finally:
                os.close(lock)


def _in_the_roomiest(target: Path) -> Path | None:
    """A new directory in the first place with room, else in the roomiest that can be written."""
    rooms: list[tuple[int, Path]] = []
    for place in scratch_places(target):
        try:
            room = shutil.disk_usage(place).free
            made = Path(tempfile.mkdtemp(prefix=_NEW, dir=place))
        except OSError:
            continue
        rooms.append((min(room, _ENOUGH_ROOM), made))
        if room >= _ENOUGH_ROOM:
            break
    if not rooms:
        return None
    best = max(rooms, key=lambda pair: pair[0])[1]
    for _, made in rooms:
        if made != best:
            made.rmdir()
    return best
