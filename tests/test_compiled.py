"""The compiled core gives what Python gives, to the last bit; what stands in its way is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mfu_doctor import compiled
from mfu_doctor.analysis.replay.model import Calls, Delivery, Operations, Timeline
from mfu_doctor.analysis.replay.walk import walked_in_core, walked_in_python
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.activity import self_time, self_time_in_python
from mfu_doctor.analysis.views.nesting import parents, parents_in_python
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.reading import read_trace
from mfu_doctor.result.stored import to_json
from tests.both_ways import MISSING, forget, in_python, needs_core
from tests.traces import ROOT, TRACES

FIXTURES = sorted((ROOT / "tests" / "fixtures").glob("*.json*"))
REAL = sorted(TRACES.glob("*.pt.trace.json.gz"))
WHOLE = st.integers(0, 10**15)
TIMES = st.one_of(WHOLE.map(float), st.floats(-1e4, 1e9, allow_nan=False), st.just(0.0))


def doubles(draw: st.DrawFn, count: int) -> npt.NDArray[np.float64]:
    return np.array(draw(st.lists(TIMES, min_size=count, max_size=count)), np.float64)


def indices(draw: st.DrawFn, count: int, *, before: bool = True) -> npt.NDArray[np.int64]:
    """For each of so many an index before its own, or -1."""
    return np.array([draw(st.integers(-1, i - 1 if before else count - 1)) for i in range(count)], np.int64)


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """Timelines of all that a walk knows, more tangled than any program's."""
    m, k, streams = draw(st.integers(1, 12)), draw(st.integers(0, 20)), draw(st.integers(1, 3))
    start = np.array(sorted(draw(st.lists(WHOLE, min_size=m, max_size=m))), np.int64)
    operations = Operations(
        entry=np.arange(k),
        call=np.sort(np.array(draw(st.lists(st.integers(-1, m - 1), min_size=k, max_size=k)), np.int64)),
        start=np.array(draw(st.lists(WHOLE, min_size=k, max_size=k)), np.int64),
        stream=np.array(draw(st.lists(st.integers(0, streams), min_size=k, max_size=k)), np.int64),
        duration=doubles(draw, k),
        latency=doubles(draw, k),
        gap=doubles(draw, k),
        waits=tuple(
            draw(st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1), TIMES), max_size=6)) if k else ()
        ),
        link=np.array(draw(st.lists(st.integers(0, 2), min_size=k, max_size=k)), np.int8),
    )
    targets = st.lists(st.integers(0, k - 1), min_size=1, max_size=3).map(tuple)
    paced = (
        draw(st.lists(st.tuples(st.integers(1, m - 1), TIMES), max_size=3, unique_by=lambda p: p[0])) if m > 1 else []
    )
    calls = Calls(
        row=np.arange(m),
        start=start,
        end=start,
        after=indices(draw, m),
        own=indices(draw, m),
        gap=doubles(draw, m),
        cost=doubles(draw, m),
        tail=doubles(draw, m),
        waits=tuple(draw(st.lists(st.tuples(st.integers(0, m - 1), targets), max_size=4)) if k else ()),
        deliveries=tuple(Delivery(call, draw(st.integers(0, call - 1)), after, 0, 0) for call, after in paced),
    )
    limit, two_way = draw(st.integers(1, 6)), draw(st.booleans())
    return Timeline(calls, operations, (), operations, operations, 1.0, limit, two_way=two_way)


@needs_core
@given(timelines())
@settings(max_examples=400, deadline=None)
def test_a_walk_is_the_same_to_the_last_bit(timeline: Timeline) -> None:
    ours, core = walked_in_python(timeline), walked_in_core(timeline)
    assert core is not None
    for name in ("call_end", "op_start", "op_end"):
        assert getattr(core, name).tobytes() == getattr(ours, name).tobytes(), name


@needs_core
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(-3, 60), st.booleans()), max_size=30))
@settings(max_examples=400, deadline=None)
def test_nested_events_are_the_same(drawn: list[tuple[int, int, bool]]) -> None:
    events = sorted(drawn, key=lambda event: (event[0], -event[1]))
    rows = 7 * np.arange(len(events)) + 3
    start = 1000 * np.array([begin for begin, _, _ in events], np.int64)
    end = start + 1000 * np.array([length for _, length, _ in events], np.int64)
    spans = np.array([span for _, _, span in events], np.bool_)
    assert parents(rows, start, end, spans).tolist() == parents_in_python(rows, start, end, spans).tolist()
    assert self_time(rows, start, end).tolist() == self_time_in_python(rows, start, end).tolist()


@needs_core
@pytest.mark.parametrize("path", [*FIXTURES, *REAL], ids=lambda path: path.name)
def test_a_report_is_the_same(path: Path) -> None:
    with_core = report_of(path)
    with in_python():
        assert report_of(path) == with_core


def report_of(path: Path) -> bytes:
    return to_json(replace(diagnose_run(Run(read_trace(path))).report, created=""))


def test_without_the_core_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with in_python():
        assert {compiled.why_not(module) for module in compiled.MODULES} == {f"{compiled.PURE} is set"}
        assert compiled.core(compiled.WALK) is None
    monkeypatch.setattr(compiled, "AGREED", compiled.AGREED + 1)
    forget()
    assert compiled.why_not("mfu_doctor.no_such_core") == "it is not built"
    if not MISSING:
        assert compiled.why_not(compiled.WALK) == "it is built from an older source: install the package again"
    forget()
