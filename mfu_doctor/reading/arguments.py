"""Which events keep their arguments, decided by name and category before anything is parsed.

Shapes of every operator would be a large part of a trace. Analysis needs them for operators that compute or move data: FLOPs,
bytes, and the dtype of the kernels they launch. Views, allocations and bookkeeping launch nothing; they are half
of all operators, and Python frames and most autograd nodes have no shapes of their own.
"""

from __future__ import annotations

from mfu_doctor.trace import Category

# Every kernel has its grid and occupancy, every copy its bytes, every wait its kind.
KEPT_CATEGORIES = (Category.KERNEL, Category.MEMCPY, Category.MEMSET, Category.SYNC)

# Operators that launch nothing: they make views, allocate, or ask. A list of what to leave out rather than of what to keep,
# because an operator that we have never heard of may own the longest kernel.
_LAUNCH_NOTHING = frozenset(
    f"aten::{name}"
    for name in (
        # views
        "_reshape_alias", "_unsafe_view", "adjoint", "alias", "as_strided", "as_strided_", "broadcast_tensors", "broadcast_to",
        "chunk", "conj", "detach", "detach_", "diagonal", "expand", "expand_as", "flatten", "lift_fresh", "mT", "matrix_H",
        "movedim", "narrow", "numpy_T", "permute", "positive", "real", "reshape", "reshape_as", "resolve_conj", "resolve_neg",
        "select", "slice", "split", "split_with_sizes", "squeeze", "squeeze_", "swapaxes", "t", "t_", "tensor_split",
        "transpose", "transpose_", "unbind", "unflatten", "unfold", "unsafe_chunk", "unsafe_split", "unsqueeze", "unsqueeze_",
        "view", "view_as", "view_as_complex", "view_as_real",
        # allocations
        "empty", "empty_like", "empty_permuted", "empty_quantized", "empty_strided", "new_empty", "new_empty_strided",
        "resize_", "resize_as_", "set_",
        # questions and bookkeeping
        "_has_compatible_shallow_copy_type", "_has_same_storage_numel", "dim", "is_floating_point",
        "is_leaf", "is_pinned", "numel", "output_nr", "promote_types", "record_stream",
        "requires_grad_", "result_type", "retain_grad", "size", "stride",
    )
)  # fmt: skip

# Names that look like operators and are nodes of the autograd graph or C++ types: their operators are inside them.
_NOT_OPERATORS = ("autograd::", "torch::", "std::", "c10::", "void ", "(anonymous")

# The one node with a shape of its own: that of a parameter.
_GRADIENT = "torch::autograd::AccumulateGrad"

# Without a namespace, an operator all the same: the collective of c10d, annotations of its back ends, kernels of Triton.
_BARE_OPERATORS = ("record_param_comms", "nccl:", "gloo:", "mpi:", "ucc:", "xccl:", "hccl:", "triton_")

# ROCm leaves the size of some copies out of the copy itself; the call has it.
_COPY_CALLS = ("hipMemcpy", "hipMemset")


def keeps_arguments(name: str) -> bool:
    """Whether the events of this name keep their arguments whatever their category."""
    if name == _GRADIENT or name.startswith(_BARE_OPERATORS + _COPY_CALLS):
        return True
    return "::" in name and name not in _LAUNCH_NOTHING and not name.startswith(_NOT_OPERATORS)
