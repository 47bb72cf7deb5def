"""Are the kernels efficient? The rules of this family, in the order in which lists show them."""

from mfu_doctor.rules.contract import Rule
from mfu_doctor.rules.kernels.broadcast_product import broadcast_product
from mfu_doctor.rules.kernels.constant_work import constant_work
from mfu_doctor.rules.kernels.contiguous_copies import contiguous_copies
from mfu_doctor.rules.kernels.conv_bias_before_norm import conv_bias_before_norm
from mfu_doctor.rules.kernels.dense_embedding_grad import dense_embedding_grad
from mfu_doctor.rules.kernels.diagonal_factorization import diagonal_factorization
from mfu_doctor.rules.kernels.diagonal_product import diagonal_product
from mfu_doctor.rules.kernels.discarded_pass import discarded_pass
from mfu_doctor.rules.kernels.emulated_dtype import emulated_dtype
from mfu_doctor.rules.kernels.expanded_table import expanded_table
from mfu_doctor.rules.kernels.fallback_convolution import fallback_convolution
from mfu_doctor.rules.kernels.fp32_matmul import fp32_matmul
from mfu_doctor.rules.kernels.fp64_work import fp64_work
from mfu_doctor.rules.kernels.idle_tensor_cores import idle_tensor_cores
from mfu_doctor.rules.kernels.ignored_rows import ignored_rows
from mfu_doctor.rules.kernels.large_vocab_loss import large_vocab_loss
from mfu_doctor.rules.kernels.layout_conversion import layout_conversion
from mfu_doctor.rules.kernels.misaligned_matmul import misaligned_matmul
from mfu_doctor.rules.kernels.parameter_sweeps import parameter_sweeps
from mfu_doctor.rules.kernels.repeated_backward import repeated_backward
from mfu_doctor.rules.kernels.repeated_cast import repeated_cast
from mfu_doctor.rules.kernels.repeated_forward import repeated_forward
from mfu_doctor.rules.kernels.slow_convolution_backward import slow_convolution_backward
from mfu_doctor.rules.kernels.small_matmul import small_matmul
from mfu_doctor.rules.kernels.sparse_mask import sparse_mask
from mfu_doctor.rules.kernels.sparse_operand import sparse_operand
from mfu_doctor.rules.kernels.tf32_off import tf32_off
from mfu_doctor.rules.kernels.unbenchmarked_convolution import unbenchmarked_convolution
from mfu_doctor.rules.kernels.unfused_attention import unfused_attention
from mfu_doctor.rules.kernels.unfused_clipping import unfused_clipping
from mfu_doctor.rules.kernels.unfused_elementwise import unfused_elementwise
from mfu_doctor.rules.kernels.unfused_optimizer import unfused_optimizer
from mfu_doctor.rules.kernels.unused_gradients import unused_gradients
from mfu_doctor.rules.kernels.zeroed_gradients import zeroed_gradients

RULES: tuple[Rule, ...] = (
    fp32_matmul,
    tf32_off,
    unfused_elementwise,
    unfused_optimizer,
    unfused_attention,
    misaligned_matmul,
    small_matmul,
    layout_conversion,
    repeated_cast,
    conv_bias_before_norm,
    contiguous_copies,
    dense_embedding_grad,
    unfused_clipping,
    parameter_sweeps,
    zeroed_gradients,
    ignored_rows,
    diagonal_product,
    diagonal_factorization,
    sparse_operand,
    expanded_table,
    sparse_mask,
    broadcast_product,
    large_vocab_loss,
    unbenchmarked_convolution,
    fallback_convolution,
    slow_convolution_backward,
    emulated_dtype,
    fp64_work,
    unused_gradients,
    repeated_backward,
    discarded_pass,
    repeated_forward,
    constant_work,
    idle_tensor_cores,
)
