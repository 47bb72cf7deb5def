"""The table: every operator whose FLOPs are known, by its exact name, for live calls and for recorded ones.

An operator that is not in the table counts nothing and is listed as unknown. A new one is a row in the file of its family. The
table also lists operators without a formula: those that are known to multiply, and those that are known not to.
"""

from __future__ import annotations

from mfu_doctor.flops.attention import ATTENTION
from mfu_doctor.flops.convolution import CONVOLUTION
from mfu_doctor.flops.matmul import MATMUL
from mfu_doctor.flops.operators import Operator
from mfu_doctor.flops.recurrent import RECURRENT

TABLE: dict[str, Operator] = MATMUL | RECURRENT | CONVOLUTION | ATTENTION

# Operators of these namespaces multiply nothing, unless they are in TABLE or in UNCOUNTED.
OWN_NAMESPACES = frozenset(
    (
        *("aten", "prim", "prims", "torch", "autograd", "profiler"),
        *("c10d", "_c10d_functional", "c10d_functional", "_dtensor", "fsdp", "nccl", "gloo"),  # communication
    )
)

# Operators of torch itself that multiply matrices and have no row: listed as unknown, never silently zero.
UNCOUNTED = frozenset(
    (
        "aten::_trilinear",
        "aten::_cdist_forward",
        "aten::_cdist_backward",
        "aten::_euclidean_dist",
        "aten::_sparse_addmm",
        "aten::_sparse_sparse_matmul",
        "aten::linalg_solve_triangular",
        "aten::_linalg_solve_ex",
        "aten::linalg_cholesky_ex",
        "aten::linalg_inv_ex",
        "aten::linalg_qr",
        "aten::linalg_lu_factor_ex",
        "aten::_linalg_svd",
        "aten::_linalg_eigh",
        "aten::_fft_c2c",
        "aten::_fft_r2c",
        "aten::_fft_c2r",
        "aten::_native_multi_head_attention",
        "aten::_transformer_encoder_layer_fwd",
    )
)

# Products of sparse tensors. Inside of them, and also without them, run operators that have the names of dense ones.
SPARSE_PRODUCTS = frozenset(
    (
        "aten::_sparse_addmm",
        "aten::_sparse_mm",
        "aten::_sparse_sparse_matmul",
        "aten::sparse_sampled_addmm",
        "aten::smm",
    )
)
# What is asked only of a sparse tensor: a product that asks for it multiplies one.
OF_SPARSE = SPARSE_PRODUCTS | frozenset(
    ("aten::_nnz", "aten::sparse_dim", "aten::_indices", "aten::crow_indices", "aten::ccol_indices")
)
