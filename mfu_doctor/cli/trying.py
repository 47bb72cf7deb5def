"""`mfu-doctor try [options] SCRIPT|-m MODULE|torchrun ... [ARGS]...`: the fixes of the plan, tried on the program itself.

Options of the verb:

    --fix NAME                  try this fix, or that of a Python file (mine.py); repeatable; "all" is every fix that applies;
                                without it, those of the plan
    --minutes M                 time for all runs together (10)
    --list                      list the fixes that can be tried
    --dry-run                   say what would run, and run nothing
    -o, --output FILE           write the report of the recording with all that was tried (.json, .html), or the table (.txt, .md)
    --format FORMAT             terminal (default), markdown, json, html
    --write-patch FILE          write the changes of the answer as a patch
    --board FILE                write all that was ever tried on this machine as a table (markdown)

Exit codes: 0 if the fixes were tried, whatever the result is; 2 if an option is invalid or the program cannot be measured.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from mfu_doctor import quantities
from mfu_doctor.errors import DoctorError
from mfu_doctor.files import write_file
from mfu_doctor.inputs.protect import protect
from mfu_doctor.render import format_for, render
from mfu_doctor.render.board import board_markdown
from mfu_doctor.render.words.text import pad, wrap
from mfu_doctor.trial.bench import Failure
from mfu_doctor.trial.command import Program
from mfu_doctor.trial.orders import VARIABLE
from mfu_doctor.trial.record import append, entries_of, read, record_file
from mfu_doctor.trial.remedies.beyond import BEYOND
from mfu_doctor.trial.remedies.catalogue import REMEDIES, remedy_named
from mfu_doctor.trial.trying import ALL, Asked, try_out

if TYPE_CHECKING:
    from mfu_doctor.render.terminal.paint import Abilities
    from mfu_doctor.result.report import Report

_WHOLE = ("json", "html")  # formats of the whole report; the others show what was tried
_NAME = 24  # columns


@dataclass(frozen=True, slots=True, kw_only=True)
class TryOptions:
    """Options of `try`; see the module's docstring."""

    fixes: tuple[str, ...] = ()
    minutes: float = 10.0
    dry_run: bool = False
    output: str | None = None
    format: str | None = None
    write_patch: str | None = None
    board: str | None = None


def run_try(words: Sequence[str], options: TryOptions, screen: Abilities, tell: Callable[[str], None]) -> str:
    """Try the fixes; returns the text for standard output (empty if it went to a file).

    Args:
        words: the program and its arguments.
        options: what the user asked for.
        screen: what the stream that shows the text can do.
        tell: is told what runs, a line each.

    Raises:
        DoctorError: a wrong option, or a program that cannot be measured (exit code 2).
    """
    if os.name != "posix":
        raise DoctorError("mfu-doctor try needs Linux or macOS", "mfu-doctor run works here")
    chosen = format_for("trial", options.format, options.output)
    for path in (options.output, options.write_patch, options.board):
        if path is not None:
            protect(path, [words[0]] if words else [])
    program = Program.of(words)
    for name in options.fixes:
        if name != ALL:
            remedy_named(name)
    tell(_told_first(program, options))
    if options.dry_run:
        return ""
    with _ended_as_by_a_person():
        report = try_out(Asked(program, options.minutes, options.fixes), tell, _Progress(tell).ran)
    _remember(report, tell)
    if options.board is not None:
        write_file(options.board, board_markdown(read(record_file())))
    return _written(report, chosen, options, screen)


def _remember(report: Report, tell: Callable[[str], None]) -> None:
    """Add what was measured to the record of this machine; without a place for it, that is said."""
    entries, path = entries_of(report), record_file()
    if not entries or path is None:
        return
    try:
        append(path, entries)
    except OSError as error:
        tell(f"the record {path} could not be written ({error.strerror}): selfcheck will not know of this trial")


def listed() -> str:
    """Every fix that can be tried: its name, what it changes, and the rules that it answers; then the rules without one."""
    rows = []
    for remedy in REMEDIES:
        answers = ", ".join(remedy.answers) or "tried only by its name"
        told = f"{remedy.words.replace('{setting}', 'X')} ({answers})"
        name = remedy.name + ("=X" if "{setting}" in remedy.words + remedy.line else "")
        rows += [pad(name if not i else "", _NAME) + row for i, row in enumerate(wrap(told, 80 - _NAME))]
    rows += ["", "Fixes of these rules cannot be tried from outside:"]
    for reason in dict.fromkeys(BEYOND.values()):
        rules = ", ".join(rule for rule, why in BEYOND.items() if why == reason)
        rows += wrap(f"{rules}: {reason}", 80)
    return "".join(f"{row}\n" for row in rows)


class _Progress:
    """A line for each run."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._runs = tell, 0

    def ran(self, name: str, result: float | Failure) -> None:
        """One run is over."""
        self._runs += 1
        told = str(result) if isinstance(result, Failure) else f"{quantities.duration(result)} a step"
        self._tell(f"run {self._runs}: {name}, {told}")


def _told_first(program: Program, options: TryOptions) -> str:
    """What will run, how often and for how long, and what that does besides."""
    fixes = "the fixes of its plan" if not options.fixes else ", ".join(options.fixes)
    time = quantities.counted(options.minutes, "minute")
    return (
        f"{program} is run many times, in {time} at most: once to record it, then in turns "
        f"with and without {fixes}. Each run is ended when its steps are measured. What the program writes, such as "
        f"checkpoints and logs, it writes each time; {VARIABLE}=1 tells it that it is tried. Its files are not changed."
    )


def _written(report: Report, chosen: str, options: TryOptions, screen: Abilities) -> str:
    trial = report.trial
    if options.write_patch is not None and trial is not None and trial.patch is not None:
        write_file(options.write_patch, trial.patch)
    shown = report if chosen in _WHOLE or trial is None else trial
    on_screen = {"screen": screen} if chosen == "terminal" else {}
    if options.output is None:
        return render(shown, chosen, **on_screen)
    write_file(options.output, render(shown, chosen))
    return render(trial, "terminal", screen=screen) if trial is not None else ""


@contextmanager
def _ended_as_by_a_person() -> Iterator[None]:
    """A request to end does what Ctrl-C does: the children end, and what is known is shown."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
