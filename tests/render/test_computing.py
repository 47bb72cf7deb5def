"""A step that mostly computes at a low MFU: what computes there is told beside it."""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.render.words.computing import of_computing
from mfu_doctor.result.run import DeviceInfo, Mfu
from mfu_doctor.result.step import OTHER_KERNELS, Bar
from tests.goldens import loader_bound

BARS = (
    Bar(name="ideal", seconds=0.0011, group="achieved", basis="measured"),
    Bar(name="memory-bound matmuls", seconds=0.0119, group="matmul", basis="modelled"),
    Bar(name="layout conversion", seconds=0.0343, group=OTHER_KERNELS, basis="measured"),
)


def test_what_computes_is_told_where_that_has_most_of_the_step() -> None:
    """ "61 % computing, MFU 1.4 %": 1.1 of the 47 ms are matmuls at peak, and nothing on the first screen said so."""
    report = replace(loader_bound(), waterfall=BARS, bound="compute-bound")
    assert of_computing(report) == "compute: matmuls 13.0 ms (1.10 ms at peak), other kernels 34.3 ms"
    assert of_computing(replace(report, device=DeviceInfo(kind="cpu"))).endswith("other operators 34.3 ms")
    assert of_computing(replace(report, bound="input-bound")) == ""
    assert of_computing(replace(report, mfu=Mfu())) == ""
