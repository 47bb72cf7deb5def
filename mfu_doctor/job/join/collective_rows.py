"""The collectives of a job by group, kind and size: how often, how long, how much of it waiting, and how fast the rest."""

from __future__ import annotations

import numpy as np

from mfu_doctor.devices.links import ONE_MACHINE, algorithm_bytes, bus_bytes, link_rate
from mfu_doctor.job.across.job import Job
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
    keys = one_key(label[table.group[rows]], table.kind[rows], table.size[rows])
    order = np.argsort(keys, kind="stable")
    parts = np.split(rows[order], np.flatnonzero(np.diff(keys[order])) + 1)
    is_matched = np.zeros(len(table), np.bool_)
    is_matched[job.matched.row] = True
    found = [_row(job, mine, labels[label[table.group[mine[0]]]], bool(is_matched[mine].all())) for mine in parts]
    return tuple(sorted(found, key=lambda row: -row.duration_s))


def _row(job: Job, mine: Ints, group: tuple[str, int | None], is_matched: bool) -> CollectiveRow:
    table, waits = job.table, job.waits
    kind, size = table.kinds[int(table.kind[mine[0]])], int(table.size[mine[0]])
    per = len(np.unique(table.rank[mine])) * int(job.steady.sum())
    took, waited = waits.end[mine] - waits.arrive[mine], waits.wait[mine]
    one_s = float(np.median(took - waited)) / NS_PER_S
    ranks = 2 if kind in ("send", "recv") else group[1]
    known = is_matched and size > 0 and one_s > 0 and ranks is not None and ranks > 1
    return CollectiveRow(
        group=group[0],
        kind=kind,
        size_bytes=size if size >= 0 else None,
        count=len(mine) / per,
        duration_s=float(took.sum()) / per / job.second_ns,
        wait_s=float(waited.sum()) / per / job.second_ns if is_matched else None,
        transfer_s=float((took - waited).sum()) / per / job.second_ns if is_matched else None,
        exposed_s=float(table.exposed[mine].sum()) / per / job.second_ns,
        algorithm_bytes_s=algorithm_bytes(kind, size, ranks) / one_s if known and ranks else None,
        bus_bytes_s=bus_bytes(kind, size, ranks) / one_s if known and ranks else None,
        link_bytes_s=_link(job, mine, ranks),
    )


def _link(job: Job, mine: Ints, ranks: int | None) -> float | None:
    """What the link between these ranks carries: only inside a machine is it that of the device table."""
    if ranks is None or ranks > ONE_MACHINE:
        return None
    names = {job.summaries[rank].report.device.name for rank in np.unique(job.table.rank[mine]).tolist()}
    return link_rate(names.pop()) if len(names) == 1 and not _spans_machines(job, mine) else None


def _spans_machines(job: Job, mine: Ints) -> bool:
    groups = [job.table.groups[group] for group in np.unique(job.table.group[mine]).tolist()]
    return any(len({job.hosts[member] for member in group.members}) > 1 for group in groups)
