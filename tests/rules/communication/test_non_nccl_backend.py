"""non-nccl-backend: collectives that go through the host are priced at its time."""

from __future__ import annotations

from mfu_doctor.rules.communication.non_nccl_backend import non_nccl_backend
from tests.rules.drawing import MILLION, communicating, compute, steps
from tests.rules.judging import close, price_us, run_of, silent
from tests.timeline import Timeline


def test_gloo_on_a_gpu_is_priced_at_its_host_time() -> None:
    def body(drawn: Timeline) -> None:
        compute(drawn, 1_000)
        drawn.sync()
        with drawn.span("gloo:all_reduce"):
            drawn.python(2_000)

    assert price_us(non_nccl_backend, run_of(steps(body))).high_ns == close(2_000)
    silent(non_nccl_backend, run_of(communicating((MILLION, 100))))
