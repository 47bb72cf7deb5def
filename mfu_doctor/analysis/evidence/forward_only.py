"""Whether a trace is inference, and which of Hugging Face's code it runs: there other advice helps than in training."""

from __future__ import annotations

import re

from mfu_doctor.analysis.names.vocabulary import ids_matching, rows_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.arrays.intervals import union
from mfu_doctor.trace import Category

# Names of a backward pass (its operators, nodes and kernels) or of an optimizer, in traces of any version.
_TRAINS = re.compile(r"[Bb]ackward|Optimizer\.|multi_tensor|(^|_)[dw]grad|(^|_)bwd|AccumulateGrad|^torch/optim/")
# Who records inference often says so: a context without gradients, a server, a generation loop, a pipeline.
_SERVES = re.compile(
    r"inference|no_grad|decorate_context|vllm|sglang|transformers[/\\](generation|pipelines)", re.IGNORECASE
)
_SOFTMAX = re.compile(r"^aten::_softmax$")
_MODEL_OF_TRANSFORMERS = re.compile(r"(^|[/\\])transformers[/\\]models[/\\].*modeling_\w+\.py\(\d+\): ")
_GENERATION_OF_TRANSFORMERS = re.compile(r"(^|[/\\])transformers[/\\]generation[/\\]utils\.py\(\d+\): ")


def is_forward_only(run: Run) -> bool | None:
    """Whether there is a forward pass, and nothing of a backward pass or an optimizer; None without operators: not known."""
    if not len(run.trace.rows(Category.CPU_OP)):
        return None
    if run.flops.coverage is None or (run.facts is not None and run.facts.optimizers):
        return False  # without a product there is no forward pass either
    return not any(_TRAINS.search(name) for name in run.trace.names)


def is_inference(run: Run) -> bool:
    """Whether a trace in which nothing runs backward shows that nothing should: without that it may be a part of training."""
    return any(_SERVES.search(name) for name in run.recorded.names)


def generates(run: Run) -> bool:
    """Whether the generation loop of Hugging Face transformers runs, one token after another."""
    return len(ids_matching(run.recorded, _GENERATION_OF_TRANSFORMERS)) > 0


def attends_in_transformers(run: Run) -> bool:
    """Whether the stacks show a softmax inside a model of Hugging Face transformers."""
    events, trace = run.recorded.events, run.recorded
    frames = trace.frames(ids_matching(trace, _MODEL_OF_TRANSFORMERS))
    softmax = rows_matching(trace, _SOFTMAX, trace.rows(Category.CPU_OP))
    inside = union(events.start[frames], events.end[frames]).contains(events.start[softmax])
    return bool(inside.any())
