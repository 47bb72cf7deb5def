"""Which softmaxes read scores with a bias of their own: each by what its thread ran since the softmax before it."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from mfu_doctor.analysis.evidence.score_bias import has_own_bias
from mfu_doctor.analysis.names.vocabulary import rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.trace import Category
from tests.rules.judging import run_of
from tests.timeline import HOST, Timeline

SOFTMAX = re.compile("^aten::_softmax$")
HEADS, T, D = 8, 64, 32
SCORES, QUERIES, KEYS, MASK = [HEADS, T, T], [HEADS, T, D], [HEADS, D, T], [T, T]
PLAIN = (("aten::bmm", QUERIES, KEYS), ("aten::add", SCORES, MASK))
SUMMED = (("aten::bmm", QUERIES, KEYS), ("aten::add", SCORES, SCORES))  # one product, and a mask of the full size
BIASED = (("aten::bmm", QUERIES, KEYS), *SUMMED)
LATE = (("aten::bmm", QUERIES, KEYS), ("aten::add", SCORES, SCORES), ("aten::bmm", QUERIES, KEYS))


def attentions(kinds: list[tuple[tuple[str, list[int], list[int]], ...]], threads: list[int]) -> Run:
    """One softmax after the operators of each of these, on these threads; all in one step, interleaved."""
    drawn = Timeline(device=None)
    ops: dict[int, list[tuple[str, list[list[int]]]]] = {thread: [] for thread in threads}
    for kind, thread in zip(kinds, threads, strict=True):
        ops[thread] += [(name, [left, right]) for name, left, right in kind]
        ops[thread].append(("aten::_softmax", [SCORES]))
    with drawn.step():
        for at in range(max(map(len, ops.values()))):
            for thread, mine in ops.items():
                if at < len(mine):
                    name, dims = mine[at]
                    drawn.op(name, dims=dims, types=["float"] * len(dims), host=10, tid=thread)
    return run_of(drawn)


def told(run: Run) -> list[bool]:
    softmax = rows_matching(run.trace, SOFTMAX, run.trace.rows(Category.CPU_OP))
    order = np.lexsort((run.trace.events.start[softmax], run.trace.events.track[softmax]))
    return [bool(biased) for biased in has_own_bias(run, softmax[order])]


def test_each_softmax_is_judged_by_what_came_since_the_one_before_it() -> None:
    kinds = [PLAIN, BIASED, SUMMED, LATE, BIASED, PLAIN]
    assert told(attentions(kinds, [HOST] * 6)) == [False, True, False, False, True, False]


@pytest.mark.parametrize("seed", range(4))
def test_many_on_two_threads_at_once_are_told_apart(seed: int) -> None:
    drawn = random.Random(seed)
    kinds = [drawn.choice([PLAIN, BIASED, SUMMED, LATE]) for _ in range(60)]
    threads = sorted(drawn.choice([HOST, HOST + 1]) for _ in kinds)
    assert told(attentions(kinds, threads)) == [kind is BIASED for kind in kinds]
