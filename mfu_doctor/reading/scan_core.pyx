# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A chunk of events read in one pass over its bytes: what schema.py, columns.py and values.py do with a sound one.

It takes only what it is sure of. Whatever is unusual (an id that is no number where one is usual, text that is not ASCII where
nobody looks, any damage) makes it give up the chunk, and Python reads that instead: it never reads a chunk otherwise than Python.

A `bytes` object ends with a zero that is not part of it. No step goes past a byte that it has looked at, none of them accepts a
zero, and so none leaves the object.
"""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.math cimport fabs, floor, rint
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

import os

import numpy as np

AGREED = 3  # see compiled.py

ctypedef const char* Text

cdef enum:
    FIELDS = 13  # of a record
    PLACES = 3
    MOMENT = 5  # numbers of a moment of the allocator
    MOST_KNOWN = 32  # arguments
    SMALLEST_EVENT = 17  # bytes: {"ph":"X","ts":1}
    NAME = 0
    CATEGORY, PROCESS, THREAD, BEGIN, LENGTH, CORRELATION, EXTERNAL, EXTERNAL_2021, PYTHON, SEQUENCE, STREAM, DEVICE
    DEVICE_TYPE, DEVICE_ID, ALLOCATED, RESERVED
    READ  # so many fields are read
    ARGUMENTS, PHASE
    UNKNOWN = -1
    KEYS_KEPT = 16  # of an event, and of its arguments, that are compared with those of the event before
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


cdef int[4] IDENTITIES = [PROCESS, THREAD, STREAM, DEVICE]
cdef int[6] OF_MOMENTS = [BEGIN, LENGTH, DEVICE_TYPE, DEVICE_ID, ALLOCATED, RESERVED]
cdef Table EVENT_KEYS, ARGUMENT_KEYS
number_texts(&EVENT_KEYS, {
    b"name": NAME, b"cat": CATEGORY, b"pid": PROCESS, b"tid": THREAD, b"ts": BEGIN, b"dur": LENGTH,
    b"args": ARGUMENTS, b"ph": PHASE,
})
number_texts(&ARGUMENT_KEYS, {
    b"correlation": CORRELATION, b"External id": EXTERNAL, b"external id": EXTERNAL_2021, b"Python id": PYTHON,
    b"Sequence number": SEQUENCE, b"stream": STREAM, b"device": DEVICE,
    b"Device Type": DEVICE_TYPE, b"Device Id": DEVICE_ID, b"Total Allocated": ALLOCATED, b"Total Reserved": RESERVED,
})
FIELD_NAMES = (
    "name", "cat", "pid", "tid", "ts", "dur",
    "correlation", "external", "external_2021", "python", "sequence", "stream", "device",
)


cdef enum:
    ABSENT_KIND, NUMBER, TEXT, ODD  # what the value of a field is; odd: of no kind that a number or a text is

cdef struct Event:
    int[READ] kinds
    double[READ] numbers
    Text[READ] texts
    Py_ssize_t[READ] sizes
    Text arguments
    bint odd_arguments
    char phase


cdef struct Key:
    Text begin  # where it stood last, at its quote
    Py_ssize_t size  # bytes from there to its value; 0 if there was none
    uint64_t first, mask  # the first eight of them, and which of these are its own
    int which


cdef inline bint begins_with(Text p, const Key* key) noexcept nogil:
    """Whether this key stands here, byte for byte up to its value; there are eight more bytes after it."""
    cdef uint64_t word, its
    cdef Py_ssize_t i = 8
    memcpy(&word, p, 8)
    if (word ^ key.first) & key.mask:
        return False
    while i < key.size:
        i = min(i, key.size - 8)
        memcpy(&word, p + i, 8)
        memcpy(&its, key.begin + i, 8)
        if word != its:
            return False
        i += 8
    return True


cdef inline void keep(Key* key, Text begin, Py_ssize_t size, int which) noexcept nogil:
    """Keep a key of so many bytes up to its value; there may be none after it."""
    cdef uint64_t word = 0
    memcpy(&word, begin, min(size, 8))
    key.begin, key.size, key.which, key.first = begin, size, which, word
    key.mask = ~<uint64_t>0
    if size < 8:
        memset(&word, 0, 8)
        memset(&word, 0xFF, size)
        key.mask = word


cdef class Scanner:
    """Reads chunks into a table of records.

    Args:
        name, category, identity: asked what number a text is that was not met before, as it is written, quotes and all.
        arguments: the same for known arguments: a tuple of their values as they are written, in the order of `known`.
        known: names of the known arguments.
        phases: the phases whose events are skipped.
        memory: the name of the instants of the allocator, as it is written.
        leading: asked which digit stands for the first six of a time of sixteen, 0 if none does; None: times are read as they are.
    """

    cdef Table names, categories, identities
    cdef object name, category, identity, leading
    cdef bytes memory
    cdef Text memory_text
    cdef Py_ssize_t memory_size
    cdef bint is_leading  # whether `leading` is asked
    cdef int64_t[2] leads  # the last six digits that were asked about, and what stands for them
    cdef Arguments arguments
    cdef bint[128] skipped
    cdef double[:, ::1] records, moments
    cdef int64_t[:, ::1] places
    cdef Event event
    cdef Key[KEYS_KEPT] event_keys, argument_keys  # those of the event before: most events are written as that was
    cdef Text last_word  # of the chunk that is scanned: not a global, because other threads scan other chunks

    def __init__(self, name, category, identity, arguments, tuple known, bytes phases, bytes memory, leading):
        self.name, self.category, self.identity, self.leading = name, category, identity, leading
        self.is_leading, self.leads = leading is not None, [-1, 0]
        self.memory, self.memory_text, self.memory_size = memory, PyBytes_AS_STRING(memory), PyBytes_GET_SIZE(memory)
        make_table(&self.names)
        make_table(&self.categories)
        make_table(&self.identities)
        self.arguments = Arguments(arguments, known)
        memset(self.skipped, 0, sizeof(self.skipped))
        for phase in phases:
            self.skipped[phase & 127] = True
        self.make_room(1024)

    def __dealloc__(self):
        free_table(&self.names)
        free_table(&self.categories)
        free_table(&self.identities)

    cdef int make_room(self, Py_ssize_t rows) except -1:
        self.records, self.places = np.empty((rows, FIELDS)), np.empty((rows, PLACES), np.int64)
        self.moments = np.empty((rows, MOMENT))
        return 0

    def scan(self, bytes chunk):
        """The events of a JSON list of events, or None if Python is to read it.

        Returns:
            A record of each duration event (its columns are `FIELD_NAMES`); of each where it begins and ends in the chunk, and
            its arguments do (-1 if it has none); and of each instant of the allocator that has arguments its time, type and
            number of device, allocated and reserved bytes. The arrays hold until the next call.
        """
        cdef Text begin = PyBytes_AS_STRING(chunk)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(chunk)
        cdef Py_ssize_t[2] counts
        cdef bint is_sound
        if size // SMALLEST_EVENT >= self.records.shape[0]:
            self.make_room(2 + size // SMALLEST_EVENT)
        with nogil:
            is_sound = self.scan_list(begin, begin + size, counts)
        if not is_sound:
            return None
        records, places, moments = np.asarray(self.records), np.asarray(self.places), np.asarray(self.moments)
        return records[: counts[0]], places[: counts[0]], moments[: counts[1]]

    cdef bint scan_list(self, Text begin, Text end, Py_ssize_t* counts) except -1 nogil:
        """Read a list of events; whether it is sound, and how many duration events and moments there are."""
        cdef Text p = begin, event
        cdef Event* found = &self.event
        counts[0] = counts[1] = 0
        self.last_word = end - 8
        memset(self.event_keys, 0, sizeof(self.event_keys))
        memset(self.argument_keys, 0, sizeof(self.argument_keys))
        if p[0] != c"[":
            return False
        p = blank(p + 1)
        while True:
            event = p
            p = self.read(p)
            if p == NULL:
                return False
            if found.phase == c"X":
                if not self.write(&self.records[counts[0], 0]):
                    return False
                self.places[counts[0], 0], self.places[counts[0], 1] = event - begin, p - begin
                self.places[counts[0], 2] = found.arguments - begin if found.arguments != NULL else -1
                counts[0] += 1
            elif found.phase == c"i":
                if not self.is_sound_instant():
                    return False
                counts[1] += self.write_moment(&self.moments[counts[1], 0])
            elif not self.skipped[<int>found.phase]:
                return False
            p = blank(p)
            if p[0] == c"]":
                break
            if p[0] != c",":
                return False
            p = blank(p + 1)
        return blank(p + 1) == end

    cdef Text read(self, Text p) except? NULL nogil:
        """One event, into `event`."""
        cdef Event* event = &self.event
        cdef Text after
        cdef int which = UNKNOWN, place = 0
        memset(event.kinds, 0, sizeof(event.kinds))
        event.phase, event.arguments, event.odd_arguments = 0, NULL, False
        if p[0] != c"{":
            return NULL
        p = blank(p + 1)
        while True:
            after = self.next_key(&EVENT_KEYS, self.event_keys, place, p, &which)
            if after == NULL:
                return NULL
            place += 1
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

    cdef Text read_arguments(self, Text p) except? NULL nogil:
        """The arguments of an event; of several ones the last."""
        cdef Event* event = &self.event
        cdef Text after
        cdef int which = UNKNOWN, place = 0
        memset(&event.kinds[CORRELATION], 0, (READ - CORRELATION) * sizeof(int))
        event.arguments, event.odd_arguments = NULL, p[0] != c"{" and p[0] != c"n"
        if p[0] != c"{":
            return value(p, 1, self.last_word)
        event.arguments = p
        p = blank(p + 1)
        if p[0] == c"}":
            return p + 1
        while True:
            after = self.next_key(&ARGUMENT_KEYS, self.argument_keys, place, p, &which)
            if after == NULL:
                return NULL
            place += 1
            p = value(after, 2, self.last_word) if which == UNKNOWN else self.read_field(after, which)
            if p == NULL:
                return NULL
            p = blank(p)
            if p[0] == c"}":
                return p + 1
            if p[0] != c",":
                return NULL
            p = blank(p + 1)

    cdef inline Text next_key(self, Table* table, Key* kept, int place, Text p, int* which) noexcept nogil:
        """The key that begins here, the one of so many before it; what is returned is where its value begins."""
        cdef Key* key = &kept[place & (KEYS_KEPT - 1)]
        cdef Text after
        cdef Py_ssize_t size = 0
        if key.size and p + key.size <= self.last_word and begins_with(p, key):
            which[0] = key.which
            return blank(p + key.size)
        after = key_end(p, &size)
        if after != NULL:
            which[0] = key_of(table, p, size)
            keep(key, p, after - p, which[0])
        return after

    cdef Text read_field(self, Text p, int which) except? NULL nogil:
        """The value of a field of the record."""
        cdef Text end
        if p[0] == c'"':
            end = text(p, which != NAME, self.last_word)
            self.event.kinds[which], self.event.texts[which], self.event.sizes[which] = TEXT, p, end - p
            return end
        end = self.time(p) if which == BEGIN and self.is_leading else number(p, &self.event.numbers[which])
        self.event.kinds[which] = NUMBER
        if end == NULL:
            self.event.kinds[which] = ODD
            end = value(p, 2, self.last_word)
        return end

    cdef Text time(self, Text p) except? NULL nogil:
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
            self.ask_leading(first)
        if self.leads[1] == 0:
            return number(p, &self.event.numbers[BEGIN])
        return rest_of(p + 6, self.leads[1], 1, &self.event.numbers[BEGIN])

    cdef bint write(self, double* record) except -1 nogil:
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
        for which in IDENTITIES:
            if event.kinds[which] == ABSENT_KIND and which >= STREAM:
                record[which] = ABSENT
            elif event.kinds[which] == NUMBER:
                if event.numbers[which] <= FIRST_TEXT:
                    return False
                record[which] = event.numbers[which]
            elif not self.look_up(&self.identities, which, &record[which]):
                return False
        return self.look_up(&self.categories, CATEGORY, &record[CATEGORY]) and self.look_up(
            &self.names, NAME, &record[NAME]
        )

    cdef bint is_sound_instant(self) noexcept nogil:
        """Whether Python would take `event` for an instant, and its name is what it looks like."""
        cdef Event* event = &self.event
        cdef int which
        if event.odd_arguments or event.kinds[NAME] == NUMBER or event.kinds[NAME] == ODD:
            return False
        for which in OF_MOMENTS:
            if event.kinds[which] > NUMBER:
                return False
        return event.kinds[NAME] == ABSENT_KIND or memchr(event.texts[NAME], c"\\", event.sizes[NAME]) == NULL

    cdef bint write_moment(self, double* moment) noexcept nogil:
        """Write the numbers of `event`, if it is an instant of the allocator with arguments; whether it is."""
        cdef Event* event = &self.event
        cdef int which
        if event.arguments == NULL or event.kinds[NAME] != TEXT or event.sizes[NAME] != self.memory_size:
            return False
        if memcmp(event.texts[NAME], self.memory_text, self.memory_size) != 0:
            return False
        moment[0] = event.numbers[BEGIN] if event.kinds[BEGIN] else 0.0
        for which in range(DEVICE_TYPE, READ):
            moment[1 + which - DEVICE_TYPE] = event.numbers[which] if event.kinds[which] else -1.0
        return True

    cdef bint look_up(self, Table* table, int which, double* found) except -1 nogil:
        """The number of a text of `event` ("" if it has none); whether it is a sound text."""
        cdef Event* event = &self.event
        cdef Text at = event.texts[which] if event.kinds[which] == TEXT else NOTHING
        cdef Py_ssize_t size = event.sizes[which] if event.kinds[which] == TEXT else 2
        cdef Entry* entry
        if event.kinds[which] == NUMBER or event.kinds[which] == ODD:
            return False
        entry = find(table, at, size)
        if entry.text != NULL:
            found[0] = entry.value
            return True
        if not self.ask(which, at, size, found):
            return False
        if size <= LONGEST_KEPT:
            put(table, at, size, found[0])
        return True

    # What asks Python stands in functions of its own: one with a Python object in it takes the lock of the interpreter at each call.

    cdef bint ask(self, int which, Text at, Py_ssize_t size, double* found) except -1 with gil:
        """Ask for the number of a text; whether it is a sound one."""
        asked = self.name if which == NAME else self.category if which == CATEGORY else self.identity
        number = asked(at[:size])
        if number is None:
            return False
        found[0] = number
        return True

    cdef int ask_leading(self, int64_t first) except -1 with gil:
        self.leads = [first, self.leading(first)]
        return 0

    def argument_codes(self, bytes chunk, const int64_t[:] begins):
        """What number the arguments are that begin at these places of a chunk that was scanned; -1 where there are none."""
        cdef Text begin = PyBytes_AS_STRING(chunk)
        cdef Text last_word = begin + PyBytes_GET_SIZE(chunk) - 8
        cdef int32_t[::1] codes = np.empty(begins.shape[0], np.int32)
        cdef Py_ssize_t i
        with nogil:
            for i in range(begins.shape[0]):
                codes[i] = -1 if begins[i] < 0 else <int32_t>self.arguments.code_of(begin + begins[i], last_word)
        return np.asarray(codes)


include "scan_columns.pxi"
