"""Kernel names, read as the libraries write them: class, number format and tile; and the false friends of substrings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mfu_doctor.analysis.names.kernel_names import KINDS, dtype_of, is_persistent, kind_of, tile_of
from mfu_doctor.analysis.names.op_names import kind_of_op
from mfu_doctor.analysis.views.activity import device_activity
from mfu_doctor.analysis.views.kernels import KernelTable, classify
from mfu_doctor.analysis.views.launches import link
from mfu_doctor.analysis.views.nesting import nest_ops
from mfu_doctor.analysis.views.optimizer_steps import optimizer_steps
from mfu_doctor.trace import Trace
from tests.timeline import Timeline
from tests.traces import real_run

CUTLASS = "void cutlass::Kernel2<{0}>({0}::Params)"
NAMES: tuple[tuple[str, str, str | None], ...] = (
    ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute", "matmul", "bf16"),
    (
        "sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16",
        "convolution",
        "tf32",
    ),
    ("sm80_xmma_wgrad_implicit_gemm_indexed_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize64x64x64", "convolution", "fp16"),
    (CUTLASS.format("cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x64_64x6_tn_align8"), "matmul", "bf16"),
    (CUTLASS.format("cutlass_80_tensorop_s1688gemm_256x64_16x4_nn_align4"), "matmul", "tf32"),
    (CUTLASS.format("cutlass_75_tensorop_bf16_s1688gemm_bf16_128x128_nn_align1"), "matmul", "bf16"),
    (CUTLASS.format("cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_32x1_nn_align8"), "matmul", "bf16"),
    (CUTLASS.format("cutlass_80_tensorop_f16_s16816gemm_f16_64x64_32x6_nn_align8"), "matmul", "fp16"),
    (CUTLASS.format("cutlass_80_tensorop_d884gemm_128x64_16x3_nn_align1"), "matmul", "fp64"),
    (CUTLASS.format("cutlass_80_simt_sgemm_128x32_8x5_nn_align1"), "matmul", "fp32"),
    (CUTLASS.format("cutlass3x_sm90_tensorop_s64x256x8tf32gemm_f32_f32_f32_f32_f32_128x256x32"), "matmul", "tf32"),
    (CUTLASS.format("cutlass3x_sm90_tensorop_s64x128x32gemm_e4m3_e4m3_f32_bf16_bf16_128x128x128"), "matmul", "fp8"),
    (
        "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816fprop_optimized_bf16_256x64_32x4>",
        "convolution",
        "bf16",
    ),
    (
        "void cutlass_cudnn_infer::Kernel<cutlass_tensorop_s1688dgrad_optimized_tf32_128x128_16x4>",
        "convolution",
        "tf32",
    ),
    ("nvjet_tst_144x128_64x6_2x1_2cta_v_bz_bias_TNN", "matmul", "bf16"),
    ("nvjet_hsh_256x128_64x4_1x2_h_bz_coopA_NTT", "matmul", "fp16"),
    ("nvjet_sm100_qqtst_128x256", "matmul", None),
    ("ampere_sgemm_128x128_tn", "matmul", "fp32"),
    ("ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_nn", "matmul", "bf16"),
    ("ampere_fp16_s16816gemm_fp16_128x64_ldg8_f2f_stages_64x3_nn", "matmul", "fp16"),
    ("ampere_h16816gemm_128x64_ldg8_stages_64x3_tn", "matmul", "fp16"),
    ("volta_sgemm_64x32_sliced1x4_nn", "matmul", "fp32"),
    ("volta_h884gemm_64x128_ldg8_nn", "matmul", "fp16"),
    ("volta_fp16_s884gemm_fp16_128x128_ldg8_f2f_nn", "matmul", "fp16"),
    ("volta_s884gemm_128x128_ldg8_nn", "matmul", "fp16"),
    ("turing_fp16_s1688gemm_fp16_128x128_ldg8_f2f_tn", "matmul", "fp16"),
    ("volta_dgemm_64x64_nn", "matmul", "fp64"),
    ("ampere_gcgemm_64x64_nt", "matmul", "fp32"),
    ("volta_scudnn_128x64_relu_medium_nn_v1", "convolution", "fp32"),
    ("volta_fp16_s884cudnn_fp16_256x64_ldg8_relu_exp_small_nhwc_tn_v1", "convolution", "fp16"),
    ("volta_scudnn_winograd_128x128_ldg1_ldg4_relu_tile148t_nt_v1", "convolution", "fp32"),
    ("void implicit_convolve_sgemm<__half, float, 1024, 6, 7, 3, 3, 5, 1, false>(int)", "convolution", "fp16"),
    ("void implicit_convolve_sgemm<float, float, 1024, 6, 7, 3, 3, 5, 1, false>(int)", "convolution", "fp32"),
    ("void cudnn::detail::dgrad_engine<float, 512, 6, 5, 3, 3, 3, false>(int, int)", "convolution", "fp32"),
    ("void cudnn::cnn::wgrad_alg0_engine<float, 128, 5, 5, 3, 3, 3, false, 512>(int)", "convolution", "fp32"),
    (
        "_ZN19cutlass_cudnn_train6KernelINS_4conv6kernel23ImplicitGemmConvolutionIENS_10tfloat32_tE",
        "convolution",
        "tf32",
    ),
    (
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, cutlass::bfloat16_t>>",
        "attention",
        "bf16",
    ),
    ("void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<64, cutlass::half_t>", "attention", "fp16"),
    ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel)", "attention", "bf16"),
    ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x128", "attention", "fp16"),
    ("attn_fwd", "attention", None),
    ("Cijk_Alik_Bljk_BBS_BH_Bias_HAS_SAV_UserArgs_MT256x192x64_MI16x16x1_ISA942_IU1", "matmul", "bf16"),
    ("Cijk_Ailk_Bljk_HHS_BH_MT128x128x32_MI32x32x8x1", "matmul", "fp16"),
    ("Cijk_Ailk_Bjlk_SB_Bias_AS_SAV_UserArgs_MT64x16x16_ISA90a", "matmul", "fp32"),
    ("Cijk_Ailk_Bljk_S_MX_B_Bias_MT64x64x16", "matmul", None),
    ("igemm_fwd_gtcx3_nhwc_bf16_bx0_ex1_bt128x128x32_wt32x32x8", "convolution", "bf16"),
    ("_ZN2ck16tensor_operation6device12_GLOBAL__N_139kernel_grouped_conv_fwd_xdl_cshuffle_v3I", "convolution", None),
    ("_ZN2ck16tensor_operation6device37kernel_batched_gemm_xdlops_bwd_weightINS_47GridwiseGemm", "convolution", None),
    ("miopenSp3AsmConv_v30_3_1_gfx9_fp16_dot2_edc_stride1", "convolution", "fp16"),
    ("naive_conv_ab_nonpacked_fwd_nchw_half_double_half", "convolution", "fp16"),
    ("triton_tem_fused_addmm_relu_3", "matmul", None),
    ("triton_tem_fused_convolution_2", "convolution", None),
    ("triton_tem_fused_flex_attention_0", "attention", None),
    ("triton_poi_fused_add_gelu_1", "elementwise", None),
    ("triton_per_fused__softmax_2", "softmax", None),
    ("triton_red_fused_add_mean_mul_pow_rsqrt_0", "normalization", None),
    ("triton_red_fused_sum_4", "reduction", None),
    ("triton_for_fused_1", "optimizer", None),
    ("void internal::gemvx::kernel<int, int, __nv_bfloat16, __nv_bfloat16, float>", "matmul", "bf16"),
    ("void dot_kernel<float, 128, 0, cublasDotParams<cublasGemvTensor<float const>>>", "matmul", "fp32"),
    ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "communication", None),
    ("void multimem_all_reduce_kernel<c10::BFloat16, 16>(c10::BFloat16*, unsigned long)", "communication", "bf16"),
    ("void quickreduce::allreduce_prototype_twoshot<float, 8>(float const*, float*)", "communication", "fp32"),
    ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<TensorListMetadata<4>>", "optimizer", None),
    ("void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float>(int)", "normalization", None),
    ("void cudnn::bn_fw_tr_1C11_singleread<float, 512, true, 1, 2, 0>", "normalization", None),
    ("void (anonymous namespace)::softmax_warp_forward<float, float, float, 10, true>", "softmax", None),
    ("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>", "elementwise", None),
    (
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float>>>",
        "reduction",
        None,
    ),
    ("split_embedding_codegen_forward_unweighted_kernel", "embedding", None),
    ("Memcpy HtoD (Pageable -> Device)", "copy", None),
)
HELPERS = (
    "void splitKreduce_kernel<float, float, float, float>(cublasSplitKParams<float>)",
    "void cublasLt::splitKreduce_kernel<32, 16, int, float, float>",
    "Cijk_Alik_Bljk_BBS_BH_PostGSU4",
    "cask_cudnn::computeOffsetsKernel(cask_cudnn::ComputeOffsetsParams)",
    "cask_cudnn::computeWgradSplitKOffsetsKernel(cask_cudnn::ComputeSplitKOffsetsParams)",
    "SubTensorOpWithCastTensor1d",
    "void pytorch_flash::flash_bwd_dot_do_o_kernel<true, cutlass::bfloat16_t>",
    "void pytorch_flash::flash_bwd_convert_dq_kernel<cutlass::bfloat16_t>",
    "void cudnn::winograd_nonfused::winogradForwardData4x4<float, float>",
    "void fft2d_r2c_32x32<float, false, 0u, false>",
)
LAYOUT = (
    "void cudnn::ops::nchwToNhwcKernel<float, float, float, false, true>",
    "void nhwcToNchwKernel<float, float, float, true, false>",
    "batched_transpose_16x32_half",
    "transpose_CNHW2NCHW_V2_2D_WG_off64",
)


@pytest.mark.parametrize(("name", "kind", "dtype"), NAMES)
def test_kind_and_format_by_name(name: str, kind: str, dtype: str | None) -> None:
    """FLOPs go to matmul-like kernels only, and each is measured against the peak of its own format."""
    assert kind_of(name) == kind
    if dtype is not None or kind in ("matmul", "convolution", "attention"):
        assert dtype_of(name) == dtype


@pytest.mark.parametrize("name", HELPERS)
def test_helpers_of_a_matmul_are_not_matmuls(name: str) -> None:
    """They take time and multiply nothing: FLOPs given to them would hide the real kernel's inefficiency."""
    assert kind_of(name) == "helper"


