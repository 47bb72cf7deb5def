"""Embeddings with sparse gradients, where the program leaves `sparse` at its default: SGD takes them, Adam refuses them."""

from __future__ import annotations

from mfu_doctor.trial.remedies.patches import switch
from mfu_doctor.trial.remedies.remedy import Circumstances, Keywords, Numerics, Remedy

_NAME = "sparse-embedding"
_TAKE = ("SGD", "SparseAdam", "Adagrad")


def _why_not(circumstances: Circumstances) -> str | None:
    optimizers = circumstances.facts.optimizers if circumstances.facts is not None else ()
    refusing = sorted({used.class_name for used in optimizers} - {*_TAKE})
    return f"{refusing[0]} takes no sparse gradients: use SparseAdam for the embedding" if refusing else None


def _apply(_: str | None) -> None:
    from torch import nn

    for kind in (nn.Embedding, nn.EmbeddingBag):
        switch(_NAME, kind, "sparse", to=True)


SPARSE_EMBEDDING = Remedy(
    name=_NAME,
    answers=("dense-embedding-grad",),
    words="the gradient of an embedding has only the rows of the batch",
    line="nn.Embedding(..., sparse=True)",
    numerics=Numerics.CHANGES,  # with momentum or weight decay, rows that the batch does not use stand still
    why_not=_why_not,
    apply=_apply,
    edits=(Keywords(("Embedding", "EmbeddingBag"), (("sparse", "True"),), most=6),),
)
