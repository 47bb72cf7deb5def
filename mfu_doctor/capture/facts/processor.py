"""Which processor this machine has: its name for people, and what distinguishes processors of one name."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

from mfu_doctor.capture.facts.system_files import text_of

CPUINFO = Path("/proc/cpuinfo")

# Fields of it that name the processor, and that say which it is, on x86 and on Arm.
NAMES = frozenset(("model name", "Model", "Hardware"))
IDENTITY = frozenset(
    ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU implementer", "CPU part", "CPU variant", "Features")
)


def cpu_model() -> str | None:
    """The name of the processor as the system reports it; None if it does not."""
    for line in (text_of(CPUINFO) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in NAMES:
            return value.strip()
    return platform.processor() or None


def processor_identity() -> str:
    """Hash of what distinguishes processors of one name ("AMD EPYC" is several generations); "" if it is unknown.

    Home directories are shared between machines: one with bf16 arithmetic must not answer for one without.
    """
    first = (text_of(CPUINFO) or "").partition("\n\n")[0].splitlines()
    told = sorted(line for line in first if line.partition(":")[0].strip() in IDENTITY)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16] if told else ""
