"""What a rule needs of a run: `needs=(Need.DEVICE, Need.SHAPES)`. The one place that says what each need means.

The runner asks `lacks` before it calls the rule. If something is missing, the rule is "not measured", with the reason and what
would measure it. The rule itself need not handle this case.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, unique

from mfu_doctor.analysis.run import Run
from mfu_doctor.devices.evidence import vendor


def _no_device(run: Run) -> str | None:
    return "the trace has no GPU kernels: record a run on a GPU" if run.is_cpu else None


def _no_shapes(run: Run) -> str | None:
    told = any(args.dims is not None for args in run.trace.args)
    return None if told else "shapes were not recorded: record with record_shapes=True"


def _no_facts(run: Run) -> str | None:
    return "this is not in a torch.profiler trace: record with mfu_doctor.profile()" if run.facts is None else None


def _no_samples(run: Run) -> str | None:
    """Advice that can be followed: samples are of NVIDIA GPUs."""
    if run.facts is not None and any(samples.time_ns for samples in run.facts.samples):
        return None
    name = run.trace.devices[0].name if run.trace.devices else ""
    if not run.is_cpu and vendor(run.trace, name) == "AMD":
        return "no GPU samples: mfu_doctor.profile() takes them of NVIDIA GPUs only"
    told = (run.facts.sampler_status or "").partition(": ")[2] if run.facts is not None else ""
    return f"no GPU samples: {told or 'record with mfu_doctor.profile() on a machine with an NVIDIA driver'}"


def _no_peak(run: Run) -> str | None:
    return None if run.peaks.dense else "the peak FLOP/s of the device is unknown: pass --peak-flops"


@unique
class Need(Enum):
    """Something that a rule cannot judge without.

    Attributes:
        means: what the run must have.
        lacks: why a run does not have it and what would measure it; None if it has it.
    """

    DEVICE = ("kernels or copies of a GPU in the trace", _no_device)
    SHAPES = ("sizes of operators' arguments", _no_shapes)
    FACTS = ("extra data that mfu_doctor.profile() records (settings, memory, CPU load)", _no_facts)
    SAMPLES = ("clocks, power and temperature of the GPU, sampled by mfu_doctor.profile()", _no_samples)
    PEAK = ("the peak FLOP/s of the device for at least one dtype", _no_peak)

    def __init__(self, means: str, lacks: Callable[[Run], str | None]) -> None:
        self.means = means
        self.lacks = lacks

    @property
    def word(self) -> str:
        """How reports call it."""
        return self.name.lower()
