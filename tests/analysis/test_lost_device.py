"""A GPU run without GPU events: nothing may be computed from its operators. A CPU run beside a GPU is something else."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from mfu_doctor.analysis.run import Run
from mfu_doctor.annotation.annotate import annotate
from mfu_doctor.comparison.compare import compare
from mfu_doctor.diagnosis.diagnose import diagnose_run
from mfu_doctor.errors import DoctorError
from mfu_doctor.facts import Facts, OptimizerFacts
from mfu_doctor.gate.judge import check_report
from mfu_doctor.inputs.load import load_input
from mfu_doctor.inputs.overrides import Overrides
from mfu_doctor.reading import read_trace
from mfu_doctor.render import render
from mfu_doctor.result.report import Report
from mfu_doctor.trace import MemorySamples
from tests.timeline import Timeline
from tests.traces import ROOT, real_trace

DIMS: dict[str, Any] = {"dims": [[512, 512], [512, 512]], "types": ["float", "float"]}
BACKWARD, BACKWARD_THREAD = "autograd::engine::evaluate_function: MmBackward0", 101
GPU_EVENTS = ("kernel", "gpu_memcpy", "gpu_memset")
CALLS = ("cuda_runtime", "cuda_driver")


def trained(*, on_cpu: bool = False, steps: int = 5) -> Timeline:
    """Steps of a fetch, a matmul, backward and an optimizer, as a GPU or a CPU writes them; the header names a GPU."""
    drawn = Timeline()
    for _ in range(steps):
        with drawn.step():
            drawn.fetch(300)
            if on_cpu:
                with drawn.span("aten::mm", "cpu_op", **DIMS):
                    drawn.op("aten::resolve_conj", host=1)
                    drawn.python(400)
                with drawn.span(BACKWARD, "cpu_op"):
                    drawn.python(1)
                    with drawn.span("aten::mm", "cpu_op", **DIMS):
                        drawn.op("aten::resolve_conj", host=1)
                        drawn.python(400)
            else:
                drawn.op("aten::mm", kernel=500, **DIMS)
                drawn.add("cpu_op", BACKWARD, drawn.now, 40, tid=BACKWARD_THREAD)
                drawn.op("aten::mul_", kernel=30)
    return drawn


def without(drawn: Timeline, *categories: str) -> Timeline:
    drawn.events = [event for event in drawn.events if event["cat"] not in categories]
    return drawn


def report_of(drawn: Timeline) -> Report:
    return diagnose_run(Run(drawn.trace())).report


def lost(drawn: Timeline) -> str:
    found = Run(drawn.trace()).lost_device
    assert found is not None
    return found.reason


def is_known(drawn: Timeline) -> bool:
    return Run(drawn.trace()).lost_device is None


def test_launches_without_kernels_show_a_gpu() -> None:
    """CUPTI was missing, or WSL: the calls are there, what they launched is not."""
    assert "10 calls such as cudaLaunchKernel" in lost(without(trained(), *GPU_EVENTS))


def test_copies_without_the_kernels_that_were_launched_are_not_the_work() -> None:
    drawn = trained()
    with drawn.step():
        drawn.item()
    assert "no GPU kernels" in lost(without(drawn, "kernel"))


def test_only_the_cpu_was_recorded_but_backward_ran_on_a_thread_of_its_own() -> None:
    """activities=[CPU] of a run on a GPU."""
    assert "backward ran on a thread of its own" in lost(without(trained(), *GPU_EVENTS, *CALLS))


def test_only_the_cpu_was_recorded_and_no_matmul_looks_like_one_of_the_cpu() -> None:
    drawn = without(trained(), *GPU_EVENTS, *CALLS)
    drawn.events = [event for event in drawn.events if event["name"] != BACKWARD]
    assert "matmuls were not computed as on a CPU" in lost(drawn)


def test_a_profiler_without_cupti_writes_no_gpu_into_the_header() -> None:
    """Two signs together are enough without it: backward on a thread of its own, and matmuls unlike those of a CPU."""
    drawn = without(trained(), *GPU_EVENTS, *CALLS)
    drawn.header = {}
    assert "backward ran on a thread of its own" in lost(drawn)
    drawn.events = [event for event in drawn.events if event["name"] != BACKWARD]
    assert is_known(drawn)


def test_a_kind_of_gpu_that_the_profiler_does_not_know() -> None:
    trace = trained(on_cpu=True).trace()
    on = OptimizerFacts(class_name="Adam", device_types=("mps",))
    found = Run(replace(trace, facts=Facts(optimizers=(on,)))).lost_device
    assert found is not None
    assert "no kernels of mps" in found.remedy
    cpu = replace(trace, facts=Facts(optimizers=(replace(on, device_types=("cpu",)),)))
    assert Run(cpu).lost_device is None


@pytest.mark.parametrize(
    "name",
    [
        "aten::cudnn_convolution",
        "aten::miopen_batch_norm",
        "aten::_scaled_dot_product_flash_attention",
        "aten::_thnn_fused_lstm_cell",
        "nccl:all_reduce",
        "flash_attn_3::fwd",
    ],
)
def test_an_operator_that_only_gpus_have(name: str) -> None:
    drawn = trained(on_cpu=True)
    drawn.header = {}
    assert is_known(drawn)
    with drawn.step():
        drawn.op(name)
    assert name in lost(drawn)


def test_nccl_and_gpu_memory() -> None:
    drawn = trained(on_cpu=True)
    drawn.header["distributedInfo"] = {"backend": "nccl", "rank": 0, "world_size": 8}
    assert "NCCL" in lost(drawn)
    drawn.header["distributedInfo"] = {"backend": "gloo", "rank": 0, "world_size": 8}
    assert is_known(drawn)
    one = np.ones(1, np.int64)
    memory = MemorySamples(time=one, device=np.zeros(1, np.int16), allocated=one, reserved=one)
    found = Run(replace(drawn.trace(), memory=memory)).lost_device
    assert found is not None
    assert "GPU memory" in found.reason


def test_a_run_on_the_cpu_of_a_machine_with_a_gpu_stays_one() -> None:
    """Kineto writes the GPUs that it sees into every header."""
    report = report_of(trained(on_cpu=True))
    assert report.device.unseen is None
    assert report.device.kind == "cpu"
    assert report.breakdown.compute > 0


def test_calls_and_operators_of_a_cpu_run_that_sound_like_a_gpu() -> None:
    """The profiler itself synchronizes a device that it sees, and an LSTM on the CPU asks whether cuDNN would take it."""
    drawn = trained(on_cpu=True)
    with drawn.step():
        drawn.op("aten::cudnn_is_acceptable")
        drawn.op("aten::_scaled_dot_product_flash_attention_for_cpu")
        drawn.call("cudaDeviceSynchronize", 5)
        drawn.call("cudaGetDeviceCount", 5)
    assert is_known(drawn)


def test_a_trace_with_kernels_is_never_lost() -> None:
    assert is_known(trained())


def as_kineto(drawn: Timeline) -> str:
    """The drawn trace as Kineto lays it out: operators first, then what the GPU's side recorded, in the order of time."""
    late = ("kernel", "gpu_memcpy", "gpu_memset", *CALLS)
    events = sorted(drawn.events, key=lambda event: (event["cat"] in late, event["ts"]))
    return json.dumps(drawn.header | {"traceEvents": events})


