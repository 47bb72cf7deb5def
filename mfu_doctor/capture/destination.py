"""Where the trace file is written, either completely or not at all.

If the user passes a file, it is that file. If the user passes a directory, the file gets a name that TensorBoard's profiler
plugin reads. With several ranks, the directory contains one file per rank. If the place cannot be written (full, read-only,
removed), the temporary directories of the system are tried, so that the report can still be made.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from mfu_doctor.capture.facts.settings import Place

SUFFIX = ".pt.trace.json.gz"
DEFAULT = f"mfu-doctor{SUFFIX}"
_SUFFIXES = (SUFFIX, ".pt.trace.json", ".trace.json.gz", ".json.gz", ".json")
_MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - last resort when every disk is full


class Destination(Struct, frozen=True):
    """What the user asked for, made absolute when the block began (the script may change directory later).

    Attributes:
        path: the file, or the directory.
        is_directory: whether a name has to be made in it.
    """

    path: Path
    is_directory: bool

    @classmethod
    def of(cls, given: str | os.PathLike[str]) -> Destination:
        """Resolve what was given against the working directory; a deleted one falls back to the temporary directory."""
        text = os.fspath(given)
        path = Path(text)
        with suppress(RuntimeError):  # "~somebody" who has no home
            path = path.expanduser()
        if not path.is_absolute():
            path = (working_directory() or Path(tempfile.gettempdir())) / path
        return cls(path, text.endswith(("/", os.sep)) or os.path.isdir(path))  # noqa: PTH112 - Path raises on odd names

    def file_for(self, place: Place) -> Path:
        """The file of this rank."""
        several = (place.world_size or 1) > 1
        if self.is_directory:
            rank = f".rank{place.rank}" if several else ""
            return self.path / f"{socket.gethostname()}_{os.getpid()}{rank}.{time.time_ns()}{SUFFIX}"
        return self._directory() / f"rank{place.rank}{SUFFIX}" if several else self.path

    def _directory(self) -> Path:
        stem = next((self.path.name.removesuffix(s) for s in _SUFFIXES if self.path.name.endswith(s)), self.path.stem)
        return self.path.with_name(stem or "mfu-doctor")


def working_directory() -> Path | None:
    """The working directory, or None when it has been deleted."""
    try:
        return Path.cwd()
    except OSError:
        return None


def scratch_places(target: Path) -> Iterator[Path]:
    """Directories for the uncompressed windows, best first; each is tried until one has room."""
    yield Path(tempfile.gettempdir())
    yield target.parent
    yield _MEMORY_DISK
