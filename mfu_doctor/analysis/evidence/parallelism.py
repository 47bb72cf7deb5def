"""How the run is spread over ranks, as far as its spans and operators tell: whose options a rule may advise.

An option of DistributedDataParallel is no advice for a run that uses FSDP, and none for collectives that the program calls
itself. Each framework writes spans or operators of its own into the trace; without them nothing is known, and no option is named.
"""

from __future__ import annotations

import re

from msgspec import Struct

from mfu_doctor.analysis.names.vocabulary import ids_matching
from mfu_doctor.analysis.run import Run
from mfu_doctor.analysis.views.once import once

_DDP = re.compile(
    r"^DistributedDataParallel\.|^torch(::|\.)distributed(::|\.)(ddp\.)?reducer::|nn\.Module: DistributedDataParallel"
)
_DDP_COPIES = re.compile(r"ddp\.reducer::copy_bucket_to_grad")
_FSDP1 = re.compile(r"^FullyShardedDataParallel\.|nn\.Module: FullyShardedDataParallel")
_FSDP2 = re.compile(r"^FSDP::|^fsdp::|nn\.Module: FSDP[A-Z]")
_DEEPSPEED = re.compile(r"nn\.Module: DeepSpeed|^DeepSpeed|(^|/)deepspeed/runtime/")
_TENSOR = re.compile(
    r"tensor_parallel[/.]|nn\.Module: \w*(ColumnParallel|RowParallel)Linear|tensor_model_parallel_|^vllm::all_reduce"
    r"|^sgl\w*::.*all_reduce|distributed/tensor/parallel/"
)
_PIPELINE = re.compile(
    r"^nccl:(send|recv|batch_isend_irecv)|^c10d::(send|recv_)$|distributed/pipelining/|pipeline_parallel/schedules"
)
_TORCHREC = re.compile(
    r"^## (all2all|sparse_data_dist|alltoall_|wait_sparse|KJT\w*Awaitable|PooledEmbeddingsAwaitable)"
)
_SPARSE_PIPELINE = re.compile(r"^## (start_|wait_|wait_for_)?sparse_data_dist|^## sdd_")


class Parallelism(Struct, frozen=True):
    """Which frameworks of parallel training the trace shows; False if it does not.

    Attributes:
        ddp: DistributedDataParallel.
        ddp_copies: it copies gradients out of its buckets (gradient_as_bucket_view is off).
        fsdp1: FullyShardedDataParallel.
        fsdp2: fully_shard.
        deepspeed: DeepSpeed.
        tensor: tensor parallelism (Megatron, DTensor, vLLM).
        pipeline: pipeline parallelism.
        torchrec: embeddings of torchrec, exchanged by all-to-all.
        sparse_pipeline: TrainPipelineSparseDist of torchrec, which starts the exchange of the next batch early.
    """

    ddp: bool
    ddp_copies: bool
    fsdp1: bool
    fsdp2: bool
    deepspeed: bool
    tensor: bool
    pipeline: bool
    torchrec: bool
    sparse_pipeline: bool

    @property
    def data_parallel(self) -> bool:
        """Whether one of the frameworks that reduce gradients is known."""
        return self.ddp or self.fsdp1 or self.fsdp2 or self.deepspeed


@once
def parallelism_of(run: Run) -> Parallelism:
    """What the names of the trace say about parallel training."""

    def has(pattern: re.Pattern[str]) -> bool:
        return len(ids_matching(run.trace, pattern)) > 0

    return Parallelism(
        ddp=has(_DDP),
        ddp_copies=has(_DDP_COPIES),
        fsdp1=has(_FSDP1),
        fsdp2=has(_FSDP2),
        deepspeed=has(_DEEPSPEED),
        tensor=has(_TENSOR),
        pipeline=has(_PIPELINE),
        torchrec=has(_TORCHREC),
        sparse_pipeline=has(_SPARSE_PIPELINE),
    )


def overlap_fix(used: Parallelism, kind: str) -> str:
    """What lets collectives of this kind run beside compute, in the framework that issues them.

    Options that the trace shows to be in use are not named. Without a framework the line is a comment on what to do.

    Args:
        used: what the trace shows.
        kind: "allreduce", "allgather", "alltoall", "sendrecv", ...
    """
    if "alltoall" in kind or (used.torchrec and "send" in kind):
        return _exchange_fix(used)
    if "send" in kind or "recv" in kind:
        return _PIPELINE_FIX if used.pipeline else _EARLIER.format(what="send", call="isend(tensor, dst)")
    if "gather" in kind or "scatter" in kind:
        return gather_fix(used) or _EARLIER.format(
            what="all-gather", call="all_gather_into_tensor(out, x, async_op=True)"
        )
    if used.ddp:
        copies = ", gradient_as_bucket_view=True" if used.ddp_copies else ""
        return f"DistributedDataParallel(model, bucket_cap_mb=10{copies}, static_graph=True)"
    if used.deepspeed:
        return _DEEPSPEED_FIX
    if used.tensor:
        return _TENSOR_FIX
    return _EARLIER.format(what="reduction", call="all_reduce(tensor, async_op=True)")


def gather_fix(used: Parallelism) -> str | None:
    """What gathers the parameters of the next layer early, or None without a framework that gathers parameters."""
    if used.fsdp2:
        return "for block, following in zip(blocks, blocks[1:]): block.set_modules_to_forward_prefetch([following])"
    if used.fsdp1:
        return "FullyShardedDataParallel(..., forward_prefetch=True, backward_prefetch=BackwardPrefetch.BACKWARD_PRE)"
    return _DEEPSPEED_FIX if used.deepspeed else _TENSOR_FIX if used.tensor else None


def _exchange_fix(used: Parallelism) -> str:
    """An all-to-all: of embeddings (torchrec), else of experts or the program's own."""
    if not used.torchrec:
        return _EARLIER.format(what="all-to-all", call="all_to_all_single(out, x, async_op=True)")
    if not used.sparse_pipeline:
        return "# start the exchange of the next batch before backward of this one: torchrec TrainPipelineSparseDist"
    return (  # the input is exchanged early already; what is left is the exchange of the embeddings themselves
        "half = QCommsConfig(forward_precision=CommType.BF16, backward_precision=CommType.BF16)\n"
        "EmbeddingBagCollectionSharder(\n    qcomm_codecs_registry=get_qcomm_codecs_registry(half))"
    )


_EARLIER = "# start the {what} earlier, so that compute runs beside it: torch.distributed.{call}"
_DEEPSPEED_FIX = '"zero_optimization": {"overlap_comm": true, "contiguous_gradients": true}  # DeepSpeed config'
_TENSOR_FIX = "torch._inductor.config._micro_pipeline_tp = True  # with torch.compile; Megatron: --tp-comm-overlap"
_PIPELINE_FIX = (
    "# more micro-batches per step, or an interleaved schedule: ScheduleInterleaved1F1B(stages, n_microbatches)"
)
