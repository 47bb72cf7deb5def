"""Device readings for the sample report: twelve seconds with a gap, a power cap and two kinds of slowdown."""

from __future__ import annotations

from mfu_doctor.facts import DeviceSamples


def samples() -> DeviceSamples:
    """Twelve seconds at 10 Hz with a gap, a power cap and two kinds of slowdown."""
    count = 120
    wave = [(index * 37 % 23) / 23 for index in range(count)]
    return DeviceSamples(
        device="GPU-0",
        name="NVIDIA H100 80GB HBM3",
        time_ns=tuple(1_795_499_893_000_000_000 + index * 100_000_000 for index in range(count)),
        util_gpu=tuple(None if 50 <= i < 56 else 72 + 20 * w for i, w in enumerate(wave)),
        sm_mhz=tuple(1980 - (240 * w if 40 < i < 80 else 15 * w) for i, w in enumerate(wave)),
        power_w=tuple(560 + 140 * w for w in wave),
        temperature_c=tuple(58 + i / 12 + w for i, w in enumerate(wave)),
        memory_used_bytes=tuple(51e9 + 1e9 * w for w in wave),
        sm_active=tuple(61 + 12 * w for w in wave),
        tensor_active=tuple(34 + 9 * w for w in wave),
        dram_active=tuple(41 + 10 * w for w in wave),
        event_reasons=tuple(0x4 if 40 < i < 80 else 0x20 if 95 < i < 104 else 0 for i in range(count)),
        max_sm_mhz=1980,
        power_limit_w=700,
        memory_total_bytes=85_520_809_984,
        throttle_s=(("software power cap", 3.9), ("software thermal slowdown", 0.8)),
        status="stopped",
        notes=("memory clock could not be read: not supported",),
    )
