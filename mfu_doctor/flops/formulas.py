"""The registry: every operator whose FLOPs are known, by its exact name.

An operator that is not here counts nothing and is listed as unknown, so a missing formula shows. Adding one is a line in
the table of its family.
"""

from __future__ import annotations

from mfu_doctor.flops.attention import ATTENTION_FORMULAS
from mfu_doctor.flops.convolution import CONVOLUTION_FORMULAS
from mfu_doctor.flops.matmul import MATMUL_FORMULAS
from mfu_doctor.flops.op_flops import NOTHING_AROUND, Formula, OpFlops, Surroundings
from mfu_doctor.trace import EventArgs

FORMULAS: dict[str, Formula] = MATMUL_FORMULAS | CONVOLUTION_FORMULAS | ATTENTION_FORMULAS


def op_flops(name: str, args: EventArgs | None, around: Surroundings = NOTHING_AROUND) -> OpFlops | None:
    """FLOPs of one operator call, or None where there is no formula or its arguments do not tell.

    Args:
        name: operator name as in a trace ("aten::addmm").
        args: its recorded arguments.
        around: what its neighbours know, for operators whose own arguments are not enough.
    """
    formula = FORMULAS.get(name)
    return formula(args, around) if formula is not None and args is not None else None
