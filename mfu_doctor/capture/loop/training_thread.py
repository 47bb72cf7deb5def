"""The thread that trains: that of the block, unless another one does the training."""

from __future__ import annotations

import threading

from msgspec import Struct, field


class TrainingThread(Struct):
    """Which thread is watched.

    Attributes:
        home: the thread of the block.
        current: the thread that trains.
    """

    home: int = field(default_factory=threading.get_ident)
    current: int = 0

    def __post_init__(self) -> None:
        self.current = self.home

    @property
    def here(self) -> bool:
        """Whether this is the thread that trains."""
        return threading.get_ident() == self.current

    @property
    def at_home(self) -> bool:
        """Whether this is the thread of the block."""
        return threading.get_ident() == self.home

    def may_move(self, *, trained: bool) -> bool:
        """Whether the training may be followed to another thread.

        A thread that has trained is left only when it has ended. A block that was entered in a thread of its own is about
        that thread.

        Args:
            trained: whether the current thread has trained.
        """
        if self.home != threading.main_thread().ident:
            return False
        return not trained or all(alive.ident != self.current for alive in threading.enumerate())

    def move_here(self) -> None:
        """The calling thread trains from now on."""
        self.current = threading.get_ident()
