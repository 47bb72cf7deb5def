"""The median step as rectangles: host threads, device time by activity, and each stream, in a limited number of blocks.

A step can have a hundred thousand kernels, and a picture has a thousand columns. An event wider than a column is drawn as it is.
Narrower events are merged with their neighbours; the merged block states their number and how long they ran.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.kernel_names import KINDS
from mfu_doctor.analysis.names.short_names import short_name
from mfu_doctor.analysis.names.vocabulary import LABEL, ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import union
from mfu_doctor.result.step import IDLE_CAUSES, Block, Drawing
from mfu_doctor.trace import CALL_CATEGORIES, Category
from mfu_doctor.units import seconds

MOST_BLOCKS = 1500
_COLUMNS = (500, 360, 250, 180, 125, 90, 60, 40)  # tried in this order until the drawing is small enough
_AIM = 560  # blocks; a page of these is about 200 kB
_HOST_LANES, _STREAM_LANES = 3, 6
_LABEL_LENGTH = 48  # characters of a name kept in a block
_OWNERS = ("compute", "communication", "memory_copy", "data_loading", *IDLE_CAUSES)
OWNER_LANE = "device time by activity"


class _Layer(Struct, frozen=True):
    """Events of one lane to be drawn: arrays of shape (k,), sorted by start and inside the step; times in nanoseconds.

    `exact`: the events tile their span without gaps (an exclusive split), so merged ones are laid side by side, areas kept.
    """

    lane: int
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]  # index into `kinds`
    name: npt.NDArray[np.int64]  # index into the trace's names, -1 for none
    kinds: tuple[str, ...]
    exact: bool = False


def draw_step(run: Run) -> Drawing:
    """Draw the median steady step of a run.

    Returns:
        Lanes (host threads, the owner of the device's time, streams) and at most `MOST_BLOCKS` blocks; seconds from the start of
        the step. Blocks of one lane may lie on one another; later ones are on top.
    """
    index = run.steps.median
    start, end = int(run.steps.start[index]), int(run.steps.end[index])
    names, layers = _lanes(run, start, end)
    blocks: list[Block] = []
    for columns in _COLUMNS:
        width = max((end - start) // columns, 1)
        blocks = [block for layer in layers for block in _blocks(run, layer, start, width)]
        if len(blocks) <= _AIM:
            break
    return Drawing(step=int(run.steps.number[index]), step_s=seconds(end - start), lanes=names, blocks=tuple(blocks))


def _lanes(run: Run, start: int, end: int) -> tuple[tuple[str, ...], list[_Layer]]:
    """Names of the lanes, and what is drawn on each."""
    names: list[str] = []
    layers: list[_Layer] = []
    for track in _host_tracks(run, start, end):
        training = " (training)" if track == run.host.main_track else ""
        layers += _host_layers(run, track, len(names), (start, end))
        names.append(f"host thread {run.trace.tracks[track].tid}{training}")
    layers.append(_owner_layer(run, len(names), (start, end)))
    names.append(OWNER_LANE)
    for label, entries in _streams(run, start, end):
        layers.append(_device_layer(run, entries, len(names), (start, end)))
        names.append(label)
    return tuple(names), layers


def _inside(run: Run, rows: npt.NDArray[np.int64], start: int, end: int) -> npt.NDArray[np.int64]:
    """Those of `rows` that overlap the step."""
    events = run.trace.events
    overlaps: npt.NDArray[np.bool_] = (events.start[rows] < end) & (events.end[rows] > start)
    inside: npt.NDArray[np.int64] = rows[overlaps]
    return inside


def _outermost(run: Run, start: int, end: int) -> npt.NDArray[np.int64]:
    """Operators and runtime calls in the step that no other operator encloses."""
    trace = run.trace
    rows = _inside(run, trace.rows(Category.CPU_OP, *CALL_CATEGORIES), start, end)
    label = np.zeros(len(trace.names) + 1, np.bool_)
    label[ids_matching(trace, LABEL)] = True
    is_label = label[trace.events.name] | (trace.events.category == Category.ANNOTATION)
    rows = rows[~is_label[rows]]
    parent = run.ops.parent[rows]
    outermost: npt.NDArray[np.int64] = rows[(parent < 0) | is_label[np.maximum(parent, 0)]]
    return outermost


def _host_tracks(run: Run, start: int, end: int) -> list[int]:
    """The main thread and the busiest others."""
    rows = _outermost(run, start, end)
    events = run.trace.events
    busy = np.bincount(events.track[rows], weights=(events.end - events.start)[rows], minlength=1)
    ranked = sorted(np.flatnonzero(busy).tolist(), key=lambda t: (t != run.host.main_track, -busy[t]))
    return [int(track) for track in ranked[:_HOST_LANES]]


def _host_layers(run: Run, track: int, lane: int, window: tuple[int, int]) -> list[_Layer]:
    """What one host thread did: operators by phase, and on top the fetches and the waits for the device."""
    trace, events = run.trace, run.trace.events
    rows = _outermost(run, *window)
    rows = rows[events.track[rows] == track]
    kinds = ("host", "host-backward", "host-optimizer", "data_loading", "host-wait")
    kind = np.zeros(len(rows), np.int64)
    kind[np.isin(events.name[rows], ids_matching(trace, NODE_CALL))] = 1
    kind[run.optimizer_steps.own.contains(events.start[rows])] = 2
    over = [(run.host.fetch_rows, 3), (run.host.blocking_rows, 4)]
    layers = [_row_layer(run, rows, kind, (lane, kinds), window)]
    for marked, code in over:
        mine = _inside(run, marked, *window)
        mine = mine[events.track[mine] == track]
        layers.append(_row_layer(run, mine, np.full(len(mine), code, np.int64), (lane, kinds), window))
    return layers


def _row_layer(
    run: Run,
    rows: npt.NDArray[np.int64],
    kind: npt.NDArray[np.int64],
    place: tuple[int, tuple[str, ...]],
    window: tuple[int, int],
) -> _Layer:
    events = run.trace.events
    start, end = np.maximum(events.start[rows], window[0]), np.minimum(events.end[rows], window[1])
    return _Layer(place[0], start, end, kind, events.name[rows].astype(np.int64), place[1])


def _owner_layer(run: Run, lane: int, window: tuple[int, int]) -> _Layer:
    pieces = [run.breakdown.owners[owner].clip(*window) for owner in _OWNERS]
    start = np.concatenate([piece.start for piece in pieces])
    end = np.concatenate([piece.end for piece in pieces])
    kind = np.repeat(np.arange(len(_OWNERS)), [piece.count for piece in pieces])
    order = np.argsort(start, kind="stable")
    none = np.full(len(start), -1, np.int64)
    return _Layer(lane, start[order], end[order], kind[order].astype(np.int64), none, _OWNERS, exact=True)


def _streams(run: Run, start: int, end: int) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """Entries of the activity in the step by stream, busiest first; the streams beyond the lanes share the last one."""
    activity = run.activity
    entries = np.flatnonzero((activity.start < end) & (activity.end > start))
    busy = np.bincount(activity.track[entries], weights=(activity.end - activity.start)[entries], minlength=1)
    ranked = [int(t) for t in np.argsort(-busy, kind="stable") if busy[t] > 0]
    word = "stream" if activity.is_device else "operators on thread"
    own, rest = ranked[:_STREAM_LANES], ranked[_STREAM_LANES:]
    out = [(f"{word} {run.trace.tracks[t].tid}", entries[activity.track[entries] == t]) for t in own]
    if rest:
        out.append((f"{len(rest)} more, one over the other", entries[np.isin(activity.track[entries], rest)]))
    return out


def _device_layer(run: Run, entries: npt.NDArray[np.int64], lane: int, window: tuple[int, int]) -> _Layer:
    activity, names = run.activity, run.trace.events.name
    start = np.maximum(activity.start[entries], window[0])
    end = np.minimum(activity.end[entries], window[1])
    kind = run.kernels.kind[entries].astype(np.int64)
    # "other" is also a cause of idle time; on a CPU a copy is work like any other.
    renamed = {"other": "kernel"} | ({"copy": "memory_copy"} if activity.is_device else {})
    kinds = tuple(renamed.get(kind, kind) for kind in KINDS)
    return _Layer(lane, start, end, kind, names[activity.row[entries]].astype(np.int64), kinds)


def _blocks(run: Run, layer: _Layer, origin: int, width: int) -> Iterable[Block]:
    """Wide events as they are, narrow ones merged by column."""
    length = layer.end - layer.start
    wide = length >= width
    for i in np.flatnonzero(wide).tolist():
        label = _label(run, layer, i)
        times = int(layer.start[i]) - origin, int(layer.end[i]) - origin
        yield Block(
            lane=layer.lane,
            start_s=seconds(times[0]),
            end_s=seconds(times[1]),
            kind=layer.kinds[layer.kind[i]],
            label=label,
        )
    narrow = np.flatnonzero(~wide & (length > 0))
    if len(narrow):
        merge = _side_by_side if layer.exact else _by_column
        yield from merge(run, layer, narrow, (origin, width))


def _by_column(run: Run, layer: _Layer, rows: npt.NDArray[np.int64], grid: tuple[int, int]) -> Iterable[Block]:
    """One block per column: named and coloured after what took most of its time, with the time that was covered."""
    column, took = (layer.start[rows] - grid[0]) // grid[1], layer.end - layer.start
    first = np.flatnonzero(np.concatenate((np.ones(1, np.bool_), column[1:] != column[:-1])))
    for lo, hi in zip(first.tolist(), [*first[1:].tolist(), len(rows)], strict=True):
        part = rows[lo:hi]
        length = took[part]
        kind = int(np.argmax(np.bincount(layer.kind[part], weights=length)))
        longest = int(part[int(np.argmax(length))])
        covered = union(layer.start[part], layer.end[part])
        yield Block(
            lane=layer.lane,
            start_s=seconds(int(covered.start[0]) - grid[0]),
            end_s=seconds(int(covered.end[-1]) - grid[0]),
            kind=layer.kinds[kind],
            label=_label(run, layer, longest),
            count=hi - lo,
            busy_s=seconds(covered.total_ns) if hi - lo > 1 else None,
        )


def _side_by_side(run: Run, layer: _Layer, rows: npt.NDArray[np.int64], grid: tuple[int, int]) -> Iterable[Block]:
    """One block per column and kind, laid next to each other: places shift by less than a column, areas stay exact."""
    del run
    after_gap = np.concatenate((np.ones(1, np.bool_), layer.start[rows][1:] != layer.end[rows][:-1]))
    column = (layer.start[rows] - grid[0]) // grid[1]
    new = after_gap | np.concatenate((np.ones(1, np.bool_), column[1:] != column[:-1]))
    group = np.cumsum(new) - 1
    key = group * len(layer.kinds) + layer.kind[rows]
    keys, which = np.unique(key, return_inverse=True)
    total = np.bincount(which, weights=layer.end[rows] - layer.start[rows]).astype(np.int64)
    count = np.bincount(which)
    owner = keys // len(layer.kinds)
    before = np.cumsum(total) - total
    first = np.searchsorted(owner, owner, side="left")
    start = layer.start[rows][np.flatnonzero(new)][owner] + before - before[first]
    for i in range(len(keys)):
        begin = int(start[i]) - grid[0]
        yield Block(
            lane=layer.lane,
            start_s=seconds(begin),
            end_s=seconds(begin + int(total[i])),
            kind=layer.kinds[int(keys[i]) % len(layer.kinds)],
            count=int(count[i]),
        )


def _label(run: Run, layer: _Layer, index: int) -> str:
    name = int(layer.name[index])
    if layer.kinds[int(layer.kind[index])] == "data_loading":
        return "data loading"
    if name < 0:
        return layer.kinds[int(layer.kind[index])].replace("_", " ")
    return short_name(run.trace.names[name])[:_LABEL_LENGTH]
