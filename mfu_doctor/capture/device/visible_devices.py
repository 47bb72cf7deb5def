"""Which NVML devices this process may use, determined without initialising CUDA.

NVML lists every GPU in PCI order; CUDA hides and reorders them by environment variables. Once CUDA is initialised, the caller
passes its UUIDs, which are certain. Before that these rules are used, and they report if the mapping is uncertain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_LEADING_INTEGER = re.compile(r"\s*([+-]?\d{1,18})")


def visible_targets(
    environ: Mapping[str, str], uuids: Sequence[str | None], names: Sequence[str | None]
) -> tuple[tuple[int | str, ...], str | None]:
    """NVML indices or MIG UUIDs that CUDA will show, and a note if the mapping is uncertain.

    The rules for CUDA_VISIBLE_DEVICES are CUDA's own: unset means all; numbers are read up to the first other
    character; the list ends at the first entry that is not a device; a repeated device empties it; a UUID may be
    shortened as long as it is unambiguous; of MIG instances only the first counts.

    Args:
        environ: the process environment (CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER).
        uuids: UUID of each NVML index, None if unreadable.
        names: product name of each NVML index.
    """
    value = environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return tuple(range(len(uuids))), None
    chosen: list[int | str] = []
    for entry in value.split(","):
        target = _resolve(entry.strip(), uuids)
        if target is None:
            break
        if target in chosen:
            return (), "CUDA_VISIBLE_DEVICES repeats a device, which hides all of them"
        chosen.append(target)
        if isinstance(target, str):
            return (target,), None
    by_number = bool(chosen) and not value.lstrip().startswith("GPU-")
    sure = environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len(set(names)) <= 1
    note = "the samples can be of another card: the GPUs differ and CUDA_DEVICE_ORDER is not PCI_BUS_ID"
    return tuple(chosen), note if by_number and not sure else None


def _resolve(entry: str, uuids: Sequence[str | None]) -> int | str | None:
    """One entry of the list: an NVML index, a MIG UUID, or None if it names no device."""
    if entry.startswith("MIG-"):
        return entry
    if entry.startswith("GPU-"):
        matches = [index for index, uuid in enumerate(uuids) if uuid is not None and uuid.startswith(entry)]
        return matches[0] if len(matches) == 1 else None
    number = _LEADING_INTEGER.match(entry)
    index = int(number.group(1)) if number else -1
    return index if 0 <= index < len(uuids) else None
