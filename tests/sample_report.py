"""A report with every field filled, as a real run would fill it: an H100 that waits for its loader.

The page is built and looked at with it, so it holds what the page must cope with: nine idle causes, folded symptoms, advice
withheld, rules that crashed, device samples with gaps, a baseline, and kernel names as long as they really are.
"""

from __future__ import annotations

from msgspec.structs import replace

from mfu_doctor.api.report import Report
from mfu_doctor.diagnosis.concluded import concluded
from mfu_doctor.result.findings import Plan, PlanStep
from mfu_doctor.result.report import Baseline
from mfu_doctor.result.run import Convention, DeviceInfo, Mfu, ReplayInfo, RunInfo
from mfu_doctor.result.step import Bar, Block, Breakdown, Drawing, KernelRow, OpRow, StepRow, StepTime
from tests.sample_device import samples
from tests.sample_diagnoses import diagnoses

STEP = 0.412
CAUSES = {"launch": 0.0212, "sync": 0.0104, "allocator": 0.0021, "compile": 0.0015, "gc": 0.0048}
CAUSES |= {"python": 0.0088, "rank_wait": 0.0012, "queue": 0.0039, "other": 0.0009}
IDLE = sum(CAUSES.values())
SPLIT = Breakdown(
    step_s=STEP,
    compute=STEP - 0.0331 - 0.0062 - 0.0881 - IDLE,
    communication=0.0331,
    memory_copy=0.0062,
    data_loading=0.0881,
    idle=IDLE,
    idle_causes=CAUSES,
)
GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x_cublas"
ELEMENTWISE = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::BinaryFunctor<c10::BFloat16, c10::BFloat16, "
    "c10::BFloat16, at::native::binary_internal::MulFunctor<float>>, std::array<char*, 3ul>>(int, at::native::BinaryFunctor)"
)


def _step(number: int, factor: float, *, steady: bool = True) -> StepRow:
    """A step whose data loading took `factor` times as long."""
    extra = SPLIT.data_loading * (factor - 1)
    split = replace(SPLIT, step_s=SPLIT.step_s + extra, data_loading=SPLIT.data_loading + extra)
    return StepRow(
        number=number, start_s=number * STEP, split=split, steady=steady, left_out=None if steady else "warm-up"
    )


def drawing() -> Drawing:
    """One step: two host threads, the owner of the device's time, two streams."""
    host = [
        ("data_loading", 0.0, 0.088, "fetch a batch"),
        ("host-forward", 0.09, 0.17, "forward"),
        ("host", 0.17, 0.185, "loss"),
    ]
    host += [("host-wait", 0.36, 0.385, "loss.item()"), ("host-optimizer", 0.386, 0.410, "Optimizer.step#AdamW.step")]
    blocks = [Block(lane=0, start_s=a, end_s=b, kind=kind, label=label) for kind, a, b, label in host]
    blocks.append(Block(lane=1, start_s=0.186, end_s=0.34, kind="host-backward", label="backward"))
    owners = [
        ("data_loading", 0.0, 0.0881),
        ("launch", 0.0881, 0.0993),
        ("compute", 0.0993, 0.30),
        ("communication", 0.30, 0.3331),
    ]
    owners += [
        ("sync", 0.3331, 0.3435),
        ("compute", 0.3435, 0.38),
        ("memory_copy", 0.38, 0.3862),
        ("gc", 0.3862, 0.391),
    ]
    owners += [("python", 0.391, 0.3998), ("queue", 0.3998, 0.4037), ("launch", 0.4037, STEP)]
    names = {"data_loading": "data loading", "memory_copy": "memory copy"}
    blocks += [Block(lane=2, start_s=a, end_s=b, kind=kind, label=names.get(kind, kind)) for kind, a, b in owners]
    for index in range(60):
        start = 0.0993 + index * 0.00334
        kind = ("matmul", "elementwise", "attention", "normalization")[index % 4]
        count, busy = (1, None) if kind in ("matmul", "attention") else (37, 0.0012)
        label = GEMM if kind == "matmul" else kind
        blocks.append(
            Block(lane=3, start_s=start, end_s=start + 0.0031, kind=kind, label=label, count=count, busy_s=busy)
        )
    blocks.append(
        Block(
            lane=3,
            start_s=0.3435,
            end_s=0.38,
            kind="optimizer",
            label="multi_tensor_apply_kernel",
            count=148,
            busy_s=0.031,
        )
    )
    blocks.append(
        Block(
            lane=4, start_s=0.21, end_s=0.3331, kind="communication", label="ncclDevKernel_AllReduce_Sum_bf16_RING_LL"
        )
    )
    blocks.append(
        Block(lane=4, start_s=0.38, end_s=0.3862, kind="memory_copy", label="Memcpy HtoD (Pageable -> Device)")
    )
    lanes = (
        "host thread 4242 (training)",
        "host thread 4243 (autograd)",
        "device time by activity",
        "stream 7",
        "stream 20",
    )
    return Drawing(step=12, step_s=STEP, lanes=lanes, blocks=tuple(blocks))


