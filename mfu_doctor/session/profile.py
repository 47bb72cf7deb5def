"""`profile()`: one line around a training loop, or above the function that it is in."""

from __future__ import annotations

import os
from typing import Any

from mfu_doctor.capture import destination
from mfu_doctor.capture.seen import Request
from mfu_doctor.errors import DoctorError
from mfu_doctor.facts import GivenNumbers, Schedule
from mfu_doctor.inputs.overrides import check_model_flops, check_peak_flops
from mfu_doctor.session.caller import caller
from mfu_doctor.session.recorder import Recorder

DEFAULT = Schedule(skip=5, timed=5, warmup=3, active=5)
"""Warm-up steps, timed steps, steps to start the profiler, recorded steps: enough for a median, but few."""


def profile(
    path: str | os.PathLike[str] = destination.DEFAULT,
    *,
    skip: int = DEFAULT.skip,
    timed: int = DEFAULT.timed,
    warmup: int = DEFAULT.warmup,
    active: int = DEFAULT.active,
    at_step: int | None = None,
    model_flops: float | None = None,
    peak_flops: float | None = None,
    print_report: bool = True,
    enabled: bool = True,
    nvml: Any = None,
    site: str | None = None,
) -> Recorder:
    """Record the training steps inside a `with` block and report why they do not use the hardware fully.

    It also decorates a function that trains (`@profile()`: each call is a block), and `start()` and `stop()` of what it returns
    are the ends of a block where a `with` statement has no place.

    A step ends at an optimizer step, else when a DataLoader loads the next batch. Calls of `Recorder.step()` take precedence.
    The steps go through the phases below. Then the file is written, and for the rest of the block only the steps are timed: the
    step time of the report is of the whole run. If the block has fewer steps, the phases are shorter. The training is not
    changed: no settings, seeds, synchronizations or exceptions are added. One block of a process records at a time. Another one
    inside it, or in a second thread, records nothing: its report is None, and its notes say why.

    Args:
        path: trace file to write; a directory gets a name in TensorBoard's layout; with several ranks, one directory.
        skip: warm-up steps of the loop.
        timed: steps timed without the profiler just before it starts; in a run that ends soon they give the step time and MFU.
        warmup: steps with the profiler that are discarded.
        active: recorded steps; one more is recorded with shapes and source lines.
        at_step: the first recorded step, counted from 0: the timed and warm-up steps lie before it, all others are skipped.
        model_flops: FLOP per step and process; replaces the counted FLOPs.
        peak_flops: dense peak of one device in FLOP/s; replaces the value from the device table.
        print_report: whether rank 0 prints the report to stderr when the block ends.
        enabled: False returns a recorder whose methods do nothing.
        nvml: a module to use instead of pynvml.
        site: place of the block as "file:line"; None: the caller.

    Returns:
        A context manager and decorator. `as` gives the recorder itself.

    Raises:
        DoctorError: a number is too small, or the parentheses are missing.
    """
    if callable(path):
        raise DoctorError("profile is called before it decorates", "write `@mfu_doctor.profile()`, with parentheses")
    counts = {"skip": skip, "timed": timed, "warmup": warmup, "active": active}
    for name, count in counts.items():
        least = 1 if name == "active" else 0
        if count < least:
            raise DoctorError(f"profile({name}={count}) is not valid", f"pass {least} or more steps")
    check_model_flops(model_flops, "model_flops")
    check_peak_flops(peak_flops, "peak_flops")
    if at_step is not None:
        counts |= {"skip": _before(at_step, timed + warmup), "at_step": at_step}
    request = Request(
        asked=Schedule(**counts),
        destination=destination.Destination.of(path),
        site=site or caller(),
        given=GivenNumbers(model_flops=model_flops, peak_flops=peak_flops),
        nvml=nvml,
    )
    return Recorder(request, print_report=print_report, enabled=enabled, yields=site is not None)


def _before(at_step: int, needed: int) -> int:
    """Steps to skip, so that this one is the first that is recorded."""
    if at_step < needed:
        raise DoctorError(
            f"profile(at_step={at_step}) is not valid: {needed} steps are timed or warm the profiler up before it",
            f"pass at_step={needed} or more, or smaller timed and warmup",
        )
    return at_step - needed
