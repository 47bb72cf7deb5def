"""A fix exists in the versions of the run: an older spelling, or what to upgrade first; nothing is said of unknown versions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

import mfu_doctor
from mfu_doctor.analysis.evidence.library_versions import APIS, for_versions
from mfu_doctor.analysis.names.optimizers import TORCH_OPTIMIZERS
from mfu_doctor.analysis.run import Run
from mfu_doctor.diagnosis.rule_runner import examine
from mfu_doctor.rules.contract import Finding
from mfu_doctor.rules.host.host_bound import host_bound
from tests.rules.host.test_host_bound import launching
from tests.rules.judging import run_of
from tests.timeline import Timeline

PACKAGE = Path(mfu_doctor.__file__).parent
# Names that torch 1.6 has, the oldest release that was looked at (its profiler writes the oldest files that can be read).
OLD = """
    autograd.detect_anomaly autograd.set_detect_anomaly backends.cudnn.benchmark backends.cuda.matmul backends.mkldnn bfloat16
    bincount cat cdist channels_last cuda.Event cuda.Stream cuda.amp.GradScaler cuda.current_stream cuda.empty_cache cuda.stream
    cuda.synchronize diag distributed.all_reduce distributed.init_process_group einsum empty float16 from_numpy matmul
    nn.functional nn.utils.clip_grad_norm_ nn.utils.rnn.pad_sequence optim.SparseAdam set_num_threads stack utils.checkpoint
    where zeros
"""
# What a rule appends a name to, and names of its own.
NO_ADVICE = frozenset({"backends", "distributed", "fetch", "optim", "profiler"})
COMPILE = 'model = torch.compile(model, mode="reduce-overhead")'


def with_versions(*versions: tuple[str, str], drawn: Timeline | None = None) -> Run:
    return run_of(drawn or Timeline(), versions=versions)


@pytest.mark.parametrize(
    ("fix", "torch", "told"),
    [
        (COMPILE, "1.13.1+cu117", COMPILE + "  # needs torch >= 2.0; this run has 1.13: upgrade first"),
        (COMPILE, "2.0.0", COMPILE),
        ("optimizer.zero_grad(set_to_none=True)", "1.13.1", "optimizer.zero_grad(set_to_none=True)"),
        ("scaler = torch.amp.GradScaler()", "2.2.0", "scaler = torch.cuda.amp.GradScaler()"),
        ("scaler = torch.amp.GradScaler()", "2.10.0", "scaler = torch.amp.GradScaler()"),
        ('torch.set_float32_matmul_precision("high")', "1.11.0", "torch.backends.cuda.matmul.allow_tf32 = True"),
        ("DataLoader(..., num_workers=2)", "1.4.0", "DataLoader(..., num_workers=2)"),
        (
            "with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):",
            "2.2.2",
            "with torch.backends.cuda.sdp_kernel(enable_math=False):",
        ),
        (
            "block.set_modules_to_forward_prefetch([following])",
            "2.4.1",
            "block.set_modules_to_forward_prefetch([following])  # needs torch >= 2.5; this run has 2.4: upgrade first",
        ),
        (
            "y = torch.vmap(f)(x)",
            "1.13.1",
            "y = torch.vmap(f)(x)  # needs torch >= 2.0; this run has 1.13: upgrade first",
        ),
    ],
)
def test_a_fix_exists_in_the_version_of_torch(fix: str, torch: str, told: str) -> None:
    assert for_versions(with_versions(("torch", torch)), fix) == told


def test_a_library_is_asked_for_its_own_version() -> None:
    fix = 'from_pretrained(..., attn_implementation="sdpa")'
    old = with_versions(("torch", "2.4.0"), ("transformers", "4.30.2"))
    assert for_versions(old, fix).endswith("# needs transformers >= 4.36; this run has 4.30: upgrade first")
    assert for_versions(with_versions(("torch", "2.4.0"), ("transformers", "4.57.0")), fix) == fix


def test_nothing_is_said_of_a_version_that_is_not_known() -> None:
    assert for_versions(with_versions(), COMPILE) == COMPILE
    assert for_versions(with_versions(("torch", "a custom build")), COMPILE) == COMPILE


def test_a_trace_that_only_old_versions_write_is_told_what_the_fix_needs() -> None:
    """The V100 traces of 2021 name no version, and were told to compile, which came in 2023."""
    run = with_versions()
    old = Run(replace(run.trace, is_of_2021=True))
    assert for_versions(old, COMPILE) == COMPILE + "  # needs torch >= 2.0"
    assert for_versions(old, "DataLoader(..., persistent_workers=True)") == "DataLoader(..., persistent_workers=True)"
    amp = "scaler = torch.amp.GradScaler()"  # which spelling this version has is not known
    assert for_versions(old, amp) == amp + "  # needs torch >= 2.3"


def test_every_rule_is_asked() -> None:
    (examined,) = examine(with_versions(("torch", "1.12.0"), drawn=launching()), [host_bound])
    assert isinstance(examined.outcome, Finding)
    assert examined.outcome.fix.endswith("# needs torch >= 2.0; this run has 1.12: upgrade first")


def advised() -> Iterator[str]:
    """Names of torch in the texts of rules and of what they take fixes from."""
    files = (*PACKAGE.glob("rules/**/*.py"), *PACKAGE.glob("analysis/evidence/*.py"))
    for file in files:
        tree = ast.parse(file.read_text())
        documentation = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                yield from re.findall(r"\btorch\.((?:_?[a-zA-Z]\w*\.)*_?[a-zA-Z]\w*)", node.value)


def test_every_name_of_torch_that_a_rule_advises_is_known_by_its_version() -> None:
    texts = [api.text.removeprefix("torch.") for api in APIS] + [api.before or "" for api in APIS]
    unknown = {
        name
        for name in advised()
        if name not in {*OLD.split(), *NO_ADVICE}
        and not any(name in text or text.rstrip("(") in name for text in texts)
    }
    assert not unknown


@pytest.mark.parametrize(
    ("name", "foreach", "gpu", "cpu"),
    [
        ("Adam", (1, 12), (1, 13), (2, 4)),
        ("AdamW", (1, 12), (2, 0), (2, 4)),
        ("SGD", (1, 12), (2, 3), (2, 4)),
        ("Adagrad", (1, 12), (2, 12), (2, 4)),
        ("Adafactor", (2, 5), None, None),
        ("RMSprop", (1, 12), None, None),
    ],
)
def test_options_of_optimizers_are_there_since_the_release_that_has_them(
    name: str, foreach: tuple[int, int], gpu: tuple[int, int] | None, cpu: tuple[int, int] | None
) -> None:
    found = TORCH_OPTIMIZERS[name]
    assert (found.foreach, found.fused_gpu, found.fused_cpu) == (foreach, gpu, cpu)
