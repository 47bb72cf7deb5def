"""The drawn step: bounded, complete, and honest about what it merges."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from mfu_doctor.analysis.names.short_names import short_name
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.summary.drawing import MOST_BLOCKS, OWNER_LANE, draw_step
from mfu_doctor.render.html.html import render_html
from mfu_doctor.result.report import Report
from mfu_doctor.result.run import RunInfo
from mfu_doctor.result.step import Block, Drawing
from mfu_doctor.trace import Category, DeviceProperties, Events, Trace, Track
from tests.steps import median_split
from tests.timeline import Timeline

KERNELS = 100_000


def drawn_run() -> Run:
    """Three steps: a fetch, two matmuls, a copy of the loss that waits."""
    timeline = Timeline()
    for _ in range(3):
        with timeline.step():
            timeline.fetch(400)
            timeline.op("aten::mm", kernel=300, kernel_name="void gemm<float>(int)")
            timeline.op("aten::mm", kernel=300, kernel_name="void gemm<float>(int)")
            timeline.item()
            timeline.python(50)
    return Run(timeline.trace())


def crowded_run() -> Run:
    """Two steps of 100,000 kernels of 2 us, 3 us apart, of two names in turn; built as columns because drawing them is slow."""
    count = 2 * KERNELS
    launch = np.arange(count, dtype=np.int64) * 3_000
    mark = np.array([0, KERNELS * 3_000], np.int64)
    start = np.concatenate((mark, launch, launch + 1_500))
    end = np.concatenate((mark + KERNELS * 3_000, launch + 1_000, launch + 3_500))
    order = np.lexsort((-end, start))
    names = np.concatenate((np.array([0, 1]), np.full(count, 2), np.where(np.arange(count) % 2, 3, 4)))
    kind = np.repeat([Category.ANNOTATION, Category.RUNTIME, Category.KERNEL], [2, count, count])
    track = np.repeat([0, 0, 1], [2, count, count])
    link = np.concatenate((np.array([-1, -1]), np.arange(count) + 1, np.arange(count) + 1))
    minus = np.full(len(order), -1, np.int32)
    events = Events(
        start=start[order],
        end=end[order],
        name=names[order].astype(np.int32),
        category=kind[order].astype(np.uint8),
        track=track[order].astype(np.int16),
        correlation=link[order].astype(np.int64),
        external_id=minus,
        sequence=minus,
        args=minus,
    )
    return Run(
        Trace(
            events=events,
            names=("ProfilerStep#0", "ProfilerStep#1", "cudaLaunchKernel", "void elementwise_kernel<4>(int)", "gemm"),
            tracks=(Track("1", "1"), Track("0", "7", 0)),
            devices=(DeviceProperties(0, "NVIDIA A100-SXM4-80GB", 8, 0, 108),),
        )
    )


def lane(drawing: Drawing, name: str) -> list[Block]:
    index = next(i for i, label in enumerate(drawing.lanes) if label.startswith(name))
    return [block for block in drawing.blocks if block.lane == index]


def test_lanes_are_host_then_owner_then_streams() -> None:
    drawing = draw_step(drawn_run())
    assert drawing.lanes == ("host thread 100 (training)", OWNER_LANE, "stream 7")


def test_every_kernel_of_a_small_step_is_drawn_as_it_was() -> None:
    """Where there is room, nothing is merged: two matmuls of 300 us and a copy of 2 us."""
    run = drawn_run()
    blocks = lane(draw_step(run), "stream 7")
    assert [(b.kind, b.label, round((b.end_s - b.start_s) * 1e6)) for b in blocks] == [
        ("matmul", "gemm", 300),
        ("matmul", "gemm", 300),
        ("memory_copy", "Memcpy DtoH", 2),
    ]
    assert all(b.count == 1 for b in blocks)


def test_owners_fill_the_step_without_gap_or_overlap() -> None:
    drawing = draw_step(drawn_run())
    owners = sorted(lane(drawing, OWNER_LANE), key=lambda b: b.start_s)
    assert owners[0].start_s == 0
    assert owners[-1].end_s == pytest.approx(drawing.step_s)
    assert all(a.end_s == pytest.approx(b.start_s) for a, b in pairwise(owners))
    assert "data_loading" in {b.kind for b in owners}


def test_fetches_and_waits_are_on_the_host_row() -> None:
    kinds = [b.kind for b in lane(draw_step(drawn_run()), "host thread 100")]
    assert "data_loading" in kinds
    assert "host-wait" in kinds


def test_a_hundred_thousand_kernels_stay_drawable() -> None:
    """The bound holds, every kernel is counted, and the time drawn as busy is the time that was busy."""
    run = crowded_run()
    drawing = draw_step(run)
    assert len(drawing.blocks) <= MOST_BLOCKS
    stream = lane(drawing, "stream 7")
    assert sum(b.count for b in stream) == pytest.approx(KERNELS, abs=2)
    busy = sum(b.end_s - b.start_s if b.busy_s is None else b.busy_s for b in stream)
    assert busy == pytest.approx(KERNELS * 2e-6, rel=1e-3)
    assert all(b.busy_s is None or b.busy_s <= b.end_s - b.start_s + 1e-12 for b in stream)


def test_merged_owners_keep_their_areas() -> None:
    """Between short kernels there are short gaps: a third of the row is idle after merging as before."""
    run = crowded_run()
    drawing = draw_step(run)
    split = median_split(run)
    for kind, expected in (("compute", split.compute), ("idle", split.idle)):
        causes = {kind} if kind == "compute" else set(split.causes)
        area = sum(b.end_s - b.start_s for b in lane(drawing, OWNER_LANE) if b.kind in causes)
        assert area == pytest.approx(expected / 1e9, rel=1e-6)


def test_page_of_a_hundred_thousand_kernels_is_small() -> None:
    drawing = draw_step(crowded_run())
    page = render_html(Report(run=RunInfo(trace="crowded.json"), drawing=drawing))
    assert len(page.encode()) < 300_000


def test_a_run_without_a_device_draws_its_threads() -> None:
    timeline = Timeline(device=None)
    for _ in range(2):
        with timeline.step():
            timeline.op("aten::mm", host=500)
            timeline.op("aten::add", host=100)
    drawing = draw_step(Run(timeline.trace()))
    assert [b.kind for b in lane(drawing, "operators on thread 100")] == ["matmul", "elementwise"]


@pytest.mark.parametrize(
    ("full", "short"),
    [
        (
            "void at::native::vectorized_elementwise_kernel<4, F<float>, std::array<char*, 3ul>>(int, F)",
            "vectorized_elementwise_kernel",
        ),
        ("void (anonymous namespace)::softmax_warp_forward<float, 8>(float*, int) [clone .kd]", "softmax_warp_forward"),
        ("ampere_sgemm_128x64_tn", "ampere_sgemm_128x64_tn"),
        ("aten::_local_scalar_dense", "aten::_local_scalar_dense"),
        ("Memcpy HtoD (Pageable -> Device)", "Memcpy HtoD"),
        (
            "void cutlass::Kernel<cutlass_80_tensorop_s1688gemm_128x128>(Params)",
            "cutlass_80_tensorop_s1688gemm_128x128",
        ),
        ("<lambda>", "<lambda>"),
        ("", ""),
    ],
)
def test_short_names_are_what_people_say(full: str, short: str) -> None:
    assert short_name(full) == short


def test_templates_are_left_out_of_names_however_deep_they_are() -> None:
    assert short_name("void a::k<b<c>, d<e<f>>>(int)") == "k"
    assert short_name("k" + "<" * 9_000 + "x" + ">" * 9_000 + "y") == "ky"
    assert short_name("k<a<b>") == "k"  # one that is never closed
