# Numbers of the known arguments of events, for scan_core.pyx: equal ones have one number, however long they are.

cdef inline int key_of(Table* table, Text p, Py_ssize_t size) noexcept nogil:
    """The number of a key of so many bytes, which begins at its quote; -1 if it is none of these."""
    cdef Entry* entry = find(table, p + 1, size)
    return <int>entry.value if entry.text != NULL else UNKNOWN


cdef class Arguments:
    """Known arguments, each set of them with its number; see `Scanner`."""

    cdef Table known, codes
    cdef object asked
    cdef int count
    cdef char* key  # what was put together last
    cdef Py_ssize_t room

    def __cinit__(self):
        self.room = 1 << 10
        self.key = <char*>malloc(self.room)
        if self.key == NULL:
            raise MemoryError

    def __init__(self, asked, tuple known):
        if len(known) > MOST_KNOWN:
            raise ValueError("more arguments than there is room for")
        self.asked, self.count = asked, len(known)
        number_texts(&self.known, {key: i for i, key in enumerate(known)})
        make_table(&self.codes)

    def __dealloc__(self):
        free(self.key)
        free_table(&self.known)
        free_table(&self.codes)

    cdef int64_t code_of(self, Text p, Text last_word) except? -2 nogil:
        """The number of the arguments of a sound event, which begin here."""
        cdef Text[MOST_KNOWN] at, end
        cdef Text after
        cdef int which
        cdef Py_ssize_t size = 0, length = 0
        cdef Entry* entry
        cdef int64_t code
        memset(at, 0, sizeof(at))
        p = blank(p + 1)
        while p[0] != c"}":
            after = key_end(p, &length)
            which = key_of(&self.known, p, length)
            p = value(after, 2, last_word)
            if which != UNKNOWN:
                at[which], end[which] = after, p
            p = blank(p)
            if p[0] == c",":
                p = blank(p + 1)
        for which in range(self.count):
            if at[which] != NULL:
                size = self.append(size, which, at[which], end[which] - at[which])
        entry = find(&self.codes, self.key, size)
        if entry.text != NULL:
            return <int64_t>entry.value
        code = self.ask(at, end)
        if size <= LONGEST_KEPT:
            put(&self.codes, self.key, size, <double>code)
        return code

    cdef int64_t ask(self, Text* at, Text* end) except? -2 with gil:
        cdef int i
        return self.asked(tuple([at[i][: end[i] - at[i]] if at[i] != NULL else b"" for i in range(self.count)]))

    cdef Py_ssize_t append(self, Py_ssize_t size, int which, Text at, Py_ssize_t length) except -1 nogil:
        """Add an argument to the key: its number, its length and its text."""
        cdef Py_ssize_t needed = size + 1 + sizeof(Py_ssize_t) + length
        cdef char* larger
        if needed > self.room:
            larger = <char*>realloc(self.key, 2 * needed)
            if larger == NULL:
                raise MemoryError
            self.key, self.room = larger, 2 * needed
        self.key[size] = <char>which
        memcpy(self.key + size + 1, &length, sizeof(Py_ssize_t))
        memcpy(self.key + size + 1 + sizeof(Py_ssize_t), at, length)
        return needed
