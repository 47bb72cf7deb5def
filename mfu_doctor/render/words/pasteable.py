"""Code to paste, broken into lines that fit a screen. Its meaning does not change and nothing is cut."""

from __future__ import annotations

import shlex

from mfu_doctor.render.words.text import cells, wrap

_COMMAND = "mfu-doctor "
_STEP = "  "  # by which the lines of a command that goes on are indented
NO_ROOM = "(the line to paste is too long for this screen)"


def shown_code(code: str, width: int, *, lines: int | None = None) -> list[str]:
    """The whole code as `wrap_code` breaks it, or one line which says that it does not fit.

    Args:
        code: Python or shell.
        width: columns.
        lines: the most lines there is room for; None: any number.
    """
    rows = wrap_code(code, width)
    fits = all(cells(row) <= width for row in rows) and (lines is None or len(rows) <= lines)
    return rows if fits else [NO_ROOM]


def wrap_code(code: str, width: int) -> list[str]:
    """Lines of code to paste, broken only where the language allows it. Nothing is cut and no meaning changes.

    The comment of a line that is too long is moved to lines of its own. The rest is broken at a ";" between statements, or at
    spaces inside brackets. A line that cannot be broken remains long.

    Args:
        code: Python or shell.
        width: columns.
    """
    return [row for line in code.splitlines() for row in _wrap_code_line(line, width)]


def continued(command: str, width: int, indent: str) -> list[str]:
    """A command on as many lines as it needs, which a shell reads as one; a word is never cut, an option keeps its value."""
    words = [shlex.quote(word) for word in shlex.split(command)]
    parts = [" ".join(words[:2])]
    for word in words[2:]:
        if parts[-1].startswith("-") and " " not in parts[-1]:
            parts[-1] += f" {word}"
        else:
            parts.append(word)
    lines = [parts[0]]
    for part in parts[1:]:
        if cells(f"{lines[-1]} {part} \\") <= width - 2 * len(indent):
            lines[-1] += f" {part}"
        else:
            lines.append(part)
    rows = [indent * (1 if i == 0 else 2) + text for i, text in enumerate(lines)]
    return [f"{row} \\" for row in rows[:-1]] + rows[-1:]


def _wrap_code_line(line: str, width: int) -> list[str]:
    if cells(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    breaks, comment = _code_breaks(line)
    code = (line[:comment] if comment >= 0 else line).rstrip()
    if not code:
        rows = []
    elif code.startswith(_COMMAND) and cells(code) > width:
        rows = [row[len(_STEP) :] for row in continued(code, width + len(_STEP), _STEP)]
    else:
        rows = _broken(code, breaks, width)
    words = line[comment:].lstrip("# ") if comment >= 0 else ""
    return rows + [f"{indent}# {row}" for row in wrap(words, width - len(indent) - 2)]


def _broken(code: str, breaks: list[tuple[int, str]], width: int) -> list[str]:
    """The code broken at the last of the allowed places that keeps each line within the width."""
    rows, start, lead = [], 0, ""
    code = code.rstrip()
    while cells(lead + code[start:]) > width:
        room = width - cells(lead)
        fitting = [found for found in breaks if start < found[0] <= start + room and found[0] < len(code)]
        later = [found for found in breaks if start + room < found[0] < len(code)]
        if not fitting and not later:
            break
        at, next_lead = (fitting or later[:1])[-1]
        rows.append((lead + code[start:at]).rstrip(" ;" if next_lead == "" else " "))
        start = at + len(code[at:]) - len(code[at:].lstrip())
        lead = (code[: len(code) - len(code.lstrip())] + next_lead) if rows else ""
    return [*rows, lead + code[start:]]


def _code_breaks(line: str) -> tuple[list[tuple[int, str]], int]:
    """Where the line may be broken, each with the indentation after it, and where its comment begins (-1: none).

    Inside brackets a line may be broken at any space. Between statements it may be broken at a ";", but not after a ":" that
    makes both statements one block.
    """
    breaks: list[tuple[int, str]] = []
    depth, quote, suite = 0, "", False
    for i, c in enumerate(line):
        if quote:
            quote = "" if c == quote and line[i - 1] != "\\" else quote
        elif c in "\"'":
            quote = c
        elif c == "#" and (i == 0 or line[i - 1] == " "):
            return breaks, i
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == ":" and depth == 0:
            suite = True
        elif c == " " and depth > 0:
            breaks.append((i, "    "))
        elif c == ";" and depth == 0 and not suite and line[i + 1 : i + 2] == " ":
            breaks.append((i + 1, ""))
    return breaks, -1
