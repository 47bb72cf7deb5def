"""What a fix asks for must exist in the versions of the run: an older spelling stands in its place, or what to upgrade first.

Only a run that mfu-doctor recorded names its versions. Where they are not known, nothing is said, unless the trace is spelled as
only old versions did: then what the fix needs is said.
"""

from __future__ import annotations

import re

from msgspec import Struct

from mfu_doctor.analysis.names.optimizers import Version
from mfu_doctor.analysis.run import Run

_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})")
_TORCH, _TRANSFORMERS = "torch", "transformers"


class Api(Struct, frozen=True):
    """Something that fixes ask for.

    Attributes:
        text: how a fix spells it.
        since: the first version that has it.
        source: the file of the library in which it is: there from `since` on, and without it in the release before.
        library: of which library.
        before: what older versions have instead; None: nothing as good.
    """

    text: str
    since: Version
    source: str
    library: str = _TORCH
    before: str | None = None


_TF32 = "torch.backends.cuda.matmul.allow_tf32 = True"  # since 1.7, the first version for GPUs that have TF32
_FUSED_ATTENTION = "sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION])"
_AFTER_2021: Version = (1, 12)  # the first version of torch that spells its traces otherwise
_FSDP2 = "torch/distributed/_composable/fsdp"  # until 2.5; from 2.6 on torch/distributed/fsdp/_fully_shard

# Read in the files of the released wheels: torch 1.6 to 2.13, the last patch release of each, and transformers 4.35 to 4.38.
# Options of optimizers stand in their own table, because each class has its own version (`names.optimizers`).
APIS = (
    Api("set_to_none", (1, 7), "torch/optim/optimizer.py"),
    Api("torch.backends.cudnn.allow_tf32", (1, 7), "torch/backends/cudnn/__init__.py"),
    Api("persistent_workers", (1, 7), "torch/utils/data/dataloader.py"),
    Api("prefetch_factor", (1, 7), "torch/utils/data/dataloader.py"),
    Api("gradient_as_bucket_view", (1, 7), "torch/nn/parallel/distributed.py"),
    Api("torch._foreach_mul_", (1, 7), "torch/_C/_VariableFunctions.pyi"),
    Api("register_comm_hook", (1, 8), "torch/nn/parallel/distributed.py"),
    Api("torch.profiler.", (1, 8), "torch/profiler/profiler.py"),
    Api("torch.autocast(", (1, 10), "torch/amp/autocast_mode.py"),
    Api("torch.cuda.graph(", (1, 10), "torch/cuda/graphs.py"),
    Api("torch.cuda.make_graphed_callables", (1, 10), "torch/cuda/graphs.py"),
    Api("bf16_compress_hook", (1, 10), "torch/distributed/algorithms/ddp_comm_hooks/default_hooks.py"),
    Api("static_graph=True", (1, 11), "torch/nn/parallel/distributed.py"),
    Api('torch.set_float32_matmul_precision("high")', (1, 12), "torch/__init__.py", before=_TF32),
    Api("mixed_precision=MixedPrecision(", (1, 12), "torch/distributed/fsdp/fully_sharded_data_parallel.py"),
    Api("forward_prefetch=True", (1, 13), "torch/distributed/fsdp/fully_sharded_data_parallel.py"),
    Api("all_gather_into_tensor", (1, 13), "torch/distributed/distributed_c10d.py", before="_all_gather_base"),
    Api("torch.compile", (2, 0), "torch/__init__.py"),
    Api("torch.vmap", (2, 0), "torch/__init__.py"),
    Api("torch.func.", (2, 0), "torch/func/__init__.py"),
    Api("scaled_dot_product_attention", (2, 0), "torch/nn/functional.py"),
    Api("clip_grad_norm_(model.parameters(), 1.0, foreach=True)", (2, 0), "torch/nn/utils/clip_grad.py"),
    Api("_apply_optimizer_in_backward", (2, 0), "torch/distributed/optim/__init__.py"),
    # In the compiled allocator: pytorch/pytorch#96995 (April 2023, after 2.0), and issue 122057 on 2.1.2.
    Api("expandable_segments", (2, 1), "torch/include/c10/cuda/CUDACachingAllocator.h"),
    Api(
        'TORCH_LOGS="recompiles"',
        (2, 1),
        "torch/_logging/_registrations.py",
        before="torch._dynamo.explain(model, x)",
    ),
    # It asks for 2.1.1 (transformers/utils/import_utils.py).
    Api('attn_implementation="sdpa"', (2, 1), "transformers/utils/import_utils.py"),
    Api('attn_implementation="sdpa"', (4, 36), "transformers/modeling_utils.py", _TRANSFORMERS),
    Api("cache_implementation", (4, 38), "transformers/generation/configuration_utils.py", _TRANSFORMERS),
    Api('torch.autocast("cpu", dtype=torch.float16)', (2, 2), "torch/amp/autocast_mode.py"),
    Api(
        _FUSED_ATTENTION,
        (2, 3),
        "torch/nn/attention/__init__.py",
        before="torch.backends.cuda.sdp_kernel(enable_math=False)",
    ),
    Api("torch.amp.GradScaler()", (2, 3), "torch/amp/grad_scaler.py", before="torch.cuda.amp.GradScaler()"),
    Api('torch.amp.GradScaler("cpu")', (2, 3), "torch/amp/grad_scaler.py"),
    Api("async_save", (2, 3), "torch/distributed/checkpoint/state_dict_saver.py"),
    Api("MixedPrecisionPolicy(", (2, 3), _FSDP2),
    Api("set_requires_gradient_sync", (2, 3), _FSDP2),
    Api("ScheduleInterleaved1F1B", (2, 4), "torch/distributed/pipelining/__init__.py"),
    Api("_micro_pipeline_tp", (2, 4), "torch/_inductor/config.py"),
    Api("set_modules_to_forward_prefetch", (2, 5), _FSDP2),
)


def version_of(run: Run, library: str = _TORCH) -> Version | None:
    """Major and minor version of a library in this run; None if it is not known."""
    match = _VERSION.match(dict(run.facts.versions).get(library, "")) if run.facts else None
    return (int(match[1]), int(match[2])) if match else None


def needs(since: Version, version: Version | None, library: str = _TORCH) -> str:
    """What to upgrade: "needs torch >= 2.3; this run has 1.13"; of an unknown version only what is needed."""
    text = f"needs {library} >= {since[0]}.{since[1]}"
    return text if version is None else f"{text}; this run has {version[0]}.{version[1]}: upgrade first"


def for_versions(run: Run, fix: str) -> str:
    """A fix as the versions of this run can follow it."""
    missing: dict[str, Version] = {}
    for api in APIS:
        version = version_of(run, api.library)
        is_old = version is None and run.trace.is_of_2021 and api.since >= _AFTER_2021
        if api.text not in fix or not (is_old or (version is not None and version < api.since)):
            continue
        if api.before is not None and not is_old:
            fix = fix.replace(api.text, api.before)
        else:
            missing[api.library] = max(api.since, missing.get(api.library, api.since))
    remarks = [f"# {needs(since, version_of(run, library), library)}" for library, since in missing.items()]
    beside = "  " if "\n" not in fix and "#" not in fix else "\n"  # on the line itself, if it has no remark yet
    return beside.join([fix, *remarks]) if len(remarks) == 1 else "\n".join([fix, *remarks])
