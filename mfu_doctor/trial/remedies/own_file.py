"""A fix of the user's own: a Python file that runs before the program starts and changes what it likes."""

from __future__ import annotations

import runpy
from pathlib import Path

from mfu_doctor.errors import DoctorError
from mfu_doctor.trial.remedies.effects import took_effect
from mfu_doctor.trial.remedies.remedy import Numerics, Remedy

SUFFIX = ".py"


def remedy_in(path: str) -> Remedy:
    """The remedy that runs this file.

    Raises:
        DoctorError: there is no such file.
    """
    if not Path(path).is_file():
        raise DoctorError(f"there is no file {path}", "pass a Python file that makes the change, or a name of --list")

    def apply(_: str | None) -> None:
        runpy.run_path(path)
        took_effect(path)

    return Remedy(
        name=path,
        answers=(),
        words=f"what {path} does before the program starts",
        line=f"# what {path} does",
        numerics=Numerics.CHANGES,
        why_not=lambda _: None,
        apply=apply,
    )