def cut(drawn: Timeline, folder: Path, name: str, *, at: str, more: int = 0) -> Path:
    """The file without what comes from the first event with this text on."""
    text = as_kineto(drawn)
    end = text.index(at) + more
    path = folder / name
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text[:end].encode()))
    else:
        path.write_text(text[:end])
    return path


@pytest.mark.parametrize("name", ["cut.json", "cut.json.gz"])
def test_a_file_cut_before_its_gpu_events_says_so_everywhere(tmp_path: Path, name: str) -> None:
    path = cut(trained(), tmp_path, name, at='"cuda_runtime"')
    report = load_input(path).report
    assert report.device.unseen is not None
    assert "cut off before its GPU kernels" in report.device.unseen
    assert (report.mfu.value, report.mfu.achieved_flops_s, report.step_time_s, report.bound) == (None, None, None, None)
    assert report.breakdown.step_s == 0
    assert not report.kernels
    assert not report.plan.steps
    assert not report.withheld
    assert [d.rule for d in report.failed] == ["missing-gpu-events"]
    assert not report.passed
    terminal = render(report, "terminal").splitlines()
    assert terminal[1].startswith("  ! The end of the trace is missing")
    assert any(row.startswith("  MFU unknown   the file was cut off before its GPU kernels") for row in terminal)
    for form in ("terminal", "markdown", "html", "json"):
        text = render(report, form)
        assert "cut off before its GPU kernels" in text
        assert "missing-gpu-events" in text
        assert "TFLOP/s" not in text.replace("--peak-flops F (dense FLOP/s", "")
    assert "Nothing of the GPU is in this trace" in render(report, "html")
    with pytest.raises(DoctorError, match="cut off before its GPU kernels") as caught:
        check_report(report, step_time="1s")
    assert caught.value.exit_code == 2
    assert "annotate" not in render(report, "terminal")
    with pytest.raises(DoctorError, match="cannot be judged"):
        compare(report_of(trained()), report)
    with pytest.raises(DoctorError, match="nothing can be marked"):
        annotate(path, tmp_path / "marked.json")


