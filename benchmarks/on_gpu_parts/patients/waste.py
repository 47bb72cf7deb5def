"""Work that nobody needs: attention and losses written out, activations computed twice, gradients set to zero."""

from __future__ import annotations

from harness import Loop, repeat
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from on_gpu_parts.patients.loops import Patient, fused, gpt, next_token, on_text, size, tokens, training

VOCABULARY = 50304


class Checkpointed(nn.Module):
    """A part of a model whose activations are computed again in the backward pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = checkpoint(self.inner, x, use_reentrant=False)
        return out


def attention_written_out(fixed: bool) -> Loop:
    model = gpt(fused=fixed, vocabulary=512)
    return on_text(model, tokens(size(512, 97), length=size(1024, 16)))


def one_hot_loss(fixed: bool) -> Loop:
    model = gpt()
    text = tokens(size(VOCABULARY, 97), size(8, 2))

    def written_out(batch: None) -> Tensor:
        logits = model(text[:, :-1]).flatten(0, 1).float()
        target = functional.one_hot(text[:, 1:].flatten(), logits.shape[-1]).float()
        return -(target * functional.log_softmax(logits, -1)).sum(-1).mean()

    return repeat(None), training(fused(model), next_token(model, text) if fixed else written_out)


def needless_checkpointing(fixed: bool) -> Loop:
    model = gpt(vocabulary=512)
    if not fixed:
        model.blocks = nn.ModuleList(Checkpointed(block) for block in model.blocks)
    return on_text(model, tokens(size(512, 97)))


def zeroed_gradients(fixed: bool) -> Loop:
    model = gpt(width=size(2048, 32), vocabulary=8192)
    return on_text(model, tokens(size(8192, 97), size(2, 2), size(128, 16)), to_none=fixed)


PATIENTS = (
    Patient("attention-written-out", "unfused-attention", attention_written_out),
    Patient("one-hot-loss", "large-vocab-loss", one_hot_loss),
    Patient("needless-checkpointing", "needless-recompute", needless_checkpointing),
    Patient("zeroed-gradients", "zeroed-gradients", zeroed_gradients),
)
