"""diagnostics-in-step: what only the program reads is priced, with its waits; what training may need is left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.host.device_sync import device_sync
from mfu_doctor.rules.host.diagnostics_in_step import diagnostics_in_step
from mfu_doctor.rules.host.host_bound import host_bound
from mfu_doctor.rules.host.tensor_loop import tensor_loop
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

CALL = "torch/nn/modules/module.py(1700): _call_impl"
LAYERS = 4
STATISTICS = ("aten::detach", "aten::abs", "aten::max", "aten::item", "aten::mean", "aten::item")
CHECK = ("aten::isnan", "aten::any", "aten::is_nonzero")


def plain(drawn: Timeline, *names: str, host: int = 50) -> None:
    for name in names:
        drawn.op(name, host=host)


def node(drawn: Timeline, sequence: int) -> None:
    with (
        drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op", sequence=sequence),
        drawn.span("MmBackward0", "cpu_op", sequence=sequence),
    ):
        drawn.op("aten::mm", host=300)


def training(beside: Callable[[Timeline], None], *, trains: bool = True) -> Run:
    """Steps on a CPU of four layers of 300 us, each followed by something, and their backward."""
    drawn, number = Timeline(device=None), 0
    for _ in range(6):
        with drawn.step(), drawn.span("train.py(5): main", "python_function"):
            layers = range(number, number + LAYERS)
            for layer in layers:
                with drawn.span(CALL, "python_function"):
                    with drawn.span("model.py(9): forward", "python_function"):
                        drawn.op("aten::mm", host=300, sequence=layer if trains else None)
                    beside(drawn)
            for layer in reversed(layers) if trains else ():
                node(drawn, layer)
            number += LAYERS
    return run_of(drawn)


def hook(*names: str, name: str = "probe.py(3): fn") -> Callable[[Timeline], None]:
    """A function that a module calls after its forward; 20 us of Python stand before its last read."""

    def beside(drawn: Timeline) -> None:
        with drawn.span(name, "python_function"):
            plain(drawn, *names[:-1])
            drawn.python(20)
            plain(drawn, *names[-1:])

    return beside


def inline(*names: str) -> Callable[[Timeline], None]:
    return lambda drawn: plain(drawn, *names)


def test_a_hook_goes_with_the_python_in_it() -> None:
    run = training(hook(*STATISTICS))
    price = price_us(diagnostics_in_step, run)
    assert price.low_ns == close(LAYERS * len(STATISTICS) * 50)
    assert price.mid_ns == close(LAYERS * (len(STATISTICS) * 50 + 20))
    finding = found(diagnostics_in_step, run)
    assert finding.place == "probe.py:3"
    assert finding.fix.startswith("# remove the forward hook that does this")


def test_what_a_hook_computes_after_its_last_read_stays() -> None:
    price = price_us(diagnostics_in_step, training(hook(*STATISTICS, "aten::clone")))
    assert price.high_ns == close(LAYERS * len(STATISTICS) * 50)


def test_a_histogram_in_a_hook_is_kept_for_the_program() -> None:
    run = training(hook(*STATISTICS, "aten::abs", "aten::histc"))
    assert price_us(diagnostics_in_step, run).low_ns == close(LAYERS * (len(STATISTICS) + 2) * 50)
    kept = found(diagnostics_in_step, training(hook("aten::abs", "aten::histc", "aten::histc")))
    assert "histc" in kept.summary
    assert (kept.detail or "").startswith("no gradient")


@pytest.mark.parametrize(
    "names",
    [
        CHECK,
        ("aten::isinf", "aten::any", "aten::logical_or", "aten::item"),
        ("aten::std", "aten::item"),
        ("aten::argmax", "aten::eq", "aten::to", "aten::mean", "aten::item"),
    ],
)
def test_a_check_in_forward_goes_alone(names: tuple[str, ...]) -> None:
    run = training(inline("aten::sub", *names))
    price = price_us(diagnostics_in_step, run)
    assert price.low_ns == price.high_ns == close(LAYERS * len(names) * 50)
    assert "step % 100" in found(diagnostics_in_step, run).fix


def test_what_a_function_of_checks_computes_before_them_is_likely_one() -> None:
    def check(drawn: Timeline) -> None:
        with (
            drawn.span("model.py(30): forward", "python_function"),
            drawn.span("checks.py(1): finite", "python_function"),
        ):
            plain(drawn, "aten::abs", *CHECK)

    price = price_us(diagnostics_in_step, training(check))
    assert price.low_ns == close(LAYERS * len(CHECK) * 50)
    assert price.high_ns == close(LAYERS * (len(CHECK) + 1) * 50)


@pytest.mark.parametrize(
    "names",
    [
        ("aten::mean", "aten::std", "aten::sub", "aten::div"),  # the input is standardized
        ("aten::std", "aten::sub", "aten::div", "aten::max", "aten::item"),  # and the longest sequence is read
        ("aten::max", "aten::item", "aten::arange", "aten::lt"),  # a mask
        ("aten::sum", "aten::item"),  # how many targets the loss is divided by
        ("aten::linear", "aten::argmax", "aten::item"),  # an action is chosen
        ("aten::linear", "aten::relu", "aten::max"),  # a target network
        (
            "aten::_foreach_norm",
            "aten::stack",
            "aten::linalg_vector_norm",
            "aten::_foreach_mul_",
            "aten::item",
        ),  # clipping
        ("aten::_amp_foreach_non_finite_check_and_unscale_", "aten::item"),
        ("aten::isnan", "aten::where"),  # NaN is replaced
        ("aten::_foreach_mul_", "aten::_foreach_add_"),  # an average of the weights
    ],
)
def test_what_training_may_need_is_no_finding(names: tuple[str, ...]) -> None:
    silent(diagnostics_in_step, training(inline(*names)))


def test_a_hook_that_reads_nothing_may_serve_the_loss() -> None:
    silent(diagnostics_in_step, training(hook("aten::detach", "aten::pow", "aten::mean")))


def test_a_forward_that_is_wrapped_is_no_hook() -> None:
    def wrapped(drawn: Timeline) -> None:
        with drawn.span("lib.py(7): wrapper", "python_function"):
            plain(drawn, *STATISTICS)
            with drawn.span("teacher.py(2): forward", "python_function"):
                drawn.op("aten::relu", host=50)

    silent(diagnostics_in_step, training(wrapped))


def test_without_gradients_nothing_tells_what_is_needed() -> None:
    silent(diagnostics_in_step, training(inline(*CHECK), trains=False))


def test_a_single_check_of_the_loss_is_not_worth_it() -> None:
    drawn = Timeline(device=None)
    for step in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=20_000, sequence=step)
            plain(drawn, *CHECK, host=5)
            node(drawn, step)
    silent(diagnostics_in_step, run_of(drawn))


def test_without_stacks_a_hook_that_reads_is_not_excluded() -> None:
    drawn = Timeline(device=None)
    for step in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=300, sequence=step)
            plain(drawn, "aten::mean", "aten::item")
            node(drawn, step)
    outcome = diagnostics_in_step.judge(run_of(drawn))
    assert isinstance(outcome, Skip)
    assert "with_stack=True" in outcome.reason


def on_device(checks: int) -> Run:
    """Layers of 30 us on the host and 300 on the device, with so many NaN checks of the activations that wait for it."""
    drawn = Timeline()
    for step in range(6):
        with drawn.step():
            for layer in range(LAYERS):
                drawn.op("aten::mm", kernel=300, host=30, sequence=step * LAYERS + layer)
                for _ in range(checks):
                    drawn.op("aten::isnan", kernel=20, host=30)
                    drawn.op("aten::any", kernel=20, host=30)
                    drawn.item()
            for layer in reversed(range(LAYERS)):
                number = step * LAYERS + layer
                with drawn.span("autograd::engine::evaluate_function: MmBackward0", "cpu_op", sequence=number):
                    drawn.op("MmBackward0", kernel=300, host=30, sequence=number)
            drawn.sync()
    return run_of(drawn)


def test_on_a_device_the_waits_go_too_and_are_listed_under_it() -> None:
    run = on_device(2)
    found(diagnostics_in_step, run)
    assert price_us(diagnostics_in_step, run).low_ns >= LAYERS * 2 * 40
    assert found(device_sync, run).symptom_of[0] == "diagnostics-in-step"


def test_python_between_statistics_is_a_symptom() -> None:
    def slow(drawn: Timeline) -> None:
        with drawn.span("probe.py(3): fn", "python_function"):
            plain(drawn, "aten::std")
            drawn.python(2_000)
            plain(drawn, "aten::item")

    run = training(slow)
    assert found(host_bound, run).symptom_of == ("diagnostics-in-step",)


def test_a_quantile_in_a_hook_may_be_what_its_output_is_clipped_to() -> None:
    silent(diagnostics_in_step, training(hook("aten::abs", "aten::quantile", "aten::clamp")))


TO_TEXT = "torch/_tensor_str.py(712): _str"
ELEMENTS = 12


def written(function: str = TO_TEXT) -> Callable[[Timeline], None]:
    """What a line calls for a tensor of 12 elements; 20 us of Python stand after each read."""

    def beside(drawn: Timeline) -> None:
        with drawn.span("model.py(30): remark", "python_function"), drawn.span(function, "python_function"):
            plain(drawn, "aten::unbind")
            for _ in range(ELEMENTS):
                plain(drawn, "aten::detach", "aten::item")
                drawn.python(20)
            plain(drawn, "aten::abs")

    return beside


def test_text_of_tensors_goes_with_the_python_that_formats_it() -> None:
    run = training(written())
    price = price_us(diagnostics_in_step, run)
    assert price.low_ns == price.high_ns == close(LAYERS * (ELEMENTS * 120 + 100))
    finding = found(diagnostics_in_step, run)
    assert finding.place == "model.py:30"
    assert "f-strings" in finding.summary
    assert finding.fix.startswith('log.debug("x %s", x)')


def test_a_loop_that_writes_text_is_not_the_programs_loop() -> None:
    silent(tensor_loop, training(written()))


def test_elements_that_a_program_reads_itself_are_no_text() -> None:
    run = training(written("model.py(40): lookup"))
    assert found(tensor_loop, run).place == "model.py:40"
    assert "f-strings" not in found(diagnostics_in_step, run).summary  # it is a hook here


def test_text_between_two_backward_passes_does_not_take_them_along() -> None:
    def twice(drawn: Timeline) -> None:
        written()(drawn)
        node(drawn, 10_000)
        written()(drawn)

    price = price_us(diagnostics_in_step, training(twice))
    assert price.high_ns == close(LAYERS * 2 * (ELEMENTS * 120 + 100))
