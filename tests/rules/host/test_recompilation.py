"""recompilation: compilation inside steps is priced, outside them it is withheld, and stable or eager runs are no finding."""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import CompileFacts
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.host.recompilation import recompilation
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def loop(compile_us: int, **facts: object) -> Run:
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=1_000)
            if compile_us:
                with drawn.span("_compile.compile_inner (dynamo_timed)"):
                    drawn.python(compile_us)
    return run_of(drawn, **facts)


def test_compilation_in_the_steps_is_priced() -> None:
    price = price_us(recompilation, loop(5_000))
    assert (price.low_ns, price.high_ns) == (close(2_500), close(5_000))


def test_recompilations_elsewhere_are_withheld_with_their_number() -> None:
    finding = found(recompilation, loop(0, compile=CompileFacts(compiled_modules=1, recompiles=3)))
    assert "3 times" in finding.summary
    assert finding.withhold is not None


def test_a_stable_run_is_no_finding_and_a_foreign_trace_is_not_judged() -> None:
    silent(recompilation, loop(0, compile=CompileFacts(compiled_modules=1, recompiles=0)))
    assert isinstance(recompilation.judge(loop(0)), Skip)


def test_a_torch_that_does_not_count_is_not_judged() -> None:
    assert isinstance(recompilation.judge(loop(0, compile=CompileFacts(compiled_modules=1))), Skip)


def test_a_foreign_trace_that_compiled_before_its_steady_steps_is_no_finding() -> None:
    drawn = Timeline(device=None)
    with drawn.span("_compile.compile_inner (dynamo_timed)"):
        drawn.python(50_000)
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=1_000)
    silent(recompilation, run_of(drawn))
