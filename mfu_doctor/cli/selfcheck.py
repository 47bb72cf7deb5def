"""`mfu-doctor selfcheck`: a small table of what this machine can record and what the terminal can show."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mfu_doctor.quantities import counted, signed_percent
from mfu_doctor.render.words.text import clean, to_ascii

if TYPE_CHECKING:
    from mfu_doctor.capture.selfcheck import Probe
    from mfu_doctor.render.terminal.paint import Abilities
    from mfu_doctor.trial.record import Standing

_MARKS = {"ok": "ok", "warn": "!!", "none": "--"}
_VARIABLES = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TERM", "COLUMNS")


def table(probes: Sequence[Probe], screen: Abilities) -> str:
    """One line per probe: state, name, text; the last line is about the terminal."""
    rows = [(_MARKS[p.state], p.name, to_ascii(clean(p.text))) for p in probes]
    kind = "a terminal" if screen.terminal else "not a terminal"
    shows = (
        f"colour {'on' if screen.color else 'off'}, {'unicode' if screen.unicode else 'ASCII'}, {screen.width} columns"
    )
    named = ", ".join(f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ)
    rows.append(("ok", "terminal", to_ascii(clean(f"{kind}: {shows}" + (f" ({named})" if named else "")))))
    return "".join(f"{mark}  {name:<12} {text}\n" for mark, name, text in rows)


def about_trials(standings: Sequence[Standing], place: str) -> str:
    """How right each rule has been in the trials of this machine; empty if there was none."""
    rows = [
        f"    {found.rule:<28} {found.met:>3} of {counted(found.tried, 'trial'):<10} {signed_percent(found.apart):>8}\n"
        for found in standings
    ]
    head = (
        "\nfixes tried on this machine: how often the prediction was met, and by how much\n"
        f"more was measured, as a share of the step in the median ({to_ascii(clean(place))})\n"
    )
    return "".join([head, *rows]) if rows else ""
