"""Run an unchanged script or module inside `profile()`: what `mfu-doctor run` does.

It runs as without mfu-doctor: see `program`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from mfu_doctor.session.live import Live
from mfu_doctor.session.profile import profile
from mfu_doctor.session.program import Words, run_as_main
from mfu_doctor.session.recorder import Recorder


class RunOptions(Struct, frozen=True, kw_only=True):
    """Options of `mfu-doctor run`. They are passed on to `profile()`; None is its default.

    Attributes:
        output: file (or directory) for the trace; None: `mfu-doctor.pt.trace.json.gz` in the working directory.
        skip: warm-up steps of the loop.
        timed: steps timed without the profiler.
        warmup: steps with the profiler that are discarded.
        active: recorded steps.
        at_step: the first recorded step, from 0.
        model_flops: FLOP per step; replaces the counted FLOPs.
        peak_flops: dense peak of the device in FLOP/s; replaces the value from the device table.
        print_report: whether rank 0 prints the report to stderr.
        live: steps from one line of the log to the next; None: no lines.
        live_file: gets each line as JSON.
    """

    output: str | None = None
    skip: int | None = None
    timed: int | None = None
    warmup: int | None = None
    active: int | None = None
    at_step: int | None = None
    model_flops: float | None = None
    peak_flops: float | None = None
    print_report: bool = True
    live: int | None = None
    live_file: str | None = None


def run_script(
    target: str, args: Sequence[str] = (), *, module: bool = False, options: RunOptions | None = None
) -> int:
    """Run a script (or, with `module`, what `python -m` would run) as `__main__` inside `profile()`.

    Args:
        target: path of the script, or name of the module.
        args: the script's own arguments.
        module: whether `target` is a module name.
        options: where to write and what to record.

    Returns:
        The exit status that the script has without mfu-doctor: 0, the code of `sys.exit`, 1 after an uncaught exception
        (whose traceback went to stderr as usual), 130 after Ctrl-C.

    Raises:
        DoctorError: the script or module does not exist, or cannot be run; torch is not installed.
    """
    return run_as_main(Words(target, tuple(args), module), profiled(target, options or RunOptions()))


def profiled(target: str, options: RunOptions) -> Callable[[], Recorder]:
    """What makes the recorder around a program."""
    return lambda: _profiled(target, options)


def _profiled(target: str, options: RunOptions) -> Recorder:
    given = {name: getattr(options, name) for name in ("skip", "timed", "warmup", "active", "at_step")}
    chosen = {name: value for name, value in given.items() if value is not None}
    if options.output is not None:
        chosen["path"] = options.output
    recorder = profile(
        **chosen,
        model_flops=options.model_flops,
        peak_flops=options.peak_flops,
        print_report=options.print_report,
        site=target,
    )
    if options.live is not None:
        recorder.live = Live(options.live, None if options.live_file is None else Path(options.live_file))
    return recorder
