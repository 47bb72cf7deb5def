"""The verb `try` as the command line reads it; nothing heavy is imported here."""

from __future__ import annotations

import sys

from mfu_doctor.cli import options as given
from mfu_doctor.cli import streams


def try_(
    program: given.TriedProgram = None,
    *,
    fix: given.TriedFix = None,
    minutes: given.Minutes = 10.0,
    list_: given.ListFixes = False,
    dry_run: given.DryRun = False,
    output: given.TrialOutput = None,
    format: given.TrialFormat = None,  # noqa: A002 - named like its option
    write_patch: given.WritePatch = None,
    board: given.Board = None,
) -> None:
    """Try the fixes of the plan on an unchanged program: predicted beside measured, and whether the losses stay.

    Write the options of mfu-doctor before the script. The script is not changed.
    """
    from mfu_doctor.cli.trying import TryOptions, listed, run_try
    from mfu_doctor.render.terminal.paint import abilities

    chosen = TryOptions(
        fixes=tuple(fix or ()),
        minutes=minutes,
        dry_run=dry_run,
        output=output,
        format=format,
        write_patch=write_patch,
        board=board,
    )
    shown = (listed(), None) if list_ else run_try(program or (), chosen, abilities(sys.stdout), streams.write_line)
    text, failed = shown
    if text:
        streams.write_result(text)
    if failed is not None:
        raise failed
