"""Numbers for the names and categories of events, and what is known of a category by its number."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mfu_doctor.reading.arguments import KEPT_CATEGORIES
from mfu_doctor.reading.dialects import CATEGORIES
from mfu_doctor.trace import Category

# Codes beside those of `Category`: the span of the whole recording, which is no activity, and "has no category".
DROPPED, UNSAID = 255, 254
_CODES = 256


def _lookup(*categories: int) -> npt.NDArray[np.bool_]:
    table = np.zeros(_CODES, np.bool_)
    table[list(categories)] = True
    return table


ON_DEVICE = _lookup(Category.KERNEL, Category.MEMCPY, Category.MEMSET, Category.SYNC, Category.GPU_ANNOTATION)
KEEPS = _lookup(*KEPT_CATEGORIES)
# The same for the compiled core, a bit for each question, in its order.
KINDS = sum(
    table.astype(np.uint8) << bit
    for bit, table in enumerate((ON_DEVICE, KEEPS, _lookup(DROPPED), _lookup(UNSAID), _lookup(Category.PYTHON)))
)

# Characters of a name that are read. Names of kernels hold their template arguments: some thousand characters.
LONGEST_NAME = 20_000


class NameCodes(dict[Any, float]):
    """Float codes in order of appearance; a long name has the code of its beginning."""

    def __missing__(self, key: Any) -> float:
        if isinstance(key, str) and len(key) > LONGEST_NAME:
            return self[key[:LONGEST_NAME]]
        code = self[key] = float(len(self))
        return code


class CategoryCodes(dict[Any, float]):
    """The code of a `Category` for each spelling met."""

    def __missing__(self, key: Any) -> float:
        code = self[key] = float(_special(str(key)))
        return code


def _special(text: str) -> int:
    if text == "Trace":
        return DROPPED
    return CATEGORIES.get(text.lower(), Category.OTHER) if text else UNSAID
