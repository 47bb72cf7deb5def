"""Can this trace be trusted? The rules of this family, in the order in which lists show them."""

from mfu_doctor.rules.contract import Rule
from mfu_doctor.rules.trace.busy_machine import busy_machine
from mfu_doctor.rules.trace.dropped_events import dropped_events
from mfu_doctor.rules.trace.early_recording import early_recording
from mfu_doctor.rules.trace.few_steps import few_steps
from mfu_doctor.rules.trace.forward_only import forward_only
from mfu_doctor.rules.trace.missing_gpu_events import missing_gpu_events
from mfu_doctor.rules.trace.partial_flop_count import partial_flop_count
from mfu_doctor.rules.trace.profiler_inflation import profiler_inflation
from mfu_doctor.rules.trace.startup_recording import startup_recording
from mfu_doctor.rules.trace.unknown_peak import unknown_peak
from mfu_doctor.rules.trace.unstable_steps import unstable_steps
from mfu_doctor.rules.trace.warmup_in_window import warmup_in_window

RULES: tuple[Rule, ...] = (
    dropped_events,
    missing_gpu_events,
    forward_only,
    profiler_inflation,
    early_recording,
    unstable_steps,
    startup_recording,
    few_steps,
    busy_machine,
    warmup_in_window,
    partial_flop_count,
    unknown_peak,
)
