"""tf32-off: fp32 kernels on an A100 are priced by the TF32 roofline; TF32 kernels, bf16 and GeForce cards are no finding."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import PrecisionFacts
from mfu_doctor.rules.kernels.tf32_off import tf32_off
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

N = 4096
FLOP, FP32, TF32 = 2 * N**3, 19.5e12, 156e12  # A100
A100, HIGHEST = "NVIDIA A100-SXM4-80GB", PrecisionFacts(float32_matmul_precision="highest", matmul_tf32=False)
SGEMM, TF32_GEMM = "ampere_sgemm_128x128_tn", "cutlass_80_tensorop_s1688gemm_256x64_16x4_nn_align4"


def loop(
    kernel: str,
    us: int,
    *,
    types: str = "float",
    device: str = A100,
    idle: int = 0,
    precision: PrecisionFacts = HIGHEST,
) -> Run:
    drawn = Timeline(device=device, sms=108 if "A100" in device else 82)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", kernel=us, kernel_name=kernel, dims=[[N, N], [N, N]], types=[types, types])
            drawn.python(idle)
    return run_of(drawn, precision=precision)


def test_products_on_cuda_cores_are_priced_by_the_tf32_roofline() -> None:
    price = price_us(tf32_off, loop(SGEMM, 9_000))
    assert price.low_ns == close(9_000 - 9_000 / (TF32 / FP32) ** 0.5)
    assert price.high_ns == close(9_000 - FLOP / (0.8 * TF32) * 1e6)
    assert 'is "highest"' in (found(tf32_off, loop(SGEMM, 9_000)).detail or "")


def test_tf32_and_bf16_products_are_no_finding() -> None:
    silent(tf32_off, loop(TF32_GEMM, 1_200))
    silent(tf32_off, loop("ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_tn", 600, types="c10::BFloat16"))


def test_a_product_without_arithmetic_to_speak_of_promises_nothing_at_the_low_end() -> None:
    """64 x 64 products of 50 us reach 0.05 % of the peak: an eighth of their arithmetic is an eighth of nothing."""
    drawn = Timeline()
    for _ in range(5):
        with drawn.step():
            for _ in range(20):
                drawn.op("aten::mm", kernel=50, host=5, kernel_name=SGEMM, dims=[[64, 64]] * 2, types=["float"] * 2)
    assert price_us(tf32_off, run_of(drawn)).low_ns < 0.01 * 1_000


def test_a_product_never_takes_less_than_its_traffic() -> None:
    """A product of 16 rows reads a whole matrix: 4-byte operands stay 4 bytes in TF32."""
    drawn = Timeline()
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", kernel=400, kernel_name=SGEMM, dims=[[16, 8192], [8192, 8192]], types=["float"] * 2)
    moved = 4 * (8192 * 8192 + 2 * 16 * 8192) / 2039e9 * 1e6
    price = price_us(tf32_off, run_of(drawn))
    assert price.high_ns == pytest.approx(400 - moved, abs=3)


def test_without_shapes_it_is_a_hint_by_the_root_of_the_ratio() -> None:
    drawn = Timeline()
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", kernel=9_000, kernel_name=SGEMM)
    assert found(tf32_off, run_of(drawn)).confidence == "hint"
    assert price_us(tf32_off, run_of(drawn)).high_ns == close(9_000 - 9_000 / (TF32 / FP32) ** 0.5)


@pytest.mark.parametrize(("allowed", "fires"), [(True, False), (False, True), (None, True)])
def test_products_that_may_use_tf32_already_are_no_finding(allowed: bool | None, fires: bool) -> None:
    """A kernel's name need not tell TF32, and what stays on CUDA cores all the same is not for this setting to move."""
    run = loop(SGEMM, 9_000, precision=PrecisionFacts(matmul_tf32=allowed, cudnn_tf32=True))
    if fires:
        found(tf32_off, run)
    else:
        silent(tf32_off, run)


@pytest.mark.parametrize(("allowed", "fires"), [(True, False), (False, True)])
def test_convolutions_have_a_setting_of_their_own(allowed: bool, fires: bool) -> None:
    drawn = Timeline()
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::cudnn_convolution", kernel=900, kernel_name="implicit_convolve_sgemm")
    run = run_of(drawn, precision=PrecisionFacts(matmul_tf32=True, cudnn_tf32=allowed))
    if fires:
        assert found(tf32_off, run).fix == "torch.backends.cudnn.allow_tf32 = True"
    else:
        silent(tf32_off, run)


def test_a_card_whose_tf32_is_no_faster_is_no_finding() -> None:
    silent(tf32_off, loop(SGEMM, 9_000, device="NVIDIA GeForce RTX 3090"))


def test_a_host_bound_run_gains_nothing() -> None:
    assert price_us(tf32_off, loop(SGEMM, 500, idle=9_000)).high_ns < 100