def kernels() -> tuple[KernelRow, ...]:
    """Kernels with and without counted FLOPs."""
    matmul = KernelRow(
        name=GEMM,
        kind="matmul",
        seconds=0.121,
        share=0.294,
        count=432,
        dtype="bfloat16",
        flops=8.1e13,
        achieved_flops_s=6.69e14,
        bytes=1.9e11,
        intensity=426,
        peak_share=0.676,
        op="aten::mm",
    )
    flash = "void flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4, false, false, cutlass::bfloat16_t>>(Flash_fwd_params)"
    return (
        matmul,
        replace(
            matmul,
            name="sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize64x64x8_stage3_warpsize1x4x1_ffma_aligna4_alignc4_execute_kernel__5x_cublas",
            seconds=0.029,
            share=0.07,
            count=12,
            dtype="float32",
            flops=1.1e12,
            achieved_flops_s=3.8e13,
            intensity=88,
            peak_share=0.57,
        ),
        replace(
            matmul,
            name=flash,
            kind="attention",
            seconds=0.041,
            share=0.0995,
            count=48,
            flops=1.4e13,
            achieved_flops_s=3.4e14,
            intensity=210,
            peak_share=0.344,
            op="aten::_flash_attention_forward",
        ),
        KernelRow(
            name=ELEMENTWISE,
            kind="elementwise",
            seconds=0.022,
            share=0.053,
            count=1730,
            dtype="bfloat16",
            flops=2.2e9,
            achieved_flops_s=1.0e11,
            bytes=5.2e10,
            intensity=0.08,
            peak_share=0.0001,
            op="aten::mul",
        ),
        KernelRow(
            name="void (anonymous namespace)::layer_norm_grad_input_kernel<float>",
            kind="normalization",
            seconds=0.009,
            share=0.022,
            count=98,
        ),
    )


