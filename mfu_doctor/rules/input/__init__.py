"""Does the device wait for data? The rules of this family, in the order in which lists show them."""

from mfu_doctor.rules.contract import Rule
from mfu_doctor.rules.input.blocking_copy import blocking_copy
from mfu_doctor.rules.input.cold_workers import cold_workers
from mfu_doctor.rules.input.host_made_tensor import host_made_tensor
from mfu_doctor.rules.input.input_bound import input_bound
from mfu_doctor.rules.input.padded_batch import padded_batch
from mfu_doctor.rules.input.pageable_copy import pageable_copy
from mfu_doctor.rules.input.restarted_loader import restarted_loader
from mfu_doctor.rules.input.slow_sample import slow_sample
from mfu_doctor.rules.input.wide_batch import wide_batch

RULES: tuple[Rule, ...] = (
    input_bound,
    pageable_copy,
    blocking_copy,
    cold_workers,
    restarted_loader,
    slow_sample,
    host_made_tensor,
    wide_batch,
    padded_batch,
)
