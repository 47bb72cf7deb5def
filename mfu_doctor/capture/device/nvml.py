"""Access to NVML: loading pynvml, explaining its errors, decoding its values.

Only this file imports pynvml, and only when sampling starts. Every function of the library is looked up when it is used, because
an older driver or binding may not have it. Every failure is classified by the name of its exception: pynvml makes its classes at
run time, they are unhashable, and NVMLLibraryMismatchError is not one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias, TypeVar

Nvml: TypeAlias = Any  # the module pynvml, or a module-shaped stand-in for it
Handle: TypeAlias = Any  # an opaque device handle

T = TypeVar("T")


class Fault(Enum):
    """What a failed NVML call means for further calls."""

    PERMANENT = "permanent"  # this reading will never work here
    TRANSIENT = "transient"  # may work on the next tick
    DEVICE = "device"  # the device is gone
    SESSION = "session"  # another library shut NVML down


_FAULTS = {
    Fault.PERMANENT: (
        "NVMLError_NotSupported",
        "NVMLError_NoPermission",
        "NVMLError_FunctionNotFound",
        "NVMLError_InvalidArgument",
        "NVMLError_ArgumentVersionMismatch",
        "NVMLError_Deprecated",
        "NVMLLibraryMismatchError",
        "AttributeError",
        "TypeError",
    ),
    Fault.DEVICE: ("NVMLError_GpuIsLost", "NVMLError_ResetRequired", "NVMLError_GpuNotFound"),
    Fault.SESSION: ("NVMLError_Uninitialized",),
}
_FAULT_OF = {name: fault for fault, names in _FAULTS.items() for name in names}

_MEANING = {
    "ImportError": "nvidia-ml-py is not installed",
    "ModuleNotFoundError": "nvidia-ml-py is not installed",
    "NVMLError_LibraryNotFound": "no NVIDIA driver on this machine",
    "NVMLError_DriverNotLoaded": "the NVIDIA kernel module is not loaded",
    "NVMLError_LibRmVersionMismatch": "the NVIDIA driver was upgraded without a restart: CUDA also fails until the restart",
    "NVMLError_OperatingSystem": "the system or the container blocks access to the NVIDIA device",
    "NVMLError_NoPermission": "no permission to query the NVIDIA device",
    "NVMLError_GpuIsLost": "the GPU fell off the bus (look for Xid errors in the kernel log)",
    "NVMLError_GpuNotFound": "the GPU fell off the bus (look for Xid errors in the kernel log)",
    "NVMLError_ResetRequired": "the GPU needs a reset",
    "NVMLError_Uninitialized": "another library shut NVML down",
    "AttributeError": "an old pynvml is installed instead of nvidia-ml-py",
}

# Union members of nvmlValue_t by nvmlValueType_t (nvml.h): double, unsigned int, unsigned long, unsigned long long, ...
_MEMBER = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}

# nvmlReturn_t codes of a field that this device will never have: NVML_ERROR_INVALID_ARGUMENT, NVML_ERROR_NOT_SUPPORTED.
_NEVER = (2, 3)


def load() -> Nvml:
    """The module pynvml.

    Raises:
        ImportError: nvidia-ml-py is not installed.
    """
    import pynvml

    return pynvml


def attempt(call: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """The result of a call, or the exception that it raised.

    The sampler's boundary, and the one broad except of device sampling: whatever a driver does must never reach the
    training loop, and pynvml's exceptions have no common base class.
    """
    try:
        return call(), None
    except Exception as error:  # noqa: BLE001 - see above; the caller records what was caught
        return None, error


def fault_of(error: Exception) -> Fault:
    """What a failure means; an unknown one is transient and gives up after a few in a row."""
    return _FAULT_OF.get(type(error).__name__, Fault.TRANSIENT)


def meaning(error: Exception) -> str:
    """A failure in words, with the exception's name."""
    name = type(error).__name__
    return f"{_MEANING[name]} ({name})" if name in _MEANING else f"{name}: {error}"


def text(value: str | bytes) -> str:
    """A string from NVML: old bindings return bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def field_values(nvml: Nvml, handle: Handle, ids: tuple[int, ...]) -> dict[int, float | None]:
    """Several fields in one call; a field that failed this time is None, one that this device never has is left out."""
    values: dict[int, float | None] = {}
    for field, entry in zip(ids, nvml.nvmlDeviceGetFieldValues(handle, list(ids)), strict=True):
        if entry.nvmlReturn in _NEVER:
            continue
        member = _MEMBER.get(int(entry.valueType)) if entry.nvmlReturn == 0 else None
        values[field] = None if member is None else getattr(entry.value, member, None)
    return values
