# Numbers of texts, for scan_core.pyx: a dict whose keys are bytes inside a chunk, which are copied only when they are new.

cdef inline uint64_t hash_of(Text at, Py_ssize_t size) noexcept:
    cdef uint64_t h = SEED ^ (<uint64_t>size * 0x9E3779B97F4A7C15u), word = 0
    cdef uint32_t half
    cdef Text last
    if size >= 8:
        last = at + size - 8
        while at < last:
            memcpy(&word, at, 8)
            h = (h ^ word) * 0x9FB21C651E98DF25u
            h ^= h >> 32
            at += 8
        memcpy(&word, last, 8)  # some bytes again
    elif size >= 4:
        memcpy(&half, at, 4)
        word = <uint64_t>half << 32
        memcpy(&half, at + size - 4, 4)
        word |= half
    elif size > 0:
        word = <unsigned char>at[0] << 16 | <unsigned char>at[size >> 1] << 8 | <unsigned char>at[size - 1]
    h = (h ^ word) * 0x9FB21C651E98DF25u
    return h ^ (h >> 29)


cdef struct Entry:
    uint64_t hash
    char* text
    uint32_t size
    double value


cdef class Table:
    """Numbers of texts."""

    cdef Entry* entries
    cdef Py_ssize_t room, count

    def __cinit__(self):
        self.room, self.count = 64, 0
        self.entries = <Entry*>PyMem_Realloc(NULL, self.room * sizeof(Entry))
        if self.entries == NULL:
            raise MemoryError
        memset(self.entries, 0, self.room * sizeof(Entry))

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.entries != NULL:
            for i in range(self.room):
                free(self.entries[i].text)
            PyMem_Free(self.entries)

    cdef Entry* find(self, Text at, Py_ssize_t size) noexcept:
        """Where the number of a text stands, or is to stand: there is no text yet."""
        cdef uint64_t h = hash_of(at, size)
        cdef Py_ssize_t i = h & (self.room - 1)
        cdef Entry* entry
        while True:
            entry = &self.entries[i]
            if entry.text == NULL:
                entry.hash = h
                return entry
            if entry.hash == h and entry.size == size and memcmp(entry.text, at, size) == 0:
                return entry
            i = (i + 1) & (self.room - 1)

    cdef int put(self, Text at, Py_ssize_t size, double value) except -1:
        cdef Entry* entry
        if 2 * (self.count + 1) > self.room:
            self.grow()
        entry = self.find(at, size)
        entry.text = <char*>malloc(size + 1)
        if entry.text == NULL:
            raise MemoryError
        memcpy(entry.text, at, size)
        entry.size, entry.value = <uint32_t>size, value
        self.count += 1
        return 0

    cdef int grow(self) except -1:
        cdef Entry* old = self.entries
        cdef Py_ssize_t i, j, before = self.room
        cdef Entry* larger = <Entry*>PyMem_Realloc(NULL, 2 * before * sizeof(Entry))
        if larger == NULL:
            raise MemoryError
        memset(larger, 0, 2 * before * sizeof(Entry))
        self.entries, self.room = larger, 2 * before
        for i in range(before):
            if old[i].text == NULL:
                continue
            j = old[i].hash & (self.room - 1)
            while larger[j].text != NULL:
                j = (j + 1) & (self.room - 1)
            larger[j] = old[i]
        PyMem_Free(old)
        return 0


cdef Table table_of(dict numbers):
    cdef Table table = Table()
    cdef bytes key
    for key, value in numbers.items():
        table.put(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), value)
    return table
