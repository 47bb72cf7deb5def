"""What a part is asked for, and where it leaves what it found: few files, each complete at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS, LOG, TRACES = "results.jsonl", "log.txt", "traces.zip"
# Where results are fetched from a machine file by file, archives of this size still come back.
MOST_BYTES = 15 << 20
# The kernel may be in a call of the driver that does not end: then the process stays, and nobody waits for it.
_TO_DIE_S = 3.0


@dataclass(frozen=True)
class Job:
    """One part's work.

    Attributes:
        out: the folder of the results.
        rehearse: on the CPU, with tiny sizes.
        end: when its time is over, by `time.monotonic`.
        patients: of the clinic; None: all.
    """

    out: Path
    rehearse: bool
    end: float
    patients: tuple[str, ...] | None = None

    @property
    def left_s(self) -> float:
        """Seconds until its time is over."""
        return max(self.end - time.monotonic(), 0.0)

    def write(self, part: str, fact: dict[str, Any]) -> None:
        """Add a line; it is on disk before the next fact is looked for."""
        with (self.out / RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"part": part, **fact}, default=str) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def facts(self) -> list[dict[str, Any]]:
        """Every line so far."""
        path = self.out / RESULTS
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def keep(self, trace: Path, name: str) -> bool:
        """Put a trace into the archive; False if there is no room for it."""
        return add(self.out / TRACES, name, trace.read_bytes())


def add(archive: Path, name: str, content: bytes) -> bool:
    """Put a file into an archive, which grows to no more than `MOST_BYTES`; whether there was room."""
    if len(content) + (archive.stat().st_size if archive.exists() else 0) > MOST_BYTES:
        return False
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr(name, content)
    return True


def latest(archive: Path) -> dict[str, bytes]:
    """The files of an archive, of each name the last that was put in."""
    if not archive.exists():
        return {}
    with zipfile.ZipFile(archive) as packed:
        return {entry.filename: packed.read(entry) for entry in packed.infolist()}


@dataclass(frozen=True)
class Ended:
    """How a process ended: `code` is None if its time was over."""

    code: int | None
    out: str
    err: str

    @property
    def failure(self) -> str | None:
        """Why it failed, None if it did not."""
        if self.code == 0:
            return None
        words = self.err.strip().splitlines()[-1:] or [""]
        return f"stopped: its time was over; {words[0]}" if self.code is None else f"ended with {self.code}: {words[0]}"


def bounded(command: list[str], seconds: float, scratch: Path, **environment: str) -> Ended:
    """Run a program in a session of its own, and end it with all its children when its time is over.

    What it prints goes through files, for children that outlive it would hold a pipe open.
    """
    out, err = scratch / "out.txt", scratch / "err.txt"
    with out.open("w", encoding="utf-8") as to, err.open("w", encoding="utf-8") as errors:
        child = subprocess.Popen(
            command,
            stdout=to,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | environment,
        )
        try:
            code: int | None = child.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end(child)
    return Ended(code, *(path.read_text(encoding="utf-8", errors="replace") for path in (out, err)))


def end(child: subprocess.Popen[Any]) -> None:
    """End a process and whatever it started: asked first, for it may have to end sessions of its own, as this one does."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_TO_DIE_S)
    if child.poll() is None:
        print(f"process {child.pid} does not end", file=sys.stderr)
