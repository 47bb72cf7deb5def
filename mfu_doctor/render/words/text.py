"""Make text from a file safe to show: clean it, measure it, shorten it, wrap it.

The trace contains names of kernels, files and devices. Printed as they are, they could move the cursor, change colours,
inject markup or break the layout.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from mfu_doctor.analysis.names.short_names import short_name
from mfu_doctor.json_text import readable

WIDTH = 80  # columns if the width of the screen is not known
EN_DASH = "\N{EN DASH}"  # between the ends of a range, in outputs that are not for a terminal
EM_DASH = "\N{EM DASH}"  # in place of a value that is not known

# ECMA-48 control sequences: CSI (parameters, intermediates, final byte), OSC/DCS/SOS/PM/APC strings up to their
# terminator, and two-byte escapes; each also with its single C1 byte.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# Cc controls, Cf format characters (bidirectional overrides, zero width), Cs surrogates, Zl/Zp line separators.
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# GitHub's runner obeys "::command::" at the start of a line (after spaces) and "##[command]" anywhere in a log.
_COMMANDS = re.compile(r"(?<!\S)::|##\[")
# The last name before a template's arguments, behind a return type and namespaces.
_OWN_NAME = re.compile(r"(?:void )?(?:\w+::|\(anonymous namespace\)::)*([A-Za-z_]\w*)(?=<)")
_CLAUSE_ENDS = re.compile(r"[;,] | \(| and ")
_ARGUMENTS = re.compile(r"\([^()]*\)$")
_ASCII = {
    "\N{MICRO SIGN}": "u",
    "\N{GREEK SMALL LETTER MU}": "u",
    EN_DASH: "-",
    EM_DASH: "-",
    "\N{MINUS SIGN}": "-",
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{MIDDLE DOT}": "*",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{ALMOST EQUAL TO}": "~",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": '"',
    "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
}


def clean(text: str) -> str:
    """One line without control sequences, invisible characters or CI commands.

    Line breaks and tabs become spaces, and bytes that are no UTF-8 become escapes.
    """
    is_plain = text.isascii() and text.isprintable()  # most texts, and much faster
    shown = re.sub(" {2,}", " ", text) if is_plain else _printable(text)
    return _COMMANDS.sub(lambda found: f"{found[0][:-1]} {found[0][-1]}", shown)


def _printable(text: str) -> str:
    plain = _ESCAPES.sub("", readable(text))
    spaced = re.sub(r"[\s\x85\u2028\u2029]+", " ", plain)
    return "".join(c for c in spaced if unicodedata.category(c) not in _INVISIBLE)


def to_ascii(text: str) -> str:
    """The text in ASCII: known signs spelled, accents dropped, anything else as a backslash escape."""
    if text.isascii():
        return text
    spelled = "".join(_ASCII.get(c, c) for c in text)
    folded = "".join(c for c in unicodedata.normalize("NFKD", spelled) if not unicodedata.combining(c))
    return folded.encode("ascii", "backslashreplace").decode()


def cells(text: str) -> int:
    """Terminal columns that a clean text takes: two for wide East Asian characters, none for combining marks."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def pad(text: str, width: int) -> str:
    """The text followed by spaces up to `width` columns."""
    return text + " " * max(width - cells(text), 0)


