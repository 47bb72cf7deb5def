"""The replay of a rank from its collectives alone: from leaving one to coming to the next it takes as long as recorded.

It stands in where a rank has no replay of its own, so that the others can still be replayed with it.
"""

from __future__ import annotations

import numpy as np

from mfu_doctor.job.summary import Ints, RankSummary, Reach
from mfu_doctor.units import NS_PER_S


def plain_reach(summary: RankSummary) -> Reach:
    """Each collective, and each edge of a step, comes after the last end before it as in the recording."""
    arrive, end = summary.collectives.arrive, summary.collectives.end
    steady = np.flatnonzero(summary.steady)
    first, last = (int(steady[0]), int(steady[-1]) + 1) if len(steady) else (0, len(summary.steps))
    edge = summary.step_start[first : last + 1]
    weight = tuple(int(summary.steady[step]) for step in range(first, last))
    begin = int(min(summary.step_start[0], arrive[0] if len(arrive) else summary.step_start[0]))
    points = np.concatenate([arrive, edge])
    latest = _latest_ended(end, points, len(arrive))
    has = latest >= 0
    return Reach(
        since_ns=np.where(has, 0, points - begin).astype(np.float64),
        pointer=np.concatenate([[0], np.cumsum(has)]).astype(np.int64),
        source=latest[has],
        delay_ns=(points[has] - end[latest[has]]).astype(np.float64),
        collective=np.concatenate([np.arange(len(arrive)), np.full(len(edge), -1)]),
        step=len(arrive) + np.arange(len(edge)),
        inside=np.ones(len(arrive), np.bool_),
        lasts_ns=(end - arrive).astype(np.float64),
        weight=weight,
        measured_ns=float(np.average(np.diff(edge), weights=weight)) if sum(weight) else 0.0,
        second_ns=float(NS_PER_S),
        begin=begin,
        edge=edge,
    )


def _latest_ended(end: Ints, points: Ints, collectives: int) -> Ints:
    """For each point the collective that ended last before it, -1 if none had: not the point itself, which may take no time."""
    order = np.argsort(end, kind="stable")
    place = np.searchsorted(end[order], points, side="right") - 1
    order = np.append(order, -1)  # the place of none
    own = np.arange(len(points))
    own[collectives:] = collectives
    while (late := order[place] >= own).any():
        place[late] -= 1
    return order[place]
