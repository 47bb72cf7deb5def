"""The verb `run` as the command line reads it; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mfu_doctor.cli import options as given


class Begin(BaseException):
    """Carries a user's program out of the frames of the command line, so that `main` begins it near the bottom of the stack.

    Whatever formats the stack in a program (anomaly detection once per operator) would take our frames along: ten of typer's
    made its steps twice as long as without mfu-doctor.
    """

    def __init__(self, program: Callable[[], int]) -> None:
        super().__init__()
        self.program = program


def run(
    program: given.Program,
    *,
    output: given.RunOutput = None,
    skip: given.Skip = None,
    timed: given.Timed = None,
    warmup: given.Warmup = None,
    active: given.Active = None,
    at_step: given.AtStep = None,
    live: given.LiveLines = None,
    live_file: given.LiveFile = None,
    model_flops: given.ModelFlops = None,
    peak_flops: given.PeakFlops = None,
    quiet: given.Quiet = False,
) -> None:
    """Run an unchanged training script, record a few steps, and report on them.

    Write the options of mfu-doctor before the script. The exit code is that of the script.
    """
    from mfu_doctor.cli.run import run_program
    from mfu_doctor.inputs.overrides import Overrides

    stated = Overrides(peak_flops=peak_flops, model_flops=model_flops)  # a wrong value fails before the program starts
    raise Begin(
        partial(
            run_program,
            program,
            output=output,
            schedule={"skip": skip, "timed": timed, "warmup": warmup, "active": active, "at_step": at_step},
            flops=(stated.model_flops, stated.peak_flops),
            live=(live, live_file),
            print_report=not quiet,
        )
    )