def shorten(text: str, width: int, *, middle: bool = False) -> str:
    """The text in at most `width` columns, with "..." in place of what was cut (`middle`: keep both ends)."""
    if cells(text) <= width:
        return text
    if width <= 3:
        return "." * max(width, 0)
    if middle:
        tail = _prefix(text[::-1], (width - 3) * 2 // 3)[::-1]
        return _prefix(text, width - 3 - cells(tail)) + "..." + tail
    return _prefix(text, width - 3).rstrip() + "..."


def shorten_path(path: str, width: int) -> str:
    """The end of a path in at most `width` columns: a file that is named in part cannot be opened, its folders can be found."""
    if cells(path) <= width:
        return path
    parts = path.split("/")
    ends = (".../" + "/".join(parts[i:]) for i in range(1, len(parts)))
    return next((end for end in ends if cells(end) <= width), shorten(parts[-1], width, middle=True))


def kernel_name(name: str, width: int) -> str:
    """The own name of a kernel and as many template arguments as fit. These distinguish it from others; its namespaces do not.

    Args:
        name: as recorded, such as ``void at::native::vectorized_elementwise_kernel<4, ...>(int, ...)``.
        width: columns.
    """
    if name.startswith(("Memcpy", "Memset")):
        return shorten(name, width)
    own = short_name(name)
    if not own.isidentifier():  # a lambda among its arguments
        found = _OWN_NAME.match(name)
        own = found[1] if found else own
    template = name[name.index(own) + len(own) :] if own in name else ""
    if not template.startswith("<"):
        return shorten(own, width, middle=True)
    return shorten(own + _ARGUMENTS.sub("", template).replace("at::native::", "").replace(", ", ","), width)


def _prefix(text: str, width: int) -> str:
    """The longest start of the text that fits in `width` columns."""
    used, end = 0, 0
    while end < len(text) and used + cells(text[end]) <= width:
        used += cells(text[end])
        end += 1
    return text[:end]


def wrap(text: str, width: int, *, lines: int | None = None) -> list[str]:
    """Break at spaces, and inside a word only if it is longer than a line. At most `lines` lines; the last one is cut."""
    rows: list[str] = []
    rest = text.strip()
    while rest:
        if lines is not None and len(rows) == lines - 1:
            return [*rows, shorten(rest, width)]
        piece = _prefix(rest, width)
        if len(piece) < len(rest) and not rest[len(piece)].isspace() and " " in piece.strip():
            piece = piece[: piece.rindex(" ")]
        elif rest[len(piece) :].startswith("::") and len(piece) > 1:
            piece = piece[:-1]  # no line may start with "::", see _COMMANDS
        rows.append(piece.rstrip())
        rest = rest[max(len(piece), 1) :].lstrip()
    return rows


def whole_parts(text: str, width: int, lines: int) -> str:
    """The first parts of a text (at "; ") that fit in so many lines; if not even one does, as much of its list (at ", ")."""
    for mark, end in (("; ", ""), (", ", ", ...")):
        parts = text.split(mark)
        kept = [text, *(mark.join(parts[:i]) + end for i in range(len(parts) - 1, 0, -1))]
        fits = next((told for told in kept if len(wrap(told, width)) <= lines), None)
        if fits is not None:
            return fits
        text = text.partition("; ")[0]
    return text


def whole_clauses(text: str, width: int, lines: int) -> str:
    """The begin of a sentence that fits in so many lines, up to where a part of it ends and no bracket is open; else all."""
    if len(wrap(text, width)) <= lines:
        return text
    ends = sorted((match.start() for match in _CLAUSE_ENDS.finditer(text)), reverse=True)
    kept = (text[:end] for end in ends if text[:end].count("(") == text[:end].count(")"))
    return next((told for told in kept if len(wrap(told, width)) <= lines), text)


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of a frozen struct (or tuple, dict, text) with `change` applied to every text in it.

    A `fix` keeps its line breaks: it is code to paste, and each of its lines is changed alone.
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, tuple):
        return tuple(each_text(item, change) for item in value)
    if isinstance(value, dict):
        return {each_text(key, change): each_text(item, change) for key, item in value.items()}
    if not isinstance(value, Struct):
        return value
    changed = {name: each_text(part, change) for name, part in asdict(value).items() if name != "fix"}
    fix = getattr(value, "fix", None)
    if isinstance(fix, str):
        # Indentation is part of the code; everything else in a line is cleaned like any text.
        rows = [row[: len(row) - len(row.lstrip(" "))] + change(row.lstrip(" ")) for row in fix.splitlines()]
        changed["fix"] = "\n".join(row.rstrip() for row in rows if row.strip())
    return replace(value, **changed)
