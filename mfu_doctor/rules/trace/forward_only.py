"""Nothing runs backward in the trace: it is inference or an evaluation, and is judged as that.

What it measures
    Whether any operator, kernel or annotation of the trace is of a backward pass or of an optimizer.

Why it costs
    It costs nothing. But whoever expects a training step reads MFU and advice wrongly: a forward pass has a third of the FLOPs,
    keeps no activations, and its batch may be one request that has to be answered.

How the gain is predicted
    No gain is predicted. This is a caution: it shows what was recorded. The sentence at the top begins with "Inference" if
    the trace shows that gradients are off, or that a server or pipeline runs; else with "No backward pass".

How to fix
    If training was meant: record whole steps, with loss.backward() and optimizer.step().

When it is wrong
    The rule is wrong if the training step is one CUDA graph whose kernels were recorded under names that do not tell.

References
    https://pytorch.org/docs/stable/profiler.html#torch.profiler.schedule
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.forward_only import is_forward_only, is_inference
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.rules.contract import Finding, Outcome, Skip, rule, shown
from mfu_doctor.trace import Category


@rule("forward-only", "TR011", "nothing runs backward", also=("inference", "evaluation-only"))
def forward_only(run: Run) -> Outcome:
    """Look for anything that trains."""
    forward_only = is_forward_only(run)
    if forward_only is None:
        return Skip("the trace has no operators, so nothing tells whether it trains: record with ProfilerActivity.CPU")
    if not forward_only:
        return None
    operators = run.trace.rows(Category.CPU_OP)
    return Finding(
        summary="Inference: the trace has no backward pass and no optimizer step"
        if is_inference(run)
        else "No backward pass: the trace has none, and no optimizer step",
        fix="# if training was meant, record whole steps, with loss.backward() and optimizer.step()",
        evidence=(shown("operators", len(operators), "count"), shown("of a backward pass", counted(0, "operator"))),
        effort="setting",
        confidence="measured",
    )
