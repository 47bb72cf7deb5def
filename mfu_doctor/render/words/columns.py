"""Columns of rounded numbers that sum exactly to their total."""

from __future__ import annotations

import math
from collections.abc import Sequence


def table_column(values: Sequence[float]) -> list[str]:
    """Numbers of one column with equal decimals. They are rounded so that they sum to their total, which has three digits."""
    whole = sum(values)
    decimals = max(2 - math.floor(math.log10(whole)), 0) if whole > 0 else 0
    parts = apportion(values, round(whole * 10**decimals))
    return [f"{part / 10**decimals:,.{decimals}f}" for part in parts]


def apportion(values: Sequence[float], total: int) -> list[int]:
    """Whole parts proportional to the values that sum to `total` exactly (largest remainder); for shares of 100.0."""
    whole = sum(values)
    if whole <= 0:
        return [0] * len(values)
    exact = [value * total / whole for value in values]
    parts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(values)), key=lambda i: (parts[i] - exact[i], i))
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return parts
