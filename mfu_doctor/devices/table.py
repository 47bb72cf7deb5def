"""The table of accelerators: dense peaks per dtype, each row with its source.

The rows are in `peaks.csv` (one per device, matched by its exact name) and `rates.csv` (dense FLOP per clock per SM, by
architecture), beside this file. A new device is one new line with its source. Both files are read once, at the first use. All
values are dense, with fp32 accumulation, as PyTorch computes.
"""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from pathlib import Path
from statistics import median

from msgspec import Struct

from mfu_doctor.devices.dtypes import DTYPES
from mfu_doctor.units import GIGA, MEGA, TERA

# GeForce and three data-centre boards run 16-bit matmuls with fp32 accumulation at half rate (NVIDIA whitepapers).
_HALF_RATE = re.compile(r"GeForce|\bA10G|\bL40(?!S)|\bL20\b", re.IGNORECASE)
_DOCUMENT = re.compile(r"^.*?(?:datasheet|whitepaper|docs)\b")
# Turing has tensor cores only in these; TU116 and TU117 (GTX 16xx, T400 to T2000, MX450, MX550) have the same capability, 7.5.
_TURING, _TENSOR_TURING = "7.5", re.compile(r"RTX|\bT(4G?|10|40)\b", re.IGNORECASE)

_PASCAL = "6."  # the last capability of NVIDIA without tensor cores

# PCIe generation of the cards of an architecture (datasheets of NVIDIA, AMD and Intel).
_PCIE = {
    "Pascal": 3,
    "Volta": 3,
    "Turing": 3,
    "Ampere": 4,
    "Ada": 4,
    "Hopper": 5,
    "Blackwell": 5,
    "Blackwell Ultra": 6,
    "CDNA1": 4,
    "CDNA2": 4,
    "CDNA3": 5,
    "CDNA4": 5,
    "RDNA3": 4,
    "RDNA4": 5,
    "Xe-HPC": 5,
    "Xe-HPG": 4,
    "Xe2": 5,
}


class DeviceRow(Struct, frozen=True):
    """One device: its dense peaks in FLOP/s by dtype and where they come from."""

    pattern: str  # of its name, upper or lower case; compiled when a name is looked up
    vendor: str
    arch: str
    compute_capability: str  # "8.0", or the LLVM target of an AMD chip; "" if there is neither
    sms: int | None  # SMs, compute units or (Intel) execution units
    boost_hz: float | None  # the clock that reproduces the tensor peak
    dense: dict[str, float]
    bandwidth: float | None  # bytes/s
    confidence: str  # vendor (published figure), derived (units x clock x rate) or unverified
    source: str
    link: float | None = None  # NVLink or its like to other devices, both directions together, bytes/s

    def is_named(self, name: str) -> bool:
        """Whether a device of this name is of this row."""
        return re.search(self.pattern, name, re.IGNORECASE) is not None

    @property
    def citation(self) -> str:
        """The source of the peaks in a few words, for a line of a report; `source` is the full text."""
        document = _DOCUMENT.match(self.source)
        if document is not None:
            return document.group(0)
        return {"vendor": f"published by {self.vendor}", "derived": "SMs x clock x FLOPs/clock"}.get(
            self.confidence, "unverified"
        )

    @property
    def pcie_generation(self) -> int | None:
        """The PCIe generation that the card supports (a slot of its host can have an older one); None if unknown."""
        return _PCIE.get(self.arch.split(" (")[0])

    @property
    def sms_certain(self) -> bool:
        """Whether the published peak is known to belong to this number of SMs."""
        return self.sms is not None and "SM count unverified" not in self.source

    @property
    def rate_key(self) -> str:
        """Key into the table of rates; "" if the architecture has none."""
        return rate_key(self.compute_capability, self.pattern)


def lookup(name: str) -> DeviceRow | None:
    """The row of exactly this device name, or None; a name that matches no row has no peak, never a neighbour's."""
    return next((row for row in device_rows() if row.is_named(name)), None)


def rate_key(compute_capability: str, name: str) -> str:
    """Key into `rates` for an architecture ("8.6", "gfx942", ...) and a device name (which shows half-rate boards)."""
    key = {"gfx1100": "rdna3", "gfx1101": "rdna3", "gfx1200": "rdna4", "gfx1201": "rdna4"}.get(
        compute_capability, compute_capability
    )
    if key == _TURING and not _TENSOR_TURING.search(name):
        return key + "n"
    if _HALF_RATE.search(name) and key + "g" in rates():
        return key + "g"
    return key if key in rates() else ""


def matrix_unit(key: str) -> str | None:
    """What reaches the peaks of narrow dtypes on this architecture, as its vendor calls it; None if it has no such unit.

    Args:
        key: as `rate_key` gives it.
    """
    if key.startswith("gfx"):
        return "matrix-core"
    has_tensor_cores = key[:1].isdigit() and not key.startswith(_PASCAL) and "fp16" in rates()[key]
    return "tensor-core" if has_tensor_cores else None


@lru_cache(maxsize=1)
def device_rows() -> tuple[DeviceRow, ...]:
    """All rows of the table, in file order."""
    return tuple(_row(record) for record in _read("peaks.csv"))


@lru_cache(maxsize=1)
def rates() -> dict[str, dict[str, float]]:
    """Dense FLOP per clock per SM: architecture key -> dtype -> rate (absent: not supported)."""
    return {r["rate_key"]: {d: float(r[d]) for d in DTYPES if float(r[d])} for r in _read("rates.csv")}


def typical(key: str) -> tuple[float, tuple[DeviceRow, ...]] | None:
    """Median boost clock in Hz of the table's devices with this rate key, and those devices; None without any."""
    rows = tuple(r for r in device_rows() if r.boost_hz and r.rate_key == key)
    return (median(r.boost_hz for r in rows if r.boost_hz), rows) if rows else None


def _read(name: str) -> list[dict[str, str]]:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _row(record: dict[str, str]) -> DeviceRow:
    def number(key: str, unit: float) -> float | None:
        return float(record[key]) * unit if record[key] else None

    dense = {d: number(f"{d}_tflops", TERA) for d in DTYPES}
    return DeviceRow(
        pattern=record["name_regex"],
        vendor=record["vendor"],
        arch=record["arch"],
        compute_capability=record["compute_capability"],
        sms=int(record["sms"]) if record["sms"] else None,
        boost_hz=number("boost_mhz", MEGA),
        dense={d: peak for d, peak in dense.items() if peak is not None},
        bandwidth=number("mem_gb_s", GIGA),
        confidence=record["confidence"],
        source=record["source"],
        link=number("nvlink_gb_s", GIGA),
    )
