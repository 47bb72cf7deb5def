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


def dense_target(
    *,
    fill: str = "aten::fill_",
    index: int = 1,
    classes: int = 4_000,
    worth: int = 3_000,
    scatters: int = 1,
    products: int = 1,
    beside: tuple[int, ...] | None = None,
) -> Timeline:
    """Label smoothing with a target of a column per class, after products of 1 ms."""
    logits = [N, classes]

    def body(t: Timeline) -> None:
        for _ in range(products):
            t.op("aten::mm", kernel=1_000, kernel_name=SGEMM, dims=[[N, 64], [64, classes]], types=["float", "float"])
        t.op(
            "aten::_log_softmax", kernel=200, kernel_name="softmax_fwd", dims=[logits, [], []], types=["float", "", ""]
        )
        if beside is not None:
            t.op("aten::mul", kernel=9_000, kernel_name=POINTWISE, dims=[list(beside)] * 2, types=["float", "float"])
        with t.span(fill, dims=[logits, []], types=["float", ""]):
            t.op("aten::fill_", kernel=100, kernel_name=POINTWISE, dims=[logits, []], types=["float", ""])
        for _ in range(scatters):
            t.op(
                "aten::scatter_",
                kernel=20,
                kernel_name=POINTWISE,
                dims=[logits, [], [N, index], []],
                types=["float", "", "long int", ""],
            )
        for name in ("aten::xlogy", "aten::mul", "aten::sub"):
            t.op(name, kernel=worth // 3, kernel_name=POINTWISE, dims=[logits, logits], types=["float", "float"])
        t.sync()

    return steps(body)


def test_targets_with_a_column_per_class_are_found_over_few_classes() -> None:
    finding = found(large_vocab_loss, run_of(dense_target()))
    assert "label_smoothing=0.1)" in finding.fix
    assert "needs about 11" in (finding.detail or "")
    plain = found(large_vocab_loss, run_of(dense_target(fill="aten::zero_")))
    assert "label_smoothing of yours" in plain.fix


def test_targets_of_two_classes_each_are_no_class_numbers() -> None:
    silent(large_vocab_loss, run_of(dense_target(scatters=2)))  # mixup


def test_heads_as_wide_as_the_logits_are_not_charged_to_the_loss() -> None:
    alone, beside = dense_target(classes=512), dense_target(classes=512, beside=(4, N, 512))
    assert price_us(large_vocab_loss, run_of(beside)).mid_ns == close(price_us(large_vocab_loss, run_of(alone)).mid_ns)


def test_a_few_classes_are_no_large_vocabulary() -> None:
    silent(large_vocab_loss, run_of(dense_target(classes=10)))


def test_layers_as_wide_as_the_logits_are_not_the_loss() -> None:
    silent(large_vocab_loss, run_of(dense_target(products=3)))


def test_a_classifiers_own_loss_is_no_finding() -> None:
    silent(large_vocab_loss, run_of(dense_target(index=5)))  # the five best of each row are marked: no target
    silent(large_vocab_loss, run_of(dense_target(worth=30)))
