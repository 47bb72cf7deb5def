"""What a reader may not rely on in a report, and what to do about it, most important first."""

from __future__ import annotations

from msgspec import Struct

# What a caveat makes wrong. Advice: none is given. Figures: it stands before them. Nothing: it stands below them.
ADVICE, FIGURES = "advice", "figures"


class Caveat(Struct, frozen=True, kw_only=True):
    """One sentence on what limits the numbers."""

    kind: str  # the rule that says it, "file", "replay" or "note"
    text: str
    remedy: str | None = None  # what to do, often a line to paste
    spoils: str | None = None  # ADVICE, FIGURES, or None
