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
from types import FrameType
from typing import TYPE_CHECKING

from msgspec import Struct

from mfu_doctor import quantities
from mfu_doctor.errors import DoctorError
from mfu_doctor.files import write_file
from mfu_doctor.inputs.protect import protect
from mfu_doctor.render import format_for, render
from mfu_doctor.render.board import board_markdown
from mfu_doctor.render.words.text import pad, wrap
from mfu_doctor.trial.bench import Failure
from mfu_doctor.trial.command import Program
from mfu_doctor.trial.estimate import FEWEST_PAIRS, MOST_PAIRS
from mfu_doctor.trial.orders import VARIABLE
from mfu_doctor.trial.record import append, entries_of, read, record_file
from mfu_doctor.trial.remedies.beyond import BEYOND
from mfu_doctor.trial.remedies.catalogue import REMEDIES, remedy_named
from mfu_doctor.trial.remedies.own_file import SUFFIX
from mfu_doctor.trial.trying import ALL, Asked, try_out

if TYPE_CHECKING:
    from mfu_doctor.render.terminal.paint import Abilities
    from mfu_doctor.result.report import Report
    from mfu_doctor.result.trial import Trial

_WHOLE = ("json", "html")  # formats of the whole report; the others show what was tried
_NAME = 24  # columns


class TryOptions(Struct, frozen=True, kw_only=True):
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
    program = Program.of(words)
    read_from = [str(program.script)] if program.script is not None else []
    read_from += [name for name in options.fixes if name.endswith(SUFFIX)]
    for path in (options.output, options.write_patch, options.board):
        if path is not None:
            protect(path, read_from)
    for name in options.fixes:
        if name != ALL:
            remedy_named(name)
    tell = _wrapping(tell, screen.width)
    tell(_told_first(program, options))
    if options.dry_run:
        tell("--dry-run: nothing was run.")
        return ""
    with ended_as_by_a_person():
        report = try_out(Asked(program, options.minutes, options.fixes), tell, _Progress(tell).ran)
    _remember(report, tell)
    if options.board is not None:
        write_file(options.board, board_markdown(read(record_file())))
    if options.write_patch is not None:
        tell(_with_patch(report.trial, options.write_patch))
    return _written(report, chosen, options, screen)


def _with_patch(trial: Trial | None, path: str) -> str:
    """Write the patch; returns what became of it."""
    if trial is None or trial.patch is None:
        return f"{path} is not written: no fix helped whose lines can be changed with certainty"
    write_file(path, trial.patch)
    return f"{path} has the lines to change: git apply or patch -p1 applies it"


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
    rows = wrap("Each fix, what it changes, and the findings that it answers; --fix NAME tries it on any program.", 80)
    rows.append("")
    for remedy in REMEDIES:
        answers = ", ".join(remedy.answers) or "no finding"
        told = f"{remedy.words.replace('{setting}', 'X')} ({answers})"
        name = remedy.name + ("=X" if remedy.settings is not None else "")
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


def _wrapping(tell: Callable[[str], None], width: int) -> Callable[[str], None]:
    """Tells a sentence in lines of this width."""

    def told(text: str) -> None:
        for row in wrap(text, width):
            tell(row)

    return told


def _told_first(program: Program, options: TryOptions) -> str:
    """What will run, how often and for how long, and what that does besides."""
    if not options.fixes:
        fixes = "with and without each fix of its plan"
    elif ALL in options.fixes:
        fixes = "with and without each fix that applies"
    else:
        fixes = f"with and without {', '.join(options.fixes)}"
    return (
        f"{program} runs once to be recorded, then in turns {fixes}: {FEWEST_PAIRS} to {MOST_PAIRS} times each, until the "
        f"difference is settled, for {quantities.counted(options.minutes, 'minute')} at most in all. A run is ended when "
        f"its steps are measured. What the program writes, such as checkpoints and logs, it writes each time; "
        f"{VARIABLE}=1 in its environment tells it that it is tried. Its files are not changed."
    )


def _written(report: Report, chosen: str, options: TryOptions, screen: Abilities) -> str:
    trial = report.trial
    shown = report if chosen in _WHOLE or trial is None else trial
    on_screen = {"screen": screen} if chosen == "terminal" else {}
    if options.output is None:
        return render(shown, chosen, **on_screen)
    write_file(options.output, render(shown, chosen))
    return render(trial, "terminal", screen=screen) if trial is not None else ""


@contextmanager
def ended_as_by_a_person() -> Iterator[None]:
    """A request to end does what Ctrl-C does: the children end, and what is known is shown."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    taken = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]  # nohup ignores one
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
