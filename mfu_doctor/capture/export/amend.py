"""Adds to a trace file, when its block ends, what the rest of the run showed. The recorded events are copied unread."""

from __future__ import annotations

import gzip
import zlib
from contextlib import nullcontext
from pathlib import Path

from msgspec.structs import replace

from mfu_doctor.capture.capture import Capture
from mfu_doctor.capture.export.assemble import with_whole_run
from mfu_doctor.capture.export.merge import FACTS_LINE, zipped
from mfu_doctor.files import is_stream, replacing
from mfu_doctor.json_text import json_bytes

_LONGEST_HEAD = 64 << 20  # bytes before the events: process groups and facts
_PIECE = 1 << 20  # bytes copied at a time


def amend_capture(capture: Capture, path: Path) -> None:
    """Put the account of the whole block into the file that was written when the recording ended.

    A file that is no longer the one written then (moved, changed, replaced) stays as it is, and so does what went into a pipe.
    """
    before = capture.facts
    if before is None or is_stream(path):
        return
    after = with_whole_run(capture, before)
    if _replaced(path, _line_of(json_bytes(before)), _line_of(json_bytes(after))):
        capture.facts = after
    else:
        capture.notes.say(
            f"{path} was moved or changed after the recording: it does not hold the times of the whole run"
        )


def keep_former(capture: Capture, path: Path) -> None:
    """Say in the file of a former recording that the training came after it, and was too short to be recorded."""
    before = capture.former
    if before is None:
        return
    steps = len(capture.phase_runner.rows)
    note = (
        f"this is not the training: steps from the {capture.detector.source.value} were seen after the recording, "
        f"and ended after {steps}, too few to record; pass smaller skip, timed and warmup"
    )
    capture.notes.say(note)
    after = replace(before, notes=(*before.notes, note))
    _replaced(path, _line_of(json_bytes(before)), _line_of(json_bytes(after)))


def _line_of(facts: bytes) -> bytes:
    return FACTS_LINE + facts + b",\n"


def _replaced(path: Path, old: bytes, new: bytes) -> bool:
    if not path.is_file():
        return False
    plain = path.name.endswith(".json")
    try:
        with path.open("rb") if plain else gzip.open(path) as source:
            head = bytearray()
            line = source.readline(_LONGEST_HEAD)
            while line and line != old and len(head) < _LONGEST_HEAD:
                head += line
                line = source.readline(_LONGEST_HEAD)
            if line != old:
                return False
            with replacing(path) as target, nullcontext(target) if plain else zipped(target) as out:
                out.write(bytes(head) + new)
                while piece := source.read(_PIECE):
                    out.write(piece)
    except (FileNotFoundError, gzip.BadGzipFile, EOFError, zlib.error):
        return False
    return True
