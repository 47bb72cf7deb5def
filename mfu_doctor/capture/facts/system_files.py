"""What the system writes in files (/proc, /sys): there on Linux, hidden in some containers, absent elsewhere."""

from __future__ import annotations

from pathlib import Path


def text_of(path: Path) -> str | None:
    """The file's text, or None if the system does not say."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
