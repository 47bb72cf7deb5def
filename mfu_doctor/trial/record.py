"""The record of all trials on this machine: a line for each fix that was measured, with what was predicted for it.

It is kept where the system keeps the state of programs: `$XDG_STATE_HOME` or `~/.local/state` on Linux,
`~/Library/Application Support` on macOS, each with `mfu-doctor/trials.jsonl`. Nothing of it is sent anywhere.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct

from mfu_doctor.json_text import json_bytes
from mfu_doctor.result.report import Report
from mfu_doctor.result.trial import BETTER, OPEN, REFUSED, SAME, WORSE, Tried
from mfu_doctor.result.trial_entry import Entry

FILE = "trials.jsonl"
_MEASURED = (BETTER, SAME, WORSE, OPEN, REFUSED)  # verdicts of fixes whose steps were measured


class Standing(Struct, frozen=True):
    """How right the predictions of one rule have been.

    Attributes:
        rule: its name.
        tried: fixes that were measured.
        met: those whose measurement agrees with the prediction.
        apart: the median of measured less predicted, as a share of the step.
    """

    rule: str
    tried: int
    met: int
    apart: float


def record_file(environ: Mapping[str, str] | None = None, *, platform: str = sys.platform) -> Path | None:
    """Where the record is; None if this user has no home."""
    known = os.environ if environ is None else environ
    base = known.get("XDG_STATE_HOME")
    if base:
        return Path(base) / "mfu-doctor" / FILE
    try:
        home = Path.home()
    except RuntimeError:
        return None
    inside = ("Library", "Application Support") if platform == "darwin" else (".local", "state")
    return home.joinpath(*inside, "mfu-doctor", FILE)


def entries_of(report: Report) -> list[Entry]:
    """What a trial adds to the record: each fix with a prediction and a measurement."""
    trial = report.trial
    if trial is None or trial.unchanged_s is None:
        return []
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    found = [_entry(report, tried, trial.program, trial.unchanged_s, when) for tried in trial.tried]
    return [entry for entry in found if entry is not None]


def _entry(report: Report, tried: Tried, program: str, step_s: float, when: str) -> Entry | None:
    ahead = (tried.predicted_low_s, tried.predicted_s, tried.predicted_high_s)
    seen = (tried.saving_low_s, tried.saving_s, tried.saving_high_s)
    if tried.rule is None or tried.verdict not in _MEASURED:
        return None
    match ahead, seen:
        case (float(low), float(middle), float(high)), (float(least), float(best), float(most)):
            return Entry(
                when=when,
                program=program,
                device=report.device.name,
                torch=report.run.versions.get("torch"),
                rule=tried.rule,
                fixes=tried.fixes,
                verdict=tried.verdict,
                step_s=step_s,
                predicted_low_s=low,
                predicted_s=middle,
                predicted_high_s=high,
                saving_low_s=least,
                saving_s=best,
                saving_high_s=most,
            )
    return None


def append(path: Path, entries: Sequence[Entry]) -> None:
    """Add lines to the record.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = b"".join(json_bytes(entry) + b"\n" for entry in entries)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, lines)  # in one piece: two commands may end at once
    finally:
        os.close(descriptor)


def read(path: Path | None) -> list[Entry]:
    """The record; lines of another version, or cut by a full disk, are left out."""
    try:
        lines = path.read_bytes().splitlines() if path is not None else []
    except OSError:
        return []
    entries = []
    for line in lines:
        try:
            entries.append(msgspec.json.decode(line, type=Entry))
        except msgspec.MsgspecError:
            continue
    return entries


def standings(entries: Sequence[Entry]) -> list[Standing]:
    """How right each rule has been in trials that settled something, those tried most first."""
    settled = [entry for entry in entries if entry.verdict != OPEN]
    rules = dict.fromkeys(entry.rule for entry in settled)
    of_rule = {rule: [entry for entry in settled if entry.rule == rule] for rule in rules}
    found = [
        Standing(
            rule=rule,
            tried=len(kept),
            met=sum(entry.is_met for entry in kept),
            apart=median((entry.saving_s - entry.predicted_s) / entry.step_s for entry in kept),
        )
        for rule, kept in of_rule.items()
    ]
    return sorted(found, key=lambda standing: -standing.tried)
