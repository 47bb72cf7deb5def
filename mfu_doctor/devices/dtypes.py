"""One short name for each dtype, for all spellings of a trace, torch and C++.

Peaks, kernels and FLOPs are kept per dtype, so "c10::BFloat16", "bfloat16" and "bf16" must be the same name.
"""

from __future__ import annotations

from functools import lru_cache

DTYPES = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "fp4")  # dtypes that have a peak, widest first

_NAMES = {
    "double": "fp64",
    "float64": "fp64",
    "float": "fp32",
    "float32": "fp32",
    "tfloat32": "tf32",
    "c10::Half": "fp16",
    "half": "fp16",
    "float16": "fp16",
    "c10::BFloat16": "bf16",
    "bfloat16": "bf16",
    "c10::complex<float>": "fp32",
    "complex64": "fp32",
    "c10::complex<double>": "fp64",
    "complex128": "fp64",
    "c10::complex<c10::Half>": "fp16",
    "c10::Float4_e2m1fn_x2": "fp4",
    "float4_e2m1fn_x2": "fp4",
    "signed char": "int8",
    "int8": "int8",
    "unsigned char": "int8",
    "uint8": "int8",
}

_SIZES = {
    "fp64": 8,
    "fp32": 4,
    "tf32": 4,
    "fp16": 2,
    "bf16": 2,
    "fp8": 1,
    "fp4": 0.5,
    "int8": 1,
}


# Integers that no matrix unit computes in, and that operators read and write all the same.
_INTEGER_SIZES = {"long int": 8, "int64": 8, "int": 4, "int32": 4, "short int": 2, "int16": 2, "bool": 1}


@lru_cache(256)  # of a trace a handful is asked about again and again
def short_dtype(name: str | None) -> str | None:
    """Short name of a dtype, or None for what no matmul unit computes in ("long int", "Scalar", ...)."""
    if not name:
        return None
    if name in DTYPES:
        return name
    if "float8" in name.lower():
        return "fp8"
    return _NAMES.get(name.removeprefix("torch."))


def shown_dtype(name: str) -> str:
    """The name of a dtype in a report: its short name, or its own if it has none."""
    return short_dtype(name) or name.removeprefix("torch.")


def dtype_bytes(short: str | None) -> float | None:
    """Bytes of one element of a short-named dtype, or None if the dtype is unknown."""
    return None if short is None else _SIZES.get(short)


def is_complex(name: str | None) -> bool:
    """Whether a trace's type name is a complex dtype."""
    return bool(name) and "complex" in str(name)


def element_bytes(name: str | None) -> float | None:
    """Bytes of one element of a type as a trace or torch spells it, or None if it is unknown."""
    size = dtype_bytes(short_dtype(name))
    if size is None:
        return _INTEGER_SIZES.get((name or "").removeprefix("torch."))
    return 2 * size if is_complex(name) else size
