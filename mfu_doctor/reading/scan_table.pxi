# Numbers of texts, for scan_core.pyx: a dict whose keys are bytes inside a chunk, which are copied only when they are new.

cdef struct Entry:
    uint64_t hash
    char* text
    uint32_t size
    double value

cdef struct Table:
    Entry* entries
    Py_ssize_t room, count


cdef inline uint64_t hash_of(Text at, Py_ssize_t size) noexcept nogil:
    """Different for different texts of one length up to eight bytes."""
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


cdef inline bint is_same(Text one, Text other, Py_ssize_t size) noexcept nogil:
    """Whether texts of this length and of the same hash are equal."""
    cdef uint64_t word, its
    cdef Py_ssize_t i = 0
    if size <= 8:
        return True
    while i < size - 8:
        memcpy(&word, one + i, 8)
        memcpy(&its, other + i, 8)
        if word != its:
            return False
        i += 8
    memcpy(&word, one + size - 8, 8)
    memcpy(&its, other + size - 8, 8)
    return word == its


cdef int make_table(Table* table) except -1 nogil:
    table.room, table.count = 64, 0
    table.entries = <Entry*>calloc(table.room, sizeof(Entry))
    if table.entries == NULL:
        raise MemoryError
    return 0


cdef void free_table(Table* table) noexcept:
    cdef Py_ssize_t i
    if table.entries != NULL:
        for i in range(table.room):
            free(table.entries[i].text)
        free(table.entries)
        table.entries = NULL


cdef inline Entry* find(Table* table, Text at, Py_ssize_t size) noexcept nogil:
    """Where the number of a text stands, or is to stand: there is no text yet."""
    cdef uint64_t h = hash_of(at, size)
    cdef Py_ssize_t i = h & (table.room - 1)
    cdef Entry* entry
    while True:
        entry = &table.entries[i]
        if entry.text == NULL:
            entry.hash = h
            return entry
        if entry.hash == h and entry.size == size and is_same(entry.text, at, size):
            return entry
        i = (i + 1) & (table.room - 1)


cdef int put(Table* table, Text at, Py_ssize_t size, double value) except -1 nogil:
    cdef Entry* entry
    if 2 * (table.count + 1) > table.room:
        grow(table)
    entry = find(table, at, size)
    entry.text = <char*>malloc(size + 1)
    if entry.text == NULL:
        raise MemoryError
    memcpy(entry.text, at, size)
    entry.size, entry.value = <uint32_t>size, value
    table.count += 1
    return 0


cdef int grow(Table* table) except -1 nogil:
    cdef Entry* old = table.entries
    cdef Py_ssize_t i, j, room = 2 * table.room
    cdef Entry* larger = <Entry*>calloc(room, sizeof(Entry))
    if larger == NULL:
        raise MemoryError
    for i in range(table.room):
        if old[i].text == NULL:
            continue
        j = old[i].hash & (room - 1)
        while larger[j].text != NULL:
            j = (j + 1) & (room - 1)
        larger[j] = old[i]
    table.entries, table.room = larger, room
    free(old)
    return 0


cdef int number_texts(Table* table, dict numbers) except -1:
    """Make a table of these texts."""
    cdef bytes key
    make_table(table)
    for key, value in numbers.items():
        put(table, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), value)
    return 0
