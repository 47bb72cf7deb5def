"""What a report says about the run itself: the trace, its rank, its versions and settings."""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.steps import WHOLE
from mfu_doctor.result.run import RunInfo


def run_info(run: Run) -> RunInfo:
    """Where the numbers of a report come from; no step is analysed in a run whose GPU is not in the trace."""
    facts, trace, lost = run.facts, run.trace, run.lost_device is not None
    versions = dict(trace.versions) | (dict(facts.versions) if facts is not None else {})
    recorded = facts.recorded if facts is not None else None
    flags = trace.recorded
    settings = {"record_shapes": flags.shapes, "with_stack": flags.stacks, "profile_memory": flags.memory}
    return RunInfo(
        trace=trace.label,
        captured=facts is not None,
        site=facts.site if facts is not None else None,
        rank=trace.distributed.rank if facts is None or facts.rank is None else facts.rank,
        world_size=trace.distributed.world_size if facts is None or facts.world_size is None else facts.world_size,
        versions=versions,
        steps_source=WHOLE if lost else run.steps.source,
        steps_note=None if lost else run.steps.note,
        steps=0 if lost else int(run.steps.steady.sum()),
        skip=recorded.skip if recorded is not None else None,
        timed=recorded.timed if recorded is not None else None,
        warmup=recorded.warmup if recorded is not None else None,
        active=recorded.active if recorded is not None else None,
        settings={name: value for name, value in settings.items() if value is not None} | _facts_settings(run),
    )


def _facts_settings(run: Run) -> dict[str, str | int | float | bool | None]:
    """Settings that `compare` can say changed: loader, optimizer, precision."""
    facts = run.facts
    if facts is None:
        return {}
    out: dict[str, str | int | float | bool | None] = {}
    for loader in facts.loaders[:1]:
        out |= {"num_workers": loader.num_workers, "pin_memory": loader.pin_memory, "batch_size": loader.batch_size}
    for optimizer in facts.optimizers[:1]:
        out |= {"optimizer": optimizer.class_name, "fused": optimizer.fused, "foreach": optimizer.foreach}
    if facts.precision is not None:
        out |= {
            "float32_matmul_precision": facts.precision.float32_matmul_precision,
            "autocast_dtype": facts.precision.autocast_dtype,
        }
    if facts.compile is not None:
        out["compiled_modules"] = facts.compile.compiled_modules
    return out