def full_report() -> Report:
    """Every field filled."""
    achieved = 0.314 * STEP
    bars = [
        ("ideal: model FLOPs / peak FLOP/s", achieved, "achieved", "measured"),
        ("recompute", 0.0021, "recompute", "measured"),
    ]
    bars += [
        ("precision below peak", 0.0102, "matmul", "modelled"),
        ("tile quantisation", 0.0031, "matmul", "modelled"),
    ]
    bars += [("wave quantisation", 0.0044, "matmul", "modelled"), ("clock", 0.0027, "matmul", "modelled")]
    rest = SPLIT.compute - achieved - sum(bar[1] for bar in bars[1:]) - 0.022 - 0.009
    bars += [
        ("other matmul inefficiency", rest, "matmul", "modelled"),
        ("elementwise", 0.022, "other kernels", "measured"),
    ]
    bars += [
        ("normalization", 0.009, "other kernels", "measured"),
        ("layout conversion", 0.0, "other kernels", "measured"),
    ]
    bars += [("communication, exposed", SPLIT.communication, "communication", "measured")]
    bars += [("memory copy, exposed", SPLIT.memory_copy, "memory copy", "measured")]
    bars += [("data loading", SPLIT.data_loading, "data loading", "measured")]
    bars += [(f"idle: {cause.replace('_', ' ')}", seconds, "idle", "measured") for cause, seconds in CAUSES.items()]
    return concluded(
        Report(
            version="0.1.0",
            created="2026-11-24T05:57:18Z",
            run=RunInfo(
                trace="run.pt.trace.json.gz",
                captured=True,
                site="train.py:38",
                rank=0,
                world_size=8,
                versions={"torch": "2.13.0", "cuda": "12.8", "python": "3.11.7"},
                steps=5,
                skip=5,
                timed=5,
                warmup=3,
                active=5,
                settings={"autocast": "bfloat16", "cudnn_benchmark": True, "matmul_tf32": None},
            ),
            device=DeviceInfo(
                name="NVIDIA H100 80GB HBM3",
                count=8,
                dtype="bfloat16",
                matrix_unit="tensor-core",
                peak_flops=9.895e14,
                peak_source="https://resources.nvidia.com/en-us-tensor-core/h100-datasheet",
                sms=132,
                memory_bytes=85_520_809_984,
                bandwidth_bytes_s=3.35e12,
                peaks={"bfloat16": 9.895e14, "float32": 6.69e13},
            ),
            step_time_s=StepTime(median=STEP, mad=0.0031, n=5, source="timed", profiled_mean=0.431),
            mfu=Mfu(
                value=0.314,
                hfu=0.319,
                causal=0.291,
                by_dtype=0.33,
                computes_in=("bf16", "fp32"),
                model_flops=1.28e14,
                recompute_flops=2.1e12,
                achieved_flops_s=3.107e14,
                method="counted",
                coverage=0.97,
                conventions=(
                    Convention(name="6N (no attention)", flops=1.1e14, mfu=0.27),
                    Convention(name="PaLM", flops=1.3e14, mfu=0.319),
                ),
            ),
            breakdown=SPLIT,
            waterfall=tuple(Bar(name=n, seconds=s, group=g, basis=b) for n, s, g, b in bars),
            waterfall_note="For 3 % of the matmul time the FLOPs are unknown.",
            steps=(_step(9, 1.9, steady=False), _step(10, 1.02), _step(11, 0.97), _step(12, 1.0), _step(13, 1.11)),
            drawing=drawing(),
            diagnoses=diagnoses(),
            plan=Plan(
                steps=(
                    PlanStep(rule="input-bound", step_s=0.331, saving_s=0.081, mfu=0.391),
                    PlanStep(rule="host-bound", step_s=0.309, saving_s=0.022, mfu=0.419),
                    PlanStep(rule="fp32-matmul", step_s=0.297, saving_s=0.012, mfu=0.436),
                ),
                saving_low_s=0.1,
                saving_high_s=0.13,
                mfu_low=0.42,
                mfu_high=0.46,
                roofline_s=0.171,
                stop="Then the device computes 79 % of the step; what remains is kernel efficiency.",
            ),
            replay=ReplayInfo(error=0.013, predicted_s=0.4174, measured_s=STEP, trusted=True),
            kernels=kernels(),
            ops=(
                OpRow(name="aten::mm", host_s=0.011, device_s=0.15, count=444, flops=8.2e13),
                OpRow(name="aten::mul", host_s=0.02, device_s=0.022, count=1730),
            ),
            modules=(OpRow(name="model.layers.0.mlp", host_s=0.002, device_s=0.012, count=1, flops=4e12),),
            samples=(samples(),),
            structure={"launches": 9412, "syncs": 1, "pageable_copies": 2.5},
            places={"syncs": ("train.py:57",)},
            baseline=Baseline(
                trace="main@3f2c1e0",
                step_time_s=StepTime(median=0.398, mad=0.0025, n=5),
                mfu=0.325,
                breakdown=replace(SPLIT, step_s=0.398, data_loading=0.0741),
            ),
            problems=("3 events were repaired",),
            cautions=("profiler slowed the step by 4.6 %; shares are of the profiled step",),
        )
    )
