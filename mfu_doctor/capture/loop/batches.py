"""What a batch tells of itself, whatever it is made of: the shapes of its tensors, its samples and its tokens.

A loader that puts samples together by itself knows how many they are, so that it does not matter what a batch is: tensors, a
table, a graph, a class of the program's. Else they are the rows that all tensors of the batch share, if at least one of them
stands in the batch itself: a list in a batch may hold a sample each. Tensors with different numbers of rows tell nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, TypeAlias

from msgspec import Struct

Shape: TypeAlias = tuple[int, ...]

_DEPTH = 3  # how far into a batch's containers its tensors are looked for
_MOST = 16  # parts of one container, and shapes of one batch
_LOOKS = 64  # at values of one depth
_IDS = "input_ids"  # the name that tokenizers give to a matrix of tokens


class Batch(NamedTuple):
    """What is kept of a batch.

    Attributes:
        shapes: of its tensors, in order.
        samples: None if nothing tells.
        tokens: None if it does not name them.
    """

    shapes: Hashable
    samples: int | None
    tokens: int | None


class Loader(Struct, eq=False):
    """An iterator of a DataLoader. It may be gone before what it brought is worked out.

    Attributes:
        iterator: itself.
        size: samples of a batch, if it puts them together itself; None: it does not, or nobody knows when they end.
        samples: that it brings in all.
        shapes: of the latest batch that was looked at in passing.
    """

    iterator: weakref.ref[Any]
    size: int | None = None
    samples: int = 0
    shapes: Hashable = None

    @classmethod
    def of(cls, iterator: Any) -> Loader:
        """Ask an iterator; nothing of the program's is called that the loader does not call itself."""
        import torch
        from torch.utils.data import BatchSampler

        batches = getattr(iterator, "_index_sampler", None)
        # of one sample: each may be a whole batch of the data set
        if type(batches) is not BatchSampler or batches.batch_size == 1:
            return cls(weakref.ref(iterator))
        if type(batches.sampler).__module__.startswith("torch."):
            try:
                with torch._C.DisableTorchFunction():  # noqa: SLF001 - a length may be that of a tensor: no mode sees that we ask
                    samples = len(batches.sampler)  # type: ignore[arg-type]
                return cls(weakref.ref(iterator), batches.batch_size, samples)
            except TypeError:  # of a dataset that only yields, it goes on without end
                pass
        return cls(weakref.ref(iterator))

    def samples_of(self, number: int | None) -> int | None:
        """Samples of the batch of this number, from 1; None: not known."""
        if self.size is None or number is None:
            return None
        left = self.samples - (number - 1) * self.size
        return min(self.size, left) if left > 0 else None


def looked_at(batch: Any) -> Batch:
    """What it tells by itself. This is guarded: it may be of a class of the program's, which has what it likes for a shape."""
    shapes, direct, level = [], False, [batch]
    for depth in range(_DEPTH + 1):
        deeper: list[Any] = []
        for value in level[:_LOOKS]:
            shape = _shape(value)
            if shape is None:
                deeper += _parts(value)[:_MOST]
            else:
                shapes.append(shape)
                direct = direct or depth <= 1
        level = deeper
    kept = tuple(shapes[:_MOST])
    return Batch(kept, _rows(kept) if direct else None, _tokens(_shape(_ids(batch))))


def of_tensors(shapes: tuple[Shape, ...], names: tuple[Any, ...]) -> Batch:
    """What tensors tell of which only the shapes are left.

    Args:
        shapes: of each.
        names: of each, if they have some.
    """
    ids = shapes[names.index(_IDS)] if _IDS in names else None
    return Batch(shapes, _rows(shapes), _tokens(ids))


def together(batches: Sequence[Batch]) -> Batch:
    """Several batches, or none, as one: samples are known if all are, and tokens are those of the batches that have some."""
    samples = [batch.samples for batch in batches if batch.samples is not None]
    tokens = [batch.tokens for batch in batches if batch.tokens is not None]
    return Batch(
        tuple(batch.shapes for batch in batches),
        sum(samples) if samples and len(samples) == len(batches) else None,
        sum(tokens) if tokens else None,
    )


def _rows(shapes: Sequence[Shape]) -> int | None:
    rows = {shape[0] for shape in shapes if shape}
    return rows.pop() if len(rows) == 1 else None


def _tokens(ids: Shape | None) -> int | None:
    return ids[0] * ids[1] if ids is not None and len(ids) == 2 else None


def _ids(batch: Any) -> Any:
    """The matrix of tokens, of the batch or of a part of it."""
    for value in (batch, *(batch[:_MOST] if isinstance(batch, list | tuple) else ())):
        found = value.get(_IDS) if _is_mapping(value) else getattr(value, _IDS, None)
        if found is not None:
            return found
    return None


def _shape(value: Any) -> Shape | None:
    shape = getattr(value, "shape", None)
    return None if shape is None else tuple(map(int, shape))


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, list | tuple):
        return value
    if _is_mapping(value):
        return list(value.values())
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, each.name, None) for each in fields(value)]
    return list(getattr(value, "__dict__", {}).values())


def _is_mapping(value: Any) -> bool:
    return all(callable(getattr(value, name, None)) for name in ("keys", "values", "get"))
