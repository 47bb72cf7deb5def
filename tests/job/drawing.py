"""Draw the ranks of a job: what each does for itself, and the collectives that they meet in; times in microseconds.

A collective begins for each rank when it comes, and ends for all a transfer after the last has come. The account of each rank is
kept while it is drawn, so every figure of a test can be calculated by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mfu_doctor.job.summary import Collectives, Cores, Group, Ledger, RankSummary
from mfu_doctor.result.report import Report, RunInfo
from mfu_doctor.result.step import RECORDED, step_time_of

START = 1_700_000_000_000_000_000
US = 1_000
Micros = float | Mapping[int, float]  # of all ranks, or of each; ranks that are not named take none


@dataclass
class _Rank:
    at: int
    spent: dict[str, int] = field(default_factory=dict)
    steps: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    rows: list[dict[str, object]] = field(default_factory=list)
    groups: dict[Group, int] = field(default_factory=dict)
    flops: list[float] = field(default_factory=list)

    def spend(self, owner: str, nanoseconds: int) -> None:
        self.at += nanoseconds
        self.spent[owner] = self.spent.get(owner, 0) + nanoseconds


class DrawnJob:
    """Ranks that are drawn together.

    Args:
        ranks: how many there are.
        hosts: the machine of each, None: not known.
        clock_us: what the clock of a rank is ahead by.
        begin_us: how much later a rank begins.
        numbered: whether collectives have numbers.
    """

    def __init__(
        self,
        ranks: int,
        *,
        hosts: Sequence[str | None] | None = None,
        clock_us: Mapping[int, float] | None = None,
        begin_us: Mapping[int, float] | None = None,
        numbered: bool = True,
    ) -> None:
        late = begin_us or {}
        self.ranks = [_Rank(START + round(US * late.get(rank, 0))) for rank in range(ranks)]
        self.hosts = hosts or [None] * ranks
        self.clock = {rank: round(US * us) for rank, us in (clock_us or {}).items()}
        self.numbered = numbered
        self.options: dict[int, dict[str, str]] = {}
        self.cores: dict[int, Cores] = {}
        self.numbers: dict[tuple[str, tuple[int, ...]], int] = {}

    def step(self) -> None:
        """A step begins on every rank, wherever it is."""
        for rank in self.ranks:
            rank.steps.append((rank.at, dict(rank.spent)))

    def work(self, us: Micros, owner: str = "compute: matmul") -> None:
        """Each rank does something for itself."""
        for number, rank in enumerate(self.ranks):
            took = us.get(number, 0) if isinstance(us, Mapping) else us
            rank.spend(owner, round(US * took))

    def collective(
        self,
        us: float,
        *,
        kind: str = "allreduce",
        group: str = "dp",
        among: Sequence[int] | None = None,
        size: int | Mapping[int, int] = 1 << 20,
    ) -> None:
        """Ranks meet; `size` is what each puts in."""
        members = tuple(range(len(self.ranks))) if among is None else tuple(among)
        end = max(self.ranks[m].at for m in members) + round(US * us)
        number = self.numbers[group, members] = self.numbers.get((group, members), -1) + 1
        made = Group(f"{group} {members[0]}", group, members, len(members))
        for m in members:
            given = size[m] if isinstance(size, Mapping) else size
            self._meet(m, made, end, kind=kind, sequence=number, size=given, peer=-1)

    def send(self, source: int, target: int, us: float, *, size: int = 1 << 20) -> None:
        """One rank sends to another; both leave together."""
        end = max(self.ranks[source].at, self.ranks[target].at) + round(US * us)
        everyone = Group("pp", "pp", tuple(range(len(self.ranks))), len(self.ranks))
        self._meet(source, everyone, end, kind="send", sequence=-1, size=size, peer=target)
        self._meet(target, everyone, end, kind="recv", sequence=-1, size=size, peer=source)

    def _meet(self, m: int, group: Group, end: int, **row: object) -> None:
        rank = self.ranks[m]
        arrived, before = rank.at, dict(rank.spent)
        rank.spend(f"communication: {group.description}", end - rank.at)
        at = rank.groups.setdefault(group, len(rank.groups))
        number = row["sequence"] if self.numbered else -1
        row |= {
            "group": at,
            "arrive": arrived,
            "end": end,
            "before": before,
            "after": dict(rank.spent),
            "sequence": number,
        }
        rank.rows.append(row | {"exposed": end - arrived, "step": len(rank.steps) - 1})

    def summaries(self) -> list[RankSummary]:
        """The summaries of all ranks; the last step ends here."""
        return [self._summary(number) for number in range(len(self.ranks))]

    def _summary(self, number: int) -> RankSummary:
        rank, ahead = self.ranks[number], self.clock.get(number, 0)
        marks = [*rank.steps, (rank.at, rank.spent)]
        owners = tuple(sorted(rank.spent))

        def account(totals: Sequence[object]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
            rows = [[total.get(owner, 0) for owner in owners] for total in totals if isinstance(total, dict)]
            return np.array(rows, np.int64).reshape(len(rows), len(owners))

        start = np.array([at for at, _ in marks], np.int64)
        samples = (np.diff(start) / 1e9).tolist()
        return RankSummary(
            rank=number,
            world_size=len(self.ranks),
            trace=f"rank{number}.json",
            host=self.hosts[number],
            report=Report(
                run=RunInfo(trace=f"rank{number}.json", rank=number, world_size=len(self.ranks)),
                step_time_s=step_time_of(samples, RECORDED) if samples else None,
            ),
            steps=tuple(range(len(rank.steps))),
            step_start=start + ahead,
            steady=np.ones(len(rank.steps), np.bool_),
            collectives=_collectives(rank, ahead),
            ledger=Ledger(
                owners,
                account([row["before"] for row in rank.rows]),
                account([row["after"] for row in rank.rows]),
                account([total for _, total in marks]),
            ),
            reach=None,
            reach_reason="drawn",
            transfer_ns=np.zeros(len(rank.rows)),
            mended=(),
            flops=np.array(rank.flops or [np.nan] * len(rank.steps)),
            options=self.options.get(number, {}),
            cores=self.cores.get(number, Cores()),
        )


def _collectives(rank: _Rank, ahead: int) -> Collectives:
    def column(name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([row[name] for row in rank.rows], np.int64)

    group = column("group")
    order = [int((group[:i] == group[i]).sum()) for i in range(len(group))]
    return Collectives(
        group=group,
        groups=tuple(rank.groups),
        kind=tuple(str(row["kind"]) for row in rank.rows),
        sequence=column("sequence"),
        order=np.array(order, np.int64),
        size=column("size"),
        peer=column("peer"),
        arrive=column("arrive") + ahead,
        end=column("end") + ahead,
        exposed=column("exposed"),
        step=column("step"),
    )
