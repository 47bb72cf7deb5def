"""Where a block is heard: standard error; but notebooks show its report as HTML below the cell, and nothing as text."""

from __future__ import annotations

import sys
from importlib import import_module


def in_notebook() -> bool:
    """Whether this process is the kernel of one."""
    ask = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return ask is not None and getattr(ask(), "kernel", None) is not None


def display(report: object) -> None:
    """Show it below the cell that runs."""
    import_module("IPython.display").display(report)


def write(text: str) -> None:
    """Write a text to standard error, if there is one."""
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