@pytest.mark.parametrize("name", LAYOUT)
def test_layout_changes_are_a_class_of_their_own(name: str) -> None:
    """A fifth of a convolution's time on an H100, and the gain of channels_last."""
    assert kind_of(name) == "layout"


@pytest.mark.parametrize(
    "name",
    [
        "void fbgemm_gpu::permute_2D_data_kernel<false, int, int, decltype(nullptr)>",
        "void fbgemm_gpu::_offsets_range_cuda_kernel<int>(long, long, int const*, int*)",
        "void at::native::unrolled_elementwise_kernel<convert_and_copy>",
        "void at::native::KernelVecLoad<_typeConvert<float>>",
        "void at::native::vectorized_elementwise_kernel<4, fbgemm_gpu::_float_to_hfp8_gpu(at::Tensor const&)>",
        "void at::native::(anonymous namespace)::cunn_SoftMaxForward<8, c10::BFloat16>",
    ],
)
def test_false_friends_of_gemm_and_conv(name: str) -> None:
    """Seen in real traces: "fbgemm" contains gemm, "convert" contains conv."""
    assert kind_of(name) not in ("matmul", "convolution", "attention")


@pytest.mark.parametrize(
    ("name", "tile"),
    [
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x64x64_warpgroupsize1x1x1", (128, 64)),
        ("cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x64_64x6_tn_align8", (128, 64)),
        ("cutlass_80_tensorop_s1688gemm_256x64_16x4_nn_align4", (256, 64)),
        ("cutlass_80_simt_sgemm_128x32_8x5_nn_align1", (128, 32)),
        ("cutlass_tensorop_s1688fprop_optimized_tf32_128x128_16x4_nhwc_align4", (128, 128)),
        ("nvjet_tst_144x128_64x6_2x1_2cta_v_bz_bias_TNN", (144, 128)),
        ("volta_sgemm_64x32_sliced1x4_nn", (64, 32)),
        ("Cijk_Alik_Bljk_BBS_BH_Bias_HAS_MT256x192x64_MI16x16x1", (256, 192)),
        ("igemm_fwd_gtcx3_nhwc_bf16_bx0_ex1_bt64x128x32_wt32", (64, 128)),
        ("void gemv2T_kernel_val<int, int, float>", None),
        ("volta_sgemm_0x32_tn", None),
        (f"volta_sgemm_{'9' * 5_000}x32_tn", None),  # more digits than Python makes a number of
    ],
)
def test_tile_by_name(name: str, tile: tuple[int, int] | None) -> None:
    """The tile decides how much of a matmul is padding, and how full the last wave is."""
    assert tile_of(name) == tile


