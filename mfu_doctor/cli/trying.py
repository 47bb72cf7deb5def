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

Exit codes: 0 if the fixes were tried, whatever the result is; 2 if an option is invalid, the program cannot be measured, or a
file cannot be written (the table is shown all the same).
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
from mfu_doctor.files import is_stream, possible, refuse_unwritable, write_file
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


def run_try(
    words: Sequence[str], options: TryOptions, screen: Abilities, tell: Callable[[str], None]
) -> tuple[str, DoctorError | None]:
    """Try the fixes.

    Args:
        words: the program and its arguments.
        options: what the user asked for.
        screen: what the stream that shows the text can do.
        tell: is told what runs, a line each.

    Returns:
        The text for standard output, and what could not be written: minutes of runs are not lost for a file.

    Raises:
        DoctorError: a wrong option, or a program that cannot be measured (exit code 2).
    """
    if os.name != "posix":
        raise DoctorError("mfu-doctor try needs Linux or macOS", "mfu-doctor run works here")
    chosen = format_for("trial", options.format, options.output)
    program = Program.of(words)
    read_from = [str(program.script)] if program.script is not None else []
    read_from += [name for name in options.fixes if name.endswith(SUFFIX)]
    _check_outputs(
        [path for path in (options.output, options.write_patch, options.board) if path is not None], read_from
    )
    for name in options.fixes:
        if name != ALL:
            remedy_named(name)
    tell = _wrapping(tell, screen.width)
    tell(_told_first(program, options))
    if options.dry_run:
        tell("--dry-run: nothing was run.")
        return "", None
    with ended_as_by_a_person():
        report = try_out(Asked(program, options.minutes, options.fixes), tell, _Progress(tell).ran)
    _remember(report, tell)
    text = _on_screen(report, chosen, options, screen)
    return text, _saved(report, chosen, options, tell)


def _check_outputs(paths: Sequence[str], read_from: Sequence[str]) -> None:
    """Refuse what cannot be written before anything runs.

    Raises:
        DoctorError: an output is an input, or another output, or has no folder.
    """
    for i, path in enumerate(paths):
        protect(path, read_from)
        refuse_unwritable(path)
        if not is_stream(possible(path)) and os.path.realpath(path) in map(os.path.realpath, paths[:i]):
            raise DoctorError(f"{path} is named for two outputs", "pass a file for each")


def _saved(report: Report, chosen: str, options: TryOptions, tell: Callable[[str], None]) -> DoctorError | None:
    """Write each file that was asked for, also after one that cannot be written; returns the first error."""
    failed: DoctorError | None = None
    for path, content in _files(report, chosen, options):
        try:
            write_file(path, content)
        except DoctorError as error:
            failed = failed or error
            continue
        if path == options.write_patch:
            tell(f"{path} has the lines to change: git apply or patch -p1 applies it")
    if options.write_patch is not None and _patch(report) is None:
        tell(f"{options.write_patch} is not written: no fix helped whose lines can be changed with certainty")
    return failed


def _files(report: Report, chosen: str, options: TryOptions) -> Iterator[tuple[str, str]]:
    """Each file with its content."""
    if options.output is not None:
        yield options.output, render(_shown(report, chosen), chosen)
    if options.board is not None:
        yield options.board, board_markdown(read(record_file()))
    patch = _patch(report)
    if options.write_patch is not None and patch is not None:
        yield options.write_patch, patch


def _patch(report: Report) -> str | None:
    return report.trial.patch if report.trial is not None else None


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
    told = "Each fix, what it changes, and the findings that it answers; --fix NAME tries it without a finding, where it applies."
    rows = wrap(told, 80)
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


def _shown(report: Report, chosen: str) -> Report | Trial:
    """What a format shows."""
    return report if chosen in _WHOLE or report.trial is None else report.trial


def _on_screen(report: Report, chosen: str, options: TryOptions, screen: Abilities) -> str:
    """The text for standard output: the table, if the chosen format goes to a file."""
    if options.output is not None:
        return render(report.trial, "terminal", screen=screen) if report.trial is not None else ""
    return render(_shown(report, chosen), chosen, **({"screen": screen} if chosen == "terminal" else {}))


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
