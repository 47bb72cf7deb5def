# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""A chunk of events read in one pass over its bytes: what schema.py, columns.py and values.py do with a sound one.

It takes only what it is sure of. Whatever is unusual (an id that is no number where one is usual, text that is not ASCII where
nobody looks, any damage) makes it give up the chunk, and Python reads that instead: it never reads a chunk otherwise than Python.

A `bytes` object ends with a zero that is not part of it. No step goes past a byte that it has looked at, none of them accepts a
zero, and so none leaves the object.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc

import os

import numpy as np

AGREED = 2  # see compiled.py

ctypedef const char* Text

cdef enum:
    FIELDS = 13
    PLACES = 3
    MOST_KNOWN = 32  # arguments
    SMALLEST_EVENT = 17  # bytes: {"ph":"X","ts":1}
    NAME = 0
    CATEGORY, PROCESS, THREAD, BEGIN, LENGTH, CORRELATION, EXTERNAL, EXTERNAL_2021, PYTHON, SEQUENCE, STREAM, DEVICE
    ARGUMENTS, PHASE
    UNKNOWN = -1
    DEEPEST = 64  # lists in lists; deeper ones are Python's
    LONGEST_KEPT = 1 << 16  # bytes of a text that is looked up again; longer ones are handed out each time

cdef uint64_t EACH = 0x0101010101010101u  # one in each byte
cdef Text NOTHING = '""'
cdef double MOST_EXACT = 9007199254740992.0  # 2**53
cdef double FIRST_TEXT = -2251799813685248.0  # as in tracks.py
cdef double ABSENT = -4503599627370496.0  # as in schema.py
cdef double[23] TENS
cdef int _i
TENS[0] = 1.0
for _i in range(1, 23):
    TENS[_i] = TENS[_i - 1] * 10.0  # exact up to 10**22
cdef uint64_t SEED = int.from_bytes(os.urandom(8), "little") | 1

include "scan_table.pxi"
include "scan_json.pxi"
include "scan_arguments.pxi"


cdef Table EVENT_KEYS = table_of({
    b"name": NAME, b"cat": CATEGORY, b"pid": PROCESS, b"tid": THREAD, b"ts": BEGIN, b"dur": LENGTH,
    b"args": ARGUMENTS, b"ph": PHASE,
})
cdef Table ARGUMENT_KEYS = table_of({
    b"correlation": CORRELATION, b"External id": EXTERNAL, b"external id": EXTERNAL_2021, b"Python id": PYTHON,
    b"Sequence number": SEQUENCE, b"stream": STREAM, b"device": DEVICE,
})
FIELD_NAMES = (
    "name", "cat", "pid", "tid", "ts", "dur",
    "correlation", "external", "external_2021", "python", "sequence", "stream", "device",
)


cdef enum:
    ABSENT_KIND, NUMBER, TEXT, ODD  # what the value of a field is; odd: of no kind that a number or a text is

cdef struct Event:
    int[FIELDS] kinds
    double[FIELDS] numbers
    Text[FIELDS] texts
    Py_ssize_t[FIELDS] sizes
    Text arguments
    bint odd_arguments
    char phase