def test_persistent_kernels_hide_their_tiles() -> None:
    """Their grid is the number of multiprocessors, whatever the matrix."""
    assert is_persistent("nvjet_tst_144x128_64x6_2x1_2cta_v_bz_bias_TNN")
    assert not is_persistent("ampere_sgemm_128x128_tn")


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        ("aten::addmm", "matmul"),
        ("aten::linear", "matmul"),
        ("mkldnn::_linear_pointwise", "matmul"),
        ("aten::_scaled_mm", "matmul"),
        ("aten::mkldnn_convolution", "convolution"),
        ("aten::convolution_backward", "convolution"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::native_layer_norm", "normalization"),
        ("aten::_log_softmax", "softmax"),
        ("aten::embedding_dense_backward", "embedding"),
        ("aten::_fused_adamw_", "optimizer"),
        ("aten::_foreach_add_", "optimizer"),
        ("aten::add_", "elementwise"),
        ("aten::gelu_backward", "elementwise"),
        ("aten::copy_", "copy"),
        ("aten::sum", "reduction"),
        ("aten::comment", "other"),
    ],
)
def test_kind_by_operator(op: str, kind: str) -> None:
    """On a CPU the operators are the kernels."""
    assert kind_of_op(op) == kind


def table(trace: Trace) -> KernelTable:
    """The kernel table of a trace, through the real pipeline."""
    ops = nest_ops(trace)
    activity = device_activity(trace, ops)
    return classify(trace, activity, link(trace, activity, ops), optimizer_steps(trace, ops).own)


