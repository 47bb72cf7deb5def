"""The collectives of a job by group, kind and size: how often, how long, how much of it waiting, and how fast the rest."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from mfu_doctor.arrays.distinct import distinct
from mfu_doctor.devices.links import ONE_MACHINE, algorithm_bytes, bus_bytes, link_rate
from mfu_doctor.job.across.job import Job
from mfu_doctor.job.across.matching import EVEN
from mfu_doctor.job.across.table import Ints, one_key
from mfu_doctor.result.job import CollectiveRow
from mfu_doctor.units import NS_PER_S


def collective_rows(job: Job) -> tuple[CollectiveRow, ...]:
    """One row for all collectives of a kind and size in groups of one name, longest first."""
    table = job.table
    labels = tuple(dict.fromkeys((group.label, group.size) for group in table.groups))
    label = np.array([labels.index((group.label, group.size)) for group in table.groups], np.int64)
    rows = np.flatnonzero(np.append(job.steady, False)[table.step])
    if not len(rows):
        return ()
    size = _sizes(job)
    keys = one_key(label[table.group[rows]], table.kind[rows], size[rows])
    order = np.argsort(keys, kind="stable")
    parts = np.split(rows[order], np.flatnonzero(np.diff(keys[order])) + 1)
    is_matched = np.zeros(len(table), np.bool_)
    is_matched[job.matched.row] = True
    is_complete = np.zeros(len(table), np.bool_)
    is_complete[job.matched.complete_rows] = True
    found = []
    for mine in parts:
        group = labels[label[table.group[mine[0]]]]
        row = _row(job, mine, group, int(size[mine[0]]), is_matched=bool(is_matched[mine].all()))
        found.append(_with_rates(job, mine, group[1], row) if is_complete[mine].all() else row)
    return tuple(sorted(found, key=lambda row: -row.duration_s))


def _sizes(job: Job) -> Ints:
    """What each row puts in: if a rank was recorded without sizes, it is what the others put into the same collective."""
    table, matched, size = job.table, job.matched, job.table.size.copy()
    most = np.full(len(matched), -1)
    np.maximum.at(most, matched.of_row, size[matched.row])
    unknown = np.flatnonzero((size[matched.row] < 0) & table.is_kind(*EVEN)[matched.row])
    size[matched.row[unknown]] = most[matched.of_row[unknown]]
    return size


def _row(job: Job, mine: Ints, group: tuple[str, int | None], size: int, *, is_matched: bool) -> CollectiveRow:
    table, waits = job.table, job.waits
    kind = table.kinds[int(table.kind[mine[0]])]
    per = len(distinct(table.rank[mine])) * int(job.steady.sum())
    took, waited = waits.end[mine] - waits.arrive[mine], waits.wait[mine]
    return CollectiveRow(
        group=group[0],
        kind=kind,
        size_bytes=size if size >= 0 else None,
        count=len(mine) / per,
        duration_s=float(took.sum()) / per / job.second_ns,
        wait_s=float(waited.sum()) / per / job.second_ns if is_matched else None,
        transfer_s=float((took - waited).sum()) / per / job.second_ns if is_matched else None,
        exposed_s=float(table.exposed[mine].sum()) / per / job.second_ns,
    )


def _with_rates(job: Job, mine: Ints, size: int | None, row: CollectiveRow) -> CollectiveRow:
    """The row with what it moves a second, which only collectives tell that all their ranks are read of."""
    ranks = 2 if row.kind in ("send", "recv") else size
    one_s = float(np.median(job.waits.transfer[mine])) / NS_PER_S
    if ranks is None or ranks < 2:
        return row
    given = row.size_bytes if one_s > 0 else None
    return replace(
        row,
        algorithm_bytes_s=algorithm_bytes(row.kind, given, ranks) / one_s if given else None,
        bus_bytes_s=bus_bytes(row.kind, given, ranks) / one_s if given else None,
        link_bytes_s=_link(job, mine, ranks),
    )


def _link(job: Job, mine: Ints, ranks: int) -> float | None:
    """What the link between these ranks carries: only inside a machine is it that of the device table."""
    groups = [job.table.groups[group] for group in distinct(job.table.group[mine]).tolist()]
    if ranks > ONE_MACHINE or not all(map(job.is_in_one_machine, groups)):
        return None
    names = {job.summaries[rank].report.device.name for rank in distinct(job.table.rank[mine]).tolist()}
    return link_rate(names.pop()) if len(names) == 1 else None
