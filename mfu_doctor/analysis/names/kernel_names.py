"""What the name of a kernel says: the class of its work, its dtype, its tile.

Libraries encode these in names and nowhere else in a trace. The patterns were collected from real traces (cuBLAS,
cuDNN, CUTLASS, ATen, Triton, Tensile, MIOpen, Composable Kernel, FBGEMM), together with names that a simple substring
search gets wrong: `fbgemm_gpu::permute_2D_data_kernel` contains "gemm", `convert` contains "conv".
"""

from __future__ import annotations

import re
from functools import cache

from mfu_doctor.analysis.names.vocabulary import COMMUNICATION_KERNEL

# Kinds of device work; a `KernelTable` holds indices into this tuple.
KINDS = (
    "matmul",
    "convolution",
    "attention",
    "elementwise",
    "reduction",
    "normalization",
    "softmax",
    "embedding",
    "optimizer",
    "layout",
    "copy",
    "communication",
    "helper",
    "other",
)
MATMUL_LIKE = ("matmul", "convolution", "attention")  # kinds whose work is counted in FLOPs


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# First match wins: what prepares or finishes a matmul must be known before the matmul whose name it carries.
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("communication", COMMUNICATION_KERNEL),
    ("copy", _any(r"^memcpy", r"^memset", r"^Copy(Device|Host|Buffer)")),
    (
        "layout",
        _any(
            r"nchwToNhwc|nhwcToNchw|(^|_)transpose_|batched_transpose|TransposeKernel|transpose_readWrite",
            r"permute_?\w*kernel|permute102|tensorTransformGeneric|pack_segments|im2col|col2im|CatArrayBatchedCopy",
        ),
    ),
    (
        "helper",
        _any(
            r"splitk_?reduce|ReduceSplitK|PostGSU|_finalize_|\bscal_kernel|epilogue::impl::globalKernel",
            r"computeW?g?r?a?d?\w*OffsetsKernel|SubTensorOp|scalePackedTensor",
            r"flash_bwd_dot_do_o|flash_bwd_convert|convert_dq|clear_dkvaccum|splitkv_combine|fmha_bwd_(dot|convert)",
            r"winograd\w*(Data|Filter|Output|Delta)4x4|generateWinograd|reduce_wgrad|kern_precompute_indices",
            r"\bfft[12]d_|flip_filter|reduce_1Block_kernel|cudnn::ops::addTensor",
        ),
    ),
    (
        "attention",
        _any(
            r"flash_(fwd|bwd|attn|attention)|pytorch_flash|fmha|native_sdpa|_sdpa_|attn_(fwd|bwd)|unified_attention",
            r"triton_(tem|flash)\w*(flex_)?attention|flex_attention|paged_attention|AttentionKernel|mha_(fwd|bwd)_kernel",
        ),
    ),
    ("convolution", re.compile(r"^triton_tem_\w*conv", re.IGNORECASE)),
    ("matmul", _any(r"^triton_tem_", r"^triton_mm_")),
    ("optimizer", _any(r"^triton_for_", r"multi_tensor_apply", r"fused_?(adam|sgd|lamb|adagrad)", r"lamb_stage")),
    ("softmax", _any(r"^triton_(per|red)\w*softmax", r"soft_?max")),
    (
        "normalization",
        _any(
            r"layer_?norm|batch_?norm|group_?norm|rms_?norm|instance_?norm|(^|[^a-z])bn_(fw|bw)|BatchNormFwd|BatchNormBwd",
            r"GammaBeta|RowwiseMoments|cuComputeGradInput|^triton_(per|red)\w*rsqrt",
        ),
    ),
    (
        "embedding",
        _any(
            r"embedding|EmbeddingBag|indexing_backward|krn_partial|split_embedding|bounds_check_indices",
            r"find_long_segments|linearize_index|compute_grad_weight|sum_and_scatter",
        ),
    ),
    ("reduction", _any(r"^triton_(per|red)_", r"^triton_split_scan")),
    ("elementwise", _any(r"^triton_poi_")),
    (
        "convolution",
        _any(
            r"(?<![a-z])conv(?!ert)",
            r"implicit_?gemm|fprop|[dw]grad|cudnn\w*::\w*(dgrad|wgrad)|scudnn|[hs]\d+cudnn|winograd",
            r"igemm_(fwd|bwd|wrw)|miopenSp3Asm|naive_conv|DeviceGroupedConv|bwd_weight|gcnAsm\w*Conv|xdlops_bwd_data",
        ),
    ),
    (
        "matmul",
        _any(
            r"(?<!fb)(?<!fb_)gemm",
            r"^nvjet|^Cijk_|\bgemv|gemvx|gemv2|\bdot_kernel|_matmul_|matmul_kernel|^_?bmm|xmma",
            r"\bcublas\w*trsm|MatMul|grouped_mm|s?cutlass\w*::Kernel",
        ),
    ),
    (
        "reduction",
        _any(
            r"reduce|cub::|rocprim::|nll_loss|ClassNLL|scan_?(inner|outer)?_?dim|radix|topk|TopK|argmax|bitonic|sort",
            r"adaptive_average|avg_pool|max_pool|nansum|_norm_kernel|unique",
        ),
    ),
    (
        "elementwise",
        _any(
            r"elementwise|dropout|FillFunctor|fill_kernel|distribution|activation|gelu|silu|relu|sigmoid|tanh|masked",
            r"index(Select|Func|_copy|_put)|gather|scatter|upsample|arange|where_kernel|fp8|convert|cast|triu_tril|_pad",
        ),
    ),
)


