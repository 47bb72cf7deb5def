"""repeated-cast: weights need one cast a step, not one a micro-batch."""

from __future__ import annotations

from typing import Any

from mfu_doctor.rules.kernels.repeated_cast import repeated_cast
from tests.rules.drawing import BF16, POINTWISE, compute, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def casts(micro: int) -> Any:
    def body(drawn: Timeline) -> None:
        for _ in range(micro):
            told: dict[str, Any] = {"dims": [[4096, 4096], [4096, 4096], []], "types": [BF16, "float", ""]}
            drawn.op("aten::copy_", kernel=100, kernel_name=POINTWISE, **told)
            compute(drawn, 500)

    return run_of(steps(body), micro_batches=float(micro))


def test_weights_cast_in_each_of_four_micro_batches_need_one_cast() -> None:
    assert price_us(repeated_cast, casts(4)).mid_ns == close(300)
    silent(repeated_cast, casts(1))


def test_the_fix_changes_nothing_that_is_trained() -> None:
    """The only fix that was shown stored the weights in 16 bits, which can change convergence."""
    finding = found(repeated_cast, casts(4))
    assert finding.fix.startswith("with torch.autocast(")
    assert finding.risk == "none"
    assert price_us(repeated_cast, casts(4)).high_ns == close(300)
