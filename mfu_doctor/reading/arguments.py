"""Which events keep their arguments, decided by name and category before anything is parsed.

Shapes of every operator would be most of a trace. Analysis counts FLOPs of the operators that have some, bytes of the
memory-bound ones, and looks at kernels, copies, waits and collectives; the rest (views, `empty`, Python frames) is noise.
"""

from __future__ import annotations

import re

from mfu_doctor.trace import Category

# Every kernel has its grid and occupancy, every copy its bytes, every wait its kind.
KEPT_CATEGORIES = (Category.KERNEL, Category.MEMCPY, Category.MEMSET, Category.SYNC)

# Operators with a FLOP formula: products, by their name without namespace, `_` and overload.
_PRODUCTS = {
    "mm", "addmm", "bmm", "baddbmm", "addbmm", "linear", "mv", "addmv", "dot", "vdot", "addr", "ger", "outer", "inner",
    "matmul", "einsum", "bilinear", "cdist", "tensordot", "addmm_activation", "int_mm", "weight_int4pack_mm",
    "weight_int8pack_mm", "mixed_mm", "grouped_mm", "sparse_mm", "rnn_tanh", "rnn_relu", "lstm", "gru", "lstm_cell",
    "gru_cell", "rnn_tanh_cell", "rnn_relu_cell", "miopen_rnn",
}  # fmt: skip

# Memory-bound operators: they move their shapes' bytes once or twice, which is what fusing or a better layout removes.
_MEMORY_BOUND = {
    "copy", "to", "to_copy", "contiguous", "clone", "cat", "stack", "add", "sub", "mul", "div", "pow", "neg", "exp", "log",
    "sqrt", "rsqrt", "reciprocal", "abs", "sum", "mean", "var", "std", "max", "min", "amax", "argmax", "where", "clamp",
    "sigmoid", "tanh", "relu", "gelu", "silu", "softplus", "leaky_relu", "elu", "threshold", "hardtanh", "fill", "zero",
    "zeros_like", "dropout", "native_dropout", "bernoulli", "masked_fill", "addcmul", "addcdiv", "lerp", "cumsum",
    "nll_loss_forward", "nll_loss", "cross_entropy_loss", "mse_loss", "binary_cross_entropy_with_logits", "embedding",
    "embedding_dense", "embedding_bag", "index", "index_select", "index_put", "index_add", "gather", "scatter",
    "scatter_add", "sort", "topk", "unique", "nonzero", "tril", "triu", "pad", "constant_pad_nd", "repeat", "expand_copy",
    "max_pool2d_with_indices", "avg_pool2d", "adaptive_avg_pool2d", "upsample_nearest2d", "upsample_bilinear2d", "item",
    "local_scalar_dense",
}  # fmt: skip

# Families whose members are many: convolutions, attention, normalisations, soft-maxes, scaled products, fused optimizers
# and multi-tensor operators.
_FAMILIES = re.compile(
    r"conv|attention|attn|sdpa|scaled_mm|grouped_mm|_norm|norm_|rnn|lstm|gru|softmax|fused|foreach|fbgemm|flash|triton"
)

# Collectives: c10d's own operator, its namespaces, and the annotations of its back ends.
_COLLECTIVES = ("record_param_comms", "c10d::", "_c10d_functional::", "nccl:", "gloo:", "mpi:", "ucc:")

# ROCm leaves the size of some copies out of the copy itself; the call has it.
_COPY_CALLS = re.compile(r"^hip(?:Memcpy|Memset)")

_STEM = re.compile(r"^(?:aten::)?_*(.*?)(?:_?backward\w*|_)?(?:\.\w+)?$")


def keeps_arguments(name: str) -> bool:
    """Whether the events of this name keep their arguments whatever their category."""
    if name.startswith(_COLLECTIVES) or _COPY_CALLS.match(name):
        return True
    if "::" not in name or name.startswith(("autograd::", "torch::", "std::", "c10::", "void ")):
        return False
    if _FAMILIES.search(name):
        return True
    match = _STEM.match(name)
    return match is not None and (match.group(1) in _PRODUCTS or match.group(1) in _MEMORY_BOUND)
