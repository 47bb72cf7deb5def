"""All objects of a kind that the process holds, found by looking at each of its objects once (0.1 s).

No list of all objects is ever in the hands of Python code, which other threads may interrupt: Python fails to finish a tuple that
such a list refers to (`tuple(generator)` raises SystemError in the thread that builds it).
"""

from __future__ import annotations

import gc
from itertools import chain, starmap
from typing import Any


def living(kind: type) -> list[Any]:
    """Every object of this class or of one derived from it: call it in a step whose time is not used."""
    # only functions of C run here, and what they hold is gone when the set is whole
    used = set(map(id, map(type, chain.from_iterable(starmap(gc.get_objects, ((),))))))
    kinds = {id(one): one for one in _derived(kind) if id(one) in used}
    # the type is asked, not the object: `isinstance` would wake lazy objects of the program
    return [found for found in gc.get_referrers(*kinds.values()) if id(type(found)) in kinds]


def _derived(kind: type) -> list[type]:
    """The class, and all that derive from it; some more than once."""
    children: list[type] = type.__subclasses__(kind)
    return [kind, *(one for child in children for one in _derived(child))]
