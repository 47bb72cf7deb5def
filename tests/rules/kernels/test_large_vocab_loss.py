"""large-vocab-loss: the passes over the logits are priced; a classifier's loss is no finding."""

from __future__ import annotations

from mfu_doctor.rules.kernels.large_vocab_loss import large_vocab_loss
from tests.rules.drawing import between
from tests.rules.judging import close, price_us, run_of, silent


def test_a_loss_over_a_large_vocabulary_is_priced_by_its_passes() -> None:
    wide = {"dims": [[8192, 50304], [], []], "types": ["float", "", ""]}
    price = price_us(large_vocab_loss, run_of(between(("aten::_log_softmax", 1_000, "softmax_fwd"), **wide)))
    assert price.low_ns == close(250)
    assert price.mid_ns == close(500)
    narrow = {"dims": [[8192, 1000], [], []], "types": ["float", "", ""]}
    silent(large_vocab_loss, run_of(between(("aten::_log_softmax", 1_000, "softmax_fwd"), **narrow)))
