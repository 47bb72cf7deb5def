"""What makes launching cheaper in this run, and by how much: a CUDA graph if one is known to be possible, else a compiler."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from mfu_doctor.analysis.evidence.forward_only import generates, is_forward_only
from mfu_doctor.analysis.evidence.graphs import (
    comparable,
    is_compiled,
    is_graphed,
    obstacle_to_compile,
    obstacle_to_graph,
)
from mfu_doctor.analysis.evidence.host_time import (
    COMPILED_HOST_LEFT,
    GRAPH_CAUTIOUS,
    GRAPH_LEAST,
    GRAPH_NODE_NS,
    HostTime,
    fusable_share,
    joined,
    late,
)
from mfu_doctor.analysis.evidence.steady_steps import Steady
from mfu_doctor.analysis.replay.edits import Change, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.result.findings import Ends

_COMPILED = Ends(low="it only fuses kernels", high="compiled code hardly takes time to launch")
_FUSED = Ends(low="it only fuses kernels", high="compiled code needs 30 % of the CPU time")
# As the documentation of Hugging Face transformers spells it. Every token then has the same shapes, so it can be a CUDA graph.
_STATIC_CACHE = (
    'model.generation_config.cache_implementation = "static"; '
    'model.forward = torch.compile(model.forward, mode="reduce-overhead")'
)
_MATTERS = 0.01  # share of the step that is worth a word
_GRAPH = Ends(low="filling the graph's inputs takes 30 % of launching", high="the optimizer is in the graph too")
_TOKENS = Ends(low="it only fuses kernels", high="the whole step can be a CUDA graph")


class LaunchAdvice(Struct, frozen=True):
    """What to do about launching.

    Attributes:
        fix: a line to paste.
        graph_fits: whether a CUDA graph of the step is known to be possible; None if nothing tells.
        unknown: why not, or None.
        decides: what decides how much it saves.
    """

    fix: str
    graph_fits: bool | None
    unknown: str | None
    decides: Ends = _COMPILED


def launch_advice(run: Run, steady: Steady) -> LaunchAdvice:
    """What to do about launching in this run, and what decides how much that saves."""
    advice = _for_inference(run, _advice(run, steady)) if is_forward_only(run) else _advice(run, steady)
    if run.breakdown.mean_ns("data_loading") < _MATTERS * steady.step_ns:
        return advice
    high = f"{advice.decides.high}, and so loads the next batch sooner"  # it can save more than the wait for launching
    return replace(advice, decides=replace(advice.decides, high=high))


def cheaper_launches(run: Run, steady: Steady, host: HostTime, graph_fits: bool | None) -> Change:
    """The host's time of launching as a CUDA graph leaves it, or as compiling does where a graph does not fit.

    The optimizer is not in what is compiled or captured. Where nothing tells whether a graph fits, the high end takes it for one.
    """
    everything = joined(host.issuing, host.dispatch)
    model = everything - run.optimizer_steps.own
    total = max(steady.host_ns(everything), 1.0)
    graph = min(max(host.operations * GRAPH_NODE_NS / total, GRAPH_LEAST), 1.0)
    if graph_fits:
        cautious, captured = ScaleHost(model, max(GRAPH_CAUTIOUS, graph)), ScaleHost(model, graph)
        return Change((cautious,), (captured,), (ScaleHost(everything, 0.0),))
    fewer = 1 - fusable_share(run, steady)
    _, middle, least = COMPILED_HOST_LEFT
    low, mid = ScaleHost(model & late(run), max(fewer, graph)), ScaleHost(model, max(middle, graph))
    if graph_fits is None:
        return Change((low,), (mid,), (ScaleHost(joined(everything, host.pauses), 0.0),))
    return Change((low,), (mid,), (ScaleHost(model, least),))


def _for_inference(run: Run, advice: LaunchAdvice) -> LaunchAdvice:
    """What inference can do besides: each launch serves a whole batch, and with a static cache all tokens have one shape."""
    if generates(run) and not is_graphed(run):
        return replace(advice, fix=_STATIC_CACHE, graph_fits=None, unknown=None, decides=_TOKENS)
    if advice.fix.startswith("#"):
        return advice  # it names the batch already
    return replace(
        advice, fix=f"{advice.fix}  # or run several requests as one batch: a launch then serves all of them"
    )


def _advice(run: Run, steady: Steady) -> LaunchAdvice:
    obstacle = obstacle_to_graph(run, steady)
    fits = None if not comparable(run, steady) else obstacle is None
    decides = _COMPILED if fits is None else _FUSED
    if is_graphed(run):
        return LaunchAdvice(
            "# enlarge the batch, or include the remaining kernel launches in a CUDA graph",
            False,
            "CUDA graphs are already in use",
        )
    uncompilable = None if is_compiled(run) else obstacle_to_compile(run)
    if uncompilable is not None:
        what = (
            "torch.cuda.graph(): capture the whole step, or enlarge the batch"
            if obstacle is None
            else "enlarge the batch"
        )
        return LaunchAdvice(f"# {what}", fits, uncompilable)
    if obstacle is None:
        return LaunchAdvice('model = torch.compile(model, mode="reduce-overhead")', True, None, _GRAPH)
    if is_compiled(run):
        return LaunchAdvice(
            '# enlarge the batch, or make mode="reduce-overhead" possible for the compiled model', fits, obstacle
        )
    reason = f'no CUDA graph (mode="reduce-overhead") is proposed: {obstacle}'
    return LaunchAdvice("model = torch.compile(model)", fits, reason, decides)
