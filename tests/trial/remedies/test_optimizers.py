"""Remedies of optimizers: every class that takes the option, however it is made, and nothing else of it."""

from __future__ import annotations

import pytest

from tests.trial.remedies.programs import TRAINING, Try

GROUPS = """
def groups(optimizer): return [[g.get("fused"), g.get("foreach"), g["lr"]] for g in optimizer.param_groups]
model = Model()
"""


@pytest.mark.parametrize(("choice", "flags"), [("fused", [True, None]), ("foreach", [None, True])])
def test_optimizers_are_made_with_this_implementation(tried: Try, choice: str, flags: list[bool | None]) -> None:
    ran = tried(
        GROUPS
        + """
class Own(torch.optim.AdamW):
    def __init__(self, params, lr):
        super().__init__(params, lr, (0.9, 0.95))
adam = torch.optim.Adam(model.parameters(), 0.5)
adam.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": 0.1})
said["positional, added"] = groups(adam)
said["groups"] = groups(torch.optim.SGD([{"params": model.parameters(), "lr": 0.2}], lr=1.0, momentum=0.9))
said["generator"] = groups(torch.optim.AdamW((p for p in model.parameters()), lr=0.3))
said["parameters"] = len(adam.param_groups[0]["params"])
own = Own(model.parameters(), 0.4)
said["subclass"] = groups(own) + [isinstance(own, torch.optim.AdamW), own.defaults["betas"][1]]
said["asked otherwise"] = groups(torch.optim.Adam(model.parameters(), 0.5, foreach=False, fused=False))
said["named"] = groups(torch.optim.Adam(model.named_parameters(), 0.5))
""",
        f"{choice}-optimizer",
    )
    assert ran.said["positional, added"] == [[*flags, 0.5], [*flags, 0.1]]
    assert ran.said["groups"] == [[*flags, 0.2]]
    assert ran.said["generator"] == [[*flags, 0.3]]
    assert ran.said["parameters"] == 4
    assert ran.said["subclass"] == [[*flags, 0.4], True, 0.95]
    assert ran.said["asked otherwise"] == [[*flags, 0.5]]
    assert ran.said["named"] == [[*flags, 0.5]]
    assert ran.effects == [f"{choice}-optimizer"]


def test_an_optimizer_that_cannot_be_fused_is_made_as_it_was(tried: Try) -> None:
    ran = tried(
        """
turns = [torch.ones(2, dtype=torch.complex64, requires_grad=True)]
said["complex"] = torch.optim.Adam(turns).param_groups[0]["fused"]
said["rmsprop"] = "fused" in torch.optim.RMSprop([torch.ones(1, requires_grad=True)]).param_groups[0]
said["differentiable"] = torch.optim.Adam([torch.ones(1)], differentiable=True).param_groups[0]["fused"]
try:
    torch.optim.Adam()
except TypeError as error:
    said["error"] = str(error)
""",
        "fused-optimizer",
    )
    assert ran.said["complex"] is None
    assert ran.said["rmsprop"] is False
    assert ran.said["differentiable"] is None
    assert "__init__() missing 1 required positional argument: 'params'" in ran.said["error"]
    assert ran.effects == []


@pytest.mark.parametrize("remedy", ["fused-optimizer", "foreach-optimizer"])
def test_only_the_last_bits_change(tried: Try, remedy: str) -> None:
    ran = tried(TRAINING, remedy)
    assert ran.effects == [remedy]
    assert ran.losses == pytest.approx(tried(TRAINING).losses, rel=1e-4)


def test_gradients_are_dropped_where_the_program_zeroes_them(tried: Try) -> None:
    ran = tried(
        """
class Own(torch.optim.SGD):
    def zero_grad(self, set_to_none=False):
        super().zero_grad(set_to_none=set_to_none)
model = Model()
def after(call):
    for p in model.parameters(): p.grad = torch.ones_like(p)
    call()
    return [p.grad is None for p in model.parameters()] == [True] * 4
said["module"] = after(lambda: model.zero_grad(False))
said["optimizer"] = after(lambda: torch.optim.Adam(model.parameters()).zero_grad(set_to_none=False))
said["subclass"] = after(Own(model.parameters(), lr=1.0).zero_grad)
""",
        "zero-grad-to-none",
    )
    assert [ran.said[form] for form in ("module", "optimizer", "subclass")] == [True] * 3
    assert ran.effects == ["zero-grad-to-none"]


def test_a_program_that_drops_gradients_is_not_changed(tried: Try) -> None:
    assert tried(TRAINING, "zero-grad-to-none").effects == []


def test_dropped_gradients_train_the_same_where_all_are_used(tried: Try) -> None:
    zeroing = "from functools import partial\n" + TRAINING.replace(
        "for epoch", "optimizer.zero_grad = partial(optimizer.zero_grad, set_to_none=False)\nfor epoch"
    )
    ran = tried(zeroing, "zero-grad-to-none")
    assert ran.effects == ["zero-grad-to-none"]
    assert ran.losses == tried(zeroing).losses


def test_dropped_gradients_leave_unused_parameters_as_they_are(tried: Try) -> None:
    """With momentum, a gradient of zero still moves a parameter."""
    sometimes = """
a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
optimizer = torch.optim.SGD([a, b], lr=0.1, momentum=0.9)
for step in range(3):
    optimizer.zero_grad(set_to_none=False)
    (a * b if step == 0 else a * 1.0).sum().backward()
    optimizer.step()
said["b"] = b.item()
"""
    assert tried(sometimes, "zero-grad-to-none").said["b"] > tried(sometimes).said["b"]


def test_clipping_takes_all_gradients_at_once(tried: Try) -> None:
    clipping = """
from torch.nn.utils import clip_grad_norm_
p = [nn.Parameter(torch.randn(3)) for _ in range(4)]
for q in p: q.grad = torch.randn(3)
said["norms"] = [clip_grad_norm_(p, 1.0, foreach=False).item(), nn.utils.clip_grad_norm_(p, 0.5).item()]
"""
    plain, ran = tried(clipping), tried(clipping, "foreach-clipping")
    assert ran.said["norms"] == pytest.approx(plain.said["norms"], rel=1e-5)
    assert ran.effects == ["foreach-clipping"]
    assert plain.effects == []
