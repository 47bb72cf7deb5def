"""Do ranks wait for each other? The rules of this family, in the order in which lists show them."""

from mfu_doctor.rules.job_contract import JobRule
from mfu_doctor.rules.ranks.pipeline_bubble import pipeline_bubble
from mfu_doctor.rules.ranks.rank_settings_differ import rank_settings_differ
from mfu_doctor.rules.ranks.slow_group_link import slow_group_link
from mfu_doctor.rules.ranks.slow_node import slow_node
from mfu_doctor.rules.ranks.stage_imbalance import stage_imbalance
from mfu_doctor.rules.ranks.straggler_rank import straggler_rank
from mfu_doctor.rules.ranks.unequal_experts import unequal_experts
from mfu_doctor.rules.ranks.uneven_work import uneven_work

RULES: tuple[JobRule, ...] = (
    straggler_rank,
    slow_node,
    uneven_work,
    pipeline_bubble,
    stage_imbalance,
    unequal_experts,
    slow_group_link,
    rank_settings_differ,
)
