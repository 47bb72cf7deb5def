"""tensor-loop: many small operators are priced as one, with their backward; layers, steps and chains are no such loop."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import FrameSample, GraphDepths, OptimizerFacts
from mfu_doctor.rules.host.host_bound import host_bound
from mfu_doctor.rules.host.tensor_loop import tensor_loop
from mfu_doctor.rules.kernels.unfused_elementwise import unfused_elementwise
from tests.rules.drawing import POINTWISE
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

ROUNDS = 100
FILL = (("aten::fill_", 28),)
ACCUMULATE = "torch::autograd::AccumulateGrad"


def loop(names: tuple[str, ...], rounds: int = ROUNDS, *, device: bool = True, backward: bool = False) -> Run:
    """Per step a product, `rounds` rounds of these operators (20 us each), and 30 us of backward for each round if asked."""
    drawn = Timeline() if device else Timeline(device=None)
    number = 0
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=500 if device else None, host=100)
            first = number
            for _ in range(rounds):
                for name in names:
                    drawn.op(name, host=20, sequence=number)
                number += 1
            drawn.op("aten::mm", kernel=5 if device else None, host=100, sequence=number)
            if backward:
                node(drawn, "MmBackward0", number)
                for i in range(number - 1, first - 1, -1):
                    node(drawn, "SelectBackward0", i)
            number += 1
    return run_of(drawn)


def node(
    drawn: Timeline,
    name: str,
    sequence: int | None = None,
    ops: tuple[tuple[str, int], ...] = FILL,
    recorded: int | None = None,
) -> None:
    with drawn.span(f"autograd::engine::evaluate_function: {name}", "cpu_op", sequence=sequence):
        drawn.python(1)
        with drawn.span(name, "cpu_op", sequence=sequence):
            drawn.python(1)
            for op, us in ops:
                drawn.op(op, host=us, sequence=recorded)


def recurrence(
    *, body: tuple[str, ...], rounds: int = 20, own_weights: bool = False, first_is_less: bool = True
) -> Run:
    """Per step rounds of these operators (20 us each), then a backward whose first round has no product for the state.

    The weights get their gradients at the end, or round by round (`own_weights`): then the rounds are layers.
    """
    drawn, number = Timeline(device=None), 0
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::zeros", host=500)
            first = number
            for _ in range(rounds):
                for name in body:
                    drawn.op(name, host=20, sequence=number)
                number += 1
            drawn.op("aten::stack", host=20, sequence=number)
            drawn.op("aten::ones_like", host=10)
            node(drawn, "StackBackward0", number)
            for i in range(number - 1, first - 1, -1):
                products = 1 if first_is_less and i == first else 2
                node(drawn, "AddmmBackward0", i, (("aten::mm", 15),) * products)
                if own_weights or i == first:
                    node(drawn, ACCUMULATE, ops=())
            number += 1
    return run_of(drawn)


def test_a_loop_shrinks_to_one_round() -> None:
    run = run_of_device_loop()
    price = price_us(tensor_loop, run)
    assert price.low_ns == close(0.75 * ROUNDS * 50)
    assert price.mid_ns == close(0.99 * ROUNDS * 50)
    finding = found(tensor_loop, run)
    assert "select, add_ 100 times" in finding.summary
    assert "x[indices]" in finding.fix


def run_of_device_loop() -> Run:
    drawn = Timeline()
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", kernel=50, host=100)
            for _ in range(ROUNDS):
                drawn.op("aten::select", host=20)
                drawn.op("aten::add_", kernel=5, host=30, kernel_name=POINTWISE)
            drawn.op("aten::mm", kernel=50, host=100)
    return run_of(drawn)


def test_on_a_cpu_views_go_and_a_tenth_of_work_of_unknown_size_stays() -> None:
    price = price_us(tensor_loop, loop(("aten::select", "aten::mul"), device=False))
    assert price.low_ns == close(ROUNDS * (0.75 * 20 + 0.49 * 20))
    assert price.mid_ns == close(ROUNDS * (0.99 * 20 + 0.89 * 20))
    assert price.high_ns == close(0.99 * ROUNDS * 40)


def test_work_of_known_size_stays_as_what_moving_it_takes() -> None:
    # Each round reads and writes 20 kB in 4 us, as fast as this memory is: one call for all rounds saves only the views.
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=1_000)
            for _ in range(ROUNDS):
                drawn.op("aten::select", host=20)
                drawn.op("aten::mul", host=4, dims=[[5_000], []], types=["float", "Scalar"])
    run = run_of(drawn)
    run.__dict__["peaks"] = replace(run.peaks, bandwidth=10e9)
    assert price_us(tensor_loop, run).mid_ns == close(0.99 * ROUNDS * 20)


def test_the_operators_of_a_long_round_are_found() -> None:
    body = ("select", "cross_entropy_loss", "select", "smooth_l1_loss", "mul", "add", "exp", "neg", "abs", "sub")
    run = loop(tuple(f"aten::{name}" for name in body), rounds=30, device=False)
    assert price_us(tensor_loop, run).high_ns == close(29 * len(body) * 20)
    assert "criterion(outputs, targets)" in found(tensor_loop, run).fix


def test_pieces_of_a_split_are_summed_by_their_number() -> None:
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::linear", host=500)
            drawn.op("aten::split_with_sizes", host=500)
            for _ in range(ROUNDS):
                drawn.op("aten::sum", host=20)
                drawn.op("aten::div", host=20)
            drawn.op("aten::linear", host=500)
    run = run_of(drawn)
    assert "index_add_" in found(tensor_loop, run).fix
    assert price_us(tensor_loop, run).high_ns == close(0.99 * (ROUNDS * 40 + 500))


def test_joining_the_results_is_part_of_the_loop() -> None:
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            for _ in range(ROUNDS):
                drawn.op("aten::select", host=20)
                drawn.op("aten::mul", host=20)
            drawn.op("aten::stack", host=1_000)
            drawn.op("aten::mm", host=1_000)
    assert price_us(tensor_loop, run_of(drawn)).high_ns == close(0.99 * (ROUNDS * 40 + 1_000))


@pytest.mark.parametrize(("after_us", "freed_us"), [(300, 300), (5_000, ROUNDS * 10)])
def test_freeing_the_results_is_part_of_the_loop_no_longer_than_its_own_python(after_us: int, freed_us: int) -> None:
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            for _ in range(ROUNDS):
                drawn.op("aten::select", host=20)
                drawn.python(10)
            drawn.op("aten::stack", host=1_000)
            drawn.python(after_us)
            drawn.op("aten::mm", host=1_000)
    price = price_us(tensor_loop, run_of(drawn))
    assert price.high_ns == close(0.99 * (ROUNDS * 30 + 1_000 + freed_us))


def test_the_nodes_of_the_loop_in_backward_belong_to_it_and_others_do_not() -> None:
    price = price_us(tensor_loop, loop(("aten::select", "aten::mul"), device=False, backward=True))
    assert price.high_ns == close(0.99 * ROUNDS * (40 + 30))


def test_the_walk_over_the_graph_shrinks_with_its_nodes() -> None:
    # The engine walks 600 us before the first node; freeing after it takes more, and counts for no more than the walk.
    drawn, number = Timeline(device=None), 0
    for _ in range(6):
        with drawn.step():
            first = number
            for _ in range(ROUNDS):
                drawn.op("aten::select", host=20, sequence=number)
                drawn.op("aten::mul", host=20, sequence=number)
                number += 1
            drawn.op("aten::ones_like", host=10)
            drawn.python(600)
            for i in range(number - 1, first - 1, -1):
                node(drawn, "SelectBackward0", i)
            drawn.python(2_000)
            drawn.op("aten::mm", host=1_000)
    assert price_us(tensor_loop, run_of(drawn)).high_ns == close(0.99 * ROUNDS * 70 + 2 * 600)


def test_cells_become_one_layer_whose_products_of_the_state_stay() -> None:
    run = recurrence(body=("aten::select", "aten::lstm_cell"))
    finding = found(tensor_loop, run)
    assert "nn.LSTM" in finding.fix
    price = price_us(tensor_loop, run)
    # all but the products of backward (sizes unknown: any may be the state's), 29 of 20 rounds' 30 us
    assert price.mid_ns < 20 * (40 + 4) + 100 < price.high_ns


def test_cells_that_are_fed_what_was_just_joined_stay_a_loop() -> None:
    """A decoder that is fed its own predictions: no layer can run ahead of them."""
    fed_back = ("aten::lstm_cell", "aten::linear", "aten::select", "aten::where", "aten::unsqueeze", "aten::cat")
    silent(tensor_loop, recurrence(body=fed_back))
    chosen = ("aten::lstm_cell", "aten::lstm_cell", "aten::linear", "aten::topk", "aten::squeeze", "aten::embedding")
    silent(tensor_loop, recurrence(body=chosen))
    given = ("aten::lstm_cell", "aten::linear", "aten::select", "aten::linear")
    assert "nn.LSTM" in found(tensor_loop, recurrence(body=given)).fix


@pytest.mark.parametrize("gate", ["aten::tanh", "aten::relu"])
def test_a_cell_written_out_is_known_by_its_gate_or_by_its_first_round(gate: str) -> None:
    finding = found(tensor_loop, recurrence(body=("aten::select", "aten::addmm", gate)))
    assert "nn.LSTM" in finding.fix
    assert finding.detail is not None
    assert "its own output" in finding.detail


def test_an_operator_before_the_loop_that_looks_like_the_end_of_a_round_is_not_its_first() -> None:
    """A layer makes the input of windows and has no gradient of its own input: only its node does less than the others."""
    drawn, number = Timeline(device=None), 0
    for _ in range(6):
        with drawn.step():
            first = number
            for name in ("aten::addmm", *("aten::slice", "aten::relu", "aten::addmm") * 20):
                drawn.op(name, host=20, sequence=number)
                number += 1
            drawn.op("aten::stack", host=20, sequence=number)
            for i in range(number - 1, first - 1, -1):
                node(drawn, "AddmmBackward0", i, (("aten::mm", 15),) * (1 if i == first else 2))
                if i == first + 3:  # the first round's layer: the gradient of the shared weights is whole
                    node(drawn, ACCUMULATE, ops=())
            number += 1
    finding = found(tensor_loop, run_of(drawn))
    assert "slice, relu, addmm 20 times" in finding.summary
    assert "torch.vmap" in finding.fix


def test_whether_a_model_per_sample_continues_is_asked() -> None:
    run = recurrence(body=("aten::select", "aten::addmm", "aten::relu"), first_is_less=False)
    finding = found(tensor_loop, run)
    assert "torch.vmap" in finding.fix
    assert finding.confidence == "hint"
    assert finding.detail is not None
    assert "does a round need the result of the one before?" in finding.detail


def environments(*, batch: int = 1, times: int = 8, rounds: int = 4, own_weights: bool = False, others: int = 0) -> Run:
    """At each time a model (20 us an operator) for one environment after another, then 300 us of Python; then backward."""
    drawn, number = Timeline(device=None), 0
    sized: dict[str, Any] = {"dims": [[batch, 4], [128, 4]], "types": ["float", "float"]}
    for _ in range(6):
        with drawn.step():
            first = number
            for time in range(times):
                for _ in range(rounds + others * (time % 2)):
                    drawn.op("aten::linear", host=20, sequence=number, **sized)
                    drawn.op("aten::tanh", host=20, sequence=number + 1)
                    drawn.op("aten::softmax", host=20, sequence=number + 2)
                    drawn.op("aten::multinomial", host=20)
                    number += 3
                drawn.op("aten::cat", host=20, sequence=number)
                drawn.python(300)
                number += 1
            drawn.op("aten::ones_like", host=10)
            for i in range(number - 1, first - 1, -1):
                node(drawn, "AddmmBackward0", i, (("aten::mm", 5),) * 2)
                if own_weights or i == first:
                    node(drawn, ACCUMULATE, ops=())
    return run_of(drawn)


def test_a_model_that_is_called_for_each_environment_at_each_time() -> None:
    """Four rounds are few, but the step runs them eight times: a model called with a batch of one, and no cell."""
    finding = found(tensor_loop, environments())
    assert "torch.stack(xs)" in finding.fix
    assert "4 times" in finding.summary
    price = price_us(tensor_loop, environments())
    assert price.high_ns == close(0.75 * 8 * (4 * 4 * 20 + 20 + 13 * (2 * 5 + 2)))  # with the join and its node
    assert found(tensor_loop, environments(others=1)).fix == finding.fix


def test_few_rounds_of_whole_batches_or_of_own_weights_are_layers() -> None:
    silent(tensor_loop, environments(batch=16))
    silent(tensor_loop, environments(own_weights=True))
    silent(tensor_loop, environments(times=2))


def levels(sizes: tuple[int, ...]) -> Run:
    """Six layers of attention, each of which samples the levels of a pyramid one after another (20 us an operator)."""
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            for _ in range(6):
                drawn.op("aten::linear", host=20)
                drawn.op("aten::split", host=20)
                for size in sizes:
                    for name in ("flatten", "transpose", "reshape", "select", "grid_sampler"):
                        drawn.op(f"aten::{name}", host=20, dims=[[2, size, 16]], types=["float"])
                drawn.op("aten::stack", host=20)
                drawn.python(50)
    return run_of(drawn)


def test_levels_of_a_pyramid_differ_in_size_and_are_no_loop() -> None:
    silent(tensor_loop, levels((1024, 256, 64, 16)))
    found(tensor_loop, levels((64, 64, 64, 64)))


def test_layers_get_their_gradients_round_by_round_and_are_no_loop() -> None:
    silent(tensor_loop, recurrence(body=("aten::select", "aten::addmm", "aten::tanh"), own_weights=True))


def test_a_chain_of_states_without_a_layer_is_no_loop() -> None:
    silent(tensor_loop, recurrence(body=("aten::select", "aten::mul", "aten::add")))


@pytest.mark.parametrize("names", [("aten::linear", "aten::relu"), ("aten::select", "aten::linear", "aten::tanh")])
def test_layers_without_a_backward_are_no_loop(names: tuple[str, ...]) -> None:
    silent(tensor_loop, loop(names))


def test_a_short_loop_is_no_finding() -> None:
    silent(tensor_loop, loop(("aten::select", "aten::mul"), rounds=5))


def test_steps_and_micro_batches_repeat_themselves_and_are_no_loop() -> None:
    drawn, number = Timeline(), 0
    for _ in range(30):
        with drawn.step():
            for _ in range(15):  # micro-batches: forward, then backward on its own thread
                drawn.op("aten::select", host=20, sequence=number)
                drawn.op("aten::mul", kernel=5, host=20, sequence=number)
                with drawn.span(
                    "autograd::engine::evaluate_function: MulBackward0", "cpu_op", sequence=number, tid=101
                ):
                    drawn.python(30)
                number += 1
    silent(tensor_loop, run_of(drawn))


def test_python_between_its_operators_and_their_chains_are_its_symptoms() -> None:
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=500)
            for _ in range(ROUNDS):
                drawn.op("aten::select", host=20)
                for name in ("aten::mul", "aten::add", "aten::exp"):
                    drawn.op(name, host=20, dims=[[8], [8]], types=["float", "float"])
                    drawn.python(10)
                drawn.op("aten::sum", host=10)
    run = run_of(drawn)
    assert found(host_bound, run).symptom_of == ("tensor-loop",)
    assert found(unfused_elementwise, run).symptom_of[0] == "tensor-loop"


def collecting(
    body: tuple[str, ...],
    *,
    write: str = "IndexPutBackward0",
    sizes: tuple[int, ...] = (),
    node_number: int = 0,
    computes_on: bool = False,
) -> Run:
    """Per step 20 rounds of these operators (20 us each); the last one puts the result into its part of a new tensor.

    In the first round that tensor needs no gradient: the node of the write (30 us in other rounds) does less. With `computes_on`
    the node of the first operator does less as well. `sizes`: rows of each round; `node_number`: what the node of the write adds
    to the number of its operator.
    """
    drawn, number = Timeline(device=None), 0
    each = len(body) + node_number
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::zeros_like", host=500)
            first = number
            for i in range(20):
                for at, name in enumerate(body):
                    dims: dict[str, Any] = {"dims": [[sizes[i], 8]], "types": ["float"]} if sizes else {}
                    drawn.op(name, host=20, sequence=number + at, **dims)
                number += each
            drawn.op("aten::sum", host=20, sequence=number)
            drawn.op("aten::ones_like", host=10)
            node(drawn, "SumBackward0", number)
            for i in reversed(range(20)):
                begin = first + i * each
                node(drawn, write, begin + len(body) - 1 + node_number, (("aten::index", 14),) * (1 if i == 0 else 2))
                node(drawn, "MulBackward0", begin, (("aten::mul", 14),) * (1 if computes_on and i == 0 else 2))
            node(drawn, ACCUMULATE, ops=())
            number += 1
    return run_of(drawn)


MASKED = ("aten::eq", "aten::index", "aten::mean", "aten::sub", "aten::index_put_")
SLICED = ("aten::slice", "aten::mean", "aten::sub", "aten::slice", "aten::copy_")


@pytest.mark.parametrize(
    "write", ["IndexPutBackward0", "IndexAddBackward0", "ScatterBackward0", "MaskedScatterBackward0", "WhereBackward0"]
)
def test_rounds_that_write_their_parts_of_one_tensor_need_nothing_of_each_other(write: str) -> None:
    run = collecting(MASKED, write=write)
    assert "eq, index, mean, sub, ... 20 times" in found(tensor_loop, run).summary
    backward_us = 20 * (30 + 30) - 14  # the first write does one operator less
    assert price_us(tensor_loop, run).high_ns == close(0.95 * (20 * 5 * 20 + backward_us))


def test_a_write_into_a_slice_has_a_second_node_that_belongs_to_the_loop() -> None:
    run = collecting(SLICED, write="torch::autograd::CopySlices", node_number=1)
    backward_us = 20 * (30 + 30) - 14
    assert price_us(tensor_loop, run).high_ns == close(0.95 * (20 * 5 * 20 + backward_us))


def test_rounds_that_lengthen_a_tensor_are_a_loop() -> None:
    found(tensor_loop, collecting(("aten::slice", "aten::mean", "aten::cat"), write="CatBackward0"))


def test_a_state_that_is_computed_on_and_kept_by_a_write_is_no_loop() -> None:
    silent(tensor_loop, collecting(MASKED, computes_on=True))


def test_a_model_per_part_that_writes_its_result_is_no_cell() -> None:
    finding = found(tensor_loop, collecting(("aten::select", "aten::linear", "aten::relu", "aten::index_put_")))
    assert "torch.vmap" in finding.fix


def test_a_state_joined_to_the_input_of_a_layer_is_a_cell() -> None:
    run = collecting(("aten::select", "aten::cat", "aten::linear", "aten::relu"), write="CatBackward0")
    assert "nn.LSTM" in found(tensor_loop, run).fix


UNEVEN = tuple(14 + 5 * i % 18 for i in range(20))


@pytest.mark.parametrize("body", [MASKED, SLICED, ("aten::index", "aten::mean", "aten::sub", "aten::index_put_")])
def test_rounds_of_different_sizes_are_summed_by_their_group(body: tuple[str, ...]) -> None:
    finding = found(tensor_loop, collecting(body, sizes=UNEVEN))
    assert "index_add_" in finding.fix
    assert finding.risk == "rounding"


def test_a_result_that_grows_does_not_make_rounds_of_different_sizes() -> None:
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step():
            for i in range(20):
                drawn.op("aten::select", host=20, dims=[[20, 8]], types=["float"])
                drawn.op("aten::mul", host=20, dims=[[8]], types=["float"])
                drawn.op("aten::cat", host=20, dims=[[i, 8]], types=["float"])
    assert "torch.vmap(f)(x)" in found(tensor_loop, run_of(drawn)).fix


def test_rounds_of_one_size_are_windows() -> None:
    assert "x.unfold" in found(tensor_loop, collecting(SLICED, sizes=(16,) * 20)).fix


def test_samples_of_different_sizes_are_padded_for_a_model() -> None:
    finding = found(tensor_loop, collecting(("aten::select", "aten::linear", "aten::index_put_"), sizes=UNEVEN))
    assert "pad_sequence" in finding.fix


def test_taking_a_part_by_a_mask_goes_over_the_whole_once_in_one_call() -> None:
    # Each round's index and index_put_ have the shapes of the whole: 40 kB to read and to write, 8 us of 20 at this bandwidth.
    drawn = Timeline(device=None)
    whole: dict[str, Any] = {"dims": [[10_000], [10_000]], "types": ["float", "bool"]}
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::mm", host=1_000)
            for _ in range(ROUNDS):
                drawn.op("aten::index", host=20, **whole)
                drawn.op("aten::mean", host=20)
    run = run_of(drawn)
    run.__dict__["peaks"] = replace(run.peaks, bandwidth=11.25e9)
    assert price_us(tensor_loop, run).high_ns == close(ROUNDS * 40 - 2 * 20 - 8)


def per_sample(
    *,
    taking: str = "aten::select",
    fetches: bool = False,
    clips: bool = False,
    again: bool = False,
    rounds: int = 16,
    fresh: int = 0,
    parameters: int | None = None,
) -> Run:
    """Per step rounds of a forward of 60 us and a backward of 90, of which 30 add to the gradient of the weights.

    In the first `fresh` rounds the weight has no gradient yet. The optimizer has so many `parameters`. `again`: the round goes on
    with its gradient, which is recorded for a second one.
    """
    drawn, number = Timeline(device=None), 0
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::linear", host=500)
            for i in range(rounds):
                if fetches:
                    drawn.fetch(5)
                drawn.op(taking, host=10)
                drawn.op("aten::linear", host=30, sequence=number)
                drawn.op("aten::cross_entropy_loss", host=20, sequence=number + 1)
                drawn.op("aten::ones_like", host=5)
                node(drawn, "NllLossBackward0", number + 1, (("aten::nll_loss_backward", 20),))
                node(drawn, "AddmmBackward0", number, (("aten::mm", 40),), recorded=number if again else None)
                node(drawn, ACCUMULATE, ops=(("aten::detach" if i < fresh else "aten::add_", 30),))
                if clips:
                    drawn.op("aten::linalg_vector_norm", host=10)
                number += 2
            with drawn.span("Optimizer.step#SGD.step"):
                drawn.op("aten::add_", host=50)
    one = OptimizerFacts(class_name="SGD", parameters=parameters, elements=parameters)
    return run_of(drawn, optimizers=(one,)) if parameters else run_of(drawn)


def test_a_backward_pass_for_each_sample_is_one_pass_for_all() -> None:
    run = per_sample()
    finding = found(tensor_loop, run)
    assert "16 times" in finding.summary
    assert finding.fix.startswith("loss = criterion(model(xs), ys); loss.backward()")
    price = price_us(tensor_loop, run)
    assert price.high_ns == close(15 * (10 + 30 + 20 + 5 + 20 + 40 + 30 + 6))
    assert price.low_ns > 0.5 * price.high_ns


def test_gradients_that_are_looked_at_one_by_one_are_computed_by_vmap() -> None:
    assert "torch.func.vmap(torch.func.grad" in found(tensor_loop, per_sample(clips=True)).fix


def test_rounds_that_go_on_with_their_gradient_are_no_one_pass_for_a_batch() -> None:
    """MAML was told to call the model and backward once for the batch: each task has an update of its own."""
    finding = found(tensor_loop, per_sample(again=True))
    assert finding.fix.startswith("losses = torch.func.vmap(loss_of")
    assert "for the gradient of each sample" not in (finding.detail or "")


def test_rounds_that_all_make_new_gradients_are_networks_and_no_samples() -> None:
    """An ensemble whose members each call backward was told to use one model."""
    finding = found(tensor_loop, per_sample(fresh=16, parameters=16))
    assert "baddbmm" in finding.fix
    assert finding.detail is not None
    assert finding.detail.startswith("each round has 1 weights of its own and calls backward for them")
    assert finding.confidence == "hint"


def test_rounds_share_weights_if_one_adds_to_them_or_more_gradients_are_made_than_there_are_weights() -> None:
    for run in (per_sample(fresh=1, parameters=16), per_sample(fresh=16, parameters=1)):
        finding = found(tensor_loop, run)
        assert finding.fix.startswith("loss = criterion(model(xs), ys)")
        assert "stack" not in (finding.detail or "")


def test_gradients_that_add_up_over_steps_do_not_tell_whose_they_are() -> None:
    assert "if each has a network of its own, stack them" in (
        found(tensor_loop, per_sample(parameters=16)).detail or ""
    )


def dynamic_program(*deeper: int, depths: bool = True) -> Run:
    """Per step 12 rounds of a select, an add and a logsumexp with equal nodes, which lie so much deeper from round to round."""
    drawn, known = Timeline(device=None), GraphDepths()
    body = ("aten::select", "aten::add", "aten::logsumexp")
    with drawn.step():
        drawn.op("aten::linear", host=500)
        numbers = iter(range(1, 100))
        rounds = [[(name, next(numbers)) for name in body] for _ in range(12)]
        for name, number in (one for each in rounds for one in each):
            drawn.op(name, host=20, sequence=number)
        drawn.op("aten::linear", host=500, sequence=99)
        for name, number in (one for each in reversed(rounds) for one in reversed(each)):
            node(drawn, f"{name.removeprefix('aten::').capitalize()}Backward0", number)
    told = [
        (number, 5 + i * more) for i, each in enumerate(rounds) for (_, number), more in zip(each, deeper, strict=True)
    ]
    known = GraphDepths(sequence=tuple(n for n, _ in told), depth=tuple(d for _, d in told))
    return run_of(drawn, graph_depths=known) if depths else run_of(drawn)


def test_rounds_that_lie_deeper_from_one_to_the_next_need_each_other() -> None:
    """A dynamic program whose first state is learned does the same in all rounds: it was told to be groups of a sum."""
    silent(tensor_loop, dynamic_program(0, 3, 3))
    found(tensor_loop, dynamic_program(0, 0, 0))
    found(tensor_loop, dynamic_program(0, 0, 1))  # a sum of all results
    found(tensor_loop, dynamic_program(0, 3, 3, depths=False))


def test_an_iteration_without_a_sequence_is_no_recurrent_layer() -> None:
    """An integrator whose step calls a network: each round needs the last one, and takes no input of its own."""
    silent(tensor_loop, recurrence(body=("aten::linear", "aten::tanh", "aten::linear", "aten::add")))
    found(tensor_loop, recurrence(body=("aten::select", "aten::linear", "aten::mul", "aten::linear")))


def test_micro_batches_are_no_loop_over_samples() -> None:
    """Each has a batch of its own, or is no part of anything."""
    silent(tensor_loop, per_sample(fetches=True))
    silent(tensor_loop, per_sample(taking="aten::mul"))


def masked(*, trained: bool = True) -> Run:
    """Per step 16 rounds that multiply a whole tensor with the mask of a group, 20 us each, and their backward."""
    drawn, number = Timeline(device=None), 0
    body = ("aten::eq", "aten::unsqueeze", "aten::mul", "aten::sum", "aten::sub", "aten::add")
    for _ in range(6):
        with drawn.step():
            drawn.op("aten::linear", host=500)
            first = number
            for _ in range(16):
                for name in body:
                    drawn.op(name, host=20, sequence=number)
                number += 1
            drawn.op("aten::linear", host=500, sequence=number)
            for i in range(number - 1, first - 1, -1) if trained else ():
                node(drawn, "MulBackward0", i, (("aten::mul", 28),))
            number += 1
    return run_of(drawn)


def test_a_loop_over_masks_is_a_sum_of_groups() -> None:
    """No round indexes anything: each reads the whole tensor, and one call for all groups reads it once."""
    run = masked()
    assert "index_add_" in found(tensor_loop, run).fix
    assert price_us(tensor_loop, run).mid_ns == close(15 / 16 * 16 * (6 * 20 + 30))


def test_the_masks_of_layers_are_no_loop() -> None:
    """Each layer of a transformer fills its mask in; the weights get their gradients layer by layer."""
    silent(tensor_loop, recurrence(body=("aten::linear", "aten::masked_fill", "aten::softmax"), own_weights=True))


@pytest.mark.parametrize(
    ("names", "fix"),
    [
        (("aten::select", "aten::add"), "total = x.sum()"),  # sum(x)
        (("aten::select", "aten::is_nonzero"), "x.any()"),  # any(x)
        (("aten::select", "aten::gt", "aten::is_nonzero"), "x.max()"),  # max(x)
        (("aten::select", "aten::item"), "values = x.tolist()"),  # [v.item() for v in x]
        (("aten::select", "aten::copy_"), "y = x[indices]"),
        (("aten::select", "aten::view", "aten::expand", "aten::add", "aten::logsumexp"), "y = torch.vmap(f)(x)"),
    ],
)
def test_the_fix_is_what_the_rounds_do_together(names: tuple[str, ...], fix: str) -> None:
    assert found(tensor_loop, loop(names, device=False)).fix.startswith(fix)


def test_pieces_that_are_added_up_are_a_total_and_collected_ones_are_not() -> None:
    def drawn(after: str) -> Run:
        timeline = Timeline(device=None)
        for _ in range(6):
            with timeline.step():
                timeline.op("aten::mm", host=500)
                timeline.op("aten::unbind", host=20)
                for _ in range(ROUNDS):
                    timeline.op("aten::add", host=20)
                timeline.op(after, host=20)
        return run_of(timeline)

    assert found(tensor_loop, drawn("aten::item")).fix.startswith("total = x.sum()")
    assert found(tensor_loop, drawn("aten::stack")).fix.startswith("y = torch.vmap(f)(x)")


BY_HAND = ("aten::select", "aten::linear", "aten::linear", "aten::add", "aten::tanh")


def test_a_cell_that_no_layer_of_torch_computes_keeps_its_loop() -> None:
    assert "nn.LSTM" in found(tensor_loop, recurrence(body=BY_HAND)).fix
    own = found(tensor_loop, recurrence(body=(*BY_HAND, "aten::sign", "aten::abs")))
    assert own.fix.startswith("xs = self.inp(xs)")


def parametrized(file: str) -> Run:
    """Rounds that compute a weight in a function of this file, and use it."""
    drawn = Timeline(device=None)
    for _ in range(6):
        with drawn.step(), drawn.span("model.py(30): forward", "python_function"):
            drawn.op("aten::mm", host=500)
            for _ in range(20):
                drawn.op("aten::select", host=10)
                with drawn.span(f"{file}(350): forward", "python_function"):
                    drawn.op("aten::tril", host=50)
                    drawn.op("aten::matrix_exp", host=100)
                drawn.op("aten::mul", host=50)
    return run_of(drawn)


def test_a_weight_that_each_round_computes_anew_is_cached() -> None:
    finding = found(tensor_loop, parametrized("torch/nn/utils/parametrize.py"))
    assert finding.fix.startswith("with torch.nn.utils.parametrize.cached()")
    assert finding.detail == "each round computes the same weight anew"
    assert "cached" not in found(tensor_loop, parametrized("torch/functional.py")).fix


def test_the_line_of_a_loop_is_where_its_function_is_meanwhile() -> None:
    drawn, seen = Timeline(device=None), list[tuple[int, str]]()
    for _ in range(6):
        with drawn.step(), drawn.span("model.py(30): forward", "python_function"):
            drawn.op("aten::mm", host=500)
            drawn.op("aten::unbind", host=10)
            for at in range(20):
                seen.append((drawn.now + 60, f"model.py:{41 if at % 3 else 40}"))
                drawn.op("aten::view", host=50)
                drawn.op("aten::mul", host=50)
            drawn.op("aten::mm", host=500)
    assert found(tensor_loop, run_of(drawn)).place == "model.py:30"
    base = 1_000_000_000_000
    drawn.header["baseTimeNanoseconds"] = base
    frames = tuple(FrameSample(time_ns=base + us * 1000, place=place) for us, place in seen)
    assert found(tensor_loop, run_of(drawn, frames=frames)).place == "model.py:41"
