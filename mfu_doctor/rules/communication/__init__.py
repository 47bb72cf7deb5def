"""Does the device wait for communication? The rules of this family, in the order in which lists show them."""

from mfu_doctor.rules.communication.data_parallel import data_parallel
from mfu_doctor.rules.communication.exposed_communication import exposed_communication
from mfu_doctor.rules.communication.fp32_gradients import fp32_gradients
from mfu_doctor.rules.communication.late_gathers import late_gathers
from mfu_doctor.rules.communication.late_optimizer import late_optimizer
from mfu_doctor.rules.communication.non_nccl_backend import non_nccl_backend
from mfu_doctor.rules.communication.scalar_collectives import scalar_collectives
from mfu_doctor.rules.communication.slow_link import slow_link
from mfu_doctor.rules.communication.small_buckets import small_buckets
from mfu_doctor.rules.communication.sync_every_microbatch import sync_every_microbatch
from mfu_doctor.rules.contract import Rule

RULES: tuple[Rule, ...] = (
    exposed_communication,
    small_buckets,
    sync_every_microbatch,
    data_parallel,
    slow_link,
    non_nccl_backend,
    scalar_collectives,
    fp32_gradients,
    late_gathers,
    late_optimizer,
)
