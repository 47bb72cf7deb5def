"""Where the time of all ranks went, with one list of owners: any part of a rank's time is a difference of two rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from mfu_doctor.job.across.table import Floats, Ints, Mask
from mfu_doctor.job.summary import Ledger, RankSummary

COMMUNICATION = "communication"
BEFORE_OWNER = "before the recording"


class Accounts(Struct, frozen=True):
    """The ledgers of all ranks.

    Attributes:
        owners: of any rank, sorted, shape (o,).
        at_arrival: nanoseconds of each owner up to each row of the table, shape (n, o).
        at_end: likewise.
        step: of each rank, each of its step windows, shape (its steps, o).
        before_steps: of each rank up to its first step, shape (ranks, o).
        begin: when each rank's ledger begins, by its own clock, shape (ranks,); its first step if it has no collective.
    """

    owners: tuple[str, ...]
    at_arrival: Ints
    at_end: Ints
    step: tuple[Ints, ...]
    before_steps: Ints
    begin: Ints

    @property
    def is_communication(self) -> Mask:
        """Which owners are communication, shape (o,)."""
        return np.array([owner.startswith(COMMUNICATION) for owner in self.owners], np.bool_)


def accounts_of(summaries: Sequence[RankSummary]) -> Accounts:
    """The accounts of these ranks."""
    owners = tuple(sorted({owner for summary in summaries for owner in summary.ledger.owners}))
    place = {owner: i for i, owner in enumerate(owners)}

    def widened(name: str) -> list[Ints]:
        return [_widened(summary.ledger, name, place) for summary in summaries]

    at_step = widened("at_step")
    nothing = np.empty((0, len(owners)), np.int64)
    return Accounts(
        owners,
        np.concatenate([nothing, *widened("at_arrival")]),
        np.concatenate([nothing, *widened("at_end")]),
        tuple(np.diff(each, axis=0) for each in at_step),
        np.array([each[0] if len(each) else np.zeros(len(owners), np.int64) for each in at_step]),
        np.array([_begin(summary) for summary in summaries], np.int64),
    )


def _widened(ledger: Ledger, name: str, place: dict[str, int]) -> Ints:
    values = np.asarray(getattr(ledger, name), np.int64)
    out = np.zeros((len(values), len(place)), np.int64)
    out[:, [place[owner] for owner in ledger.owners]] = values
    return out


def _begin(summary: RankSummary) -> int:
    if len(summary.collectives):
        return int(summary.collectives.arrive[0] - summary.ledger.at_arrival[0].sum())
    return int(summary.step_start[0] - summary.ledger.at_step[0].sum()) if len(summary.step_start) else 0


def own_time(accounts: Accounts, rank: int) -> Floats:
    """What a rank did for itself in each of its steps, communication left out, shape (its steps,)."""
    kept: Floats = accounts.step[rank][:, ~accounts.is_communication].sum(axis=1).astype(np.float64)
    return kept
