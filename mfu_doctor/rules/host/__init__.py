"""Does the device wait for the CPU? The rules of this family, in the order in which lists show them."""

from mfu_doctor.rules.contract import Rule
from mfu_doctor.rules.host.allocator_churn import allocator_churn
from mfu_doctor.rules.host.anomaly_mode import anomaly_mode
from mfu_doctor.rules.host.crowded_cores import crowded_cores
from mfu_doctor.rules.host.device_sync import device_sync
from mfu_doctor.rules.host.diagnostics_in_step import diagnostics_in_step
from mfu_doctor.rules.host.dispatch_mode import dispatch_mode
from mfu_doctor.rules.host.few_threads import few_threads
from mfu_doctor.rules.host.gc_pause import gc_pause
from mfu_doctor.rules.host.growing_step import growing_step
from mfu_doctor.rules.host.host_bound import host_bound
from mfu_doctor.rules.host.host_computation import host_computation
from mfu_doctor.rules.host.long_steps import long_steps
from mfu_doctor.rules.host.needless_grad_scaler import needless_grad_scaler
from mfu_doctor.rules.host.outside_steps import outside_steps
from mfu_doctor.rules.host.pageable_read import pageable_read
from mfu_doctor.rules.host.recompilation import recompilation
from mfu_doctor.rules.host.small_microbatches import small_microbatches
from mfu_doctor.rules.host.tensor_loop import tensor_loop
from mfu_doctor.rules.host.uncompiled import uncompiled
from mfu_doctor.rules.host.ungraphed_steps import ungraphed_steps

RULES: tuple[Rule, ...] = (
    host_bound,
    host_computation,
    device_sync,
    pageable_read,
    recompilation,
    gc_pause,
    allocator_churn,
    ungraphed_steps,
    uncompiled,
    tensor_loop,
    small_microbatches,
    long_steps,
    outside_steps,
    growing_step,
    needless_grad_scaler,
    few_threads,
    crowded_cores,
    anomaly_mode,
    dispatch_mode,
    diagnostics_in_step,
)
