"""The latest operation of each stream, as issuing goes on: what a wait for a stream or for the whole device waits for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

import numpy as np
import numpy.typing as npt

# Hardware queues of a device (the most that CUDA_DEVICE_MAX_CONNECTIONS takes), so no more streams work at a time. What waits for
# more of them waits for those that come last: the others are done by then.
MOST_STREAMS = 32


class Latest:
    """The latest operation of each stream among the first ones, in the order of a key.

    A new operation takes the place of the one before it on its stream, so that a wait costs no search through all streams.

    Args:
        stream: of each operation in issue order, shape (k,).
        key: what they are ordered by (when they ended, when they were issued), shape (k,).
    """

    def __init__(self, stream: npt.NDArray[np.int64], key: npt.NDArray[np.int64]) -> None:
        self._stream: list[int] = stream.tolist()
        self._key: list[int] = key.tolist()
        self._seen = 0
        self._of_stream: dict[int, tuple[int, int, int]] = {}
        self._ordered: list[tuple[int, int, int]] = []

    def among(self, count: int, until: int) -> list[int]:
        """Of the latest ones among the first `count` operations those with a key up to `until`, at most the last MOST_STREAMS.

        Ordered by key, of equal ones the lowest stream last. `count` never gets smaller from call to call.
        """
        newest = dict(zip(self._stream[self._seen : count], range(self._seen, count), strict=True))
        for stream, index in newest.items():
            if stream in self._of_stream:
                del self._ordered[bisect_left(self._ordered, self._of_stream[stream])]
            self._of_stream[stream] = (self._key[index], -stream, index)
            insort(self._ordered, self._of_stream[stream])
        self._seen = count
        end = bisect_right(self._ordered, (until, 1, 0))
        return [index for _, _, index in self._ordered[max(end - MOST_STREAMS, 0) : end]]
