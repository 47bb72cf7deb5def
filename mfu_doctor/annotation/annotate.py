"""A copy of a trace with the findings in it: the unchanged original events, and one process of ours.

With a range of steps, only these steps are kept. So a trace that is too large for any viewer can be opened. Only known keys of
the file's header are copied, because the metadata of a profiler can contain the whole environment of the process.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import msgspec
from msgspec import Struct

from mfu_doctor.analysis.run import Run
from mfu_doctor.annotation.perfetto import PID, render_perfetto
from mfu_doctor.annotation.remarks import Annotations, Remark, annotate_run, worst_spots
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.errors import DoctorError
from mfu_doctor.files import refuse_inputs, saving
from mfu_doctor.inputs.load import load_saved, open_trace
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.inputs.protect import files_of
from mfu_doctor.inputs.report_on import options_for
from mfu_doctor.inputs.settings import settings_here
from mfu_doctor.reading.header import known_texts
from mfu_doctor.reading.parser import Parser
from mfu_doctor.reading.schema import FAILURES
from mfu_doctor.reading.source import Source
from mfu_doctor.render.words.plan import AT_STAKE
from mfu_doctor.render.words.wording import saving as saving_words
from mfu_doctor.units import NS_PER_US

_OURS = b'"pid":%d,' % PID  # how our own events look, to replace those of an earlier annotation
_LEVEL = 5  # gzip: traces shrink 15 times, and more effort gains a few per cent


class Annotated(Struct, frozen=True):
    """What was written."""

    path: str
    size_bytes: int
    steps: int
    events: int  # of the original
    kept: int
    marks: int  # intervals in which the device does not compute, each with its cause
    findings: int
    readings: int  # device samples
    notes: tuple[str, ...] = ()  # how the trace was chosen from a directory


class _Timed(msgspec.Struct, gc=False):
    ph: str = ""
    ts: float | None = None
    dur: float = 0.0


_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_EVENT = msgspec.json.Decoder(_Timed, strict=False)


def annotate(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    steps: tuple[int, int] | None = None,
    peak_flops: float | None = None,
    model_flops: float | None = None,
) -> Annotated:
    """Write a copy of a trace with a process "mfu-doctor" in it, for ui.perfetto.dev and chrome://tracing.

    Args:
        source: the trace, `.json` or gzip, or a directory of traces: of several ranks the lowest.
        target: the file to write; it is replaced when the new one is complete; gzip if its name ends in `.gz`.
        steps: keep only recorded steps A <= n < B and what happened during them.
        peak_flops: dense peak of the device in FLOP/s.
        model_flops: FLOP per step.

    Raises:
        DoctorError: the source is not a trace or has no such step, or the target is the source or cannot be written.
    """
    if Path(source).exists() and not (Path(source).is_file() or Path(source).is_dir()):
        raise DoctorError("annotate cannot use a pipe, because it reads the trace twice", "pass a file")
    stated = Overrides(steps=steps, peak_flops=peak_flops, model_flops=model_flops)
    if load_saved(source) is not None:
        raise DoctorError(f"{os.fspath(source)} is a saved report, but annotate needs a trace", "pass the trace")
    sources = files_of([source])
    refuse_inputs(target, sources)
    opened = open_trace(source, one_of_many=True)
    if opened.location is None:
        raise DoctorError("annotate cannot use a stream, because it reads the trace twice", "pass a file")
    run = Run(opened.trace, options_for(opened.trace, stated, settings_here()))
    if run.lost_device is not None:
        raise DoctorError(f"nothing can be marked: {run.lost_device.reason}", run.lost_device.remedy)
    annotations = annotate_run(run, _remarks(run))
    window = run.steps.extent if steps is not None else None
    with Source(opened.location) as stream, _writer(Path(target), sources) as out:
        copy = _Copy(stream, run.trace.file_origin_ns, window)
        copy.write(out, annotations)
    return Annotated(
        path=str(target),
        size_bytes=Path(target).stat().st_size,
        steps=len(annotations.steps),
        events=copy.seen,
        kept=copy.kept,
        marks=sum(where.count for _, where in annotations.owners),
        findings=len(annotations.remarks),
        readings=sum(len(s.time_ns) for s in annotations.samples),
        notes=opened.notes,
    )


def _remarks(run: Run) -> tuple[Remark, ...]:
    """The findings of the report that are root causes, each with the places in time where it costs most."""
    diagnosed = diagnose_run(run)
    changes = {priced.rule.name: priced.finding.change for priced in diagnosed.ranked}
    out = []
    for found in diagnosed.report.failed:
        change, saving = changes[found.rule], found.saving
        if change is None:
            continue
        saves = "" if saving is None else saving_words(diagnosed.report, found)
        saves += f" ({AT_STAKE})" if saving is not None and found.is_question else ""
        spots = worst_spots(run.trace, change, run.steps.extent)
        out.append(Remark(found.rule, found.code, found.summary, found.fix or "", saves, spots))
    return tuple(out)


class _Copy:
    """One pass over the file: the kept events, then ours, then the known keys of the header."""

    def __init__(self, stream: Source, shift_ns: int, window: tuple[int, int] | None) -> None:
        self._parser = Parser(stream)
        self._shift_ns = shift_ns
        # On the file's clock, in microseconds.
        self._window = None if window is None else tuple((ns + shift_ns) / NS_PER_US for ns in window)
        self.seen = 0
        self.kept = 0

    def write(self, out: BinaryIO, annotations: Annotations) -> None:
        """Write the whole document. The keys of the header follow the events, as in the files of Kineto."""
        out.write(b'{"schemaVersion":1,"displayTimeUnit":"ms","traceEvents":[\n')
        comma = b""
        for texts in (self._originals(), render_perfetto(annotations, self._shift_ns)):
            for text in texts:
                out.write(comma + _as_utf8(text))
                comma = b",\n"
        out.write(b"\n]")
        header = known_texts(self._parser.chunks.head, self._parser.tail)
        out.writelines(b',\n"' + key.encode() + b'":' + _as_utf8(value) for key, value in header.items())
        out.write(b"}\n")

    def _originals(self) -> Iterator[bytes]:
        """The events of the file, in pieces as large as the parser gives them."""
        for chunk in self._parser.lists():
            events = [bytes(event) for event in _LIST.decode(chunk)]
            if _OURS in chunk:
                events = [event for event in events if _OURS not in event]
            self.seen += len(events)
            kept = events if self._window is None else [event for event in events if self._is_inside(event)]
            self.kept += len(kept)
            if kept:
                yield b",\n".join(kept)

    def _is_inside(self, event: bytes) -> bool:
        """Whether an event belongs to the window. Names of processes and threads always do."""
        assert self._window is not None
        first, last = self._window
        try:
            timed = _EVENT.decode(event)
        except FAILURES:  # an event of another kind than those that we read, with a time that is none
            return False
        return timed.ts is None or timed.ph == "M" or (timed.ts < last and timed.ts + timed.dur >= first)


def _as_utf8(text: bytes) -> bytes:
    """The text as JSON may hold it: what is skipped while a trace is read, and copied here, can be in any encoding."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode(errors="replace").encode()
    return text


@contextmanager
def _writer(target: Path, sources: Sequence[str | os.PathLike[str]]) -> Iterator[BinaryIO]:
    """The target, gzipped if its name ends in `.gz`. It appears only when it is complete."""
    with saving(target, inputs=sources) as plain:
        if target.name.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=plain, compresslevel=_LEVEL, mtime=0) as packed:
                yield cast("BinaryIO", packed)
        else:
            yield cast("BinaryIO", plain)
