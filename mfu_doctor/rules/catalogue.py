"""Every rule in one explicit tuple, in family order, and how a user names them: by name, code or family.

A tuple and not a directory scan: one page shows everything, and go-to-definition works.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from mfu_doctor.errors import DoctorError
from mfu_doctor.rules.allocator_churn import allocator_churn
from mfu_doctor.rules.allocator_retry import allocator_retry
from mfu_doctor.rules.anomaly_mode import anomaly_mode
from mfu_doctor.rules.blocking_copy import blocking_copy
from mfu_doctor.rules.busy_machine import busy_machine
from mfu_doctor.rules.cold_cache import cold_cache
from mfu_doctor.rules.cold_workers import cold_workers
from mfu_doctor.rules.contiguous_copies import contiguous_copies
from mfu_doctor.rules.contract import Rule
from mfu_doctor.rules.conv_bias_before_norm import conv_bias_before_norm
from mfu_doctor.rules.cpu_contention import cpu_contention
from mfu_doctor.rules.data_parallel import data_parallel
from mfu_doctor.rules.dense_embedding_grad import dense_embedding_grad
from mfu_doctor.rules.device_sync import device_sync
from mfu_doctor.rules.dropped_events import dropped_events
from mfu_doctor.rules.emulated_dtype import emulated_dtype
from mfu_doctor.rules.exposed_communication import exposed_communication
from mfu_doctor.rules.few_steps import few_steps
from mfu_doctor.rules.few_threads import few_threads
from mfu_doctor.rules.fp8_eligible import fp8_eligible
from mfu_doctor.rules.fp32_gradients import fp32_gradients
from mfu_doctor.rules.fp32_matmul import fp32_matmul
from mfu_doctor.rules.gc_pause import gc_pause
from mfu_doctor.rules.host_bound import host_bound
from mfu_doctor.rules.host_made_tensor import host_made_tensor
from mfu_doctor.rules.idle_tensor_cores import idle_tensor_cores
from mfu_doctor.rules.input_bound import input_bound
from mfu_doctor.rules.large_vocab_loss import large_vocab_loss
from mfu_doctor.rules.late_gathers import late_gathers
from mfu_doctor.rules.late_optimizer import late_optimizer
from mfu_doctor.rules.layout_conversion import layout_conversion
from mfu_doctor.rules.low_clocks import low_clocks
from mfu_doctor.rules.misaligned_matmul import misaligned_matmul
from mfu_doctor.rules.missing_gpu_events import missing_gpu_events
from mfu_doctor.rules.needless_grad_scaler import needless_grad_scaler
from mfu_doctor.rules.needless_recompute import needless_recompute
from mfu_doctor.rules.non_nccl_backend import non_nccl_backend
from mfu_doctor.rules.offloaded_state import offloaded_state
from mfu_doctor.rules.outlier_steps import outlier_steps
from mfu_doctor.rules.pageable_copy import pageable_copy
from mfu_doctor.rules.partial_flop_count import partial_flop_count
from mfu_doctor.rules.power_cap import power_cap
from mfu_doctor.rules.profiler_inflation import profiler_inflation
from mfu_doctor.rules.recompilation import recompilation
from mfu_doctor.rules.repeated_cast import repeated_cast
from mfu_doctor.rules.returned_heap import returned_heap
from mfu_doctor.rules.scalar_collectives import scalar_collectives
from mfu_doctor.rules.shared_device import shared_device
from mfu_doctor.rules.slow_link import slow_link
from mfu_doctor.rules.slow_pcie_link import slow_pcie_link
from mfu_doctor.rules.slow_sample import slow_sample
from mfu_doctor.rules.small_buckets import small_buckets
from mfu_doctor.rules.small_matmul import small_matmul
from mfu_doctor.rules.spare_memory import spare_memory
from mfu_doctor.rules.sync_every_microbatch import sync_every_microbatch
from mfu_doctor.rules.tensor_loop import tensor_loop
from mfu_doctor.rules.tf32_off import tf32_off
from mfu_doctor.rules.thermal_throttle import thermal_throttle
from mfu_doctor.rules.topics import TOPICS
from mfu_doctor.rules.unbenchmarked_convolution import unbenchmarked_convolution
from mfu_doctor.rules.uncompiled import uncompiled
from mfu_doctor.rules.unfused_attention import unfused_attention
from mfu_doctor.rules.unfused_clipping import unfused_clipping
from mfu_doctor.rules.unfused_elementwise import unfused_elementwise
from mfu_doctor.rules.unfused_optimizer import unfused_optimizer
from mfu_doctor.rules.ungraphed_steps import ungraphed_steps
from mfu_doctor.rules.unknown_peak import unknown_peak
from mfu_doctor.rules.unstable_steps import unstable_steps
from mfu_doctor.rules.unused_gradients import unused_gradients
from mfu_doctor.rules.warmup_in_window import warmup_in_window
from mfu_doctor.rules.wide_batch import wide_batch
from mfu_doctor.rules.zeroed_gradients import zeroed_gradients

RULES: tuple[Rule, ...] = (
    # IN: does the device wait for data?
    input_bound,
    pageable_copy,
    blocking_copy,
    cold_workers,
    slow_sample,
    host_made_tensor,
    wide_batch,
    cold_cache,
    # HO: does the device wait for Python?
    host_bound,
    device_sync,
    recompilation,
    gc_pause,
    allocator_churn,
    cpu_contention,
    ungraphed_steps,
    uncompiled,
    tensor_loop,
    outlier_steps,
    needless_grad_scaler,
    few_threads,
    anomaly_mode,
    # KE: do the kernels use the chip?
    fp32_matmul,
    tf32_off,
    unfused_elementwise,
    unfused_optimizer,
    unfused_attention,
    misaligned_matmul,
    small_matmul,
    layout_conversion,
    repeated_cast,
    conv_bias_before_norm,
    contiguous_copies,
    dense_embedding_grad,
    unfused_clipping,
    zeroed_gradients,
    large_vocab_loss,
    unbenchmarked_convolution,
    emulated_dtype,
    unused_gradients,
    fp8_eligible,
    idle_tensor_cores,
    # ME: does memory cost or leave time?
    allocator_retry,
    spare_memory,
    needless_recompute,
    returned_heap,
    offloaded_state,
    # CO: is communication exposed?
    exposed_communication,
    small_buckets,
    sync_every_microbatch,
    data_parallel,
    slow_link,
    non_nccl_backend,
    scalar_collectives,
    fp32_gradients,
    late_gathers,
    late_optimizer,
    # DV: is the device itself held back?
    thermal_throttle,
    power_cap,
    shared_device,
    low_clocks,
    slow_pcie_link,
    # TR: can this trace be trusted?
    dropped_events,
    missing_gpu_events,
    profiler_inflation,
    unstable_steps,
    few_steps,
    busy_machine,
    warmup_in_window,
    partial_flop_count,
    unknown_peak,
)

FAMILIES = {
    "IN": "input: does the device wait for data?",
    "HO": "host: does the device wait for Python?",
    "KE": "kernels: do the kernels use the chip?",
    "ME": "memory: does memory cost or leave time?",
    "CO": "communication: is communication exposed?",
    "DV": "device: is the device itself held back?",
    "TR": "trace: can this trace be trusted?",
}


def choose(rules: Iterable[Rule], *, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> tuple[Rule, ...]:
    """The rules that `select` names (all if empty) less those that `ignore` names.

    Raises:
        DoctorError: a name, code or family that no rule has.
    """
    listed = tuple(rules)
    chosen = _named(listed, select) if select else set(listed)
    return tuple(r for r in listed if r in chosen and r not in _named(listed, ignore))


def find(name: str) -> Rule:
    """The rule with this name or code, or the one that judges what people call so (`topics`).

    Raises:
        DoctorError: there is none; the message names the nearest.
    """
    wanted = name.strip().lower().replace("_", "-")
    for rule in RULES:
        if wanted in (rule.name, rule.code.lower(), *TOPICS.get(rule.name, ())):
            return rule
    raise _unknown(name, RULES)


def _named(rules: tuple[Rule, ...], names: Sequence[str]) -> set[Rule]:
    found: set[Rule] = set()
    for name in names:
        wanted = name.strip().lower()
        matching = {r for r in rules if wanted in (r.name, r.code.lower(), r.code[:2].lower())}
        if not matching and wanted.upper() not in FAMILIES:
            raise _unknown(name, rules)
        found |= matching
    return found


def _unknown(name: str, rules: tuple[Rule, ...]) -> DoctorError:
    known = [spelling for r in rules for spelling in (r.name, r.code, *TOPICS.get(r.name, ()))]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "mfu-doctor explain lists all rules"
    return DoctorError(f"no rule is called {name!r}", hint)
