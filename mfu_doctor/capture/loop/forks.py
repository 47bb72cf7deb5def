"""Tells a process from its parent: to ask for its number is a system call, a dozen in every step."""

from __future__ import annotations

import os


class Process:
    """This one.

    Attributes:
        forks: how many of its ancestors were forked since this module was imported; a fork raises it in the child.
    """

    forks = 0


def _in_child() -> None:
    Process.forks += 1


os.register_at_fork(after_in_child=_in_child)  # cannot be unregistered: it only counts
