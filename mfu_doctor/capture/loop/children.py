"""Processes that the program starts: where they do the work, the steps are in them, and not in the process that is recorded."""

from __future__ import annotations

import multiprocessing.process
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from mfu_doctor.capture.boundary import Notes
from mfu_doctor.capture.loop.patches import patch
from mfu_doctor.capture.loop.stack_sampler import shown_path

# Targets of helpers: the loader's workers, and processes of Python's own.
_HELPERS = ("torch.utils.data", "multiprocessing", "concurrent.futures")
_SPAWN = "torch.multiprocessing.spawn"  # its target is a wrapper, the user's function is the first argument
_MOST_NAMED = 3


class Children(Struct):
    """Notes which processes are started until stopped; only their names are kept.

    Args:
        base: directory that places are shown relative to.
        notes: where a failure is said.
    """

    base: Path | None
    notes: Notes
    _pid: int = field(default_factory=os.getpid)
    _before: os.times_result = field(default_factory=os.times)
    _functions: Counter[str] = field(default_factory=Counter)
    _scripts: Counter[str] = field(default_factory=Counter)
    _removals: list[Callable[[], None]] = field(default_factory=list)

    def watch(self) -> None:
        """Begin to note."""
        self._patch(multiprocessing.process.BaseProcess, "start", self._process)
        self._patch(subprocess.Popen, "__init__", self._command)

    def stop(self) -> None:
        """Note no more; safe to call twice."""
        while self._removals:
            self._removals.pop()()

    def who_trains(self) -> str | None:
        """A sentence on the processes that did the work of this block, if it was not this one; the caller saw no step here."""
        now, before = os.times(), self._before
        theirs = (now.children_user + now.children_system) - (before.children_user + before.children_system)
        own = (now.user + now.system) - (before.user + before.system)
        if theirs <= own or not (self._functions or self._scripts):
            return None
        named = [
            f"{count} process{'es' if count > 1 else ''} ran {name}"
            for started in (self._functions, self._scripts)
            for name, count in started.most_common(_MOST_NAMED)
        ]
        return (
            f"no training step was seen in this process (pid {self._pid}). Its child processes computed for {theirs:.1f} of "
            f"{theirs + own:.1f} s: {', '.join(named)}. To record one, {self._remedy()}"
        )

    def _remedy(self) -> str:
        if self._functions:
            name = self._functions.most_common(1)[0][0].partition(" (")[0]
            return f'put `with mfu_doctor.profile("child.json.gz"):` around the loop in {name}()'
        return f"start it as `python -m mfu_doctor run {self._scripts.most_common(1)[0][0]}`"

    def _patch(self, owner: Any, name: str, note: Callable[..., None]) -> None:
        def noting(original: Callable[..., Any]) -> Callable[..., Any]:
            def starting(process: Any, *args: Any, **kwargs: Any) -> Any:
                if os.getpid() == self._pid:
                    self.notes.guarded("a child process could not be noted", note, process, *args, **kwargs)
                return original(process, *args, **kwargs)

            return starting

        self._removals.append(patch(owner, name, noting))

    def _process(self, process: Any) -> None:
        target, args = getattr(process, "_target", None), getattr(process, "_args", ())
        if getattr(target, "__module__", None) == _SPAWN and args:
            target = args[0]
        if target is None:  # a subclass with its own run()
            target = vars(type(process)).get("run")
        code = getattr(target, "__code__", None)
        if code is None or str(getattr(target, "__module__", "")).startswith(_HELPERS):
            return
        self._functions[f"{code.co_name} ({shown_path(code.co_filename, self.base)}:{code.co_firstlineno})"] += 1

    def _command(self, _process: Any, args: Any = (), *_: Any, **__: Any) -> None:
        words = [str(word) for word in args] if isinstance(args, Sequence) and not isinstance(args, str | bytes) else []
        if not words or Path(words[0]).name not in (Path(sys.executable).name, "python", "python3"):
            return
        script = next((word for word in words[1:] if word.endswith(".py")), None)
        if script is not None:
            self._scripts[shown_path(script, self.base)] += 1