def kind_of(name: str) -> str:
    """Class of a kernel (one of `KINDS`) by its name alone; "other" where the name says nothing."""
    friendly = name.replace("fbgemm_gpu::", "").replace("fbgemm", "")
    return next((kind for kind, pattern in _RULES if pattern.search(friendly)), "other")


# Dtype by naming scheme. Each pattern is unambiguous inside its scheme and tried in order.
_XMMA = re.compile(r"_xmma_\w*?_(bf16|f16|tf32|f32|f64|e4m3|e5m2|i8|s8|u8)(?:bf16|f16|f32|f64|e4m3|e5m2|i8|s8|u8)_")
_NVJET = re.compile(r"^nvjet_(?:sm\d+_)?([a-z])[a-z][a-z]_")
_TENSILE = re.compile(r"^Cijk_[A-Z]\w+?_B\w+?_(I8|B8|F8|BBS|BSS|BB|HHS|HSS|HH|HB|SB|SS|DB|DD)")
_TENSOR_OP = re.compile(
    r"(?:tensorop|wmma)|(?<![a-z])[hsdi](?:884|1688|16816|161616|16832)(?:gemm|cudnn|fprop|dgrad|wgrad)?"
)
_SIMT = re.compile(r"simt|(?<![a-z0-9])g?([shdcz])gemm(?!_?grouped_tensorop)|([sh])cudnn|convolve_sgemm")
_ROCM_TOKEN = re.compile(r"(?:gtcx\w*?_|nhwc_|nchw_|_)(bf16|fp16|fp32|half|float|bhalf)(?:_|$)")

# cuBLASLt's nvjet letters for the input: h, t, q and s are seen with known operands; x and e by analogy.
_NVJET_LETTERS = {"h": "fp16", "t": "bf16", "q": "fp8", "e": "fp8", "x": "tf32", "s": "tf32", "d": "fp64"}
_TENSILE_LETTERS = {"B": "bf16", "H": "fp16", "S": "fp32", "D": "fp64"}
_TOKENS = {
    "bf16": "bf16",
    "bhalf": "bf16",
    "f16": "fp16",
    "fp16": "fp16",
    "half": "fp16",
    "tf32": "tf32",
    "f32": "fp32",
    "fp32": "fp32",
    "float": "fp32",
    "f64": "fp64",
    "e4m3": "fp8",
    "e5m2": "fp8",
    "i8": "int8",
    "s8": "int8",
    "u8": "int8",
}
_SIMT_LETTERS = {"s": "fp32", "h": "fp16", "d": "fp64", "c": "fp32", "z": "fp64"}

