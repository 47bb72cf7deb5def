"""The board of a machine: every fix that was tried on it, predicted beside measured, as markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from mfu_doctor import quantities
from mfu_doctor.render.words.escape import inline
from mfu_doctor.result.trial import OPEN
from mfu_doctor.result.trial_entry import Entry

_HEADS = "| program | fix | finding | step | predicted | measured | error | verdict |"


def board_markdown(entries: Sequence[Entry]) -> str:
    """The latest trial of each fix on each program, and how far the predicted steps are from the measured ones.

    Args:
        entries: the record, the latest last.
    """
    latest = {(entry.program, entry.fixes): entry for entry in entries}
    rows = [_row(entry) for entry in latest.values()]
    sizes = [abs(entry.error) for entry in latest.values() if entry.verdict != OPEN]
    told = (
        f"- |error| of the predicted step: median {quantities.percent(median(sizes))} of {len(sizes)}" if sizes else ""
    )
    head = [
        "# Fixes tried with `mfu-doctor try`",
        "",
        _machines(entries),
        "",
        _HEADS,
        "|---|---|---|---:|---:|---:|---:|---|",
    ]
    return "\n".join([*head, *rows, "", *([told] if told else [])]) + "\n"


def _machines(entries: Sequence[Entry]) -> str:
    machines = dict.fromkeys(
        f"{entry.device or 'unknown device'}, torch {entry.torch or 'unknown'}" for entry in entries
    )
    return inline("; ".join(machines))


def _row(entry: Entry) -> str:
    after = [quantities.duration(entry.step_s - saved) for saved in (entry.predicted_s, entry.saving_s)]
    error = quantities.signed_percent(entry.error)
    told = (
        entry.program,
        " + ".join(entry.fixes),
        entry.rule,
        quantities.duration(entry.step_s),
        *after,
        error,
        entry.verdict,
    )
    return "| " + " | ".join(inline(text) for text in told) + " |"
