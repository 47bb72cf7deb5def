"""The peaks of the device of a run: values with their source, or why there are none.

Published MFU values are often wrong because of their denominator. So it is kept together with its source, its confidence and
every correction.
"""

from __future__ import annotations

from msgspec import Struct, field

# dtypes that training commonly uses; the fastest of them is the denominator of MFU. An fp8 kernel is measured against fp8, but a
# bf16 run is not measured against fp8.
TRAINING_DTYPES = ("bf16", "fp16", "tf32", "fp32")
SIXTEEN_BITS = ("bf16", "fp16")
_OF_MATRIX_UNITS = ("tf32", "fp16", "bf16", "fp8", "fp4")  # wider ones may run in both kinds of unit
GIVEN = "given by the user"  # the source of a peak that the user states: of the dtype in use, whatever that is


class Peaks(Struct, frozen=True, kw_only=True):
    """Dense peaks of one device in FLOP/s by dtype; empty `dense` means unknown, and `reason` says why."""

    name: str | None = None
    kind: str = "gpu"  # gpu or cpu
    dense: dict[str, float] = field(default_factory=dict)
    bandwidth: float | None = None  # bytes/s
    sms: int | None = None
    matrix: str | None = None  # "tensor-core" or "matrix-core", if it has such units
    boost_hz: float | None = None  # the clock at which `dense` holds
    source: str | None = None
    sources: dict[str, str] = field(default_factory=dict)  # by dtype, if each has its own
    confidence: str | None = None  # given, vendor, scaled, derived, measured, unverified
    reason: str | None = None  # why there are no peaks, with the flag that gives one
    measured: bool = False  # measured on this machine: MFU is then MFU* and never mixed with datasheet MFU
    given: float | None = None  # the user's own figure, FLOP/s; it stands in `dense` too
    emulated: frozenset[str] = frozenset()  # dtypes known to be far slower here than fp32: they have no peak
    warnings: tuple[str, ...] = ()

    def of(self, dtype: str | None) -> float | None:
        """Dense FLOP/s for a dtype ("bf16"), or None if the device has none or nothing is known."""
        return self.dense.get(dtype) if dtype else None

    def matrix_unit(self, dtype: str | None) -> str | None:
        """The units that reach the peak of this dtype, if they are not the usual ones."""
        return self.matrix if dtype in _OF_MATRIX_UNITS else None

    @property
    def best(self) -> str | None:
        """The dtype with the highest peak that training commonly uses (ties: bf16 first), or None."""
        known = [d for d in TRAINING_DTYPES if d in self.dense]
        return max(known, key=lambda d: self.dense[d]) if known else None
