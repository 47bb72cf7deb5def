# The grammar of JSON, for scan_core.pyx.
#
# Each of these begins at a value (or, the first, anywhere), and returns what follows it: NULL if it is not what it should be.


cdef inline Text blank(Text p) noexcept nogil:
    while <unsigned char>p[0] <= 0x20 and (p[0] == c" " or p[0] == c"\n" or p[0] == c"\r" or p[0] == c"\t"):
        p += 1
    return p


cdef inline Text plain(Text p) noexcept nogil:
    """A text of ASCII without escapes."""
    if p[0] != c'"':
        return NULL
    p += 1
    while 0x20 <= <unsigned char>p[0] < 0x80 and p[0] != c'"' and p[0] != c"\\":
        p += 1
    return p + 1 if p[0] == c'"' else NULL


cdef inline Text over_words(Text p, Text last_word) noexcept nogil:
    """Step over eight bytes at once as long as all are ASCII, and none ends a text or begins an escape.

    `last_word`, here and below, is where the last eight bytes of the chunk begin.
    """
    cdef uint64_t word, quote, slash
    while p <= last_word:
        memcpy(&word, p, 8)
        # A byte of `word` is at least 0x80, or below 0x20, or one of the two is 0: then the highest bit of a byte is set.
        quote, slash = word ^ 0x2222222222222222u, word ^ 0x5C5C5C5C5C5C5C5Cu
        quote, slash = (quote - EACH) & ~quote, (slash - EACH) & ~slash
        if (word | ((word - 0x20u * EACH) & ~word) | quote | slash) & (0x80u * EACH):
            break
        p += 8
    return p


cdef inline bint is_hex(char c) noexcept nogil:
    return c"0" <= c <= c"9" or c"a" <= c <= c"f" or c"A" <= c <= c"F"


cdef Text text(Text p, bint ascii, Text last_word) noexcept nogil:
    """Any text; of other characters than ASCII only if that is not asked for, and never with half a character escaped."""
    cdef unsigned char c
    if p[0] != c'"':
        return NULL
    p = over_words(p + 1, last_word)
    while True:
        c = <unsigned char>p[0]
        if c == c'"':
            return p + 1
        if c < 0x20 or (ascii and c >= 0x80):
            return NULL
        if c == c"\\":
            p += 1
            if p[0] == c"u":
                # a surrogate begins with D8 to DF
                if not (is_hex(p[1]) and is_hex(p[2]) and is_hex(p[3]) and is_hex(p[4])) or p[1] == c"d" or p[1] == c"D":
                    return NULL
                p += 4
            elif p[0] not in (c'"', c"\\", c"/", c"b", c"f", c"n", c"r", c"t"):
                return NULL
        p += 1


cdef Text number(Text p, double* value) noexcept nogil:
    """A number of at most 19 digits without an exponent, that fits a float64 exactly but for the place of its point."""
    cdef bint minus = p[0] == c"-"
    p += minus
    if p[0] == c"0":
        p = decimals_of(p + 1, 0, 0, value)
    elif c"1" <= p[0] <= c"9":
        p = rest_of(p, 0, 0, value)
    else:
        return NULL
    if minus and p != NULL:
        value[0] = -value[0]
    return p


cdef Text rest_of(Text p, uint64_t digits, int count, double* value) noexcept nogil:
    """A number without its sign, of which so many digits were read before."""
    while c"0" <= p[0] <= c"9":
        digits = 10 * digits + <uint64_t>(p[0] - c"0")
        count += 1
        if count > 19:
            return NULL
        p += 1
    return decimals_of(p, digits, count, value)


cdef Text decimals_of(Text p, uint64_t digits, int count, double* value) noexcept nogil:
    """A number of which the whole digits were read."""
    cdef int decimals = 0
    if p[0] == c".":
        p += 1
        while c"0" <= p[0] <= c"9":
            digits = 10 * digits + <uint64_t>(p[0] - c"0")
            count += 1
            decimals += 1
            if count > 19:
                return NULL
            p += 1
        if decimals == 0:
            return NULL
    if p[0] == c"e" or p[0] == c"E" or digits > <uint64_t>MOST_EXACT:
        return NULL
    value[0] = <double>digits / TENS[decimals]
    return p


cdef Text any_number(Text p) noexcept nogil:
    """A number that nobody reads."""
    cdef int digits
    p += p[0] == c"-"
    if p[0] == c"0":
        p += 1
    else:
        if not c"1" <= p[0] <= c"9":
            return NULL
        while c"0" <= p[0] <= c"9":
            p += 1
    if p[0] == c".":
        p += 1
        if not c"0" <= p[0] <= c"9":
            return NULL
        while c"0" <= p[0] <= c"9":
            p += 1
    if p[0] == c"e" or p[0] == c"E":
        p += 1
        p += p[0] == c"-" or p[0] == c"+"
        digits = 0
        while c"0" <= p[0] <= c"9":
            p += 1
            digits += 1
        if not 1 <= digits <= 2:
            return NULL
    return p


cdef Text value(Text p, int depth, Text last_word) noexcept nogil:
    """Any value."""
    cdef char closing
    cdef Py_ssize_t size
    if p[0] == c'"':
        return text(p, True, last_word)
    if p[0] == c"t":
        return p + 4 if p[1] == c"r" and p[2] == c"u" and p[3] == c"e" else NULL
    if p[0] == c"n":
        return p + 4 if p[1] == c"u" and p[2] == c"l" and p[3] == c"l" else NULL
    if p[0] == c"f":
        return p + 5 if p[1] == c"a" and p[2] == c"l" and p[3] == c"s" and p[4] == c"e" else NULL
    if p[0] != c"[" and p[0] != c"{":
        return any_number(p)
    if depth >= DEEPEST:
        return NULL
    closing = c"]" if p[0] == c"[" else c"}"
    p = blank(p + 1)
    if p[0] == closing:
        return p + 1
    while True:
        if closing == c"}":
            p = key_end(p, &size)
            if p == NULL:
                return NULL
        p = value(p, depth + 1, last_word)
        if p == NULL:
            return NULL
        p = blank(p)
        if p[0] == closing:
            return p + 1
        if p[0] != c",":
            return NULL
        p = blank(p + 1)


cdef inline Text key_end(Text p, Py_ssize_t* size) noexcept nogil:
    """A key, of so many bytes without its quotes; what is returned is where its value begins."""
    cdef Text end = plain(p)
    if end == NULL:
        return NULL
    size[0] = end - p - 2
    p = blank(end)
    return blank(p + 1) if p[0] == c":" else NULL
