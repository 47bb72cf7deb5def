"""Every rule in one explicit tuple, in family order, and how a user names them: by name, code or family.

A tuple and not a directory scan: one page shows everything, and go-to-definition works.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from mfu_doctor.errors import DoctorError
from mfu_doctor.rules.anomaly_mode import anomaly_mode
from mfu_doctor.rules.contract import Rule
from mfu_doctor.rules.device_sync import device_sync
from mfu_doctor.rules.dropped_events import dropped_events
from mfu_doctor.rules.emulated_dtype import emulated_dtype
from mfu_doctor.rules.exposed_communication import exposed_communication
from mfu_doctor.rules.few_steps import few_steps
from mfu_doctor.rules.few_threads import few_threads
from mfu_doctor.rules.fp32_matmul import fp32_matmul
from mfu_doctor.rules.host_bound import host_bound
from mfu_doctor.rules.input_bound import input_bound
from mfu_doctor.rules.missing_gpu_events import missing_gpu_events
from mfu_doctor.rules.pageable_copy import pageable_copy
from mfu_doctor.rules.partial_flop_count import partial_flop_count
from mfu_doctor.rules.profiler_inflation import profiler_inflation
from mfu_doctor.rules.unfused_optimizer import unfused_optimizer
from mfu_doctor.rules.unknown_peak import unknown_peak
from mfu_doctor.rules.unstable_steps import unstable_steps
from mfu_doctor.rules.warmup_in_window import warmup_in_window

RULES: tuple[Rule, ...] = (
    # IN: does the device wait for data?
    input_bound,
    pageable_copy,
    # HO: does the device wait for Python?
    host_bound,
    device_sync,
    few_threads,
    anomaly_mode,
    # KE: do the kernels use the chip?
    fp32_matmul,
    unfused_optimizer,
    emulated_dtype,
    # CO: is communication exposed?
    exposed_communication,
    # TR: can this trace be trusted?
    dropped_events,
    missing_gpu_events,
    profiler_inflation,
    unstable_steps,
    few_steps,
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
    """The rule with this name or code.

    Raises:
        DoctorError: there is none; the message names the nearest.
    """
    wanted = name.strip().lower()
    for rule in RULES:
        if wanted in (rule.name, rule.code.lower()):
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
    known = [spelling for r in rules for spelling in (r.name, r.code)]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "mfu-doctor explain lists all rules"
    return DoctorError(f"no rule is called {name!r}", hint)