cdef class Scanner:
    """Reads chunks into a table of records.

    Args:
        name, category, identity: asked what number a text is that was not met before, as it is written, quotes and all.
        arguments: the same for known arguments: a tuple of their values as they are written, in the order of `known`.
        known: names of the known arguments.
        phases: the phases whose events are skipped.
        leading: asked which digit stands for the first six of a time of sixteen, 0 if none does; None: times are read as they are.
    """

    cdef Table names, categories, identities
    cdef object name, category, identity, leading
    cdef int64_t[2] leads  # the last six digits that were asked about, and what stands for them
    cdef Arguments arguments
    cdef bint[128] skipped
    cdef double[:, ::1] records
    cdef int64_t[:, ::1] places
    cdef Event event
    cdef Text last_word  # of the chunk that is scanned: not a global, because other threads scan other chunks

    def __init__(self, name, category, identity, arguments, tuple known, bytes phases, leading):
        self.name, self.category, self.identity, self.leading = name, category, identity, leading
        self.leads = [-1, 0]
        self.names, self.categories, self.identities = Table(), Table(), Table()
        self.arguments = Arguments(arguments, known)
        memset(self.skipped, 0, sizeof(self.skipped))
        for phase in phases:
            self.skipped[phase & 127] = True
        self.make_room(1024)

    cdef int make_room(self, Py_ssize_t rows) except -1:
        self.records, self.places = np.empty((rows, FIELDS)), np.empty((rows, PLACES), np.int64)
        return 0

    def scan(self, bytes chunk):
        """The duration events of a JSON list of events, or None if Python is to read it.

        Returns:
            A record of each (its columns are `FIELD_NAMES`); of each where it begins and ends in the chunk, and its arguments do
            (-1 if it has none); and the same two places of each instant event. The arrays hold until the next call.
        """
        cdef Text begin = PyBytes_AS_STRING(chunk), p = begin, event
        cdef Text end = begin + PyBytes_GET_SIZE(chunk)
        cdef Py_ssize_t count = 0
        cdef list instants = []
        if PyBytes_GET_SIZE(chunk) // SMALLEST_EVENT >= self.records.shape[0]:
            self.make_room(2 + PyBytes_GET_SIZE(chunk) // SMALLEST_EVENT)
        self.last_word = end - 8
        if p[0] != c"[":
            return None
        p = blank(p + 1)
        while True:
            event = p
            p = self.read(p)
            if p == NULL:
                return None
            if self.event.phase == c"X":
                if not self.write(&self.records[count, 0]):
                    return None
                self.places[count, 0], self.places[count, 1] = event - begin, p - begin
                self.places[count, 2] = self.event.arguments - begin if self.event.arguments != NULL else -1
                count += 1
            elif self.event.phase == c"i":
                instants.append((event - begin, p - begin))
            elif not self.skipped[<int>self.event.phase]:
                return None
            p = blank(p)
            if p[0] == c"]":
                break
            if p[0] != c",":
                return None
            p = blank(p + 1)
        if blank(p + 1) != end:
            return None
        return np.asarray(self.records)[:count], np.asarray(self.places)[:count], instants

    cdef Text read(self, Text p) except? NULL:
        """One event, into `event`."""
        cdef Event* event = &self.event
        cdef Text after
        cdef Py_ssize_t size
        cdef int which
        memset(event.kinds, 0, sizeof(event.kinds))
        event.phase, event.arguments, event.odd_arguments = 0, NULL, False
        if p[0] != c"{":
            return NULL
        p = blank(p + 1)
        while True:
            after = key_end(p, &size)
            if after == NULL:
                return NULL
            which = key_of(EVENT_KEYS, p, size)
            if which == PHASE:
                if event.phase or after[0] != c'"' or not 0x20 <= <unsigned char>after[1] < 0x80 or after[2] != c'"':
                    return NULL
                event.phase = after[1]
                p = after + 3
            elif which == ARGUMENTS:
                p = self.read_arguments(after)
            elif which == UNKNOWN:
                p = value(after, 1, self.last_word)
            else:
                p = self.read_field(after, which)
            if p == NULL:
                return NULL
            p = blank(p)
            if p[0] == c"}":
                break
            if p[0] != c",":
                return NULL
            p = blank(p + 1)
        if event.phase != c"X" and event.kinds[NAME] == TEXT and text(event.texts[NAME], True, self.last_word) == NULL:
            return NULL
        return p + 1

    cdef Text read_arguments(self, Text p) except? NULL:
        """The arguments of an event; of several ones the last."""
        cdef Event* event = &self.event
        cdef Text after
        cdef Py_ssize_t size
        cdef int which
        memset(&event.kinds[CORRELATION], 0, (FIELDS - CORRELATION) * sizeof(int))
        event.arguments, event.odd_arguments = NULL, p[0] != c"{" and p[0] != c"n"
        if p[0] != c"{":
            return value(p, 1, self.last_word)
        event.arguments = p
        p = blank(p + 1)
        if p[0] == c"}":
            return p + 1
        while True:
            after = key_end(p, &size)
            if after == NULL:
                return NULL
            which = key_of(ARGUMENT_KEYS, p, size)
            p = value(after, 2, self.last_word) if which == UNKNOWN else self.read_field(after, which)
            if p == NULL:
                return NULL
            p = blank(p)
            if p[0] == c"}":
                return p + 1
            if p[0] != c",":
                return NULL
            p = blank(p + 1)

    cdef Text read_field(self, Text p, int which) except? NULL:
        """The value of a field of the record."""
        cdef Text end
        if p[0] == c'"':
            end = text(p, which != NAME, self.last_word)
            self.event.kinds[which], self.event.texts[which], self.event.sizes[which] = TEXT, p, end - p
            return end
        end = self.time(p) if which == BEGIN and self.leading is not None else number(p, &self.event.numbers[which])
        self.event.kinds[which] = NUMBER
        if end == NULL:
            self.event.kinds[which] = ODD
            end = value(p, 2, self.last_word)
        return end

    cdef Text time(self, Text p) except? NULL:
        """A time of sixteen whole digits with one for its first six, as `Clock.shorten` writes it; others as they are."""
        cdef int64_t first = 0
        cdef int count = 0
        while count < 17 and c"0" <= p[count] <= c"9":
            if count < 6:
                first = 10 * first + (p[count] - c"0")
            count += 1
        if count != 16:
            return number(p, &self.event.numbers[BEGIN])
        if first != self.leads[0]:
            self.leads = [first, self.leading(first)]
        if self.leads[1] == 0:
            return number(p, &self.event.numbers[BEGIN])
        return rest_of(p + 6, self.leads[1], 1, &self.event.numbers[BEGIN])

    cdef bint write(self, double* record) except -1:
        """Write the record of `event`; whether it is one that Python would write too."""
        cdef Event* event = &self.event
        cdef int which
        if event.odd_arguments or event.kinds[BEGIN] != NUMBER or event.kinds[LENGTH] > NUMBER:
            return False
        record[BEGIN] = event.numbers[BEGIN]
        record[LENGTH] = event.numbers[LENGTH] if event.kinds[LENGTH] else 0.0
        for which in range(CORRELATION, STREAM):
            if event.kinds[which] > NUMBER:
                return False
            record[which] = event.numbers[which] if event.kinds[which] else -1.0
        for which in (PROCESS, THREAD, STREAM, DEVICE):
            if event.kinds[which] == ABSENT_KIND and which >= STREAM:
                record[which] = ABSENT
            elif event.kinds[which] == NUMBER:
                if event.numbers[which] <= FIRST_TEXT:
                    return False
                record[which] = event.numbers[which]
            elif not self.look_up(self.identities, self.identity, which, &record[which]):
                return False
        return self.look_up(self.categories, self.category, CATEGORY, &record[CATEGORY]) and self.look_up(
            self.names, self.name, NAME, &record[NAME]
        )

    cdef bint look_up(self, Table table, object asked, int which, double* found) except -1:
        """The number of a text of `event` ("" if it has none); whether it is a sound text."""
        cdef Event* event = &self.event
        cdef Text at = event.texts[which] if event.kinds[which] == TEXT else NOTHING
        cdef Py_ssize_t size = event.sizes[which] if event.kinds[which] == TEXT else 2
        cdef Entry* entry
        if event.kinds[which] == NUMBER or event.kinds[which] == ODD:
            return False
        entry = table.find(at, size)
        if entry.text != NULL:
            found[0] = entry.value
            return True
        number = asked(at[:size])
        if number is None:
            return False
        found[0] = number
        if size <= LONGEST_KEPT:
            table.put(at, size, found[0])
        return True

    def argument_codes(self, bytes chunk, const int64_t[:] begins):
        """What number the arguments are that begin at these places of a chunk that was scanned; -1 where there are none."""
        cdef Text begin = PyBytes_AS_STRING(chunk)
        cdef Py_ssize_t i
        cdef Text last_word = begin + PyBytes_GET_SIZE(chunk) - 8
        return [-1 if begins[i] < 0 else self.arguments.code_of(begin + begins[i], last_word) for i in range(begins.shape[0])]
