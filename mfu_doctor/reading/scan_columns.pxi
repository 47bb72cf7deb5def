# Records made rows of the columns, for scan_core.pyx: what `Columns.add_records` does with records that are not unusual.

cdef enum:
    TRACKS_KEPT = 256  # that are found without asking

cdef struct Known:
    int64_t process, thread, device
    int16_t track
    bint is_known

cdef int64_t HOST = np.iinfo(np.int64).min  # as in tracks.py
cdef double NS_PER_US = 1000.0
cdef int64_t KEPT_US = 10000000000  # as in clock.py
cdef double LARGEST_ID = 9007199254740992.0  # as in tracks.py


cdef class Filler:
    """Writes the rows of one table.

    Args:
        track: asked which track a process, a thread and a device are that were not met before.
        kinds: for each code of a category whether it is on a device (1), whether it keeps its arguments (2), is left out (4), is
            only known from the process (8), is that of a Python frame (16).
        most_us, least_us, longest_us, most_devices: what times and numbers of devices can be.
    """

    cdef object track
    cdef uint8_t[256] kinds
    cdef double most_us, least_us, longest_us
    cdef int64_t most_devices
    cdef Known[TRACKS_KEPT] known
    cdef int64_t[::1] kept, moved

    def __init__(self, track, const uint8_t[:] kinds, double most_us, double least_us, double longest_us, int64_t most_devices):
        cdef int i
        self.track, self.most_us, self.least_us, self.longest_us = track, most_us, least_us, longest_us
        self.most_devices = most_devices
        for i in range(256):
            self.kinds[i] = kinds[i]
        memset(self.known, 0, sizeof(self.known))
        self.kept, self.moved = np.empty(0, np.int64), np.empty(0, np.int64)

    def fill(self, const double[:, ::1] records, const uint8_t[:] wanted, int32_t memory, const int64_t[:] prefixes, columns):
        """Write these records into the beginning of the columns.

        Args:
            records: as a scan found them.
            wanted: for each name whether its events keep their arguments.
            memory: the number of the allocator's name, -1 if it was not met.
            prefixes: what stands for the leading digits of times, see `Clock`.
            columns: in the order of `COLUMNS`.

        Returns:
            How many were written and how many cannot be; the records that keep their arguments, and their rows; the
            allocator's records. None if a record is unusual: then what was written is to be written again.
        """
        cdef int64_t[::1] start = columns[0], end = columns[1], correlation = columns[5]
        cdef int32_t[::1] name = columns[2], external = columns[6], sequence = columns[7], args = columns[8]
        cdef uint8_t[::1] category = columns[3]
        cdef int16_t[::1] track = columns[4]
        cdef Py_ssize_t i, row = 0, refused = 0, count = 0, moments = 0
        cdef const double* record
        cdef int code, kind, track_code
        cdef int64_t device
        if records.shape[0] > self.kept.shape[0]:
            self.kept, self.moved = np.empty(2 * records.shape[0], np.int64), np.empty(2 * records.shape[0], np.int64)
        found_rows = np.empty(records.shape[0], np.int64)
        cdef int64_t[::1] rows = found_rows
        with nogil:
            for i in range(records.shape[0]):
                record = &records[i, 0]
                code, kind = <int>record[CATEGORY], self.kinds[<int>record[CATEGORY]]
                if kind & UNSAID:
                    with gil:
                        return None
                if <int32_t>record[NAME] == memory:
                    self.moved[moments] = i
                    moments += 1
                    continue
                if kind & LEFT_OUT:
                    continue
                device = HOST
                if kind & ON_DEVICE:
                    device = self.device_of(record)
                    if device <= <int64_t>FIRST_TEXT:
                        with gil:
                            return None
                if not self.times(record, prefixes, &start[row], &end[row]) or (
                    kind & ON_DEVICE and not self.can_be(device)
                ):
                    refused += 1
                    continue
                track_code = self.track_of(record, kind, device)
                if wanted[<int32_t>record[NAME]] or kind & KEEPS:
                    self.kept[count], rows[count] = i, row
                    count += 1
                name[row], category[row], track[row] = <int32_t>record[NAME], <uint8_t>code, <int16_t>track_code
                correlation[row] = <int64_t>id_of(record[CORRELATION], LARGEST_ID)
                external[row] = <int32_t>id_of(number_of(record, kind), 2147483647.0)
                sequence[row] = <int32_t>id_of(record[SEQUENCE], 2147483647.0)
                args[row] = -1
                row += 1
        kept, moved = np.asarray(self.kept)[:count].copy(), np.asarray(self.moved)[:moments].copy()
        return row, refused, kept, found_rows[:count], moved

    cdef bint times(
        self, const double* record, const int64_t[:] prefixes, int64_t* start, int64_t* end
    ) noexcept nogil:
        """The start and the end of an event in nanoseconds, as `Clock.spans`; whether they can be."""
        cdef int64_t whole, leading
        start[0] = nanoseconds(self.bounded(record[BEGIN]), &whole)
        leading = whole // KEPT_US if whole > 0 else 0
        if 1 <= leading <= prefixes.shape[0]:
            start[0] += (prefixes[leading - 1] - leading) * KEPT_US * <int64_t>NS_PER_US
        end[0] = start[0] + nanoseconds(self.bounded(record[LENGTH]), &whole)
        return (
            fabs(record[BEGIN]) <= self.most_us
            and fabs(record[LENGTH]) <= self.longest_us
            and min(start[0], end[0]) >= self.least_us * NS_PER_US
            and max(start[0], end[0]) <= self.most_us * NS_PER_US
        )

    cdef double bounded(self, double microseconds) noexcept nogil:
        return min(max(microseconds, -self.most_us), self.most_us)

    cdef bint can_be(self, int64_t device) noexcept nogil:
        return -1 <= device <= self.most_devices

    cdef int64_t device_of(self, const double* record) noexcept nogil:
        """As `tracks._devices_of`."""
        cdef int64_t index = whole_id(record[DEVICE]), process = whole_id(record[PROCESS])
        if record[DEVICE] == ABSENT:
            return process
        return index if index <= <int64_t>FIRST_TEXT or self.can_be(index) or not self.can_be(process) else process

    cdef int track_of(self, const double* record, int kind, int64_t device) except? -1 nogil:
        """As `TrackTable.assign`."""
        cdef int64_t process = whole_id(record[PROCESS]), thread = whole_id(record[THREAD])
        cdef Known* known
        if kind & ON_DEVICE and record[STREAM] != ABSENT:
            thread = whole_id(record[STREAM])
        known = &self.known[(<uint64_t>process * 31u + <uint64_t>thread * 7u + <uint64_t>device) & (TRACKS_KEPT - 1u)]
        if not (known.is_known and known.process == process and known.thread == thread and known.device == device):
            known.track = self.ask(process, thread, device)
            known.process, known.thread, known.device, known.is_known = process, thread, device, True
        return known.track

    cdef int ask(self, int64_t process, int64_t thread, int64_t device) except? -1 with gil:
        return self.track(process, thread, device)


cdef enum:
    ON_DEVICE = 1
    KEEPS = 2
    LEFT_OUT = 4
    UNSAID = 8
    OF_PYTHON = 16


cdef inline int64_t nanoseconds(double microseconds, int64_t* whole) noexcept nogil:
    """As `clock._split`."""
    cdef double below = floor(microseconds)
    whole[0] = <int64_t>below
    return whole[0] * <int64_t>NS_PER_US + <int64_t>rint((microseconds - below) * NS_PER_US)


cdef inline int64_t whole_id(double number) noexcept nogil:
    return <int64_t>min(max(number, -LARGEST_ID), LARGEST_ID)


cdef inline double number_of(const double* record, int kind) noexcept nogil:
    """What an event is numbered by: a frame of Python by a number of its own."""
    if kind & OF_PYTHON:
        return record[PYTHON]
    return record[EXTERNAL_2021] if record[EXTERNAL] == -1 else record[EXTERNAL]


cdef inline double id_of(double number, double most) noexcept nogil:
    return number if 0 <= number <= most else -1