def test_a_cut_run_on_the_cpu_stays_one(tmp_path: Path) -> None:
    path = cut(trained(on_cpu=True), tmp_path, "cut.json", at='"ProfilerStep#4"', more=300)
    assert load_input(path).report.device.unseen is None


def test_the_only_step_cut_inside_its_kernels_is_not_judged(tmp_path: Path) -> None:
    drawn = Timeline()
    with drawn.step():
        for i in range(40):
            drawn.op("aten::mm", kernel=500, kernel_name=f"kernel {i}", **DIMS)
    path = cut(drawn, tmp_path, "cut.json", at='"name": "kernel 10"')
    reason = load_input(path).report.device.unseen
    assert reason is not None
    assert "inside the only step" in reason


def test_complete_steps_of_a_cut_file_are_judged(tmp_path: Path) -> None:
    drawn = Timeline()
    for step in range(6):
        with drawn.step():
            for i in range(9):
                drawn.op("aten::mm", kernel=100, kernel_name=f"kernel {step}.{i}", **DIMS)
    path = cut(drawn, tmp_path, "cut.json", at='"name": "kernel 4.5"')
    report = load_input(path).report
    assert report.device.unseen is None
    assert report.run.steps == 3  # of four whole ones, the first warms up


def test_nothing_is_calculated_without_the_rule_or_for_a_saved_report(tmp_path: Path) -> None:
    run = Run(without(trained(), *GPU_EVENTS).trace())
    report = diagnose_run(run, ()).report
    assert report.device.unseen is not None
    assert not report.diagnoses
    assert "MFU unknown" in render(report, "terminal")
    saved = tmp_path / "saved.json"
    saved.write_text(render(report, "json"))
    again = load_input(saved, Overrides(peak_flops=1e15, model_flops=1e12)).report
    assert again.mfu == report.mfu
    assert again.device == report.device


def test_given_numbers_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(without(trained(), *GPU_EVENTS).json()))
    report = load_input(path, Overrides(peak_flops=1e15, model_flops=1e12)).report
    assert report.mfu.value is None


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["v100_resnet50_workers4", "a100_dlrm_rank3of8", "h100_timesformer_inference"])
def test_real_traces_cut_after_their_operators(name: str, packed: bool, tmp_path: Path) -> None:
    text = gzip.decompress(real_trace(f"{name}.pt.trace.json.gz").read_bytes())
    path = tmp_path / ("cut.json.gz" if packed else "cut.json")
    start = text[: int(0.4 * len(text))]
    path.write_bytes(gzip.compress(start, 1) if packed else start)
    run = Run(read_trace(path))
    assert run.lost_device is not None
    assert run.lost_device.cut
    assert diagnose_run(run).report.breakdown.step_s == 0


GPU_SIDE = {"kernel", "gpu_memcpy", "gpu_memset", "cuda_runtime", "cuda_driver", "gpu_user_annotation", "cuda_sync"}
SMALL = (
    "a100_alexnet_sync_events",
    "h100_bert_small_inference",
    "mi250_minitoy_train",
    "mi300x_inductor_triton",
    "vllm_decode_graph",
)


@pytest.mark.parametrize("name", SMALL)
def test_real_traces_without_what_the_profiler_records_of_a_gpu(name: str, tmp_path: Path) -> None:
    """activities=[CPU]: no calls, no kernels, and here no backend and no memory either."""
    data = json.loads(gzip.decompress(real_trace(f"{name}.pt.trace.json.gz").read_bytes()))
    data["traceEvents"] = [e for e in data["traceEvents"] if e.get("cat") not in GPU_SIDE and e["name"] != "[memory]"]
    data.pop("distributedInfo", None)
    path = tmp_path / "cpu_only.json"
    path.write_text(json.dumps(data))
    assert Run(read_trace(path)).lost_device is not None


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_a_real_trace_of_a_cpu_with_a_gpu_in_its_header(share: float, tmp_path: Path) -> None:
    """Whole and cut off."""
    data = json.loads(gzip.decompress((ROOT / "tests/fixtures/torch213_cpu.json.gz").read_bytes()))
    text = json.dumps(data | {"deviceProperties": [{"id": 0, "name": "NVIDIA A100-SXM4-80GB", "numSms": 108}]})
    path = tmp_path / "beside_a_gpu.json"
    path.write_text(text[: int(share * len(text))])
    run = Run(read_trace(path))
    assert run.trace.devices
    assert run.lost_device is None
