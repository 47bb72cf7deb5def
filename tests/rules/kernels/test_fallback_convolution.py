"""fallback-convolution: convolutions in PyTorch's own kernels fire where oneDNN or cuDNN is off, and not where it is on."""

from __future__ import annotations

from typing import Any

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import MeasuredPeak, PrecisionFacts
from mfu_doctor.rules.kernels.fallback_convolution import fallback_convolution
from tests.rules.drawing import steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

INPUT, WEIGHT, OUTPUT = [64, 64, 32, 32], [64, 64, 3, 3], [64, 64, 32, 32]
FLOPS = 2 * 64 * 64 * 32 * 32 * 64 * 9  # of one convolution; its backward takes twice as many
PEAK = FLOPS / 1e-3  # one convolution takes a millisecond at the peak
CPU = (MeasuredPeak(dtype="float32", flops=PEAK, threads=2, how="a test", bandwidth_bytes_s=1e12),)
SLOW_US = 20_000
NNPACK, ONEDNN, CUDNN, SLOW = (
    "aten::_nnpack_spatial_convolution",
    "aten::mkldnn_convolution",
    "aten::cudnn_convolution",
    "aten::_slow_conv2d_forward",
)


def convolving(
    kernel: str, *, enabled: bool | None, device: bool = False, dtype: str = "float", us: int = SLOW_US
) -> Run:
    """Per step one convolution forward and backward of `us` and 2 x `us` in this kernel."""

    def work(drawn: Timeline, name: str, length: int, **told: Any) -> None:
        drawn.op(name, kernel=length if device else None, host=10 if device else length, **told)

    def body(drawn: Timeline) -> None:
        told = {
            "dims": [INPUT, WEIGHT, [], [], [], [], [], [], []],
            "types": [dtype, dtype, *[""] * 7],
            "concrete": ["", "", "", "[1, 1]", "[1, 1]", "[1, 1]", "False", "[0, 0]", "1"],
        }
        with drawn.span("aten::convolution", "cpu_op", **told):
            drawn.python(1)
            work(drawn, kernel, us, **told)
        back = {
            "dims": [OUTPUT, INPUT, WEIGHT, [], [], [], [], [], [], [], []],
            "types": [dtype, dtype, dtype, *[""] * 8],
            "concrete": [
                "",
                "",
                "",
                "[0]",
                "[1, 1]",
                "[1, 1]",
                "[1, 1]",
                "False",
                "[0, 0]",
                "1",
                "[True, True, False]",
            ],
        }
        work(drawn, "aten::convolution_backward", 2 * us, **back)

    precision = PrecisionFacts(onednn=enabled, cudnn=enabled)
    return run_of(steps(body, device=device), precision=precision, measured_peaks=() if device else CPU)


def test_on_a_cpu_the_peak_of_the_layer_is_what_remains() -> None:
    run = convolving(NNPACK, enabled=False)
    assert found(fallback_convolution, run).fix == "torch.backends.mkldnn.enabled = True"
    assert found(fallback_convolution, run).confidence == "modelled"
    price = price_us(fallback_convolution, run)
    at_peak = 3_000  # microseconds: one forward, and two for the two gradients
    assert price.low_ns == close(3 * SLOW_US - at_peak / 0.25)
    assert price.mid_ns == close(3 * SLOW_US - at_peak / 0.5)
    assert price.high_ns == close(3 * SLOW_US - at_peak)


def test_on_a_gpu_it_is_a_hint() -> None:
    run = convolving(SLOW, enabled=False, device=True)
    finding = found(fallback_convolution, run)
    assert finding.fix == "torch.backends.cudnn.enabled = True"
    assert finding.confidence == "hint"
    price = price_us(fallback_convolution, run)
    assert price.low_ns == close(0.1 * 3 * SLOW_US)
    assert price.high_ns == close(0.6 * 3 * SLOW_US)


def test_without_facts_it_is_a_hint_unless_other_convolutions_are_fast() -> None:
    assert found(fallback_convolution, convolving(NNPACK, enabled=None)).confidence == "hint"
    silent(fallback_convolution, convolving(ONEDNN, enabled=None))


def test_where_the_library_is_on_small_layers_may_run_without_it() -> None:
    silent(fallback_convolution, convolving(NNPACK, enabled=True))
    silent(fallback_convolution, convolving(CUDNN, enabled=True, device=True))


def test_a_dtype_that_the_library_does_not_have_is_not_its_switch() -> None:
    silent(fallback_convolution, convolving(NNPACK, enabled=False, dtype="double"))
