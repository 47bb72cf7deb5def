"""Whether a line belongs to a library, as far as the samples of the training thread's stack tell: its user cannot edit it.

Frames of a trace do not tell: the profiler leaves out the folder that a file was found in, of the program as of its libraries.
"""

from __future__ import annotations

from mfu_doctor.analysis.run import Run


def library_of(run: Run, place: str | None) -> str | None:
    """The library that a line belongs to; None for the program's own, or if nothing tells."""
    samples = run.facts.frames if run.facts is not None else ()
    seen = {name for one in samples for name in (one.library, (one.call or "").rpartition(".")[0]) if name}
    package = (place or "").partition("/")[0]
    return package if package in seen else None
