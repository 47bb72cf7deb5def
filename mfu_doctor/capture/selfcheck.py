"""What this machine can record: the facts that a bug report should contain.

The probes are independent. A probe that fails reports why, because a self-check must never crash.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct

from mfu_doctor import compiled
from mfu_doctor.capture.device import nvml
from mfu_doctor.devices import lookup
from mfu_doctor.version import __version__

OK, WARN, NONE = "ok", "warn", "none"
PARAMS = Path("/proc/driver/nvidia/params")  # written by the NVIDIA kernel module
RESTRICTED = "RmProfilingAdminOnly: 1"


class Probe(Struct, frozen=True):
    """One line of the self-check; `state` is ok, warn (with what to do in `text`) or none (not here, which is fine)."""

    name: str
    state: str
    text: str


def selfcheck() -> tuple[Probe, ...]:
    """Look at everything that recording depends on."""
    looks: tuple[Callable[[], Iterator[Probe]], ...] = (_versions, _core, _torch, _driver, _stray_pynvml, _permission)
    out: list[Probe] = []
    for look in looks:
        found, error = nvml.attempt(lambda look=look: list(look()))  # type: ignore[misc]
        name = look.__name__.strip("_").replace("_", " ")
        out += (
            found if found is not None else [Probe(name, WARN, f"this check failed: {type(error).__name__}: {error}")]
        )
    return tuple(out)


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _versions() -> Iterator[Probe]:
    yield Probe("mfu-doctor", OK, __version__)
    yield Probe("python", OK, f"{platform.python_version()} on {platform.platform()} ({sys.executable})")


def _core() -> Iterator[Probe]:
    reasons = {reason for module in compiled.MODULES if (reason := compiled.why_not(module)) is not None}
    if not reasons:
        yield Probe("core", OK, "the compiled core is in use")
    else:
        why = "; ".join(sorted(reasons))
        yield Probe("core", NONE, f"the compiled core is not in use ({why}): the same results take longer, in Python")


def _torch() -> Iterator[Probe]:
    if _installed("torch") is None:
        yield Probe("torch", NONE, "not installed: traces can be analysed but not recorded")
        return
    import torch
    import torch.profiler

    built = torch.version.cuda or torch.version.hip
    yield Probe("torch", OK, f"{torch.__version__}" + (f", built for {built}" if built else ", built for CPU only"))
    if not torch.profiler.kineto_available():
        yield Probe("profiler", WARN, "this PyTorch build has no Kineto profiler: install a build from pytorch.org")
        return
    if not torch.cuda.is_available():
        why = "no usable device" if built else "torch is built for CPU only"
        yield Probe("device", NONE, f"{why}: CPU runs can be recorded")
        return
    for index in range(torch.cuda.device_count()):
        yield _device(torch.cuda.get_device_name(index))
    yield _kernels_recorded()


def _device(name: str) -> Probe:
    row = lookup(name)
    if row is None:
        return Probe("device", WARN, f'"{name}" is not in the device table: pass --peak-flops to get its MFU')
    peaks = ", ".join(f"{dtype} {peak / 1e12:g}" for dtype, peak in row.dense.items())
    return Probe("device", OK, f"{name}: dense TFLOP/s {peaks} ({row.source})")


def _kernels_recorded() -> Probe:
    """The only proof that counts: record one kernel and look for it."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        torch.ones(1024, device="cuda").mul_(2)
        torch.cuda.synchronize()
    on_device = [e for e in recorded.events() or [] if str(e.device_type).endswith("CUDA")]
    if on_device:
        return Probe("kernels", OK, f"the profiler records them ({len(on_device)} in a test of one operator)")
    return Probe(
        "kernels",
        WARN,
        "a test recorded no kernel: another profiler is attached, or recording needs permission (see below)",
    )


def _driver() -> Iterator[Probe]:
    library = _installed("nvidia-ml-py")
    module, error = nvml.attempt(nvml.load)
    if module is not None:
        _, error = nvml.attempt(module.nvmlInit)
    if module is None or error is not None:
        reason = nvml.meaning(error) if error is not None else "nvidia-ml-py is not installed"
        yield Probe("NVML", NONE, f"GPU clocks and power cannot be sampled: {reason}")
        return
    driver, _ = nvml.attempt(module.nvmlSystemGetDriverVersion)
    yield Probe("NVML", OK, f"driver {nvml.text(driver) if driver else 'unknown'}, nvidia-ml-py {library or 'unknown'}")
    nvml.attempt(module.nvmlShutdown)


def _stray_pynvml() -> Iterator[Probe]:
    stray = _installed("pynvml")
    if stray is not None:
        yield Probe("pynvml", WARN, f"the deprecated package pynvml {stray} is installed too: pip uninstall pynvml")


def _permission() -> Iterator[Probe]:
    if not PARAMS.is_file():
        return
    if RESTRICTED in PARAMS.read_text(encoding="utf-8", errors="replace"):
        hint = "GPU counters need administrator rights; if no kernels are recorded, ask the administrator to set"
        yield Probe("permission", WARN, f"{hint} NVreg_RestrictProfilingToAdminUsers=0 (a container: CAP_SYS_ADMIN)")
    else:
        yield Probe("permission", OK, "every user can read GPU counters")
