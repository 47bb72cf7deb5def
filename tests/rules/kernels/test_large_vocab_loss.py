"""large-vocab-loss: the passes over the logits are priced; a classifier's loss is no finding."""

from __future__ import annotations

from mfu_doctor.rules.kernels.large_vocab_loss import large_vocab_loss
from tests.rules.drawing import POINTWISE, SGEMM, between, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def test_a_loss_over_a_large_vocabulary_is_priced_by_its_passes() -> None:
    wide = {"dims": [[8192, 50304], [], []], "types": ["float", "", ""]}
    price = price_us(large_vocab_loss, run_of(between(("aten::_log_softmax", 1_000, "softmax_fwd"), **wide)))
    assert price.low_ns == close(250)
    assert price.mid_ns == close(500)
    narrow = {"dims": [[8192, 1000], [], []], "types": ["float", "", ""]}
    silent(large_vocab_loss, run_of(between(("aten::_log_softmax", 1_000, "softmax_fwd"), **narrow)))


N, V = 512, 32_768


def written_out(*, width: int = V, product: bool = True, target: bool = True) -> Timeline:
    """A language model whose loss is a product with one-hot targets in float64: 3 ms around a matmul of 1 ms."""
    logits = [4, N // 4, width]

    def body(t: Timeline) -> None:
        dims = [[N, 64], [64, width if product else 64]]
        t.op("aten::mm", kernel=1_000, kernel_name=SGEMM, dims=dims, types=["float", "float"])
        for name, us, types in (
            ("aten::scatter_" if target else "aten::relu", 200, ["long int", "long int"]),
            ("aten::copy_", 600, ["double", "float"]),
            ("aten::mul", 1_200, ["double", "double"]),
            ("aten::sum", 400, ["double"]),
            ("aten::div", 600, ["double"]),
        ):
            t.op(name, kernel=us, kernel_name=POINTWISE, dims=[logits] * len(types), types=types)
        t.sync()

    return steps(body)


def test_a_loss_that_is_written_out_is_found_by_the_width_of_the_logits() -> None:
    run = run_of(written_out())
    finding = found(large_vocab_loss, run)
    assert f"512 x {V:,} logits" in finding.summary
    assert finding.fix.startswith("loss = F.cross_entropy(logits.flatten(0, -2), target.flatten())")
    passes = next(e.value for e in finding.evidence if e.name == "reads and writes of all logits")
    # int64 counts as two fp32 logits, float64 too: scatter 3 x 2, copy 2 + 1 + 2, mul 3 x 2, sum 2, div 2 x 2
    assert isinstance(passes, float)
    assert 20 <= passes <= 24
    price = price_us(large_vocab_loss, run)
    assert price.mid_ns == close(3_000 * (1 - 6 / passes))
    assert price.low_ns == close(0.7 * 3_000 * (1 - 6 / passes))
    assert price.high_ns == close(3_000 * (1 - 3 / passes))


def test_wide_activations_are_no_loss() -> None:
    """Samples of audio are as many as the words of a language; no matmul makes them, and no loss follows one that does."""
    silent(large_vocab_loss, run_of(written_out(product=False)))
    silent(large_vocab_loss, run_of(written_out(target=False)))
    silent(large_vocab_loss, run_of(written_out(width=1_024)))
