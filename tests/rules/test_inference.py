"""Inference is named in the first word, and gets advice that it can follow: no training step, no loader for one request."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from mfu_doctor.analysis.evidence.forward_only import is_forward_only
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.rules.host.host_bound import host_bound
from mfu_doctor.rules.input.input_bound import input_bound
from mfu_doctor.rules.kernels.unfused_attention import unfused_attention
from tests.rules.drawing import training
from tests.rules.judging import found, run_of
from tests.rules.kernels.test_unfused_attention import attention
from tests.timeline import Timeline

MODEL = "site-packages/transformers/models/bert/modeling_bert.py(309): forward"
GENERATION = "site-packages/transformers/generation/utils.py(2200): _sample"


def requests(*frames: str, pause: int = 0) -> Timeline:
    """Six forward passes of many small kernels, inside these functions, each perhaps after a long preparation."""
    drawn = Timeline()
    for _ in range(6):
        with drawn.step(), ExitStack() as stack:
            for frame in frames:
                stack.enter_context(drawn.span(frame, "python_function"))
            drawn.python(pause)
            for _ in range(50):
                drawn.op("aten::mm", kernel=10, host=40)
    return drawn


def test_it_is_the_first_word_of_the_verdict() -> None:
    served, trained = (diagnose_run(run_of(drawn)).report.verdict for drawn in (requests(), training(requests())))
    assert served is not None
    assert trained is not None
    assert served.sentence.startswith("No backward pass, ")
    assert "Inference" not in trained.sentence


def test_what_prepares_a_request_is_not_moved_out_of_a_training_step() -> None:
    fix = found(host_bound, run_of(requests(GENERATION, pause=9_000))).fix
    assert "to the GPU, or to another thread, for the next request" in fix


def test_a_forward_pass_that_serves_nobody_known_has_no_next_request() -> None:
    fix = found(host_bound, run_of(requests(pause=9_000))).fix
    assert fix.endswith("to the GPU, or to another thread")
    assert "training" not in fix
    assert "DataLoader" not in fix
    assert "DataLoader workers" in found(host_bound, run_of(training(requests(pause=9_000)))).fix


def test_nobody_is_told_to_load_one_request_with_a_data_loader() -> None:
    assert "DataLoader" not in str(input_bound.judge(run_of(requests())))
    assert "DataLoader" in str(input_bound.judge(run_of(training(requests()))))


def test_launches_can_serve_several_requests() -> None:
    assert "several requests as one batch" in found(host_bound, run_of(requests())).fix
    assert "requests" not in found(host_bound, run_of(training(requests()))).fix


def test_generation_gets_a_static_cache() -> None:
    """Only where the loop of transformers is in the stacks."""
    fix = found(host_bound, run_of(requests(GENERATION))).fix
    assert 'cache_implementation = "static"' in fix
    assert 'mode="reduce-overhead"' in fix
    assert "cache_implementation" not in found(host_bound, run_of(requests(MODEL))).fix


@pytest.mark.parametrize(("frame", "is_setting"), [(MODEL, True), ("models/mine.py(30): forward", False)])
def test_a_model_of_transformers_has_a_setting_for_fused_attention(frame: str, is_setting: bool) -> None:
    drawn = attention(fused=False)
    end = drawn.now
    drawn.add("python_function", frame, 0, end)
    fix = found(unfused_attention, run_of(drawn)).fix
    assert ('attn_implementation="sdpa"' in fix) == is_setting


def test_a_trace_without_operators_is_not_known_to_be_inference() -> None:
    drawn = Timeline()
    with drawn.step():
        drawn.python(100)
    assert is_forward_only(run_of(drawn)) is None
