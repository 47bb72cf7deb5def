"""tf32-off: fp32 kernels on an A100 are priced by the TF32 roofline; TF32 kernels, bf16 and GeForce cards are no finding."""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import PrecisionFacts
from mfu_doctor.rules.tf32_off import tf32_off
from tests.rules.judging import close, found, price_us, run_of
from tests.timeline import Timeline

N = 4096
FLOP, FP32, TF32 = 2 * N**3, 19.5e12, 156e12  # A100
SGEMM, TF32_GEMM = "ampere_sgemm_128x128_tn", "cutlass_80_tensorop_s1688gemm_256x64_16x4_nn_align4"


def loop(kernel: str, us: int, *, types: str = "float", device: str = "NVIDIA A100-SXM4-80GB", idle: int = 0) -> Run:
    drawn = Timeline(device=device, sms=108 if "A100" in device else 82)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", kernel=us, kernel_name=kernel, dims=[[N, N], [N, N]], types=[types, types])
            drawn.python(idle)
    return run_of(drawn, precision=PrecisionFacts(float32_matmul_precision="highest"))


def test_products_on_cuda_cores_are_priced_by_the_tf32_roofline() -> None:
    price = price_us(tf32_off, loop(SGEMM, 9_000))
    assert price.low_ns == close(9_000 - 9_000 / (TF32 / FP32) ** 0.5)
    assert price.high_ns == close(9_000 - FLOP / (0.8 * TF32) * 1e6)
    assert 'is "highest"' in (found(tf32_off, loop(SGEMM, 9_000)).detail or "")


def test_tf32_and_bf16_products_are_no_finding() -> None:
    assert tf32_off.judge(loop(TF32_GEMM, 1_200)) is None
    assert tf32_off.judge(loop("ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_tn", 600, types="c10::BFloat16")) is None


def test_a_card_whose_tf32_is_no_faster_is_no_finding() -> None:
    assert tf32_off.judge(loop(SGEMM, 9_000, device="NVIDIA GeForce RTX 3090")) is None


def test_a_host_bound_run_gains_nothing() -> None:
    assert price_us(tf32_off, loop(SGEMM, 500, idle=9_000)).high_ns < 100
