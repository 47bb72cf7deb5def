"""What a rule may need of a run: `needs=(Need.DEVICE, Need.SHAPES)`. The one place that says what each means.

The runner asks `lacks` before it calls the rule. Where something is missing the rule is "not measured", with the reason and
what would measure it, so the rule itself need not handle the case.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, unique

from mfu_doctor.analysis.run import Run


def _no_device(run: Run) -> str | None:
    return "the trace has no device work: record where the training runs on a GPU" if run.is_cpu else None


def _no_shapes(run: Run) -> str | None:
    told = any(args.dims is not None for args in run.trace.args)
    return None if told else "shapes were not recorded: record with record_shapes=True"


def _no_facts(run: Run) -> str | None:
    return "only a live run knows this: record with mfu_doctor.profile()" if run.facts is None else None


def _no_samples(run: Run) -> str | None:
    if run.facts is not None and any(samples.time_ns for samples in run.facts.samples):
        return None
    told = (run.facts.sampler_status or "").partition(": ")[2] if run.facts is not None else ""
    return f"no device samples: {told or 'record with mfu_doctor.profile() where an NVIDIA driver answers'}"


def _no_peak(run: Run) -> str | None:
    return None if run.peaks.dense else "the device's peak is unknown: pass --peak-flops"


@unique
class Need(Enum):
    """Something that a rule cannot judge without.

    Attributes:
        means: what the run then has.
        lacks: why a run does not have it and what would measure it; None where it has it.
    """

    DEVICE = ("kernels or copies of a GPU in the trace", _no_device)
    SHAPES = ("sizes of operators' arguments", _no_shapes)
    FACTS = ("what mfu_doctor.profile() writes beside the trace", _no_facts)
    SAMPLES = ("clocks, power and temperature of the device, sampled in a live run", _no_samples)
    PEAK = ("the device's peak in at least one number format", _no_peak)

    def __init__(self, means: str, lacks: Callable[[Run], str | None]) -> None:
        self.means = means
        self.lacks = lacks

    @property
    def word(self) -> str:
        """How reports call it."""
        return self.name.lower()
