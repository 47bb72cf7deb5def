"""That a command is still at work: one line on standard error if that is a terminal, or the number of ranks that are read."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mfu_doctor.cli import streams

PROGRESS_AFTER_S = 2.0  # a shorter wait needs no message


@contextmanager
def watched(sources: Sequence[str]) -> Iterator[None]:
    """One line if reading takes long. Ranks are counted instead, and no thread may run while processes are started for them."""
    from mfu_doctor.inputs.ranks import names_many

    if not _is_terminal() or any(names_many([source]) for source in sources):
        yield
        return
    name = sources[0] if len(sources) == 1 else f"{len(sources)} files"
    timer = threading.Timer(PROGRESS_AFTER_S, streams.write_line, [f"reading {name} ..."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def count_ranks(done: int, of: int) -> None:
    """How many ranks are read, in one line that is written again."""
    if _is_terminal():
        streams.write_again(f"read {done} of {of} ranks", is_last=done == of)


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
