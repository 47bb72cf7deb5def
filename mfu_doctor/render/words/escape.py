"""Escaping for markdown: text from a trace is shown as it is, never as markup, a mention or a broken table.

Kernel names contain `<`, `*`, `_` and `|`. Unescaped, these hide text, turn the page italic or split a table row.
"""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`*_\[\]|~#!])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_ZERO_WIDTH = "\u200b"  # after "@" and "://": GitHub then neither notifies a person nor makes a link


def inline(text: str) -> str:
    """A clean one-line text as markdown that shows exactly this text, in a paragraph or in a table cell."""
    html = re.sub(r"[&<>]", lambda found: _HTML[found[0]], text)
    return _SPECIAL.sub(r"\\\1", html).replace("@", f"@{_ZERO_WIDTH}").replace("://", f":{_ZERO_WIDTH}//")


def code(text: str, language: str = "python") -> list[str]:
    """Lines of markdown that show the text as code: a span for one line, a fenced block for more."""
    rows = text.splitlines()
    if not rows:
        return []
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    if len(rows) == 1:
        edge = " " if rows[0].startswith("`") or rows[0].endswith("`") else ""
        return [f"{fence}{edge}{rows[0]}{edge}{fence}"]
    block = max(fence, "```", key=len)
    return [f"{block}{language}", *rows, block]
