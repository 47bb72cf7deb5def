"""Reads one trace file: drives the parser over it and says what is wrong with the file."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from mfu_doctor.errors import NotATraceError
from mfu_doctor.quantities import counted
from mfu_doctor.reading.assemble import Assembled, assemble
from mfu_doctor.reading.clock import EPOCH_US, recover_base
from mfu_doctor.reading.dialects.kineto_2021 import OPERATOR
from mfu_doctor.reading.header import Header, read_header
from mfu_doctor.reading.other_files import is_list_of_events, not_a_trace
from mfu_doctor.reading.parser import Parser
from mfu_doctor.reading.remote import is_address
from mfu_doctor.reading.source import MAX_EXPANSION, Source
from mfu_doctor.trace import Problem, Trace
from mfu_doctor.units import NS_PER_US


def read_trace(
    path: str | os.PathLike[str] | BinaryIO,
    *,
    progress: Callable[[float], None] | None = None,
    max_expansion: float = MAX_EXPANSION,
    threads: int = 1,
) -> Trace:
    """Read a trace written by torch.profiler, in any layout and from any of its years.

    Damaged files are read as far as they go; `Trace.problems` says what was lost.

    Args:
        path: a `.json` or gzip file (distinguished by content), its address in a store (`s3://...`), or an open binary stream.
        progress: called now and then with the fraction of the input read, 0 to 1; not for streams.
        max_expansion: how many times its own size a gzip file may grow: a guard against decompression bombs.
        threads: how many may read at once, where the file is large enough for that to be quicker; not for streams.

    Raises:
        NotATraceError: the input is not a trace, holds no events, or cannot be opened.
    """
    with Source(path, progress, max_expansion=max_expansion) as source, _no_collection():
        parser = Parser(source)
        is_file = isinstance(path, (str, os.PathLike)) and not is_address(path)
        if threads > 1 and is_file and max_expansion == MAX_EXPANSION:
            from mfu_doctor.reading.parts import read_in_parts

            read_in_parts(parser, source, cast("str | os.PathLike[str]", path), threads)
        else:
            parser.run()
        header = read_header(parser.chunks.head, parser.tail)
        if not parser.columns.count:
            if parser.chunks.is_bare and not is_list_of_events(source.begins):
                raise not_a_trace(source.label, source.begins)
            raise _nothing_in(source.label, header)
        found = assemble(parser.columns, parser.args)
        origin = found.origin
        base = _base(header, origin, origin + int(found.events.end.max()))
        return Trace(
            events=found.events,
            names=found.names,
            tracks=found.tracks,
            args=found.args,
            devices=header.devices,
            distributed=header.distributed,
            host=header.host,
            recorded=header.recorded,
            memory=parser.memory.samples(origin),
            facts=header.facts,
            problems=(*_problems(source, parser, base), *_impossible_times(found), *header.problems),
            origin_ns=0 if base is None else base + origin,
            file_origin_ns=origin,
            label=source.label,
            versions=header.versions,
            is_of_2021=any(spelled.lower() == OPERATOR for spelled in parser.columns.spellings),
        )


def _nothing_in(label: str, header: Header) -> NotATraceError:
    """Why there is nothing to read: what the recorder noted about it, if that wrote the file."""
    notes = header.facts.notes if header.facts is not None else ()
    if notes:
        return NotATraceError(f"{label} holds no recorded step: {'; '.join(notes)}")
    return NotATraceError(
        f"{label} holds no event with a duration",
        "record at least one step, and export the trace after the profiler has stopped",
    )


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the cyclic garbage collector: millions of short-lived objects without cycles would each time be searched."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _base(header: Header, first: int, last: int) -> int | None:
    """What to add to the file's times to make them unix nanoseconds; None if unknown."""
    if first >= EPOCH_US * NS_PER_US:
        return 0
    if header.base_ns is not None:
        return header.base_ns
    windows = header.facts.windows if header.facts else ()
    return recover_base(first, last, seen_ns=(windows[0].start_ns, windows[-1].end_ns)) if windows else None


def _problems(source: Source, parser: Parser, base: int | None) -> Iterator[Problem]:
    damage, unclosed = parser.damage, parser.tail is None
    if source.truncated or parser.cut_event or (unclosed and not parser.chunks.is_bare):
        how = "Its gzip stream is cut off or damaged" if source.truncated else "It was cut off"
        yield Problem("truncated", f"The file is incomplete. {how}: what came after is missing", int(parser.cut_event))
    elif unclosed or (not parser.tail and not parser.chunks.is_bare):
        yield Problem("no-footer", "The file has no metadata after its events, so they are unknown")
    if damage.dropped:
        yield Problem("events-dropped", f"{counted(damage.dropped, 'damaged event')} could not be read", damage.dropped)
    if parser.pairs.unmatched:
        text = f"{counted(parser.pairs.unmatched, 'begin or end event')} without a matching event"
        yield Problem("events-dropped", text, parser.pairs.unmatched)
    if refused := parser.columns.refused:
        text = f"{counted(refused, 'event')} with a time or a device that cannot be, left out"
        yield Problem("events-dropped", text, refused)
    if damage.repaired:
        yield Problem("events-repaired", f"{counted(damage.repaired, 'malformed event')}, repaired", damage.repaired)
    if damage.bad_text:
        yield Problem(
            "invalid-text", f"{counted(damage.bad_text, 'byte')} of invalid UTF-8 text, replaced", damage.bad_text
        )
    if base is None:
        yield Problem("no-base-time", "The file has no base time (baseTimeNanoseconds), so absolute times are unknown")


def _impossible_times(found: Assembled) -> Iterator[Problem]:
    if found.untimed:
        text = f"{counted(found.untimed, 'operation')} of the device without a time, left out: the profiler could not take it"
        yield Problem("events-dropped", text, found.untimed)
    if found.clamped:
        yield Problem(
            "clamped-times",
            f"{counted(found.clamped, 'event')} with an impossible time (start at 0, or end before start), corrected",
            found.clamped,
        )
