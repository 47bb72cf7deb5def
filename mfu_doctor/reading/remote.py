"""Traces in a store that has addresses instead of paths (`s3://bucket/run/`, `gs://`, `memory://`), read by fsspec.

fsspec is not needed for anything else, so it is an extra and this is the only module that imports it. The library behind a store
has exceptions of its own; each becomes one sentence of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO, cast

from msgspec import Struct

from mfu_doctor.errors import DoctorError, NotATraceError
from mfu_doctor.units import NS_PER_S

_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")  # what stores call the time of a file


class RemoteFile(Struct, frozen=True):
    """A file of a store: its address, its size, and when it was written in nanoseconds since 1970 (0: the store does not say)."""

    address: str
    size_bytes: int
    written_ns: int


def is_address(where: object) -> bool:
    """Whether this names a file or folder of a store: it begins with a scheme."""
    return isinstance(where, str) and _ADDRESS.match(where) is not None


def open_remote(address: str) -> tuple[BinaryIO, int]:
    """A binary stream of a file of a store, and its size.

    Raises:
        DoctorError: fsspec, or its part for this store, is not installed.
        NotATraceError: the file does not exist or cannot be read.
    """
    with _told(address):
        system, path = _system(address)
        return cast("BinaryIO", system.open(path, "rb")), int(system.size(path) or 0)


def files_at(address: str) -> list[RemoteFile]:
    """The files that an address names: all below a folder, or all that a pattern with `*` matches, or the file itself.

    Raises:
        DoctorError: fsspec, or its part for this store, is not installed.
        NotATraceError: there is nothing, or it cannot be listed.
    """
    with _told(address):
        system, path = _system(address)
        found = system.glob(path, detail=True) if "*" in path else system.find(path, detail=True)
        return [
            RemoteFile(system.unstrip_protocol(name), int(entry.get("size") or 0), _written_ns(entry))
            for name, entry in sorted(found.items())
            if entry.get("type") == "file"
        ]


def _system(address: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise DoctorError(
            f"{address} needs the package fsspec", "pip install 'mfu-doctor[remote]', or copy the files here"
        ) from None
    try:
        system, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:  # fsspec names the package of this store, or knows no such store
        raise DoctorError(f"{address} cannot be opened ({error})", "check the address") from error
    return system, path


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Whatever goes wrong in a store's library, in one sentence."""
    try:
        yield
    except DoctorError:
        raise
    except FileNotFoundError:
        raise NotATraceError(f"{address} does not exist", "check the address") from None
    except Exception as error:  # each store's library has exceptions of its own
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise NotATraceError(
            f"{address} cannot be read ({reason})", "check the address and your access to it"
        ) from error


def _written_ns(entry: dict[str, Any]) -> int:
    value = next((entry[key] for key in _TIMES if entry.get(key) is not None), 0)
    if isinstance(value, datetime):
        value = value.timestamp()
    return int(value * NS_PER_S) if isinstance(value, int | float) else 0
