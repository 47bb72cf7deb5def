"""data-parallel: the replication is priced, the replicas' own work stays."""

from __future__ import annotations

from mfu_doctor.rules.communication.data_parallel import data_parallel
from tests.rules.drawing import compute, steps
from tests.rules.judging import close, price_us, run_of, silent
from tests.timeline import Timeline


def replicating(*, parallel: bool) -> Timeline:
    def body(drawn: Timeline) -> None:
        if parallel:
            with drawn.span("Broadcast", "cpu_op"):
                drawn.python(500)
                drawn.op("aten::copy_", kernel=300, kernel_name="Memcpy PtoP (Device -> Device)", cat="gpu_memcpy")
        compute(drawn, 1_000)
        drawn.sync()

    return steps(body)


def test_the_replication_of_data_parallel_is_priced() -> None:
    price = price_us(data_parallel, run_of(replicating(parallel=True)))
    assert price.high_ns == close(510 + 300)
    silent(data_parallel, run_of(replicating(parallel=False)))


def test_what_replicas_compute_inside_data_parallel_stays() -> None:
    def body(drawn: Timeline) -> None:
        with drawn.span("DataParallel.forward"):
            drawn.python(1)
            with drawn.span("Broadcast", "cpu_op"):
                drawn.python(500)
            compute(drawn, 1_000, host=400)
        drawn.sync()

    assert price_us(data_parallel, run_of(steps(body))).high_ns == close(500)
