"""`mfu-doctor run [options] SCRIPT|-m MODULE [ARGS]...`: run an unchanged program inside `profile()`.

All words after the script are passed to the script unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mfu_doctor.errors import DoctorError

if TYPE_CHECKING:
    from mfu_doctor.session.program import Words


def run_program(
    program: Sequence[str],
    *,
    output: str | None = None,
    schedule: Mapping[str, int | None] | None = None,
    flops: tuple[float | None, float | None] = (None, None),
    live: tuple[int | None, str | None] = (None, None),
    print_report: bool = True,
) -> int:
    """Run a script or module and return the exit status that it has without mfu-doctor.

    Args:
        program: the script and its arguments, or "-m", a module and its arguments.
        output: where to write the trace.
        schedule: steps to skip, time, warm up and record, by name; None keeps the default.
        flops: FLOP per step and peak FLOP/s from the user; None if not given.
        live: steps from one line of the log to the next, and a file that gets them too; None: none.
        print_report: whether the report is printed.

    Raises:
        DoctorError: the script or module does not exist, or an unknown option stands before it.
    """
    words = words_of(program)
    from mfu_doctor.session.program import run_as_main
    from mfu_doctor.session.run_script import RunOptions, profiled

    steps = dict(schedule or {})
    options = RunOptions(
        output=output,
        skip=steps.get("skip"),
        timed=steps.get("timed"),
        warmup=steps.get("warmup"),
        active=steps.get("active"),
        at_step=steps.get("at_step"),
        model_flops=flops[0],
        peak_flops=flops[1],
        print_report=print_report,
        live=1 if live[0] is None and live[1] is not None else live[0],
        live_file=live[1],
    )
    return run_as_main(words, profiled(words.target, options))  # one frame of ours less than `run_script`


def words_of(program: Sequence[str]) -> Words:
    """The program that these words name.

    Raises:
        DoctorError: they name none.
    """
    from mfu_doctor.session.program import Words

    module = program[0] == "-m"
    words = program[1:] if module else program
    if not words:
        raise DoctorError("-m needs the name of a module", "pass a module name, as for python -m")
    if words[0].startswith("-"):
        raise DoctorError(
            f"unknown option {words[0]}", "write the options of mfu-doctor run before the script; see --help"
        )
    return Words(words[0], tuple(words[1:]), module)
