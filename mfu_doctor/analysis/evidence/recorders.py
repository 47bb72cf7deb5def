"""How to record again with the recorder that made this trace: mfu-doctor run, mfu_doctor.profile() or torch.profiler."""

from __future__ import annotations

import shlex

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import Facts

_WAIT = 5  # steps that torch.profiler skips in what is proposed; mfu-doctor has its own


def record_again(run: Run, *, active: int, skip: int | None = None) -> str:
    """What to write to record so many steps, after so many that are skipped.

    Args:
        run: the run.
        active: steps to record.
        skip: steps to skip first; None: as many as usual.
    """
    if run.facts is None:
        return f"torch.profiler.schedule(wait={skip or _WAIT}, warmup=2, active={active}), and prof.step() after each iteration"
    return again_with(run.facts, active=active, skip=skip)


def again_with(facts: Facts, *, active: int | None = None, skip: int | None = None, at_step: int | None = None) -> str:
    """The same for a trace that mfu-doctor recorded.

    Args:
        facts: what the recorder wrote.
        active: steps to record; None: as many as usual.
        skip: steps to skip first; None: as many as usual.
        at_step: the first recorded step; None: as soon as the others have passed.
    """
    given = (("skip", skip), ("active", active), ("at_step", at_step))
    asked = [(name, count) for name, count in given if count is not None]
    if _is_profile(facts):
        return f"mfu_doctor.profile({', '.join(f'{name}={count}' for name, count in asked)})"
    return " ".join(
        [
            "mfu-doctor run",
            *(f"--{name.replace('_', '-')} {count}" for name, count in asked),
            _program(facts.site or "train.py"),
        ]
    )


def _program(site: str) -> str:
    """How a program is named on a command line: a file, or a module. Its own arguments are not recorded."""
    return shlex.quote(site) if site.endswith((".py", ".pyw")) or "/" in site else f"-m {shlex.quote(site)}"


def _is_profile(facts: Facts) -> bool:
    """Whether profile() stands in the program, at a line of it; mfu-doctor run knows the program only."""
    return ":" in (facts.site or "")
