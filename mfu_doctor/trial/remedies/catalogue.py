"""All remedies, in the order in which `mfu-doctor try --list` shows them; a remedy that is not listed here is never tried."""

from __future__ import annotations

import re

from mfu_doctor.errors import DoctorError, suggest
from mfu_doctor.trial.remedies.anomaly_off import ANOMALY_OFF
from mfu_doctor.trial.remedies.autocast_off import AUTOCAST_OFF
from mfu_doctor.trial.remedies.batch_size import BATCH_SIZE
from mfu_doctor.trial.remedies.bf16_autocast import BF16_AUTOCAST
from mfu_doctor.trial.remedies.channels_last import CHANNELS_LAST
from mfu_doctor.trial.remedies.compiled_model import COMPILED_MODEL
from mfu_doctor.trial.remedies.convolution_libraries import CONVOLUTION_LIBRARIES
from mfu_doctor.trial.remedies.cudnn_benchmark import CUDNN_BENCHMARK
from mfu_doctor.trial.remedies.ddp_bf16_gradients import DDP_BF16_GRADIENTS
from mfu_doctor.trial.remedies.ddp_bucket_view import DDP_BUCKET_VIEW
from mfu_doctor.trial.remedies.ddp_buckets import DDP_BUCKETS
from mfu_doctor.trial.remedies.ddp_kept_buffers import DDP_KEPT_BUFFERS
from mfu_doctor.trial.remedies.ddp_no_unused_search import DDP_NO_UNUSED_SEARCH
from mfu_doctor.trial.remedies.ddp_static_graph import DDP_STATIC_GRAPH
from mfu_doctor.trial.remedies.dynamic_shapes import DYNAMIC_SHAPES
from mfu_doctor.trial.remedies.expandable_segments import EXPANDABLE_SEGMENTS
from mfu_doctor.trial.remedies.float32 import FLOAT32
from mfu_doctor.trial.remedies.foreach_clipping import FOREACH_CLIPPING
from mfu_doctor.trial.remedies.foreach_optimizer import FOREACH_OPTIMIZER
from mfu_doctor.trial.remedies.frozen_parameters import FROZEN_PARAMETERS
from mfu_doctor.trial.remedies.fused_attention import FUSED_ATTENTION
from mfu_doctor.trial.remedies.fused_optimizer import FUSED_OPTIMIZER
from mfu_doctor.trial.remedies.gc_freeze import GC_FREEZE
from mfu_doctor.trial.remedies.gc_threshold import GC_THRESHOLD
from mfu_doctor.trial.remedies.kept_cache import KEPT_CACHE
from mfu_doctor.trial.remedies.loader_workers import LOADER_WORKERS
from mfu_doctor.trial.remedies.nccl_backend import NCCL_BACKEND
from mfu_doctor.trial.remedies.no_checkpointing import NO_CHECKPOINTING
from mfu_doctor.trial.remedies.no_grad_scaler import NO_GRAD_SCALER
from mfu_doctor.trial.remedies.own_file import SUFFIX, remedy_in
from mfu_doctor.trial.remedies.persistent_workers import PERSISTENT_WORKERS
from mfu_doctor.trial.remedies.pin_memory import PIN_MEMORY
from mfu_doctor.trial.remedies.prefetch_factor import PREFETCH_FACTOR
from mfu_doctor.trial.remedies.rare_gc_collect import RARE_GC_COLLECT
from mfu_doctor.trial.remedies.remedy import COUNT, Chosen, Circumstances, Remedy
from mfu_doctor.trial.remedies.sparse_embedding import SPARSE_EMBEDDING
from mfu_doctor.trial.remedies.tf32 import TF32
from mfu_doctor.trial.remedies.threads import THREADS
from mfu_doctor.trial.remedies.zero_grad_to_none import ZERO_GRAD_TO_NONE

REMEDIES: tuple[Remedy, ...] = (
    LOADER_WORKERS,
    PERSISTENT_WORKERS,
    PREFETCH_FACTOR,
    PIN_MEMORY,
    FUSED_OPTIMIZER,
    FOREACH_OPTIMIZER,
    ZERO_GRAD_TO_NONE,
    FOREACH_CLIPPING,
    COMPILED_MODEL,
    DYNAMIC_SHAPES,
    BF16_AUTOCAST,
    AUTOCAST_OFF,
    NO_GRAD_SCALER,
    FLOAT32,
    TF32,
    CHANNELS_LAST,
    CUDNN_BENCHMARK,
    CONVOLUTION_LIBRARIES,
    FUSED_ATTENTION,
    SPARSE_EMBEDDING,
    FROZEN_PARAMETERS,
    NO_CHECKPOINTING,
    ANOMALY_OFF,
    THREADS,
    GC_FREEZE,
    GC_THRESHOLD,
    RARE_GC_COLLECT,
    KEPT_CACHE,
    EXPANDABLE_SEGMENTS,
    DDP_BUCKETS,
    DDP_BF16_GRADIENTS,
    DDP_KEPT_BUFFERS,
    DDP_BUCKET_VIEW,
    DDP_STATIC_GRAPH,
    DDP_NO_UNUSED_SEARCH,
    NCCL_BACKEND,
    BATCH_SIZE,
)


def remedy_named(name: str) -> Chosen:
    """The remedy of a name such as "fused-optimizer", "loader-workers=2" or "mine.py"; without a setting, its setting is None.

    Raises:
        DoctorError: there is none of this name, or it does not take this setting.
    """
    if name.endswith(SUFFIX):
        return Chosen(remedy_in(name))
    bare, equals, setting = name.partition("=")
    for remedy in REMEDIES:
        if remedy.name == bare:
            return Chosen(remedy, _taken(remedy, setting) if equals else None)
    known = [remedy.name for remedy in REMEDIES]
    raise DoctorError(
        f"no remedy is named {name!r}", suggest(bare, known, otherwise="mfu-doctor try --list shows them")
    )


def _taken(remedy: Remedy, setting: str) -> str:
    if remedy.settings is None:
        raise DoctorError(f"{remedy.name} takes no setting", f"write --fix {remedy.name}")
    if not re.fullmatch(remedy.settings, setting):
        raise DoctorError(f"{remedy.name} does not take the setting {setting!r}", f"it takes {_told(remedy.settings)}")
    return setting


def _told(settings: str) -> str:
    return "a number of at least 1" if settings == COUNT else settings.replace("|", ", ")


def remedies_for(rule: str) -> tuple[Remedy, ...]:
    """The remedies that are a fix of this rule's finding."""
    return tuple(remedy for remedy in REMEDIES if rule in remedy.answers)


def settled_on(chosen: Chosen, circumstances: Circumstances) -> Chosen:
    """The same remedy with a setting: that of the user, else the one that suits the program and the machine."""
    return chosen if chosen.setting is not None else Chosen(chosen.remedy, chosen.remedy.setting(circumstances))
