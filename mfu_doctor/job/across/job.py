"""A job: the ranks of one run, and views of them that are computed once, each from the ones above it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from msgspec.structs import replace

from mfu_doctor.job.across.accounts import Accounts, accounts_of, own_time
from mfu_doctor.job.across.blame import Lateness, lateness_of
from mfu_doctor.job.across.clock import Clocks, clocks_of, disproved
from mfu_doctor.job.across.matching import Matched, match
from mfu_doctor.job.across.plain_reach import plain_reach
from mfu_doctor.job.across.replay import JobReplay
from mfu_doctor.job.across.slots import Slots, slots_of
from mfu_doctor.job.across.table import UNKNOWN, Floats, Ints, JobGroup, Mask, Table, table_of
from mfu_doctor.job.across.waits import Waits, waits_of
from mfu_doctor.job.summary import RankSummary
from mfu_doctor.units import NS_PER_S

_NUMBERED = "ProfilerStep"  # steps that the profiler counts have the same number on all ranks


class Job:
    """The ranks of a run.

    Args:
        summaries: in order of their numbers; each has one.
        source: where they are from, as a command names it.
    """

    def __init__(self, summaries: tuple[RankSummary, ...], source: str = "DIR") -> None:
        self.summaries, self.source = summaries, source
        self.ranks: tuple[int, ...] = tuple(one.rank for one in summaries if one.rank is not None)
        self.hosts = tuple(one.host for one in summaries)

        self.world_size = max((one.world_size for one in summaries if one.world_size is not None), default=None)

        self.answers: dict[object, object] = {}  # see `once`

    def __len__(self) -> int:
        return len(self.summaries)

    def is_in_one_machine(self, group: JobGroup) -> bool:
        """Whether every rank of a group was read, and known to be of one machine: only there the machine's links count."""
        hosts = {self.hosts[member] for member in group.members}
        return group.complete and len(hosts) == 1 and None not in hosts

    @cached_property
    def table(self) -> Table:
        """The collectives of all ranks."""
        return table_of(self.summaries)

    @cached_property
    def matched(self) -> Matched:
        """Which of them are the same."""
        numbered = all(one.report.run.steps_source == _NUMBERED for one in self.summaries)
        found = match(self.table, numbered_steps=numbered)
        wrong = disproved(self.table, found, clocks_of(self.table, found, self.hosts))
        return found.without(wrong, "some ranks left before others came, so it is not the same one")

    @cached_property
    def clocks(self) -> Clocks:
        """How the clocks of the ranks lie to each other."""
        return clocks_of(self.table, self.matched, self.hosts)

    @cached_property
    def waits(self) -> Waits:
        """Who came when, and what was waiting."""
        return waits_of(self.table, self.matched, self.clocks)

    @cached_property
    def accounts(self) -> Accounts:
        """Where the time of all ranks went."""
        return accounts_of(self.summaries)

    @cached_property
    def lateness(self) -> Lateness:
        """Who came last to each collective, and why."""
        return lateness_of(self.table, self.matched, self.waits, self.accounts, self.clocks)

    @cached_property
    def step(self) -> Ints:
        """The step of each matched collective, an index into `table.steps`: that of its last member; -1 outside; shape (c,)."""
        last = self.table.step[self.waits.last]
        latest = np.full(len(self.matched), UNKNOWN)
        np.maximum.at(latest, self.matched.of_row, self.table.step[self.matched.row])
        return np.where(last == UNKNOWN, latest, last)

    @cached_property
    def steady(self) -> Mask:
        """Which steps of the job are judged: those that are on most of the ranks that have them; shape (steps,)."""
        votes = np.zeros((len(self.table.steps), 2))
        for one in self.summaries:
            at = np.searchsorted(self.table.steps, one.steps)
            votes[at] += np.column_stack([one.steady, ~one.steady])
        return votes[:, 0] >= np.maximum(votes[:, 1], 1)

    @cached_property
    def step_ns(self) -> Floats:
        """How long each step took on each rank, NaN where it has none, shape (ranks, steps)."""
        return self._by_step([np.diff(one.step_start).astype(np.float64) for one in self.summaries])

    @cached_property
    def own_ns(self) -> Floats:
        """What each rank did for itself in each step, communication left out; shape (ranks, steps)."""
        return self._by_step([own_time(self.accounts, rank) for rank in range(len(self))])

    @cached_property
    def flops(self) -> Floats:
        """Model FLOP of each rank in each step, NaN where they are not counted; shape (ranks, steps)."""
        return self._by_step([one.flops for one in self.summaries])

    def _by_step(self, each: list[Floats]) -> Floats:
        out = np.full((len(self), len(self.table.steps)), np.nan)
        for rank, (one, values) in enumerate(zip(self.summaries, each, strict=True)):
            out[rank, np.searchsorted(self.table.steps, one.steps)] = values
        return out

    @cached_property
    def recorded_ns(self) -> float:
        """The mean judged step as recorded, over all ranks; 0 if there is none."""
        judged = self.step_ns[:, self.steady]
        return float(np.nanmean(judged)) if judged.size and not np.isnan(judged).all() else 0.0

    @cached_property
    def step_s(self) -> float:
        """The step that everything is stated of: the mean of the steps that the ranks state, which may be un-profiled ones."""
        stated = [one.report.step_time_s.stated for one in self.summaries if one.report.step_time_s is not None]
        return float(np.mean(stated)) if stated else self.recorded_ns / NS_PER_S

    @property
    def second_ns(self) -> float:
        """Recorded nanoseconds that are one second of the stated step."""
        return self.recorded_ns / self.step_s if self.step_s and self.recorded_ns else float(NS_PER_S)

    @cached_property
    def slots(self) -> Slots:
        """The same places of the program on all ranks."""
        return slots_of(self.table, self.matched, self.accounts, self.step)

    @cached_property
    def replay(self) -> JobReplay:
        """All ranks run again."""
        own = [one.reach or plain_reach(one) for one in self.summaries]
        shift = np.rint(self.clocks.offset_ns).astype(np.int64).tolist()
        reaches = [replace(reach, begin=reach.begin + ns) for reach, ns in zip(own, shift, strict=True)]
        return JobReplay(self.table, self.matched, self.waits, reaches, self.slots)
