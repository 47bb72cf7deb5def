"""The tests' imitation of Kineto against torch's own profiler, for calls that run on any CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")
import torch

from mfu_doctor.reading import read_trace
from mfu_doctor.trace import Category
from tests.flops.recording import event_args
from tests.flops.schemas import filled, schema_of

X, WEIGHT, GRAD = torch.randn(2, 4, 10, 10), torch.randn(8, 4, 3, 3), torch.randn(2, 8, 10, 10)
HEADS = torch.randn(2, 3, 8, 16, dtype=torch.bfloat16)
INTS = torch.ones(32, 32, dtype=torch.int8)
STEP = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1}
REST = STEP | {"transposed": False, "output_padding": [0, 0]}
CALLS: dict[str, dict[str, Any]] = {
    "aten::mm": {"self": torch.ones(8, 16, dtype=torch.complex64), "mat2": torch.ones(16, 4, dtype=torch.complex64)},
    "aten::addmm": {"self": torch.randn(32), "mat1": torch.randn(8, 16), "mat2": torch.randn(16, 32)},
    "aten::_int_mm": {"self": INTS, "mat2": INTS},
    "aten::convolution": {"input": X, "weight": WEIGHT, "bias": None} | REST,
    "aten::convolution_backward": {
        "grad_output": GRAD, "input": X, "weight": WEIGHT, "bias_sizes": None, "output_mask": [True, False, True]
    } | REST,
    "aten::_scaled_dot_product_flash_attention_for_cpu": {
        "query": HEADS, "key": HEADS, "value": HEADS, "is_causal": True, "scale": 0.5
    },
    "aten::cat": {"tensors": [torch.randn(2, 3), torch.randn(4, 3)]},
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_the_imitation_writes_what_kineto_writes(name: str, tmp_path: Path) -> None:
    schema = schema_of(name)
    arguments = filled(schema, CALLS[name])
    call = getattr(torch.ops.aten, name.removeprefix("aten::")).default
    by_name = {a.name for a in schema.arguments if a.kwarg_only}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profiler:
        call(*(v for k, v in arguments.items() if k not in by_name), **{k: arguments[k] for k in by_name})
    profiler.export_chrome_trace(str(tmp_path / "call.json"))
    trace = read_trace(tmp_path / "call.json")
    row = next(r for r in trace.rows(Category.CPU_OP).tolist() if trace.name_of(r) == name)
    seen, told = trace.args_of(row), event_args(schema, arguments)
    assert seen is not None
    assert (seen.dims, seen.types, seen.concrete) == (told.dims, told.types, told.concrete)
