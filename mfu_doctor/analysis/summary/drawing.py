"""The median step as rectangles: host threads, device time by activity, and each stream, in a limited number of blocks.

A step can have a hundred thousand kernels, and a picture has a thousand columns. An event wider than a column is drawn as it is.
Narrower events are merged with their neighbours; the merged block states their number and how long they ran.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from mfu_doctor.analysis.names.autograd import NODE_CALL
from mfu_doctor.analysis.names.kernel_names import KINDS
from mfu_doctor.analysis.names.short_names import short_name
from mfu_doctor.analysis.names.vocabulary import LABEL, ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.distinct import distinct, numbered
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

_Grid: TypeAlias = tuple[int, int]  # where the step begins, and how wide a column is, in nanoseconds
_Indices: TypeAlias = npt.NDArray[np.int64]


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
    widths = [max((end - start) // columns, 1) for columns in _COLUMNS]
    fitting = (w for w in widths if sum(_count(layer, (start, w)) for layer in layers) <= _AIM)
    width = next(fitting, widths[-1])
    blocks = [block for layer in layers for block in _blocks(run, layer, (start, width))]
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
    is_label = trace.named(ids_matching(trace, LABEL)) | (trace.events.category == Category.ANNOTATION)
    rows = rows[~is_label[rows]]
    parent = run.ops.parent[rows]
    outermost: npt.NDArray[np.int64] = rows[(parent < 0) | is_label[np.maximum(parent, 0)]]
    return outermost


def _host_tracks(run: Run, start: int, end: int) -> list[int]:
    """The main thread and the busiest others."""
    rows = _outermost(run, start, end)
    events = run.trace.events
    busy = np.bincount(events.track[rows], weights=events.lasting(rows), minlength=1)
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


def _count(layer: _Layer, grid: _Grid) -> int:
    """How many blocks `_blocks` makes."""
    wide, narrow = _by_width(layer, grid)
    return len(wide) + len(distinct(_merged(layer, narrow, grid)))


def _blocks(run: Run, layer: _Layer, grid: _Grid) -> Iterable[Block]:
    """Wide events as they are, narrow ones merged by column."""
    wide, narrow = _by_width(layer, grid)
    for i in wide.tolist():
        label = _label(run, layer, i)
        times = int(layer.start[i]) - grid[0], int(layer.end[i]) - grid[0]
        yield Block(
            lane=layer.lane,
            start_s=seconds(times[0]),
            end_s=seconds(times[1]),
            kind=layer.kinds[layer.kind[i]],
            label=label,
        )
    if len(narrow):
        merge = _side_by_side if layer.exact else _by_column
        yield from merge(run, layer, narrow, grid)


def _by_width(layer: _Layer, grid: _Grid) -> tuple[_Indices, _Indices]:
    """Events that are wider than a column, and others that have a width."""
    length = layer.end - layer.start
    wide = length >= grid[1]
    return np.flatnonzero(wide), np.flatnonzero(~wide & (length > 0))


def _merged(layer: _Layer, rows: _Indices, grid: _Grid) -> _Indices:
    """Which block each narrow event becomes part of: one per column, in an exact layer one per column and kind."""
    column = (layer.start[rows] - grid[0]) // grid[1]
    new = np.ones(len(rows), np.bool_)
    new[1:] = column[1:] != column[:-1]
    if not layer.exact:
        return np.cumsum(new) - 1
    new[1:] |= layer.start[rows][1:] != layer.end[rows][:-1]
    return (np.cumsum(new) - 1) * len(layer.kinds) + layer.kind[rows]


def _by_column(run: Run, layer: _Layer, rows: _Indices, grid: _Grid) -> Iterable[Block]:
    """One block per column: named and coloured after what took most of its time, with the time that was covered."""
    block = _merged(layer, rows, grid)
    start, end = layer.start[rows], layer.end[rows]
    first = np.flatnonzero(np.diff(block, prepend=-1))
    count = np.diff(first, append=len(rows))
    of_kind = np.bincount(block * len(layer.kinds) + layer.kind[rows], end - start, len(first) * len(layer.kinds))
    kind = of_kind.reshape(len(first), -1).argmax(axis=1)
    until, covered = _covered(start, end, block, 2 * grid[1])
    for i, (lo, many) in enumerate(zip(first.tolist(), count.tolist(), strict=True)):
        longest = int(rows[lo + int(np.argmax((end - start)[lo : lo + many]))])
        yield Block(
            lane=layer.lane,
            start_s=seconds(int(start[lo]) - grid[0]),
            end_s=seconds(int(until[lo + many - 1]) - grid[0]),
            kind=layer.kinds[int(kind[i])],
            label=_label(run, layer, longest),
            count=many,
            busy_s=seconds(int(covered[i])) if many > 1 else None,
        )


def _covered(start: _Indices, end: _Indices, block: _Indices, longest: int) -> tuple[_Indices, _Indices]:
    """How far the events of a block reach, up to each event, and how much time those of each block cover together.

    Args:
        start: of the events, sorted.
        end: likewise.
        block: number of each event's block, from 0 and in order.
        longest: nanoseconds from the start of a block that none of its events reaches beyond.
    """
    first = start[np.flatnonzero(np.diff(block, prepend=-1))][block]
    apart = longest * block - first  # no event reaches into those of the next block
    until = np.maximum.accumulate(end + apart) - apart
    before = np.where(np.diff(block, prepend=-1) > 0, first, np.concatenate((start[:1], until[:-1])))
    own = np.maximum(end - np.maximum(start, before), 0)
    return until, np.bincount(block, own).astype(np.int64)


def _side_by_side(run: Run, layer: _Layer, rows: _Indices, grid: _Grid) -> Iterable[Block]:
    """One block per column and kind, laid next to each other: places shift by less than a column, areas stay exact."""
    del run
    block = _merged(layer, rows, grid)
    piece = block // len(layer.kinds)
    keys, which = numbered(block)
    total = np.bincount(which, weights=layer.end[rows] - layer.start[rows]).astype(np.int64)
    count = np.bincount(which)
    owner = keys // len(layer.kinds)
    before = np.cumsum(total) - total
    first = np.searchsorted(owner, owner, side="left")
    start = layer.start[rows][np.flatnonzero(np.diff(piece, prepend=-1))][owner] + before - before[first]
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
