"""What torchrun would start: its own options, and the program of each rank."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr

from mfu_doctor.errors import DoctorError

_MODULE = ("-m", "--module")


def split_launch(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of torchrun without `-m`, and the words of the program: a script or "-m" and a module, and its arguments.

    Args:
        args: what stands after `torchrun`.

    Raises:
        DoctorError: torchrun does not take these words, or starts no Python program with them; torch is not installed.
    """
    try:
        from torch.distributed.run import get_args_parser
    except ImportError:
        what = f"torch is not installed for {sys.executable}, so torchrun starts nothing"
        raise DoctorError(what, "install torch there") from None
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            parsed = get_args_parser().parse_args(list(args))
    except SystemExit:
        last = said.getvalue().strip().rpartition("\n")[2]
        raise DoctorError(f"torchrun does not take these words ({last})", "see torchrun --help") from None
    if parsed.no_python:
        raise DoctorError("torchrun --no-python starts no Python program", "name the Python script")
    program = [parsed.training_script, *parsed.training_script_args]
    options = [word for word in args[: len(args) - len(program)] if word not in _MODULE]
    return options, (["-m"] if parsed.module else []) + program
