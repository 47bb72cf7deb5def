"""A small file beside the trace that says what was seen so far: it stays if the program is killed before its trace is written."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from mfu_doctor.capture.capture import Capture
from mfu_doctor.capture.export.assemble import Chosen, counted
from mfu_doctor.capture.export.merge import merge
from mfu_doctor.capture.facts.settings import place_in_job
from mfu_doctor.capture.loop.schedule import Phase, length
from mfu_doctor.facts import PARTIAL, Facts
from mfu_doctor.files import is_stream, replacing
from mfu_doctor.json_text import json_bytes
from mfu_doctor.quantities import duration
from mfu_doctor.version import __version__

_EVERY_S = 10.0  # and when a phase ends: it is written between two steps


class SoFar:
    """The file of one capture."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._due_s = 0.0
        self._phase: Phase | None = None  # when it was written last

    def is_due(self, capture: Capture) -> bool:
        """Whether it should be written now: not while a profiler records, nor if it was a moment ago."""
        runner = capture.phase_runner
        early = time.monotonic() < self._due_s and runner.phase is self._phase
        return not (runner.recording or runner.done is not capture.over or early)

    def keep(self, capture: Capture) -> None:
        """Write it if that is due; nothing is said if it fails, since the trace may still find a place."""
        if not self.is_due(capture):
            return
        self._due_s, self._phase = time.monotonic() + _EVERY_S, capture.phase_runner.phase
        with suppress(OSError, ValueError):
            self._path = self._path or _beside(capture)
            if self._path is None:
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as file:
                merge([], file, json_bytes(_facts(capture)), name=f"{self._path.name}.json")

    def drop(self) -> None:
        """The trace is there, or there will be none: remove the file."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()


def _beside(capture: Capture) -> Path | None:
    """Where it is written; None if the trace goes into a device or a pipe."""
    target = capture.request.destination.file_for(place_in_job())
    return None if is_stream(target) else target.with_name(target.name + PARTIAL)


def _facts(capture: Capture) -> Facts:
    """What can be told without asking torch or the machine for anything: this runs between two steps."""
    runner, place, asked, run = capture.phase_runner, place_in_job(), capture.request.asked, capture.account()
    steps = length(asked)
    ended = f"{min(len(runner.rows), steps)} of the {steps} steps that the recording needs had ended"
    doing = "its trace was being written" if capture.over else f"{ended}, {duration(run.wall_s)} after the block began"
    program = f"process {os.getpid()} on {socket.gethostname()}"
    return Facts(
        tool_version=__version__,
        site=capture.request.site,
        rank=place.rank,
        local_rank=place.local_rank,
        world_size=place.world_size,
        step_source=capture.detector.source.value,
        asked=asked,
        recorded=counted(runner, Chosen(None, None)),
        whole_run=run,
        batch_shape=capture.seen.loop.batch_shape,
        given=capture.request.given,
        notes=(f"when its program ({program}) was last heard of, {doing}", *capture.notes.said),
    )
