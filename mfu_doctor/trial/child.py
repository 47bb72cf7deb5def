"""The process in which the program of a trial runs: it applies the remedies, measures the steps, answers, and waits to be ended.

It never outlives the process that started it: that one holds a pipe open, and when the pipe closes, all ends here.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from mfu_doctor.capture.facts.settings import place_in_job
from mfu_doctor.files import write_file
from mfu_doctor.json_text import json_bytes
from mfu_doctor.session.floor import take_the_floor
from mfu_doctor.session.program import Words, run_as_main
from mfu_doctor.session.recorder import Recorder
from mfu_doctor.session.run_script import RunOptions, profiled
from mfu_doctor.trial.observed import ObservedRun
from mfu_doctor.trial.orders import ALIVE, RESULT, STEPS, TRACE, Measured, Orders, read_orders
from mfu_doctor.trial.remedies.catalogue import remedy_named
from mfu_doctor.trial.remedies.effects import effects

_FEWEST_OF_SLOW = 4  # steps of a run that is much slower than the unchanged program
COUNT_BYTES = 8  # the number of steps so far, in the machine's byte order


def run_child(orders: str, words: Words) -> int:
    """Do what the orders say with this program; returns its exit status.

    Args:
        orders: their file.
        words: the program.

    Raises:
        DoctorError: the program does not exist, or a remedy.
    """
    told = read_orders(orders)
    threading.Thread(target=_end_with_parent, args=(Path(told.folder) / ALIVE,), daemon=True).start()
    if told.records:
        return run_as_main(words, lambda: _recorded(told, words.target))
    return run_as_main(words, lambda: _treated(told))


class _Floor(Struct):
    """Keeps a `profile()` of the program's own from recording: its profiler would be measured."""

    site: str = "mfu-doctor try"
    yields: bool = False
    is_open_here: bool = True

    def give_way(self) -> bool:
        """It never does."""
        return False


def _recorded(orders: Orders, target: str) -> Recorder:
    """The recorder of `mfu-doctor run`, which a `profile()` of the program's own does not replace."""
    recorder = profiled(target, RunOptions(output=str(Path(orders.folder) / TRACE), print_report=False))()
    recorder.yields = False
    return recorder


def _end_with_parent(pipe: Path) -> None:
    """Wait until nobody holds the pipe open, then end this process and its group (the loader's workers) at once.

    The parent holds it open before this process begins. To open it waits for nobody, and if the parent is gone, to read does not.
    """
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    os.read(descriptor, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


@contextmanager
def _treated(orders: Orders) -> Iterator[None]:
    """The program's surroundings: with the remedies, and measured by the first process of its job."""
    take_the_floor(_Floor())
    for name in orders.remedies:
        remedy_named(name).apply()
    if place_in_job().rank:
        yield
        return
    run = ObservedRun()
    enough = _Enough(orders, run)
    with run.observed(enough.stepped):
        yield
    enough.answer()


class _Enough:
    """Tells the parent of each step, and answers when enough were seen.

    Args:
        orders: how many are wanted.
        run: what is seen.
    """

    def __init__(self, orders: Orders, run: ObservedRun) -> None:
        self._orders, self._run, self._began = orders, run, time.perf_counter()
        self._first_s, self._since = 0.0, self._began
        with (Path(orders.folder) / STEPS).open("r+b") as counter:
            self._counter = mmap.mmap(counter.fileno(), COUNT_BYTES)

    def stepped(self, count: int) -> None:
        """So many steps have ended."""
        self._counter[:] = count.to_bytes(COUNT_BYTES, sys.byteorder)
        now = time.perf_counter()
        if count == 1:
            self._first_s = now - self._began
        if count <= self._orders.skipped:
            self._since = now
        known = self._orders.source
        if self._are_enough(count, now - self._since) and known in (None, self._run.source):
            self.answer()
            _wait_for_the_end()

    def _are_enough(self, count: int, took_s: float) -> bool:
        orders = self._orders
        is_slow = orders.longest_s is not None and took_s > orders.longest_s
        return count >= orders.steps or (is_slow and count >= orders.skipped + _FEWEST_OF_SLOW)

    def answer(self) -> None:
        """Write what was measured."""
        steps, losses = self._run.losses()
        measured = Measured(
            steps_s=self._run.steps_s(),
            first_s=self._first_s,
            losses=losses,
            loss_steps=steps,
            effects=tuple(sorted(effects())),
            notes=tuple(self._run.notes),
        )
        write_file(Path(self._orders.folder) / RESULT, json_bytes(measured))


def _wait_for_the_end() -> None:
    """All is measured: do nothing more, and let nothing that the program has set keep the process from being ended."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        time.sleep(1)
