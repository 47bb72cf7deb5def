"""Runs the device sampler on the library that the loader finds, with the real pynvml, and prints what it read as JSON.

python -m tests.capture.nvml_standin.child TICKS [TARGET...]
"""

from __future__ import annotations

import ctypes
import json
import sys

from msgspec.structs import asdict

from mfu_doctor.capture.device.sampler import DeviceSampler
from tests.capture.fake_nvml import Pace

COUNTED = (
    "nvmlInitWithFlags",
    "nvmlShutdown",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetUtilizationRates",
)


def main(ticks: str, *targets: str) -> None:
    """Sample until the script of ticks is over, or until a call hangs."""
    driver = ctypes.CDLL("libnvidia-ml.so.1")
    pace = Pace(int(ticks))
    chosen = [int(target) if target.isdigit() else target for target in targets] or None
    sampler = DeviceSampler(clock=pace.clock, sleep=pace.sleep, targets=chosen)
    sampler.start()
    assert sampler._thread is not None
    while sampler._thread.is_alive() and not driver.standin_hanging():
        sampler._thread.join(0.01)
    samples, status = sampler.stop(timeout=0.05 if driver.standin_hanging() else 60)
    told = {
        "status": status,
        "reason": sampler.reason,
        "devices": [asdict(device) for device in samples],
        "calls": {name: driver.standin_calls(name.encode()) for name in COUNTED},
        "buffers": driver.standin_buffers(),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
