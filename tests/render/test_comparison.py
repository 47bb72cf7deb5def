"""A comparison in a terminal: heads, kernels in full where there is room, colour only where it shows, and nothing cut."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace
from syrupy.assertion import SnapshotAssertion

from mfu_doctor.comparison.compare import Change, Comparison, Setting, compare
from mfu_doctor.render import render
from mfu_doctor.render.terminal.paint import Abilities
from tests.runs import finding, report_of, steady

SGR = re.compile(r"\x1b\[[0-9;]*m")
KERNEL = "void implicit_convolve_sgemm<float, float, 128, 6, 7, 3, 3, 5, 1, false, true, true>(int, int, int)"
FULL = "implicit_convolve_sgemm<float,float,128,6,7,3,3,5,1,false,true,true>"


def compared(after_step: float = 0.300) -> Comparison:
    """Two runs that differ in everything that is shown."""
    before = report_of(steady(0.412, 0.001), trace="before.json", diagnoses=(finding(),))
    fixed = finding(status="passed", summary="", fix=None, saving=None)
    after = report_of(steady(after_step, 0.001), trace="after.json", loading=0.02, diagnoses=(fixed,))
    return replace(
        compare(before, after),
        kernels=(Change(name=KERNEL, before=0.0111, after=0.0072), Change(name="gone", before=0.009, after=None)),
        counts=(Change(name="syncs", before=1.0, after=3.0, real=True),),
        settings=(Setting(name="tf32", before="False", after="True"),),
    )


@pytest.mark.parametrize("width", [80, 120])
def test_a_comparison_on_the_screen(width: int, snapshot: SnapshotAssertion) -> None:
    assert render(compared(), "terminal", screen=Abilities(width=width)) == snapshot


def test_kernels_stand_in_full_where_there_is_room() -> None:
    assert FULL in render(compared(), "terminal", screen=Abilities(width=120))
    assert FULL not in render(compared(), "terminal", screen=Abilities(width=80))
    assert FULL in render(compared(), "markdown").replace("\\", "").replace("&lt;", "<").replace("&gt;", ">")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_sentence_and_no_value_is_cut(width: int) -> None:
    long = Setting(name="PYTORCH_CUDA_ALLOC_CONF", before="unknown", after="expandable_segments:True," * 9)
    told = replace(compared(), before="a" * 90, settings=(long,), kernels=())
    text = render(told, "terminal", screen=Abilities(width=width))
    assert "..." not in text
    assert max(len(row) for row in text.splitlines()) <= width
    assert "".join(text.split()).count("expandable_segments:True,") == 9


def test_the_words_are_the_same_with_colour_and_without() -> None:
    coloured = render(compared(), "terminal", screen=Abilities(color=True))
    assert SGR.search(coloured)
    assert SGR.sub("", coloured) == render(compared(), "terminal")


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (0.300, "1.37x faster, more than the noise: step 412 ms to 300 ms (-27.2 %)"),
        (0.824, "2.00x slower, more than the noise: step 412 ms to 824 ms"),
        (0.0103, "40x faster, more than the noise"),
        (0.409, "1.01x faster, more than the noise"),
        (0.412, "as fast as before: step 412 ms to 412 ms"),
    ],
)
def test_the_ratio_comes_first(after: float, says: str) -> None:
    told = compared(after)
    for text in (render(told, "terminal", screen=Abilities(width=120)), render(told, "markdown")):
        assert says in " ".join(text.split())


def test_a_change_that_the_noise_hides_is_none() -> None:
    told = compared()
    hidden = replace(told, step=replace(told.step, real=False))
    assert "no change beyond the noise (1.37x faster): step" in render(hidden, "terminal")
    unsure = replace(told, step=replace(told.step, real=None))
    assert "1.37x faster (too few steps to know the noise): step" in render(unsure, "terminal")


def test_parts_that_are_of_another_step_say_of_which() -> None:
    """On a CPU the profiled step is another one than the step without the profiler."""
    assert "Step time breakdown  " in render(compared(), "terminal")
    profiled = replace(compared(), step=Change(name="step", before=0.5, after=0.29))
    assert "Step time breakdown (profiled: 412 ms to 300 ms)" in render(profiled, "terminal")


def test_a_prediction_of_nearly_any_step_proves_little() -> None:
    told = compared(0.331)
    assert "came true;" in render(told, "terminal")
    wide = replace(told, prediction=replace(told.prediction, low_s=0.1, high_s=0.4))
    assert "came true, but its range is too wide to prove much" in " ".join(render(wide, "terminal").split())
