"""Spans of the program that are open when a recording ends: each ends in it, and begins anew after it.

A span (`record_function`) points to its event in the memory of the recording that it began in. If it ends while another recording
runs on its thread, it writes to that memory, which is freed: the process dies of a corrupted heap (torch 2.13). A span may be
long: that of an epoch of a few steps, or of a loop in which the program starts a profiler of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mfu_doctor.capture.loop.patches import patch
from mfu_doctor.capture.profiler.mode_isolation import without_user_modes


class OpenSpans:
    """Notes the spans that this thread opens from now on."""

    def __init__(self) -> None:
        from torch.autograd.profiler import record_function

        self._thread = threading.get_ident()
        self._open: dict[int, Any] = {}
        self._enter, self._exit = record_function.__enter__, record_function.__exit__
        self._removals = [
            patch(record_function, "__enter__", self._entering),
            patch(record_function, "__exit__", self._exiting),
        ]

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """End the open spans now and begin them anew afterwards: the recording ends inside. No more are noted."""
        self.remove()
        spans, self._open = list(self._open.values()), {}
        spans = [span for span in spans if span.run_callbacks_on_exit]  # else a future ends it
        for span in reversed(spans):
            self._hidden(self._exit, span, None, None, None)
        try:
            yield
        finally:
            for span in spans:
                self._hidden(self._enter, span)

    def remove(self) -> None:
        """Note no more; safe to call twice."""
        while self._removals:
            self._removals.pop()()

    @staticmethod
    def _hidden(call: Callable[..., Any], *args: Any) -> None:
        with without_user_modes():
            call(*args)

    def _entering(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __enter__(span: Any) -> Any:  # noqa: N807 - it stands in for one
            entered = original(span)
            if self._removals and threading.get_ident() == self._thread:
                self._open[id(span)] = span
            return entered

        return __enter__

    def _exiting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __exit__(span: Any, *error: Any) -> Any:  # noqa: N807 - it stands in for one
            self._open.pop(id(span), None)
            return original(span, *error)

        return __exit__
