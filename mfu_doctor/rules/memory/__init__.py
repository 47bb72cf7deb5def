"""Is time lost because memory is full, or is memory unused? The rules of this family, in the order in which lists show them."""

from mfu_doctor.rules.contract import Rule
from mfu_doctor.rules.memory.allocator_retry import allocator_retry
from mfu_doctor.rules.memory.needless_recompute import needless_recompute
from mfu_doctor.rules.memory.offloaded_state import offloaded_state
from mfu_doctor.rules.memory.spare_memory import spare_memory

RULES: tuple[Rule, ...] = (
    allocator_retry,
    spare_memory,
    needless_recompute,
    offloaded_state,
)
