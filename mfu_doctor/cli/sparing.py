"""What a verb can do without that starts no program of the user."""

from __future__ import annotations

import atexit
import gc
import os
import sys

# Verbs of which nothing but our own code runs in this process.
_OURS_ALONE = ("report", "check", "compare", "annotate", "explain")
_COLLECT_AFTER = 100_000  # objects


def spare(words: list[str]) -> None:
    """Leave out what brings nothing, if the verb among these words of the command line is ours alone.

    A report makes many objects that stay. To look for garbage among them as often as Python does by itself takes a tenth of
    its time, and to look once more through all of them when it ends another one. The threads that numpy's algebra starts with it
    wait for work by turning round and round, and no verb multiplies matrices. Columns of a trace are allocated for more rows
    than there are; with pages of 2 MB, which numpy asks for, each of them holds memory for rows that never come.
    """
    if words[:1] and words[0] in _OURS_ALONE:
        gc.set_threshold(_COLLECT_AFTER)
        atexit.register(gc.freeze)
        if "numpy" not in sys.modules:  # it reads these when it is imported
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
