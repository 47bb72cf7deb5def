"""What the iterator of a loader tells of itself: settings, length, processes, and whether a batch is ready.

Only looked at: nothing is taken from it, and nothing is kept of it.
"""

from __future__ import annotations

from types import CodeType
from typing import Any

from mfu_doctor.capture.loop.stack_sampler import UserFiles

_MOST_WRAPPERS = 4  # a part of a part of a data set
_MAKES_SAMPLES = ("__getitem__", "__iter__")


def loader_settings(iterator: Any) -> dict[str, Any]:
    """Settings from the iterator's own attributes; other iterables have only a class."""
    workers = getattr(iterator, "_num_workers", 0)
    parallel = isinstance(workers, int) and workers > 0
    sampler = getattr(iterator, "_index_sampler", None)
    return {
        "class_name": type(iterator).__name__.removeprefix("_").removesuffix("Iter"),
        "num_workers": workers if isinstance(workers, int) else 0,
        "pin_memory": flag(getattr(iterator, "_pin_memory", None)),
        "persistent_workers": flag(getattr(iterator, "_persistent_workers", None)) if parallel else None,
        "prefetch_factor": whole(getattr(iterator, "_prefetch_factor", None)),
        "batch_size": whole(getattr(sampler, "batch_size", None)),
    }


def sample_place(iterator: Any, files: UserFiles) -> str | None:
    """Where the user's code that makes a sample begins, "train.py:41"; None if it is a library's or not known."""
    source = getattr(iterator, "_dataset", iterator)
    for _ in range(_MOST_WRAPPERS):
        code: object = getattr(source, "gi_code", None) or _maker(type(source))
        if isinstance(code, CodeType) and (file := files.shown(code.co_filename)) is not None:
            return f"{file}:{code.co_firstlineno}"
        source = getattr(source, "dataset", None)  # torch.utils.data.Subset, and wrappers like it
    return None


def _maker(of: type) -> object:
    made_by = next((vars(base)[name] for name in _MAKES_SAMPLES for base in of.__mro__ if name in vars(base)), None)
    return getattr(made_by, "__code__", None)


def length_of(iterator: Any) -> int | None:
    """Batches of one pass, if it knows."""
    try:
        return len(iterator)
    except (TypeError, NotImplementedError):
        return None


def workers_of(iterator: Any) -> tuple[int, ...]:
    """Numbers of its worker processes."""
    workers = getattr(iterator, "_workers", ())
    known = [whole(getattr(worker, "pid", None)) for worker in workers] if isinstance(workers, list) else []
    return tuple(pid for pid in known if pid is not None)


def has_batch(iterator: Any) -> bool | None:
    """Whether a DataLoader's workers have a batch ready; None for others. Only looks: nothing is taken from the queue."""
    if not getattr(iterator, "_num_workers", 0):
        return None
    received = getattr(iterator, "_task_info", {}).get(getattr(iterator, "_rcvd_idx", None), ())
    empty = getattr(getattr(iterator, "_data_queue", None), "empty", None)
    if len(received) > 1:
        return True  # it came out of order and was kept
    return None if empty is None else not empty()


def flag(value: object) -> bool | None:
    """The value if it is a bool."""
    return value if isinstance(value, bool) else None


def whole(value: object) -> int | None:
    """The value if it is an int, and no bool."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
