"""What an operator's name says about the work it does itself: used on a CPU, where operators are the device's kernels.

On a GPU it breaks ties: a kernel whose own name says nothing does what the operator that launched it does.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mfu_doctor.analysis.names.vocabulary import COMMUNICATION_OP

_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("communication", COMMUNICATION_OP),
    ("optimizer", re.compile(r"_foreach_|_fused_(adam|adamw|sgd|adagrad|lamb)|::(fused_)?(adam|adamw|sgd)_?$")),
    ("attention", re.compile(r"scaled_dot_product|_attention|flash_attn|flex_attention|fmha")),
    ("convolution", re.compile(r"(?<![a-z])conv(?!ert)|convolution|conv_depthwise")),
    (
        "matmul",
        re.compile(
            r"::_?(scaled_|scaled_grouped_|grouped_|int_|weight_int\d*pack_)?mm(_v2)?$|::(addmm|bmm|baddbmm|addbmm|mv|addmv)$"
            r"|::(dot|vdot|matmul|linear|linear_backward|mkldnn_rnn_layer\w*|_cudnn_rnn\w*|miopen_rnn\w*|addr|ger)$"
            r"|_addmm_activation$|_linear_pointwise|(?<!fb)gemm"
        ),
    ),
    ("softmax", re.compile(r"softmax")),
    ("normalization", re.compile(r"(layer|batch|group|rms|instance)_?norm|normalization", re.IGNORECASE)),
    ("embedding", re.compile(r"embedding")),
    (
        "layout",
        re.compile(
            r"::(contiguous|clone|permute|transpose|t|view|reshape|_unsafe_view|cat|stack|expand|as_strided|to)$"
        ),
    ),
    ("copy", re.compile(r"::(copy_|_to_copy|_pin_memory|pin_memory)$")),
    (
        "reduction",
        re.compile(
            r"::(sum|mean|max|min|amax|amin|norm|argmax|var|std|var_mean|logsumexp|cumsum|topk|sort|all|any)$|nll_loss"
        ),
    ),
    (
        "elementwise",
        re.compile(
            r"::(add|sub|mul|div|neg|exp|log|sqrt|rsqrt|pow|tanh|sigmoid|relu|gelu|silu|threshold|where|clamp|lerp|addcmul"
            r"|addcdiv|dropout|native_dropout|bernoulli|fill|zero|masked_fill|eq|ne|lt|gt|le|ge|logical_\w+|bitwise_\w+"
            r"|gather|scatter|index|index_put|index_select|cos|sin|abs|hardtanh|leaky_relu|elu|normal|uniform|random)"
            r"(_scalar|_tensor|_min|_max)?(_backward|_out)?_?$"
        ),
    ),
)


@lru_cache(1 << 12)  # names: each is asked about with every kernel that it launches
def kind_of_op(name: str) -> str:
    """Class of an operator's own work (a kind of `kernel_names.KINDS`), "other" if its name says nothing."""
    return next((kind for kind, pattern in _RULES if pattern.search(name)), "other")
