# cython: language_level=3, boundscheck=True, wraparound=False, initializedcheck=False
"""The loops over the nested events of one thread, compiled: `parents_in_python` and `self_time_in_python`.

Every index is checked.
"""

from array import array

from libc.stdint cimport int64_t

AGREED = 3  # see compiled.py


def parents(
    const int64_t[:] row,
    const int64_t[:] start,
    const int64_t[:] end,
    const unsigned char[:] span,
    int64_t deepest,
    int64_t slack,
):
    """The event that encloses each, -1 if none does; arguments as there."""
    cdef Py_ssize_t n = row.shape[0], i, depth = 0
    cdef int64_t[:] stack_row = array("q", bytes(8 * n)), stack_end = array("q", bytes(8 * n))
    cdef int64_t[:] found = array("q", bytes(8 * n))
    for i in range(n):
        while depth and (stack_end[depth - 1] <= start[i] or (span[i] and end[i] > stack_end[depth - 1] + slack)):
            depth -= 1
        found[i] = stack_row[min(depth, deepest) - 1] if depth else -1
        stack_row[depth] = row[i]
        stack_end[depth] = end[i]
        depth += 1
    return found.base


cdef class Stretches:
    """Stretches of time, each of an event."""

    cdef int64_t[:] row, start, end
    cdef Py_ssize_t count
    cdef int64_t cursor

    def __init__(self, Py_ssize_t most):
        self.row, self.start, self.end = (array("q", bytes(8 * most)) for _ in range(3))
        self.count, self.cursor = 0, 0

    cdef int emit(self, int64_t row, int64_t until) except -1:
        if until > self.cursor:
            self.row[self.count], self.start[self.count], self.end[self.count] = row, self.cursor, until
            self.count += 1
        return 0


def self_time(const int64_t[:] row, const int64_t[:] start, const int64_t[:] end):
    """Row, start and end of each stretch in which an event is innermost, and how many of these there are."""
    cdef Py_ssize_t n = row.shape[0], i, depth = 0
    cdef int64_t[:] stack_row = array("q", bytes(8 * n)), stack_end = array("q", bytes(8 * n))
    cdef Stretches out = Stretches(2 * n)  # an event opens one when it begins, and one when what it encloses ends
    for i in range(n):
        while depth and stack_end[depth - 1] <= start[i]:
            depth -= 1
            out.emit(stack_row[depth], stack_end[depth])
            out.cursor = max(out.cursor, stack_end[depth])
        if depth:
            out.emit(stack_row[depth - 1], start[i])
        out.cursor = start[i]
        stack_row[depth] = row[i]
        stack_end[depth] = min(end[i], stack_end[depth - 1]) if depth else end[i]
        depth += 1
    while depth:
        depth -= 1
        out.emit(stack_row[depth], stack_end[depth])
        out.cursor = max(out.cursor, stack_end[depth])
    return out.row.base, out.start.base, out.end.base, out.count
