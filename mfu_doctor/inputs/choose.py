"""The one trace of several to report on, and the notes about the others, for what takes one rank only.

All ranks together are a job: see `mfu_doctor.job`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from msgspec import Struct

from mfu_doctor.errors import DoctorError
from mfu_doctor.inputs.ranks import Found, RankFile, find_ranks, some


class Chosen(Struct, frozen=True):
    """The trace to report on, and one sentence each on the choice, on other ranks of its run, and on other runs.

    Attributes:
        location: its path, or its address in a store.
        notes: the sentences.
        of: how many ranks of its run are there.
    """

    location: str
    notes: tuple[str, ...] = ()
    of: int = 1


def choose_trace(sources: Sequence[str | os.PathLike[str]], rank: int | None = None) -> Chosen:
    """The trace to report on.

    Args:
        sources: what the user named.
        rank: the rank to take; None: the lowest.

    Raises:
        NotATraceError: there is no trace.
        DoctorError: there is no trace of this rank.
    """
    found = find_ranks(sources)
    chosen = found.ranks[0] if rank is None else _of_rank(found, rank)
    siblings = [file for file in found.ranks if file is not chosen]
    which = [f"rank {chosen.rank}"] if siblings and chosen.rank is not None else []
    which += ["newest run in this directory"] if found.others else []
    notes = [f"reporting on {chosen.location}" + (f" ({', '.join(which)})" if which else "")]
    if siblings:
        command = f"mfu-doctor report {' '.join(shlex.quote(os.fspath(source)) for source in sources[:1])}"
        notes.append(
            f"other ranks of this run: {some([file.name for file in siblings])}; all of them together: {command}"
        )
    return Chosen(chosen.location, (*notes, *about_others(found)), len(found.ranks))


def about_others(found: Found) -> tuple[str, ...]:
    """One sentence each on what is there and not read."""
    notes = [f"other runs in this directory: {some(found.others)}"] if found.others else []
    if found.doubles:
        notes.append(
            f"newer traces of the same ranks are read instead of {some([file.name for file in found.doubles])}"
        )
    return tuple(notes)


def _of_rank(found: Found, rank: int) -> RankFile:
    file = next((file for file in found.ranks if file.rank == rank), None)
    if file is None:
        known = [str(file.rank) for file in found.ranks if file.rank is not None]
        there = f"there are traces of rank {some(known)}" if known else "the traces do not say of which rank they are"
        raise DoctorError(f"there is no trace of rank {rank}", there)
    return file
