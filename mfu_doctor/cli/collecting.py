"""How often Python looks for garbage while a verb runs that starts no program of the user."""

from __future__ import annotations

import gc

# Verbs of which nothing but our own code runs in this process.
_OURS_ALONE = ("report", "check", "compare", "annotate", "explain")
_COLLECT_AFTER = 100_000  # objects


def collect_seldom(words: list[str]) -> None:
    """Look seldom, if the verb among these words of the command line is ours alone.

    A report makes many objects that stay. To look for garbage among them as often as Python does by itself takes a tenth of
    its time.
    """
    if words[:1] and words[0] in _OURS_ALONE:
        gc.set_threshold(_COLLECT_AFTER)
