"""Run an unchanged script or module as `__main__`, as Python itself does.

The script has its own `sys.argv`, `sys.path[0]`, `__main__` module, output, traceback and exit status.
Afterwards the module remains in `sys.modules["__main__"]`, so that exit handlers and late pickling still find it.
"""

from __future__ import annotations

import builtins
import importlib.util
import sys
import types
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from pathlib import Path

from msgspec import Struct

from mfu_doctor.capture.destination import working_directory
from mfu_doctor.errors import DoctorError

_INTERRUPTED = 130  # exit status that a shell reports for a process ended by SIGINT (128 + 2)
_FAILED = 1  # Python's exit status after an uncaught exception


class Words(Struct, frozen=True):
    """What the user wrote after the options.

    Attributes:
        target: path of the script, or name of the module.
        args: the script's own arguments.
        module: whether `target` is a module name.
    """

    target: str
    args: tuple[str, ...] = ()
    module: bool = False


def run_as_main(words: Words, around: Callable[[], AbstractContextManager[object]]) -> int:
    """Run a script (or what `python -m` would run) as `__main__` inside a context.

    Args:
        words: the program and its arguments.
        around: makes the context.

    Returns:
        The exit status that the script has alone: 0, the code of `sys.exit`, 1 after an uncaught exception (whose traceback went
        to stderr as usual), 130 after Ctrl-C.

    Raises:
        DoctorError: the script or module does not exist, or cannot be run; torch is not installed.
    """
    program = _find_module(words.target) if words.module else _find_script(words.target)
    if importlib.util.find_spec("torch") is None:
        raise DoctorError(
            f"torch is not installed for {sys.executable}, so there is nothing to record",
            f"run it with the Python that trains: PYTHON -m mfu_doctor run {words.target}",
        )
    sys.argv[:] = [program.argv0, *words.args]
    if not sys.flags.safe_path:
        sys.path[0] = program.path0
    sys.modules["__main__"] = program.main
    block, outcome = around(), _Outcome()  # a wrong option is no error of the program
    with outcome:
        code = program.load()  # a syntax error is the program's own
        with block:
            exec(code, program.main.__dict__)  # noqa: S102 - running the user's program is the purpose
    return outcome.status


class _Program(Struct, frozen=True):
    argv0: str
    path0: str  # what Python puts first on sys.path
    load: Callable[[], types.CodeType]
    main: types.ModuleType


class _Outcome(Struct):
    """How the program ended, shown and numbered as by Python. No exception leaves it, because the status is the result."""

    status: int = 0

    def __enter__(self) -> None:
        """Start watching."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> bool:
        """Turn whatever ended the program into an exit status."""
        if isinstance(error, SystemExit):
            self.status = _status_of(error)
        elif kind is not None and error is not None:
            own = _own_frames(trace)
            sys.excepthook(kind, error.with_traceback(own), own)
            self.status = _INTERRUPTED if isinstance(error, KeyboardInterrupt) else _FAILED
        return True


def _status_of(request: SystemExit) -> int:
    if request.code is None or isinstance(request.code, int):
        return request.code or 0
    if sys.stderr is not None:
        sys.stderr.write(f"{request.code}\n")  # sys.exit("message")
    return _FAILED


def _own_frames(trace: types.TracebackType | None) -> types.TracebackType | None:
    """The traceback without our frames above the program's first one."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__") != "__main__":
        trace = trace.tb_next
    return trace


def _find_script(target: str) -> _Program:
    path = (
        Path(_here()) / target
    )  # as Python does, so that the file is still found when the program has changed its directory
    if path.is_dir():
        path = path / "__main__.py"
    try:
        source = path.read_bytes()
    except OSError as error:
        raise DoctorError(f"cannot read {target} ({error.strerror})", "pass the path of a Python script") from error
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=str(path), __cached__=None, __spec__=None, __builtins__=builtins)
    return _Program(target, str(path.resolve().parent), lambda: compile(source, str(path), "exec"), main)


def _find_module(target: str) -> _Program:
    if not sys.flags.safe_path:
        sys.path[0] = _here()
    spec = _spec(target)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _spec(f"{target}.__main__")
    loader = spec.loader if spec is not None else None
    if spec is None or not isinstance(loader, InspectLoader):
        raise DoctorError(f"no module named {target} can be run", "pass a module name, as for python -m")
    name = spec.name

    def load() -> types.CodeType:
        code = loader.get_code(name)
        if not isinstance(code, types.CodeType):
            raise ImportError(f"No code object available for {name}")
        return code

    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=spec.origin, __cached__=spec.cached, __spec__=spec, __loader__=loader)
    main.__dict__.update(__package__=spec.parent, __builtins__=builtins)
    return _Program(spec.origin or target, _here(), load, main)


def _here() -> str:
    """The working directory; if that was deleted, Python's word for it."""
    return str(working_directory() or "")


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
