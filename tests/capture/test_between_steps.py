"""Taking over from a thread whose sessions never end: nobody waits for it longer than was said."""

from __future__ import annotations

from threading import RLock
from typing import Any

from mfu_doctor.capture.patience import Patience
from mfu_doctor.capture.profiler.handover import between_steps


class AlwaysOpen:
    """Opens the next session whenever one has ended."""

    attached_elsewhere = True

    def __init__(self) -> None:
        self.asked = 0

    def ask_to_stop(self, _: str, patience: Patience) -> bool:
        self.asked += 1
        return patience.came(lambda longest_s: longest_s < 0) or self.asked < 1000


def test_all_rounds_together_have_one_limit() -> None:
    runner: Any = AlwaysOpen()
    with between_steps(runner, RLock(), "taken over") as free:
        assert not free
    assert runner.asked == 1
