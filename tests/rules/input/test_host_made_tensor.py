"""host-made-tensor: small uploads stop the host each time; one a step is ordinary."""

from __future__ import annotations

from mfu_doctor.rules.input.host_made_tensor import host_made_tensor
from tests.rules.drawing import compute, steps, upload
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline


def small_uploads(count: int, size: int) -> Timeline:
    def body(drawn: Timeline) -> None:
        for _ in range(count):
            compute(drawn, 400, host=300)
            upload(drawn, 3, size, pinned=False, op="aten::to")

    return steps(body)


def test_small_tensors_from_the_host_stop_it_each_time() -> None:
    run = run_of(small_uploads(10, 64))
    # host 300 us and device 400 us take turns; without the copies the device runs back to back
    assert price_us(host_made_tensor, run).high_ns == close(run.replay.measured_ns / 1000 - 10 * 403)
    assert "10 small tensors" in found(host_made_tensor, run).summary


def test_one_small_upload_a_step_is_no_finding() -> None:
    silent(host_made_tensor, run_of(small_uploads(1, 64)))
