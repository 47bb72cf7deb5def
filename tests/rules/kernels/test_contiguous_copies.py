"""contiguous-copies: pairs that undo each other are certain, copies before operators with strides perhaps, others needed."""

from __future__ import annotations

from typing import Any

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.kernels.contiguous_copies import contiguous_copies
from tests.rules.drawing import POINTWISE, steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def loop(*ops: tuple[str, int, dict[str, Any]], device: bool = True) -> Run:
    """Per step a product of 2 ms and these operators (name, microseconds, arguments)."""

    def op(drawn: Timeline, name: str, us: int, **args: Any) -> None:
        drawn.op(name, kernel=us if device else None, host=10 if device else us, kernel_name=POINTWISE, **args)

    def body(drawn: Timeline) -> None:
        op(drawn, "aten::mm", 2_000)
        for name, us, args in ops:
            if name != "aten::contiguous":
                op(drawn, name, us, **args)
                continue
            with drawn.span(name, "cpu_op", **args):
                drawn.python(1)
                with drawn.span("aten::clone", "cpu_op", **args):
                    drawn.python(1)
                    op(drawn, "aten::copy_", us)

    return run_of(steps(body, device=device))


TURNED = {"dims": [[256, 4096], []], "strides": [[1, 256], []]}
BACK = {"dims": [[4096, 256], []], "strides": [[1, 4096], []]}
VIEW: tuple[str, int, dict[str, Any]] = ("aten::t", 0, {})


def test_two_copies_that_undo_each_other_vanish() -> None:
    for device in (True, False):
        run = loop(("aten::contiguous", 300, TURNED), VIEW, ("aten::contiguous", 400, BACK), device=device)
        price = price_us(contiguous_copies, run)
        assert price.low_ns == close(700)
        assert price.high_ns == close(700)
        assert "2 copies per step" in (found(contiguous_copies, run).detail or "")


def test_without_strides_sizes_tell() -> None:
    first, second = ({"dims": told["dims"]} for told in (TURNED, BACK))
    run = loop(("aten::contiguous", 300, first), VIEW, ("aten::contiguous", 400, second))
    assert price_us(contiguous_copies, run).low_ns == close(700)


def test_a_copy_before_an_operator_that_takes_strides_is_a_hint() -> None:
    price = price_us(contiguous_copies, loop(("aten::contiguous", 300, TURNED), ("aten::relu", 50, {})))
    assert price.low_ns == close(0)
    assert price.mid_ns == close(150)
    assert price.high_ns == close(300)


def test_a_copy_before_a_view_is_needed() -> None:
    silent(contiguous_copies, loop(("aten::contiguous", 300, TURNED), ("aten::view", 0, {})))


def test_heads_split_one_after_another_are_different_tensors() -> None:
    heads = {"dims": [[8, 12, 512, 64], []], "strides": [[393216, 64, 768, 1], []]}
    run = loop(*[("aten::contiguous", 300, heads)] * 3, ("aten::view", 0, {}))
    silent(contiguous_copies, run)


def test_a_copy_of_a_contiguous_tensor_rearranges_nothing() -> None:
    plain = {"dims": [[256, 4096], []], "strides": [[4096, 1], []]}
    silent(contiguous_copies, loop(("aten::contiguous", 300, plain), ("aten::relu", 50, {})))
