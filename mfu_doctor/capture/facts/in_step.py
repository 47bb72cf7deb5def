"""Settings as they are while a step runs: a context manager around a part of the step has ended when the step has.

They are read when a backward pass begins, or where none is seen, when an optimizer steps, a model is called or an autocast region
begins. What most readings say is what holds: a setting that is changed for a few steps, or for evaluation, is not the loop's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from msgspec import Struct, field
from msgspec.structs import astuple, replace

from mfu_doctor.capture.facts.settings import autocast_now, precision
from mfu_doctor.facts import PrecisionFacts

Moment: TypeAlias = Literal["backward", "step", "autocast", "forward"]
_BEST_FIRST: tuple[Moment, ...] = ("backward", "step", "forward", "autocast")
_MOST = 16  # readings of each moment, 10 us each: enough for what most steps say


class StepSettings(Struct):
    """Readings so far, of each moment on its own: settings and number of threads."""

    _seen: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)

    def note(self, moment: Moment) -> None:
        """Read the settings now."""
        import torch

        readings = self._seen.setdefault(moment, [])
        if len(readings) < _MOST:
            readings.append((*astuple(precision(autocast_now())), torch.get_num_threads()))

    def precision(self, autocast_dtype: str | None) -> PrecisionFacts:
        """Precision settings of most readings, or where none was taken, those in force now.

        Args:
            autocast_dtype: dtype of the last autocast region that the run entered; None: that of one around all of it, if any.
        """
        usual = self._usual()
        if usual is None:
            return precision(autocast_dtype)
        facts = PrecisionFacts(**dict(zip(PrecisionFacts.__struct_fields__, usual, strict=False)))
        facts = replace(facts, dispatch_modes=self._dispatch_modes() or facts.dispatch_modes)
        return facts if autocast_dtype is None else replace(facts, autocast_dtype=autocast_dtype)

    @property
    def threads(self) -> int | None:
        """Intra-op threads of most readings; None if none was taken."""
        usual = self._usual()
        return None if usual is None else int(usual[-1])

    def _dispatch_modes(self) -> tuple[str, ...]:
        """A mode may be around the forward or around the backward pass alone."""
        at = PrecisionFacts.__struct_fields__.index("dispatch_modes")
        usual = [_most_common([reading[at] for reading in readings]) for readings in self._seen.values()]
        return max((modes for modes in usual if modes), key=len, default=())

    def _usual(self) -> tuple[Any, ...] | None:
        readings = next((self._seen[moment] for moment in _BEST_FIRST if moment in self._seen), None)
        if readings is None:
            return None
        return tuple(map(_most_common, zip(*readings, strict=True)))


def _most_common(column: Iterable[Any]) -> Any:
    return Counter(column).most_common(1)[0][0]
