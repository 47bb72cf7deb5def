"""Hand-made reports that stand for the situations every renderer must show well.

    python -m tests.goldens        writes tests/golden/*.json again

The worst case is long in every place and hostile in every text that comes from a trace file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from mfu_doctor.api.report import Report
from mfu_doctor.diagnosis.concluded import concluded
from mfu_doctor.facts import DeviceSamples
from mfu_doctor.result.findings import Diagnosis, Evidence, Plan, PlanStep, Saving
from mfu_doctor.result.report import Baseline
from mfu_doctor.result.run import Convention, DeviceInfo, Mfu, ReplayInfo, RunInfo
from mfu_doctor.result.step import (
    IDLE_CAUSES,
    Bar,
    Block,
    Breakdown,
    CodeLine,
    Drawing,
    KernelRow,
    LeftOut,
    OpRow,
    StepRow,
    StepTime,
)

FOLDER = Path(__file__).parent / "golden"
HOSTILE = (
    "evil<script>alert(1)</script> & \"q\" 'a' \x1b[31mred\x1b[0m\x1b]0;title\x07 |x| `tick` *b* _i_\r\n"
    "::error::line \u202eback \x9b2J"
)


def _concluded(build: Callable[[], Report]) -> Callable[[], Report]:
    """A report with the verdict and the caveats that a diagnosis would draw from it."""
    return lambda: concluded(build())


def _rule(rule: str, code: str, status: str, **more: object) -> Diagnosis:
    return Diagnosis(rule=rule, code=code, status=status, **more)  # type: ignore[arg-type]


def _split(
    step: float, *, compute: float, communication: float = 0.0, copies: float = 0.0, loading: float = 0.0
) -> Breakdown:
    idle = step - compute - communication - copies - loading
    return Breakdown(
        step_s=step,
        compute=compute,
        communication=communication,
        memory_copy=copies,
        data_loading=loading,
        idle=idle,
        idle_causes={"launch": idle * 0.75, "sync": idle * 0.2, "python": idle * 0.05} if idle else {},
    )


H100 = DeviceInfo(
    name="NVIDIA H100 80GB HBM3",
    dtype="bfloat16",
    matrix_unit="tensor-core",
    peak_flops=989.5e12,
    peak_source="NVIDIA H100 SXM datasheet",
    sms=132,
    memory_bytes=85_028_896_768,
    bandwidth_bytes_s=3.35e12,
    peaks={"bfloat16": 989.5e12, "tf32": 494.7e12, "float32": 66.9e12},
)
PASSED = {
    "pageable-copy": "IN002",
    "unfused-optimizer": "KE004",
    "thermal-throttle": "DV001",
    "power-cap": "DV002",
    "misaligned-matmul": "KE002",
    "recompilation": "HO003",
    "gc-pause": "HO004",
    "low-clocks": "DV003",
    "spare-memory": "ME001",
}


def _passed() -> tuple[Diagnosis, ...]:
    return tuple(_rule(name, code, "passed") for name, code in PASSED.items())


@_concluded
def loader_bound() -> Report:
    """The drawn example of the design: a loader that is too slow, a host that launches too much, fp32 matmuls."""
    split = _split(0.412, compute=0.236, communication=0.033, loading=0.088)
    diagnoses = (
        _rule(
            "input-bound",
            "IN001",
            "failed",
            summary="GPU waits for data 21 %",
            fix="DataLoader(num_workers=12, pin_memory=True, persistent_workers=True)",
            detail="4 workers deliver a batch each 412 ms; the GPU could take one each 324 ms",
            effort="setting",
            risk="none",
            confidence="modelled",
            saving=Saving(
                low=0.074, mid=0.081, high=0.088, step_low_s=0.338, step_high_s=0.324, mfu_low=0.383, mfu_high=0.4
            ),
            evidence=(
                Evidence(name="wait per step", value=0.088, unit="s", place="train.py:41"),
                Evidence(name="share of the step", value=0.2136, unit="share"),
                Evidence(name="loader workers", value=4, unit="count"),
            ),
        ),
        _rule(
            "host-bound",
            "HO001",
            "failed",
            summary="9,412 launches a step",
            fix="model = torch.compile(model)",
            detail="median kernel 6 us, median launch gap 9 us",
            effort="line",
            risk="rounding",
            confidence="modelled",
            saving=Saving(low=0.030, mid=0.040, high=0.048, mfu_low=0.339, mfu_high=0.355),
            explains=("device-sync",),
        ),
        _rule(
            "fp32-matmul",
            "KE001",
            "failed",
            summary="12 % of kernel time in fp32",
            fix='torch.set_float32_matmul_precision("high")',
            effort="line",
            risk="rounding",
            confidence="modelled",
            saving=Saving(low=0.019, mid=0.022, high=0.025, mfu_low=0.329, mfu_high=0.334),
        ),
        _rule("device-sync", "HO002", "failed", summary="3 synchronizations a step", explained_by="host-bound"),
        *_passed(),
        _rule(
            "allocator-churn",
            "HO005",
            "withheld",
            reason="2 allocations a step, all while the GPU is busy; removing them saves 0.0 ms",
            saving=Saving(low=0.0, mid=0.0, high=0.0),
        ),
        _rule("straggler", "CO002", "not measured", reason="needs traces of more than one rank"),
        _rule("allocator-retry", "ME003", "not measured", reason="memory events were not recorded"),
        _rule(
            "profiler-inflation",
            "TR003",
            "failed",
            summary="profiler slowed the step by 4.6 %; shares are of the profiled step",
            caution=True,
        ),
    )
    return Report(
        version="0.1.0",
        created="2026-11-24T05:57:18Z",
        run=RunInfo(
            trace="run.json.gz",
            captured=True,
            site="train.py:41",
            rank=0,
            world_size=1,
            versions={"torch": "2.13.0", "cuda": "13.0"},
            steps=5,
            skip=5,
            timed=5,
            warmup=3,
            active=5,
            settings={"record_shapes": True},
        ),
        device=H100,
        step_time_s=StepTime(
            median=0.412,
            mad=0.003,
            n=5,
            source="timed",
            profiled_mean=0.431,
            mean=0.412,
            p95=0.416,
            left_out=(LeftOut(kind="warm-up", count=1, mean_s=0.913),),
            samples=(0.409, 0.41, 0.412, 0.415, 0.416),
        ),
        mfu=Mfu(
            value=0.314,
            hfu=0.314,
            causal=0.298,
            by_dtype=0.331,
            computes_in=("bf16", "fp32"),
            model_flops=1.28e14,
            forward_flops=0.43e14,
            backward_flops=0.85e14,
            achieved_flops_s=3.107e14,
            method="counted",
            coverage=0.97,
            conventions=(Convention(name="6 N tokens", flops=1.2e14, mfu=0.294),),
        ),
        breakdown=split,
        waterfall=(
            Bar(name="achieved at peak", seconds=0.129, group="achieved", basis="modelled"),
            Bar(name="matmul below peak", seconds=0.060, group="matmul"),
            Bar(name="other kernels", seconds=0.047, group="other kernels"),
            Bar(name="communication", seconds=0.033, group="communication"),
            Bar(name="data loading", seconds=0.088, group="data loading"),
            Bar(name="idle", seconds=0.055, group="idle"),
        ),
        steps=tuple(StepRow(number=i, start_s=0.412 * i, split=split) for i in range(5)),
        drawing=Drawing(
            step=2,
            step_s=0.412,
            lanes=("thread 100", "stream 7"),
            blocks=(
                Block(lane=0, start_s=0.0, end_s=0.088, kind="data_loading", label="next batch"),
                Block(
                    lane=1, start_s=0.09, end_s=0.40, kind="compute", label="sgemm_128x64 <&>", count=900, busy_s=0.236
                ),
            ),
        ),
        diagnoses=diagnoses,
        plan=Plan(
            steps=(
                PlanStep(rule="input-bound", step_s=0.331, saving_s=0.081, mfu=0.391),
                PlanStep(rule="host-bound", step_s=0.303, saving_s=0.028, mfu=0.427),
                PlanStep(rule="fp32-matmul", step_s=0.287, saving_s=0.016, mfu=0.451),
            ),
            saving_low_s=0.110,
            saving_high_s=0.140,
            mfu_low=0.43,
            mfu_high=0.48,
            roofline_s=0.21,
            stop="after these, the step is within 37 % of its roofline",
        ),
        replay=ReplayInfo(error=-0.004, predicted_s=0.4103, measured_s=0.412, trusted=True),
        kernels=(
            KernelRow(
                name="sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64",
                kind="matmul",
                seconds=0.15,
                share=0.364,
                count=288,
                dtype="bfloat16",
                flops=1.1e14,
                achieved_flops_s=7.3e14,
                peak_share=0.74,
                op="aten::mm",
            ),
            KernelRow(
                name="vectorized_elementwise_kernel<4, at::native::add>",
                kind="elementwise",
                seconds=0.04,
                share=0.097,
                count=812.5,
            ),
        ),
        ops=(OpRow(name="aten::mm", host_s=0.02, device_s=0.15, count=288, flops=1.1e14),),
        code_lines=(
            CodeLine(place="model.py:88", seconds=0.21, share=0.51, flops=1.1e14, peak_share=0.53),
            CodeLine(place="model.py:97", seconds=0.04, share=0.097),
            CodeLine(place="train.py:41", seconds=0.012, share=0.029),
        ),
        samples=(
            DeviceSamples(
                device="GPU-0",
                name="NVIDIA H100 80GB HBM3",
                time_ns=(0, 100_000_000, 200_000_000),
                util_gpu=(91.0, None, 95.0),
                power_w=(512.0, 540.0, None),
            ),
        ),
        structure={"launches": 9412, "syncs": 3},
        places={"syncs": ("train.py:57",)},
    )


@_concluded
def unknown_peak() -> Report:
    """A device without a row in the table: no MFU, and the flag that gives it."""
    base = loader_bound()
    device = DeviceInfo(
        name="NVIDIA GB10",
        dtype="bfloat16",
        peak_reason='no peak for "NVIDIA GB10"; pass --peak-flops 1.0e15 (dense FLOP/s for bf16)',
    )
    mfu = Mfu(
        model_flops=1.28e14,
        achieved_flops_s=3.107e14,
        method="counted",
        coverage=0.97,
        reason="no peak for this device",
    )
    stripped = tuple(
        replace(d, saving=replace(d.saving, mfu_low=None, mfu_high=None)) if d.saving else d for d in base.diagnoses
    )
    plan = replace(base.plan, mfu_low=None, mfu_high=None, steps=tuple(replace(s, mfu=None) for s in base.plan.steps))
    return replace(base, device=device, mfu=mfu, diagnoses=stripped, plan=plan, waterfall=())


@_concluded
def cpu_only() -> Report:
    """A laptop run: the peak was measured here, so the figure is MFU*."""
    split = _split(0.0523, compute=0.0441, loading=0.0031)
    return Report(
        version="0.1.0",
        created="2026-11-24T05:57:18Z",
        run=RunInfo(trace="cpu.json", steps=3, steps_source="optimizer", versions={"torch": "2.13.0+cpu"}),
        device=DeviceInfo(
            name="AMD EPYC 7B13",
            kind="cpu",
            dtype="float32",
            peak_flops=1.92e11,
            peak_source="GEMM of 2048, 2 threads",
            peak_measured=True,
        ),
        step_time_s=StepTime(median=0.0523, mad=0.0004, n=3, mean=0.0523, p95=0.0527),
        mfu=Mfu(value=0.611, model_flops=6.13e9, achieved_flops_s=1.173e11, method="counted", coverage=1.0),
        breakdown=split,
        diagnoses=(
            _rule("input-bound", "IN001", "passed"),
            _rule("host-bound", "HO001", "not measured", reason="the run has no device, so the host is the device"),
            _rule("fp32-matmul", "KE001", "not measured", reason="the run has no device, so the host is the device"),
            _rule(
                "missing-gpu-events",
                "TR002",
                "failed",
                caution=True,
                summary="the trace holds no GPU events: this is a CPU run, or the profiler could not record the GPU",
            ),
        ),
        replay=ReplayInfo(error=0.001, predicted_s=0.0524, measured_s=0.0523, trusted=True),
    )


@_concluded
def healthy() -> Report:
    """A run with nothing to fix."""
    split = _split(0.3241, compute=0.3062, communication=0.0098)
    judged = ("input-bound", "host-bound", "fp32-matmul")
    return Report(
        version="0.1.0",
        created="2026-11-24T05:57:18Z",
        run=RunInfo(trace="good.json.gz", rank=3, world_size=8, steps=5, versions={"torch": "2.13.0"}),
        device=replace(H100, count=1),
        step_time_s=StepTime(median=0.3241, mad=0.0007, n=5, mean=0.3241, p95=0.3252),
        mfu=Mfu(
            value=0.523, hfu=0.612, model_flops=1.677e14, achieved_flops_s=5.175e14, method="counted", coverage=0.995
        ),
        breakdown=split,
        diagnoses=(*(_rule(name, "XX000", "passed") for name in judged), *_passed()),
        plan=Plan(roofline_s=0.199),
        replay=ReplayInfo(error=0.0002, predicted_s=0.3242, measured_s=0.3241, trusted=True),
        baseline=Baseline(
            trace="baseline.json", step_time_s=StepTime(median=0.3402, mad=0.001, n=5), mfu=0.498, breakdown=split
        ),
    )


@_concluded
def interval() -> Report:
    """Partial FLOP coverage: MFU is an interval; the split is finer than the printed digits."""
    split = _split(0.010007, compute=0.0033356, communication=0.0033357, copies=0.0000008, loading=0.0033349)
    return Report(
        version="0.1.0",
        created="2026-11-24T05:57:18Z",
        run=RunInfo(
            trace="partial.json.gz",
            steps=1,
            steps_source="whole trace",
            steps_note="no step marks: the whole trace is one step",
        ),
        device=H100,
        step_time_s=StepTime(median=0.010007, mean=0.010007, p95=0.010007),
        mfu=Mfu(
            value=0.281,
            upper=0.345,
            model_flops=2.78e12,
            achieved_flops_s=2.78e14,
            method="counted",
            coverage=0.81,
            notes=("19 % of matmul time ran in kernels whose shapes were not recorded",),
        ),
        breakdown=split,
        diagnoses=(
            _rule(
                "exposed-communication",
                "CO001",
                "failed",
                summary="GPU waits for communication 33 % of the step",
                fix="DistributedDataParallel(model, bucket_cap_mb=50)",
                confidence="hint",
            ),
        ),
        replay=ReplayInfo(
            error=-0.123,
            predicted_s=0.00878,
            measured_s=0.010007,
            reason="the replay misses the measured step by 12 %: savings are withheld",
        ),
    )


@_concluded
def worst() -> Report:
    """Everything at once, long, and written by somebody who wants to break the screen."""
    base = loader_bound()
    long = "word " * 60
    failed = tuple(
        _rule(
            f"a-rule-with-quite-a-long-name-{i}",
            f"KE9{i:02}",
            "failed",
            summary=f"{HOSTILE} {long}",
            fix=f"{HOSTILE}\n    indented({i})\n{'x' * 200}\nlast",
            detail=f"{long}{HOSTILE}",
            effort="refactor",
            risk="convergence",
            confidence="hint",
            saving=Saving(low=0.0001 * i, mid=0.05, high=12.3456, mfu_low=0.001, mfu_high=0.999),
            evidence=(Evidence(name=HOSTILE, value=HOSTILE, place=HOSTILE),),
            place=HOSTILE,
            explains=tuple(f"symptom-{i}-{j}" for j in range(9)),
        )
        for i in range(12)
    )
    others = tuple(
        _rule(f"other-rule-with-a-long-name-{i}", f"ME9{i:02}", status, reason=f"{i} {long}{HOSTILE}")
        for status in ("withheld", "not measured", "crashed")
        for i in range(12)
    )
    passed = tuple(_rule(f"passed-rule-with-a-name-{i}", f"DV9{i:02}", "passed") for i in range(40))
    caution = tuple(
        _rule(f"caution-{i}", f"TR9{i:02}", "failed", summary=f"{i} {long}{HOSTILE}", caution=True) for i in range(9)
    )
    split = _split(123.4567, compute=50.0, communication=20.0, copies=10.0, loading=13.4)
    causes = dict.fromkeys(IDLE_CAUSES, split.idle / len(IDLE_CAUSES))
    return replace(
        base,
        run=replace(
            base.run,
            trace=f"/very/long/{HOSTILE}/{'d' * 90}.json.gz",
            rank=1023,
            world_size=16384,
            steps=100_000,
            versions={"torch": f"2.13.0{HOSTILE}"},
        ),
        device=replace(base.device, name=HOSTILE + long, count=8, peak_source=HOSTILE + long, dtype="float8_e4m3fn"),
        step_time_s=StepTime(
            median=98.7654,
            mad=9.87654,
            n=1000,
            source="timed",
            profiled_mean=145.678,
            mean=123.4567,
            p95=7654.321,
            long=43,
            left_out=(
                LeftOut(kind="warm-up", count=12, mean_s=4321.0),
                LeftOut(kind="disturbed", count=3, mean_s=12345.6),
            ),
        ),
        mfu=replace(
            base.mfu,
            value=0.9876,
            upper=0.9999,
            hfu=0.9999,
            causal=0.5,
            by_dtype=0.75,
            coverage=0.123,
            notes=(HOSTILE + long,),
        ),
        breakdown=replace(split, idle_causes=causes),
        waterfall=(Bar(name=HOSTILE + long, seconds=123.4567, group="idle"),),
        waterfall_note=HOSTILE,
        diagnoses=failed + others + passed + caution,
        plan=replace(base.plan, saving_low_s=11.1, saving_high_s=99.9, stop=HOSTILE + long),
        replay=ReplayInfo(error=-0.2345, predicted_s=94.5, measured_s=123.4567, reason=HOSTILE + long),
        kernels=tuple(
            KernelRow(name=f"{HOSTILE}{i}", kind="matmul", seconds=1.0, share=0.01, count=1.5, op=HOSTILE)
            for i in range(30)
        ),
        ops=tuple(OpRow(name=f"{HOSTILE}{i}", host_s=1.0, device_s=1.0, count=1.5) for i in range(30)),
        code_lines=tuple(CodeLine(place=f"{HOSTILE}.py:{i}", seconds=1.0, share=0.3) for i in range(30)),
        structure={HOSTILE: 3.0},
        places={HOSTILE: (HOSTILE, HOSTILE)},
        baseline=Baseline(trace=HOSTILE + long, step_time_s=StepTime(median=100.0, mad=1.0, n=5), mfu=0.5),
        problems=(HOSTILE + long, f"{long}{HOSTILE}"),
        cautions=tuple(f"{i} {long}" for i in range(9)),
    )


GOLDENS: dict[str, Callable[[], Report]] = {
    "loader_bound": loader_bound,
    "unknown_peak": unknown_peak,
    "cpu_only": cpu_only,
    "healthy": healthy,
    "interval": interval,
    "worst": worst,
}


def write() -> None:
    """Write every golden report as JSON."""
    FOLDER.mkdir(exist_ok=True)
    for name, build in GOLDENS.items():
        build().save(FOLDER / f"{name}.json")


if __name__ == "__main__":
    write()