# C++ and mangled template arguments, narrowest meaning first: a bf16 kernel also mentions float (its accumulator).
_TYPES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("fp8", re.compile(r"fp8_e|float8|_e4m3|_e5m2")),
    ("bf16", re.compile(r"bfloat16|BFloat16|bf16|bhalf|DF16b")),
    ("tf32", re.compile(r"tfloat32|tf32")),
    ("fp16", re.compile(r"__half|half_t|c10::Half|_half\b|half_|\bfp16|[^b]f16|DF16_")),
    ("fp64", re.compile(r"<double|\bdouble\b")),
    ("fp32", re.compile(r"<float|\bfloat\b")),
)


def dtype_of(name: str) -> str | None:
    """Dtype that a kernel computes in ("bf16", "tf32", ...), or None if its name does not say.

    fp32 data is multiplied either on CUDA cores ("fp32") or on tensor cores ("tf32"), kernel by kernel in one run, and
    only the name says which: a tensor-core instruction shape without any other dtype token is TF32.
    """
    if match := _XMMA.search(name):
        return _TOKENS[match.group(1)]
    if match := _NVJET.search(name):
        return _NVJET_LETTERS.get(match.group(1))
    if name.startswith("Cijk_"):
        return _tensile_dtype(name)
    if _TENSOR_OP.search(name):
        return _tensor_op_dtype(name)
    if match := _SIMT.search(name):
        return _simt_dtype(name, next((g for g in match.groups() if g), "s"))
    if name.startswith(("igemm_", "miopen", "naive_conv")) and (match := _ROCM_TOKEN.search(name)):
        return _TOKENS[match.group(1)]
    return next((dtype for dtype, pattern in _TYPES if pattern.search(name)), None)


def _tensile_dtype(name: str) -> str | None:
    match = _TENSILE.search(name)
    if match is None:
        return None
    types = match.group(1)
    if types in ("B8", "F8"):
        return "fp8"
    return "int8" if types == "I8" else _TENSILE_LETTERS[types[0]]


def _tensor_op_dtype(name: str) -> str:
    """CUTLASS and cuBLAS tensor-core kernels: a dtype token, a double-precision shape, or TF32."""
    for dtype, pattern in (
        ("fp8", r"e4m3|e5m2"),
        ("bf16", r"bf16"),
        ("tf32", r"tf32"),
        ("fp16", r"(?<!t)(?<!b)f16|fp16|(?<![a-z])h(?:884|1688|16816)"),
        ("fp64", r"(?<![a-z])d(?:884|1688|16816)|f64"),
        ("int8", r"(?<![a-z])i(?:8816|16832)|_s8_|_u8_"),
        ("fp16", r"(?<![a-z])s884"),  # Volta and Turing have no TF32
    ):
        if re.search(pattern, name):
            return dtype
    return "tf32"


def _simt_dtype(name: str, letter: str) -> str:
    if "convolve_sgemm" in name:
        return next((d for d, pattern in _TYPES if pattern.search(name.partition("<")[2])), "fp32")
    return _SIMT_LETTERS[letter]


# Rows and columns of a tile: none is of no size.
_TILE = r"([1-9]\d{0,3})x([1-9]\d{0,3})"
_TILES = (
    re.compile(rf"tilesize{_TILE}x\d+"),  # xmma
    re.compile(rf"(?<=_)MT{_TILE}x\d+"),  # Tensile
    re.compile(rf"^nvjet_(?:sm\d+_)?[a-z]{{3}}_{_TILE}_"),
    re.compile(rf"_bt{_TILE}x\d+"),  # MIOpen igemm
    re.compile(rf"(?:gemm|fprop|dgrad|wgrad)_(?:[a-z]+\d*_)*{_TILE}_"),  # cuBLAS, CUTLASS: gemm_relu_bf16_128x64_64x6
    re.compile(rf"scudnn(?:_winograd)?_{_TILE}"),
)


@cache
def tile_of(name: str) -> tuple[int, int] | None:
    """Output tile (rows, columns) of one thread block, or None if the name does not say."""
    for pattern in _TILES:
        if match := pattern.search(name):
            return int(match.group(1)), int(match.group(2))
    return None


@cache
def is_persistent(name: str) -> bool:
    """Whether the kernel launches one block per SM and loops over its tiles, so that the grid does not show them."""
    return bool(re.search(r"warpgroup|^nvjet|persistent|stream_?k", name, re.IGNORECASE))
