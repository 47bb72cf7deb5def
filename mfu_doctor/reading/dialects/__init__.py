"""The dialects of the format: each says what its categories mean; together they are one table.

They are looked up by content, never by a file's age: the same category names went away and came back between releases.
To add one: a file beside this one with a `CATEGORIES` table, and its line in `DIALECTS`. What else the generations of torch,
CUPTI and roctracer write in ways of their own, and how each is read, stands in GENERATIONS.md beside this file.
"""

from __future__ import annotations

from mfu_doctor.reading.dialects import autograd, kineto, kineto_2021, xpu
from mfu_doctor.trace import Category

DIALECTS = (kineto, kineto_2021, xpu, autograd)

CATEGORIES: dict[str, Category] = {}
for _dialect in DIALECTS:
    CATEGORIES |= _dialect.CATEGORIES
