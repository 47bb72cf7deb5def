"""Diagnoses for the sample report: one of every status and every decoration."""

from __future__ import annotations

from mfu_doctor.result.findings import CRASHED, FAILED, NOT_MEASURED, PASSED, WITHHELD, Diagnosis, Evidence, Saving


def diagnoses() -> tuple[Diagnosis, ...]:
    """One of every status and every decoration."""
    return (
        Diagnosis(
            rule="input-bound",
            code="IN001",
            status=FAILED,
            summary="GPU waits for data 21.4 % of the step",
            fix="DataLoader(..., num_workers=12, pin_memory=True, persistent_workers=True)",
            detail="4 workers deliver a batch each 412 ms; the GPU could take one each 324 ms",
            effort="setting",
            risk="none",
            confidence="modelled",
            saving=Saving(
                low=0.074, mid=0.081, high=0.088, step_low_s=0.338, step_high_s=0.324, mfu_low=0.383, mfu_high=0.399
            ),
            evidence=(
                Evidence(name="wait per step", value=0.0881, unit="s", place="train.py:41"),
                Evidence(name="share of the step", value=0.2138, unit="share"),
                Evidence(name="workers now", value=4, unit="count"),
                Evidence(name="batch", value=51_380_224, unit="bytes"),
                Evidence(name="loader", value="DataLoader"),
            ),
            place="train.py:41",
            explains=("slow-sample",),
        ),
        Diagnosis(
            rule="slow-sample",
            code="IN005",
            status=FAILED,
            summary="One fetch in 12 takes 2.3 times the median",
            explained_by="input-bound",
        ),
        Diagnosis(
            rule="host-bound",
            code="HO001",
            status=FAILED,
            summary="9,412 launches a step keep the device waiting 5.1 % of it",
            fix="model = torch.compile(model)",
            effort="line",
            risk="rounding",
            confidence="modelled",
            saving=Saving(
                low=0.018, mid=0.024, high=0.033, step_low_s=0.394, step_high_s=0.379, mfu_low=0.328, mfu_high=0.341
            ),
            evidence=(
                Evidence(name="launches", value=9412, unit="count"),
                Evidence(name="median kernel", value=6.1e-6, unit="s"),
                Evidence(name="median gap", value=9.2e-6, unit="s"),
            ),
        ),
        Diagnosis(
            rule="fp32-matmul",
            code="KE001",
            status=FAILED,
            summary="12 % of kernel time is matmul in fp32",
            fix='torch.set_float32_matmul_precision("high")',
            effort="line",
            risk="rounding",
            confidence="measured",
            saving=Saving(low=0.012, mid=0.014, high=0.016, mfu_low=0.323, mfu_high=0.327),
            evidence=(Evidence(name="fp32 FLOPs", value=3.1e12, unit="FLOP"),),
        ),
        Diagnosis(
            rule="spare-memory",
            code="ME002",
            status=FAILED,
            summary="31 GiB of 80 GiB were never used",
            fix="batch_size=48",
            effort="setting",
            risk="convergence",
            confidence="hint",
            throughput_gain=0.11,
        ),
        Diagnosis(rule="pageable-copy", code="IN002", status=PASSED),
        Diagnosis(rule="unfused-optimizer", code="KE004", status=PASSED),
        Diagnosis(rule="thermal-throttle", code="DV001", status=PASSED, summary="the device stayed below 71 C"),
        Diagnosis(
            rule="device-sync",
            code="HO002",
            status=WITHHELD,
            reason="loss.item() blocks the host 25 ms, but the queue never empties: removing it saves 0.3 ms",
        ),
        Diagnosis(rule="straggler", code="CO002", status=NOT_MEASURED, reason="needs traces of more than one rank"),
        Diagnosis(rule="allocator-retry", code="ME001", status=NOT_MEASURED, reason="memory events were not recorded"),
        Diagnosis(rule="small-buckets", code="CO003", status=CRASHED, reason="ZeroDivisionError: division by zero"),
        Diagnosis(
            rule="profiler-inflation",
            code="TR003",
            status=FAILED,
            caution=True,
            summary="The profiler slowed the step by 4.6 %",
        ),
    )
