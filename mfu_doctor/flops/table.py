"""The table: every operator whose FLOPs are known, by its exact name, for live calls and for recorded ones.

An operator that is not here counts nothing and is listed as unknown, so a missing formula shows. Adding one is a row in the
file of its family.
"""

from __future__ import annotations

from mfu_doctor.flops.attention import ATTENTION
from mfu_doctor.flops.convolution import CONVOLUTION
from mfu_doctor.flops.matmul import MATMUL
from mfu_doctor.flops.operators import Operator
from mfu_doctor.flops.recurrent import RECURRENT

TABLE: dict[str, Operator] = MATMUL | RECURRENT | CONVOLUTION | ATTENTION
