"""Remedies of jobs, on a job of one rank: the arguments of DistributedDataParallel, its hook, and the backend."""

from __future__ import annotations

import pytest

from tests.trial.remedies.programs import Try

RANK = """
import tempfile
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
warnings.simplefilter("ignore")
store = tempfile.mktemp()
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
"""
END = "\ndistributed.destroy_process_group()\n"
ARGUMENTS = """
class Own(DistributedDataParallel):
    def __init__(self, module, **options):
        super().__init__(module, **options)
def asked(model):
    sent = model.forward_sync_buffers if hasattr(model, "forward_sync_buffers") else model.broadcast_buffers
    return [model.bucket_bytes_cap // 2**20, model.gradient_as_bucket_view, bool(model.static_graph),
            model.find_unused_parameters, sent]
said["left"] = asked(DistributedDataParallel(Model()))
said["given"] = asked(Own(Model(), bucket_cap_mb=1, find_unused_parameters=True))
said["larger"] = asked(DistributedDataParallel(Model(), bucket_cap_mb=100))[0]
"""
LEFT, GIVEN = [25, False, False, False, True], [1, False, False, True, True]
REDUCED = """
model = Model()
train(model, DataLoader(data(), batch_size=8), forward=DistributedDataParallel(model))
"""


@pytest.mark.parametrize(
    ("remedy", "left", "given"),
    [
        ("ddp-buckets", LEFT, [25, *GIVEN[1:]]),
        ("ddp-buckets=50", [50, *LEFT[1:]], [50, *GIVEN[1:]]),
        ("ddp-bucket-view", [25, True, False, False, True], [1, True, False, True, True]),
        ("ddp-static-graph", [25, False, True, False, True], [1, False, True, True, True]),
        ("ddp-no-unused-search", LEFT, [1, False, False, False, True]),
        ("ddp-kept-buffers", [25, False, False, False, False], [1, False, False, True, False]),
    ],
)
def test_one_argument_changes(tried: Try, remedy: str, left: list[object], given: list[object]) -> None:
    ran = tried(RANK + ARGUMENTS + END, remedy)
    assert ran.said["left"] == left
    assert ran.said["given"] == given
    assert ran.said["larger"] == 100
    assert ran.effects == [remedy.partition("=")[0]]


SAME = ("ddp-buckets=1000", "ddp-bucket-view", "ddp-static-graph", "ddp-kept-buffers")


def test_these_arguments_change_no_number_on_one_rank(tried: Try) -> None:
    plain, ran = tried(RANK + REDUCED + END), tried(RANK + REDUCED + END, *SAME)
    assert ran.losses == plain.losses
    assert len(ran.effects) == len(SAME)


def test_gradients_are_reduced_in_bf16(tried: Try) -> None:
    """The hook is real, and so is what it does to the numbers; only torch's check that a GPU is there is left out."""
    program = f"{RANK}\nDistributedDataParallel._check_comm_hook = lambda self, hook: None\n{REDUCED}{END}"
    plain, ran = tried(program), tried(program, "ddp-bf16-gradients")
    assert ran.losses[0] == plain.losses[0]
    assert ran.losses != plain.losses
    assert ran.losses == pytest.approx(plain.losses, rel=0.05)
    assert ran.effects == ["ddp-bf16-gradients"]


def test_the_programs_own_hook_stays(tried: Try) -> None:
    own = """
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
model = Model()
ddp = DistributedDataParallel(model)
ddp.register_comm_hook(None, allreduce_hook)
train(model, DataLoader(data(), batch_size=8), forward=ddp)
"""
    ran = tried(RANK + own + END, "ddp-bf16-gradients")
    assert ran.effects == []


@pytest.mark.parametrize(
    ("asked", "then", "effects"),
    [("gloo", "cpu:gloo,cuda:nccl", ["nccl-backend"]), ("cpu:gloo,cuda:gloo", "cpu:gloo,cuda:gloo", [])],
)
def test_tensors_on_a_gpu_go_through_nccl(tried: Try, asked: str, then: str, effects: list[str]) -> None:
    ran = tried(
        f"""
from torch import distributed
def init_process_group(backend=None, **options): said["backend"] = backend
distributed.init_process_group = init_process_group
remedy_named("nccl-backend").apply()
distributed.init_process_group("{asked}", rank=0)
"""
    )
    assert ran.said == {"backend": then, "effects": effects}
