"""Writes the trace file: the chosen windows merged into one, with our metadata."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from mfu_doctor.capture.capture import Capture
from mfu_doctor.capture.destination import SUFFIX
from mfu_doctor.capture.export.amend import keep_former
from mfu_doctor.capture.export.assemble import Chosen, assemble, choose, explain_length
from mfu_doctor.capture.export.merge import Export, MergeError, merge
from mfu_doctor.capture.export.scratch import scratch
from mfu_doctor.capture.facts.settings import place_in_job
from mfu_doctor.capture.loop.stopwatch import cuda_in_use
from mfu_doctor.facts import MeasuredPeak
from mfu_doctor.files import replacing
from mfu_doctor.json_text import json_bytes


def write_capture(capture: Capture) -> Path | None:
    """Export what was recorded and write the trace file.

    Returns:
        Where the file is: where the user wanted it, else in a temporary directory (a note says so), else None.
    """
    chosen = choose(capture.phase_runner)
    capture.notes.guarded("the length of the recording could not be explained", explain_length, capture, chosen)
    peaks = capture.notes.guarded("the CPU's peak could not be measured", _peaks, capture) or ()
    target = capture.request.destination.file_for(place_in_job())
    with scratch(target) as folder:
        if folder is None:
            capture.notes.say("the trace could not be written: no directory has free space")
            return None
        exports = _export(capture, chosen, folder)
        write = _writer(capture, chosen, exports, peaks)
        return _write(capture, target, write)


def write_again(capture: Capture, former: Path | None) -> Path | None:
    """Write the file of a recording that began again, in place of the former one; that one stays if there is nothing better."""
    if former is not None and choose(capture.phase_runner).timing is None:
        keep_former(capture, former)
        return former
    path = write_capture(capture)
    if path is not None and former is not None and path != former:
        former.unlink(missing_ok=True)
    return path or former


def _write(capture: Capture, target: Path, write: Callable[[Path], None]) -> Path | None:
    try:
        write(target)
    except (OSError, ValueError) as error:  # ValueError: no name of a file
        spare = Path(tempfile.gettempdir()) / f"mfu-doctor-{os.getpid()}{SUFFIX}"
        capture.notes.say(
            f"{target} could not be written ({getattr(error, 'strerror', None) or error}): the trace was written to {spare}"
        )
        try:
            write(spare)
        except OSError as again:
            capture.notes.say(f"{spare} could not be written either ({again.strerror or again})")
            return None
        return spare
    return target


def _writer(
    capture: Capture, chosen: Chosen, exports: list[Export], peaks: tuple[MeasuredPeak, ...]
) -> Callable[[Path], None]:
    """A function that writes the whole file somewhere; the facts are encoded when it is called, with the notes so far."""

    def write(path: Path) -> None:
        kept = chosen if exports else Chosen(None, None)
        capture.facts = assemble(capture, kept, peaks)
        facts = json_bytes(capture.facts)

        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, patient=False) as file:
            merge(exports, file, facts, name=path.name)

    return write


def _export(capture: Capture, chosen: Chosen, folder: Path) -> list[Export]:
    """Kineto's JSON of each recording; without the first one nothing can be shown, so then none."""
    exports: list[Export] = []
    for number, recording in enumerate(chosen.recordings):
        path = folder / f"{number}.json"
        recording.session.export(path)
        export = Export(path, tuple(recording.stumps))
        try:
            export.check()
        except (OSError, MergeError) as error:
            capture.notes.say(f"the {recording.kind} recording could not be saved: {error}")
            break
        exports.append(export)
    for recording in capture.phase_runner.recordings.values():
        recording.session.discard()
    return exports


def _peaks(capture: Capture) -> tuple[MeasuredPeak, ...]:
    """GEMM peaks of this CPU for the dtypes in use; with a GPU in use the table of devices has them."""
    if cuda_in_use():
        return ()
    from mfu_doctor.capture.facts.cpu_peak import measure_peaks

    loop = capture.seen.loop
    # bfloat16 is measured too: whether it would be faster is what fp32-matmul must know
    used = ["float32", *loop.parameter_dtypes, "bfloat16", *([loop.autocast_dtype] if loop.autocast_dtype else [])]
    dtypes = dict.fromkeys(used)
    return measure_peaks(tuple(dtypes))
