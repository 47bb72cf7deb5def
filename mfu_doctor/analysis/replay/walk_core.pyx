# cython: language_level=3, boundscheck=True, wraparound=False, initializedcheck=False
"""The loop of `Walk.run`, compiled: the same comparisons and additions in the same order, so the same results to the last bit.

Every index is checked.
"""

from array import array

from libc.math cimport INFINITY
from libc.stdint cimport int8_t, int64_t

AGREED = 3  # see compiled.py
cdef int8_t TO_HOST = 2  # as in model.py


cdef class Waits:
    """What each of so many waits for, in the order given: entries `first[i]` to `first[i + 1]` are those of i."""

    cdef int64_t[:] first, target
    cdef double[:] delay

    def __init__(self, Py_ssize_t count, list entries):
        cdef int64_t[:] upto = array("q", bytes(8 * (count + 1)))
        cdef int64_t i, target, at
        cdef double delay
        self.target = array("q", bytes(8 * len(entries)))
        self.delay = array("d", bytes(8 * len(entries)))
        for i, target, delay in entries:
            upto[i + 1] += 1
        for i in range(count):
            upto[i + 1] += upto[i]
        self.first = upto.copy()
        for i, target, delay in entries:
            at = upto[i]
            self.target[at] = target
            self.delay[at] = delay
            upto[i] += 1


cdef class Queues:
    """The operations of each stream in order: which one is so many before the newest."""

    cdef int64_t limit
    cdef int64_t[:] following, newest, behind, length

    def __init__(self, Py_ssize_t operations, Py_ssize_t streams, int64_t limit):
        self.limit = limit
        self.following = array("q", bytes(8 * operations))
        self.newest, self.behind, self.length = (array("q", bytes(8 * streams)) for _ in range(3))

    cdef int64_t append(self, int64_t s, int64_t k) except -2:
        """Operation k is the next of its stream; the one `limit` before it, -1 if there are not so many."""
        cdef int64_t before = -1
        if self.length[s] == 0:
            self.behind[s] = k
        else:
            self.following[self.newest[s]] = k
        if self.length[s] >= self.limit:
            before = self.behind[s]
            self.behind[s] = self.following[before]
        self.newest[s] = k
        self.length[s] += 1
        return before


cdef class Link:
    """The link between host and device: two ways, which are one unless it is a two-way link."""

    cdef bint two_way
    cdef double[2] begun
    cdef double[2] free

    def __init__(self, bint two_way):
        self.two_way = two_way
        self.begun[0] = self.begun[1] = self.free[0] = self.free[1] = -INFINITY

    cdef double use(self, int8_t kind, double at, double takes) noexcept:
        """As `Walk._on_link`."""
        cdef int way = 1 if self.two_way and kind == TO_HOST else 0
        if takes == 0:
            return at
        if at < self.free[way] and at + takes > self.begun[way]:
            at = self.free[way]
        if at + takes > self.free[way]:
            self.begun[way] = at
            self.free[way] = at + takes
        return at


cdef class Device:
    """The operations of a timeline, and the state of its streams while it is walked."""

    cdef const int64_t[:] call, recorded, stream
    cdef const double[:] duration, latency, gap
    cdef const int8_t[:] link
    cdef double[:] start, end, free
    cdef Waits waits
    cdef Queues queues
    cdef Link copies
    cdef int64_t next

    def __init__(self, operations, Py_ssize_t streams, int64_t limit, bint two_way):
        n = len(operations.call)
        self.call, self.recorded, self.stream = operations.call, operations.start, operations.stream
        self.duration, self.latency, self.gap = operations.duration, operations.latency, operations.gap
        self.link = operations.link
        self.start, self.end = array("d", bytes(8 * n)), array("d", bytes(8 * n))
        self.free = array("d", [-INFINITY]) * streams
        self.waits = Waits(n, list(operations.waits))
        self.queues = Queues(n, streams, limit)
        self.copies = Link(two_way)
        self.next = 0
        while self.next < n and self.call[self.next] < 0:
            self.queue_before_the_trace()

    cdef int queue_before_the_trace(self) except -1:
        cdef int64_t k = self.next, s = self.stream[k]
        cdef double at = self.free[s] + self.gap[k]
        if self.recorded[k] > at:
            at = <double>self.recorded[k]
        self.start[k] = at
        self.end[k] = self.free[s] = at + self.duration[k]
        self.queues.append(s, k)
        self.next += 1
        return 0

    cdef double issue(self, int64_t call, double begin, double end) except? -1:
        """Queue what a call issues; when the call then ends: later if a queue is full."""
        cdef int64_t k = self.next, s, j, behind
        cdef double at, ready
        while k < self.call.shape[0] and self.call[k] == call:
            s = self.stream[k]
            at, ready = begin + self.latency[k], self.free[s] + self.gap[k]
            if ready > at:
                at = ready
            for j in range(self.waits.first[k], self.waits.first[k + 1]):
                ready = self.end[self.waits.target[j]] + self.waits.delay[j]
                if ready > at:
                    at = ready
            if self.link[k]:
                at = self.copies.use(self.link[k], at, self.duration[k])
            self.start[k] = at
            self.end[k] = ready = at + self.duration[k]
            if ready > self.free[s]:
                self.free[s] = ready
            behind = self.queues.append(s, k)
            if behind >= 0 and self.start[behind] > end:
                end = self.start[behind]
            k += 1
        self.next = k
        return end

    cdef double done(self, Waits awaited, int64_t call) except? -1:
        """When the last operation has ended that a call waits for."""
        cdef int64_t j
        cdef double latest = self.end[awaited.target[awaited.first[call]]]
        for j in range(awaited.first[call] + 1, awaited.first[call + 1]):
            if self.end[awaited.target[j]] > latest:
                latest = self.end[awaited.target[j]]
        return latest


def run(calls, operations, Py_ssize_t streams, int64_t limit, bint two_way):
    """Ends of the calls, starts and ends of the operations of a timeline.

    Args:
        calls, operations: those of the timeline.
        streams: numbers of streams are smaller than this.
        limit, two_way: as in the timeline.
    """
    cdef Py_ssize_t m = len(calls.start)
    cdef const int64_t[:] start = calls.start, after = calls.after, own = calls.own
    cdef const double[:] gap = calls.gap, cost = calls.cost, tail = calls.tail
    cdef Waits awaited = Waits(m, [(i, k, 0.0) for i, ends in dict(calls.waits).items() for k in ends])
    cdef Waits paced = Waits(m, [(d.call, d.previous, d.after_ns) for d in calls.deliveries])
    cdef Device device = Device(operations, streams, limit, two_way)
    cdef double[:] begun = array("d", bytes(8 * m)), returned = array("d", bytes(8 * m))
    cdef double begin, end, at
    cdef Py_ssize_t i, j
    for i in range(m):
        begin = returned[after[i]] + gap[i] if after[i] >= 0 else <double>start[i]
        if own[i] >= 0 and returned[own[i]] > begin:
            begin = returned[own[i]]
        for j in range(paced.first[i], paced.first[i + 1]):  # a batch that is not there yet
            at = begun[paced.target[j]] + paced.delay[j]
            if at > begin:
                begin = at
        begun[i] = begin
        end = device.issue(i, begin, begin + cost[i])
        if awaited.first[i] < awaited.first[i + 1]:
            at = device.done(awaited, i) + tail[i]
            if at > end:
                end = at
        returned[i] = end
    return returned.base, device.start.base, device.end.base
