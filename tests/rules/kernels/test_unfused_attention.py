"""unfused-attention: the chain is priced by the fused kernel's roofline, on a GPU and on a CPU."""

from __future__ import annotations

from typing import Any

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import MeasuredPeak
from mfu_doctor.rules.kernels.unfused_attention import unfused_attention
from tests.rules.drawing import BF16, BF16_PEAK, POINTWISE, TENSOR, compute, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

HEADS, SEQUENCE, WIDTH = 96, 2048, 64


def attention(*, fused: bool) -> Timeline:
    scores = [HEADS, SEQUENCE, SEQUENCE]
    flat = [HEADS, SEQUENCE, WIDTH]

    def body(drawn: Timeline) -> None:
        compute(drawn, 500)
        if fused:
            told: dict[str, Any] = {"dims": [[2, 48, SEQUENCE, WIDTH]] * 3, "types": [BF16] * 3}
            drawn.op("aten::_scaled_dot_product_flash_attention", kernel=900, kernel_name="flash_fwd_kernel", **told)
            return
        first: dict[str, Any] = {"dims": [flat, [HEADS, WIDTH, SEQUENCE]], "types": [BF16, BF16]}
        drawn.op("aten::bmm", kernel=1_500, kernel_name=TENSOR, **first)
        drawn.op("aten::div", kernel=1_000, kernel_name=POINTWISE)
        drawn.op(
            "aten::_softmax",
            kernel=1_500,
            kernel_name="softmax_warp_forward",
            dims=[scores, [], []],
            types=[BF16, "", ""],
        )
        second: dict[str, Any] = {"dims": [scores, flat], "types": [BF16, BF16]}
        drawn.op("aten::bmm", kernel=1_500, kernel_name=TENSOR, **second)

    return steps(body)


def test_written_out_attention_is_priced_by_the_fused_kernels_roofline() -> None:
    flops = 4 * HEADS * SEQUENCE * SEQUENCE * WIDTH
    price = price_us(unfused_attention, run_of(attention(fused=False)))
    for saved, efficiency in ((price.low_ns, 0.3), (price.mid_ns, 0.5), (price.high_ns, 0.7)):
        assert saved == close(5_500 - flops / BF16_PEAK / efficiency * 1e6)
    assert "scaled_dot_product_attention" in found(unfused_attention, run_of(attention(fused=False))).fix


def called(*, dropout: bool, device: bool) -> Run:
    """scaled_dot_product_attention that takes its slow path, as nn.MultiheadAttention calls it."""
    scores, flat = [HEADS, 256, 256], [HEADS, 256, WIDTH]

    def body(drawn: Timeline) -> None:
        took: dict[str, Any] = {"kernel": 1_500} if device else {"host": 1_500}
        drawn.op("aten::mm", **took)
        with drawn.span("aten::scaled_dot_product_attention", "cpu_op"):
            drawn.python(1)
            with drawn.span("aten::_scaled_dot_product_attention_math", "cpu_op"):
                drawn.python(1)
                drawn.op("aten::bmm", dims=[flat, [HEADS, WIDTH, 256]], types=["float", "float"], **took)
                drawn.op("aten::_softmax", dims=[scores, [], []], types=["float", "", ""], **took)
                if dropout:
                    drawn.op("aten::bernoulli_", **took)
                drawn.op("aten::bmm", dims=[scores, flat], types=["float", "float"], **took)

    peak = MeasuredPeak(dtype="fp32", flops=4.0 * HEADS * 256 * 256 * WIDTH / 0.5e-3, threads=1, how="a test")
    return run_of(steps(body, device=device), **({} if device else {"measured_peaks": (peak,)}))


def test_attention_that_was_written_out_is_told_what_the_fused_call_does_otherwise() -> None:
    """A model with a scale of its own, or whose mask is True where scores are dropped, would train on something else."""
    written = found(unfused_attention, run_of(attention(fused=False)))
    assert "scales by 1/sqrt(head size) unless scale= is given" in (written.detail or "")
    assert "keeps scores where a boolean mask is True" in (written.detail or "")


def test_attention_that_is_called_already_is_not_advised_again() -> None:
    """nn.TransformerEncoderLayer with dropout calls it; no fused CPU kernel drops scores."""
    on_cpu = found(unfused_attention, called(dropout=True, device=False))
    assert on_cpu.fix.startswith("y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0)")
    assert on_cpu.risk == "convergence"
    assert on_cpu.is_choice  # BERT's defaults drop scores: that is no fault of who trains it
    assert on_cpu.summary.startswith("Dropout of the scores keeps attention from its fused kernel: ")
    for run in (called(dropout=False, device=False), called(dropout=True, device=True)):
        other = found(unfused_attention, run)
        assert other.fix.startswith("with sdpa_kernel(")
        assert "in use" in (other.detail or "")


def test_fused_attention_is_no_finding() -> None:
    silent(unfused_attention, run_of(attention(fused=True)))


def test_a_written_out_attention_on_a_cpu_counts_all_stretches_of_an_operator() -> None:
    """A product that resolves its operand midway is two stretches of 500 us; fused, 2 x 1000 of products become their FLOPs."""
    heads, length, width = 8, 512, 64
    operand, scores = [heads, length, width], [heads, length, length]
    peak = MeasuredPeak(dtype="fp32", flops=4.0 * heads * length * length * width / 0.5e-3, threads=1, how="a test")
    drawn = Timeline(device=None)
    for _ in range(5):
        with drawn.step():
            drawn.op("aten::mm", host=3_000)
            for operands, softmax in (([operand, [heads, width, length]], True), ([scores, operand], False)):
                with drawn.span("aten::bmm", "cpu_op", dims=operands, types=["float", "float"]):
                    drawn.python(500)
                    drawn.op("aten::resolve_conj", host=2)
                    drawn.python(500)
                if softmax:
                    drawn.op("aten::_softmax", host=400, dims=[scores, [], []], types=["float", "Scalar", "Scalar"])
            drawn.op("aten::mm", host=3_000)
    run = run_of(drawn, measured_peaks=(peak,))
    now = 2 * 1_002 + 400
    assert price_us(unfused_attention, run).mid_ns == close(now - 500 / 0.4)


def test_scores_that_are_sums_are_no_attention_of_products() -> None:
    """Graph attention: a score is a part for the one node and one for the other, which no fused kernel computes."""
    scores, nodes = [4, 512, 512], [4, 512, 16]

    def body(drawn: Timeline) -> None:
        drawn.op("aten::bmm", dims=[nodes, [4, 16, 1]], types=["float", "float"], kernel=20)
        drawn.op("aten::add", dims=[[4, 1, 512], [4, 512, 1]], types=["float", "float"], kernel=300)
        drawn.op("aten::_softmax", dims=[scores, [], []], types=["float", "", ""], kernel=300)
        drawn.op("aten::bmm", dims=[scores, nodes], types=["float", "float"], kernel=300)
        # backward, in which the product of the next layer follows the softmax
        drawn.op("aten::bmm", dims=[nodes, [4, 16, 512]], types=["float", "float"], kernel=300)
        drawn.op(
            "aten::_softmax_backward_data", dims=[scores, scores, [], []], types=["float", "float", "", ""], kernel=300
        )
        drawn.op("aten::bmm", dims=[scores, nodes], types=["float", "float"], kernel=300)
        drawn.op("aten::bmm", dims=[nodes, [4, 16, 512]], types=["float", "float"], kernel=300)
        drawn.sync()

    silent(unfused_attention, run_of(steps(body)))
