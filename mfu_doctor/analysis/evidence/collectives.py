"""The collectives of one rank: kind, size, exposed time, and how much of that time is at least waiting for other ranks.

If a peer is late, the collective takes longer on this rank. The fastest of equal collectives waited least, so the time that
others take above it is waiting. What the fastest one takes is transfer only if the link explains it: a rank that is late in every
step makes all of them equally long. Without sizes or a known link, the trace of one rank does not tell transfer from waiting.

A kernel of NCCL does not always carry what it communicates. The operator that issued it does (record_param_comms): the name of
the collective, the number of elements or the shapes, and the dtype.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.evidence.steady_steps import Mask, Rows
from mfu_doctor.analysis.names.vocabulary import COMMUNICATION_OP
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import COMMUNICATION
from mfu_doctor.analysis.views.once import once
from mfu_doctor.devices.dtypes import element_bytes
from mfu_doctor.devices.links import ONE_MACHINE, bus_bytes, link_rate
from mfu_doctor.trace import Category, EventArgs, ProcessGroup
from mfu_doctor.units import NS_PER_S

_KIND = re.compile(
    r"(all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|broadcast|send_?recv|reduce|gather|scatter|send|recv|barrier)",
    re.IGNORECASE,
)
_BYTES = {
    "float": 4,
    "float32": 4,
    "bfloat16": 2,
    "half": 2,
    "float16": 2,
    "int": 4,
    "int64": 8,
    "long": 8,
    "double": 8,
}
_BYTES |= {"byte": 1, "char": 1, "bool": 1, "int8": 1, "uint8": 1, "float8_e4m3fn": 1, "float8_e5m2": 1, "int32": 4}
FEW_BYTES = 4096
SLOW_LINK = 0.2  # of the link's rate: nsys-ai calls less slow; ring all-reduces reach 0.7 to 0.8 (NCCL tests)
# Operators whose first argument is what this rank puts in; c10d::_allgather_base_ and its like begin with the output.
_INPUT_FIRST = re.compile(r"^(record_param_comms$|_c10d_functional::)")
_INPUTS_ONLY = re.compile(r"^(nccl|gloo|mpi|ucc):")  # all arguments are what it puts in (a receive: what it gets)
_OTHER = "collective"
SEND, RECEIVE = "send", "recv"
_PEER_ARGUMENT = 2  # of c10d::send and c10d::recv_: after the tensors and the group
# Fewer equal collectives than this say nothing about which of them waited.
_ENOUGH = 3


class Collectives(Struct, frozen=True):
    """All collectives of the trace; arrays of shape (n,), times in nanoseconds.

    Attributes:
        entry: index into the activity table.
        kind: "allreduce", "alltoall", ...
        size: bytes that this rank puts in, -1 if unknown.
        dtype: element type, None if unknown.
        duration_ns: recorded duration.
        quickest_ns: duration of the quickest of the same kind and size: what is above it is waiting, as far as one rank tells.
        exposed_ns: part of it in which nothing was computed.
        exposed_wait_ns: part of `exposed_ns` that is certainly waiting for other ranks; 0 where this is not known.
        wait_known: where it is known.
        transfer_known: where the rest is transfer, because the fastest equal one reached a rate that its link has.
        ranks: how many ranks take part, None if unknown.
        group: its process group, None if the trace does not say which.
        sequence: its number in the group, -1 if unknown.
        peer: rank of the other end of a send or receive, -1 if unknown or for all others.
    """

    entry: Rows
    kind: tuple[str, ...]
    size: Rows
    dtype: tuple[str | None, ...]
    duration_ns: Rows
    quickest_ns: Rows
    exposed_ns: Rows
    exposed_wait_ns: Rows
    wait_known: Mask
    transfer_known: Mask
    ranks: tuple[int | None, ...]
    group: tuple[ProcessGroup | None, ...]
    sequence: Rows
    peer: Rows

    @property
    def tiny(self) -> Mask:
        """Which of them carry a few numbers (a metric, a flag, the buffers of a norm) or nothing (a barrier); shape (n,)."""
        barrier = np.array([kind == "barrier" for kind in self.kind], np.bool_)
        return ((self.size >= 0) & (self.size <= FEW_BYTES)) | barrier


@once
def collectives_of(run: Run) -> Collectives | None:
    """The collectives of a run, or None if there are none."""
    activity = run.activity
    entry = np.flatnonzero(activity.kind == COMMUNICATION)
    if not len(entry):
        return None
    start, end = activity.start[entry], activity.end[entry]
    issuers = _issuers(run, entry)
    told = [_told(run, row, issuer) for row, issuer in zip(activity.row[entry].tolist(), issuers, strict=True)]
    kind, size = tuple(one.kind for one in told), np.array([one.size for one in told], np.int64)
    duration = end - start
    exposed = run.breakdown.owners["communication"].overlap_with(start, end)
    ranks, link = tuple(one.ranks for one in told), link_rate(device_with_link(run))
    moved = bytes_over_link(run, kind, size, ranks)
    fastest, known = _fastest(kind, size, duration)
    waiting = np.where(known, duration - fastest, 0)
    return Collectives(
        entry=entry,
        kind=kind,
        size=size,
        dtype=tuple(one.dtype for one in told),
        duration_ns=duration,
        quickest_ns=fastest,
        exposed_ns=exposed,
        exposed_wait_ns=np.minimum(waiting, exposed),
        wait_known=known,
        transfer_known=known & (moved * NS_PER_S >= SLOW_LINK * (link or 0.0) * fastest) & (link is not None),
        ranks=ranks,
        group=tuple(one.group for one in told),
        sequence=np.array([one.sequence for one in told], np.int64),
        peer=np.array([one.peer for one in told], np.int64),
    )


def device_with_link(run: Run) -> str | None:
    """The name of the device whose row of the table says how fast its link is."""
    return run.trace.devices[0].name if run.trace.devices else run.peaks.name


def bytes_over_link(
    run: Run, kinds: Sequence[str], sizes: Rows, ranks: Sequence[int | None]
) -> npt.NDArray[np.float64]:
    """Bytes that each collective must move over a link inside a machine (NCCL's bus bandwidth convention); 0 if not known."""
    out = np.zeros(len(kinds))
    for i, (kind, size, known) in enumerate(zip(kinds, sizes.tolist(), ranks, strict=True)):
        number = known or run.trace.distributed.world_size
        if number is not None and 1 < number <= ONE_MACHINE and size >= 0:
            out[i] = bus_bytes(kind, size, number)
    return out


class _Told(Struct, frozen=True):
    """What one collective is, as far as its kernel or the operators that issued it tell; columns of `Collectives`."""

    kind: str
    size: int
    dtype: str | None
    ranks: int | None
    group: ProcessGroup | None
    sequence: int
    peer: int


def _issuers(run: Run, entry: Rows) -> list[tuple[int, ...]]:
    """For each collective the rows of the communication operators that issued it, innermost first; () if others did too."""
    own, call = run.launches.op[entry], run.launches.call[entry]
    above = [_above(run, *pair) for pair in zip(own.tolist(), call.tolist(), strict=True)]
    if run.is_cpu:
        above = [(*rows, *_began_in(run, rows[0])) for rows in above]
    names = run.trace.name_ids(frozenset(n for n in run.trace.names if COMMUNICATION_OP.search(n)))
    is_issuer = np.zeros(len(run.trace.names) + 1, np.bool_)
    is_issuer[names] = True
    found = [tuple(row for row in rows if is_issuer[run.trace.events.name[row]]) for rows in above]
    issued = Counter(rows[0] for rows in found if rows)
    return [
        rows if rows and issued[rows[0]] == 1 else () for rows in found
    ]  # one call of several kernels has no one size


def _above(run: Run, op: int, call: int) -> tuple[int, ...]:
    """What encloses a launch, innermost first: back ends annotate it inside of the operator that owns the kernel."""
    outside = tuple(run.ops.ancestors(call)) if call >= 0 else ()
    if op < 0 or op in outside:
        return outside
    return (op, *run.ops.ancestors(op))


def _began_in(run: Run, row: int) -> tuple[int, ...]:
    """The operator that a span outlives which began inside of it, as a send or receive of gloo does; () if there is none."""
    events = run.trace.events
    before = run.trace.rows(Category.CPU_OP)
    before = before[: np.searchsorted(before, row)]
    before = before[events.track[before] == events.track[row]][-1:]
    inside = (events.end[before] >= events.start[row]) & (events.end[before] < events.end[row])
    return tuple(before[inside].tolist())


def _told(run: Run, row: int, issuers: tuple[int, ...]) -> _Told:
    known = [(run.trace.name_of(r), args) for r in (row, *issuers) if (args := run.trace.args_of(r)) is not None]
    arguments = [args for _, args in known]
    texts = [
        *(args.collective for args in arguments if args.collective),
        *(run.trace.name_of(r) for r in (*issuers, row)),
    ]
    kind = next((m.group(1).lower().replace("_", "") for t in texts if (m := _KIND.search(t))), _OTHER)
    found = next((size for name, args in known if (size := _size(name, args)) is not None), None)
    dtype = next((args.collective_dtype for args in arguments if args.collective_dtype), None)
    group = _group(run, arguments)
    return _Told(
        kind,
        *((-1, dtype) if found is None else found),
        ranks=next((args.group_size for args in arguments if args.group_size), None),
        group=group,
        sequence=next((n for args in arguments if (n := args.collective_sequence) is not None), -1),
        peer=_peer(kind, known, group),
    )


def _group(run: Run, arguments: list[EventArgs]) -> ProcessGroup | None:
    """The process group that a collective names, with what the list of groups adds; the only one there is if it names none."""
    listed = run.trace.distributed.groups
    args = next((args for args in arguments if args.group is not None), None)
    if args is None or args.group is None:
        return listed[0] if len(listed) == 1 else None
    known = next((group for group in listed if group.name == args.group), ProcessGroup(args.group))
    return replace(
        known,
        description=args.group_description or known.description,
        size=args.group_size or known.size,
        ranks=args.group_ranks or known.ranks,
    )


def _peer(kind: str, known: list[tuple[str, EventArgs]], group: ProcessGroup | None) -> int:
    """The rank at the other end of a send or receive: as recorded, else what was printed of its operator's arguments."""
    if kind not in (SEND, RECEIVE):
        return -1
    recorded = [args.target_rank if kind == SEND else args.source_rank for _, args in known]
    if (there := next((rank for rank in recorded if rank is not None), None)) is not None:
        return there
    printed = (args.printed(_PEER_ARGUMENT) for name, args in known if name.startswith("c10d::"))
    place = next(
        (p for p in printed if isinstance(p, int) and not isinstance(p, bool)), None
    )  # its number in the group
    ranks = group.ranks if group is not None else None
    return ranks[place] if place is not None and ranks is not None and 0 <= place < len(ranks) else -1


def _size(name: str, args: EventArgs) -> tuple[int, str] | None:
    """Bytes that this rank puts in, and the element type: as recorded for collectives, else from the shape of the operand."""
    if args.collective_in is not None and args.collective_dtype is not None:
        width = _BYTES.get(args.collective_dtype.lower())
        return (args.collective_in * width, args.collective_dtype) if width else None
    if _INPUTS_ONLY.search(name):
        return _sum_of(args)
    if not _INPUT_FIRST.search(name):
        return None
    shape, kind = args.shape(0), args.type_of(0)
    bytes_each = element_bytes(kind)
    return (int(prod(shape) * bytes_each), kind) if shape is not None and kind is not None and bytes_each else None


def _sum_of(args: EventArgs) -> tuple[int, str] | None:
    """Bytes of all arguments together, and their element type; None if one of them was not recorded."""
    types = args.types or ()
    each = [(args.shape(i), element_bytes(kind)) for i, kind in enumerate(types)]
    if not each or any(shape is None or not width for shape, width in each):
        return None
    return int(sum(prod(shape) * width for shape, width in each if shape is not None and width)), types[0]


def _fastest(kind: tuple[str, ...], size: Rows, duration: Rows) -> tuple[Rows, Mask]:
    """Duration of the fastest collective of the same kind and size, and whether there are enough of known size to compare."""
    kinds = {name: i for i, name in enumerate(sorted(set(kind)))}
    key = np.array([kinds[k] for k in kind], np.int64) * (int(size.max()) + 2) + size + 1
    _, group, count = np.unique(key, return_inverse=True, return_counts=True)
    best = np.full(len(count), np.iinfo(np.int64).max)
    np.minimum.at(best, group, duration)
    return best[group], (count[group] >= _ENOUGH) & (size >= 0)
