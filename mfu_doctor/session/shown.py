"""Where a block is heard: standard error; but notebooks show its report as HTML below the cell, and nothing as text."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
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
        with _between_bars():
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def _between_bars() -> AbstractContextManager[None]:
    """Have tqdm take its bars off the terminal meanwhile: text after one would stand in its line."""
    bar = getattr(sys.modules.get("tqdm.std"), "tqdm", None)
    if bar is None or not getattr(bar, "_instances", None):
        return nullcontext()
    between: AbstractContextManager[None] = bar.external_write_mode(file=sys.stderr)
    return between