def test_an_unknown_kernel_does_what_its_operator_does_in_the_operators_format() -> None:
    """A kernel name that says nothing leaves the operator: its class and the type of its operands."""
    t = Timeline()
    with t.step():
        t.op(
            "aten::mm",
            kernel=50,
            kernel_name="Kernel2",
            dims=[[8, 8], [8, 8]],
            types=["c10::BFloat16", "c10::BFloat16"],
        )
        t.op("mystery::op", kernel=50, kernel_name="k")
    kernels = table(t.trace())
    assert [kernels.kind_of(0), kernels.dtype_of(0)] == ["matmul", "bf16"]
    assert [kernels.kind_of(1), kernels.dtype_of(1)] == ["other", None]


def test_elementwise_work_inside_the_optimizer_is_optimizer_work() -> None:
    """A plain SGD step is add_ and mul_: only where it happens tells."""
    t = Timeline()
    with t.step():
        t.op("aten::add_", kernel=50, kernel_name="void at::native::vectorized_elementwise_kernel<4>")
        with t.span("Optimizer.step#SGD.step"):
            t.op("aten::add_", kernel=50, kernel_name="void at::native::vectorized_elementwise_kernel<4>")
    kernels = table(t.trace())
    assert [kernels.kind_of(0), kernels.kind_of(1)] == ["elementwise", "optimizer"]


def test_the_kernels_name_beats_the_operators_type_for_fp32() -> None:
    """fp32 operands run on CUDA cores or as TF32, and only the kernel's name says which."""
    t = Timeline()
    floats: dict[str, Any] = {"dims": [[8, 8], [8, 8]], "types": ["float", "float"]}
    with t.step():
        t.op("aten::mm", kernel=50, kernel_name="ampere_sgemm_128x128_tn", **floats)
        t.op("aten::mm", kernel=50, kernel_name="cutlass_80_tensorop_s1688gemm_256x64_16x4_nn_align4", **floats)
    kernels = table(t.trace())
    assert [kernels.dtype_of(0), kernels.dtype_of(1)] == ["fp32", "tf32"]


def test_an_a100_trace_has_tf32_and_cuda_core_matmuls_apart() -> None:
    """DLRM in "fp32" on an A100 multiplies both ways in the same step."""
    kernels = table(real_run("a100_dlrm_rank3of8").trace)
    matmuls = kernels.is_kind("matmul")
    formats = {kernels.dtype_of(int(i)) for i in np.flatnonzero(matmuls)}
    assert formats == {"fp32", "tf32"}


@pytest.mark.parametrize(
    "trace",
    [
        "v100_resnet50_workers4",
        "mi300x_resnet_checkpoint_rank0of8",
        "h100_bert_small_inference",
        "mi300x_inductor_triton",
    ],
)
def test_little_of_a_real_trace_is_unclassified(trace: str) -> None:
    """`other` is for the truly unknown: under 5 % of the operations of each of these."""
    kernels = table(real_run(trace).trace)
    assert kernels.is_kind("other").mean() < 0.05
    assert len(KINDS) == len(set(KINDS))
