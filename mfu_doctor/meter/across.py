"""The readings of all ranks of a job together, by one small reduction."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from mfu_doctor.capture.facts.summed import summed
from mfu_doctor.meter.window import Window
from mfu_doctor.units import TERA


class AcrossRanks(Struct, frozen=True, kw_only=True):
    """All ranks of a job in the steps of their windows.

    Attributes:
        ranks: how many there are.
        mfu: what their devices compute together over what they could; None if a rank does not know its own.
        tflops: model FLOP per second of all, in 10^12.
        samples_per_second: rows of the batches of all.
        tokens_per_second: tokens of all.
        reasons: why a value is None, by its name.
    """

    ranks: int
    mfu: float | None = None
    tflops: float | None = None
    samples_per_second: float | None = None
    tokens_per_second: float | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, window: Window, peak_flops: float | None) -> AcrossRanks:
        """Add up what the ranks know; each of them must call this.

        Args:
            window: of this rank.
            peak_flops: of its device.
        """
        mfu, peak = window.mfu, peak_flops
        reached = None if mfu is None or peak is None else mfu * peak
        own = (reached, None if reached is None else peak, window.flops_s, window.samples_s, window.tokens_s)
        told = summed([1.0, *(value or 0.0 for value in own), *(float(value is not None) for value in own)])
        ranks, values, known = int(told[0]), told[1 : len(own) + 1], told[len(own) + 1 :]
        reached, peak, flops, samples, tokens = (
            value if int(count) == ranks else None for value, count in zip(values, known, strict=True)
        )
        found = {
            "mfu": None if reached is None or not peak else reached / peak,
            "tflops": None if flops is None else flops / TERA,
            "samples_per_second": samples,
            "tokens_per_second": tokens,
        }
        reason = f"not all of the {ranks} ranks know theirs"
        return cls(ranks=ranks, **found, reasons={name: reason for name, value in found.items() if value is None})
