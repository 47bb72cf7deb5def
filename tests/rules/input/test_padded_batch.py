"""padded-batch: work on padding grows with the length, between pairs of places with its square; work on parameters does not."""

from __future__ import annotations

from typing import Any

from mfu_doctor.analysis.run import Run
from mfu_doctor.facts import LoaderFacts
from mfu_doctor.facts.wasted_work import PaddedInput
from mfu_doctor.rules.contract import Skip
from mfu_doctor.rules.input.padded_batch import padded_batch
from tests.rules.drawing import steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

SAMPLES, LENGTH = 8, 100
TOKENS = PaddedInput(dims=(SAMPLES, LENGTH), axis=1, least=0.5, mean=0.8, whole=True, place="model.py:3")
PICTURES = PaddedInput(dims=(SAMPLES, 3, 32, 32), axis=2, place="model.py:9")
HALF_SAVED, THREE_QUARTERS = 0.5, 0.75


def floats(*shapes: list[int]) -> dict[str, Any]:
    return {"dims": list(shapes), "types": ["float"] * len(shapes)}


def network() -> Timeline:
    """2,000 us on all places, 1,000 us between pairs of them, 500 us of a cell, 500 us on parameters, 700 us of the optimizer."""

    def body(drawn: Timeline) -> None:
        drawn.op("aten::addmm", host=2000, **floats([64], [SAMPLES * LENGTH, 64], [64, 64]))
        drawn.op("aten::_softmax", host=1000, **floats([SAMPLES, 4, LENGTH, LENGTH]))
        drawn.op("aten::sigmoid", host=500, **floats([SAMPLES, 64]))
        drawn.op("aten::embedding_dense_backward", host=500, **floats([SAMPLES, LENGTH, 64], [SAMPLES, LENGTH]))
        with drawn.span("Optimizer.step#SGD.step", "user_annotation"):
            drawn.op("aten::add_", host=700, **floats([64, 64], [64, 64]))

    return steps(body, device=False)


def told(*inputs: PaddedInput, **facts: Any) -> Run:
    return run_of(network(), padded=inputs, **facts)


def test_padding_is_priced_by_the_longest_sample() -> None:
    price = price_us(padded_batch, told(TOKENS))
    assert price.mid_ns == close(HALF_SAVED * (2000 + 500) + THREE_QUARTERS * 1000)
    assert price.low_ns == close(0.8 * (HALF_SAVED * (2000 + 500) + THREE_QUARTERS * 1000))
    assert price.high_ns == close(0.8 * (2000 + 500) + 0.96 * 1000)
    finding = found(padded_batch, told(TOKENS))
    assert "100 long and their longest sample 50" in finding.summary
    assert finding.place == "model.py:3"


def test_beside_data_without_padding_only_shapes_with_the_length_count() -> None:
    assert price_us(padded_batch, told(TOKENS, PICTURES)).mid_ns == close(HALF_SAVED * 2000 + THREE_QUARTERS * 1000)


def test_of_two_padded_inputs_the_one_with_less_padding_tells() -> None:
    target = PaddedInput(dims=(SAMPLES, LENGTH), axis=1, least=0.2, mean=0.8, whole=True)
    assert "their longest sample 80" in found(padded_batch, told(TOKENS, target)).summary


def test_the_place_is_where_samples_are_made() -> None:
    loader = LoaderFacts(class_name="DataLoader", num_workers=0, sample_place="data.py:8")
    assert found(padded_batch, told(TOKENS, loaders=(loader,))).place == "data.py:8"


def test_batches_as_long_as_their_longest_sample_and_borders_are_no_finding() -> None:
    silent(padded_batch, told(PaddedInput(dims=(SAMPLES, LENGTH), axis=1, least=0.0, mean=0.6, whole=True)))
    silent(padded_batch, told(PaddedInput(dims=(SAMPLES, 1, 28, 28), axis=2, least=0.14, mean=0.2)))
    silent(padded_batch, told())
    assert isinstance(padded_batch.judge(run_of(network(), site="train.py:1")), Skip)
