"""Remedies of precision: what runs in which dtype, what the program sets itself, and how far its losses move."""

from __future__ import annotations

import pytest

from tests.trial.remedies.programs import TRAINING, Try

SEEN = """
class Seen(nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.line, self.dtypes = nn.Linear(8, 4, dtype=dtype), []
    def forward(self, x):
        y = self.line(x)
        self.dtypes.append(str(y.dtype)[6:])
        return {"logits": y, "rest": (y, [y.argmax()])}
    def __deepcopy__(self, memo):
        raise RuntimeError("not now")
x = torch.randn(6, 8)
"""
STEP = """
def step(model, x=x):
    out = model(x)
    out["logits"].float().sum().backward()
    return out
"""


def test_a_forward_pass_runs_in_bf16_and_its_results_are_fp32(tried: Try) -> None:
    ran = tried(
        SEEN
        + STEP
        + """
model = Seen()
out = step(model)
said["out"] = [str(out["logits"].dtype), str(out["rest"][0].dtype), str(out["rest"][1][0].dtype)]
said["gradient"] = str(model.line.weight.grad.dtype)
said["dtypes"] = model.dtypes
""",
        "bf16-autocast",
    )
    assert ran.said["dtypes"] == ["bfloat16"]
    assert ran.said["out"] == ["torch.float32", "torch.float32", "torch.int64"]
    assert ran.said["gradient"] == "torch.float32"
    assert ran.effects == ["bf16-autocast"]


@pytest.mark.parametrize(
    ("around", "dtype"),
    [
        ("torch.no_grad()", "float32"),
        ("torch.autocast('cpu', enabled=False)", "float32"),
        ("torch.autocast('cpu', torch.float16)", "float16"),
        ("torch.inference_mode()", "float32"),
    ],
)
def test_evaluation_and_the_programs_own_autocast_are_left_alone(tried: Try, around: str, dtype: str) -> None:
    ran = tried(SEEN + f"model = Seen()\nwith {around}: model(x)\nsaid['dtypes'] = model.dtypes", "bf16-autocast")
    assert ran.said["dtypes"] == [dtype]
    assert ran.effects == []


def test_models_after_the_first_step_are_the_ones_found_before_it(tried: Try) -> None:
    """From then on only the class of the outermost model is watched: no call of another module costs anything."""
    ran = tried(
        SEEN
        + """
class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Seen()
    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return self.inner(x)["logits"]
plain_call = nn.Module.__call__
model, frozen = Outer(), Seen().requires_grad_(False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    frozen(x)
    model(x).sum().backward()
    optimizer.step()
said["inner"], said["frozen"] = model.inner.dtypes, frozen.dtypes
said["watched while looking"] = plain_call is not nn.Module.__call__
said["own calls"] = ["__call__" in vars(kind) for kind in (Outer, Seen, nn.Linear)]
import copy, io, pickle
said["copies"] = sorted(vars(Outer())) == sorted(vars(model))
buffer = io.BytesIO()
torch.save(model.state_dict(), buffer)
said["pickle"] = b"mfu_doctor" in buffer.getvalue() or b"mfu_doctor" in pickle.dumps(nn.Linear(1, 1))
""",
        "bf16-autocast",
    )
    assert ran.said["inner"] == ["float32"] * 3
    assert ran.said["frozen"] == ["float32"] * 3
    assert ran.said["watched while looking"] is True
    assert ran.said["own calls"] == [True, False, False]
    assert ran.said["copies"] is True
    assert ran.said["pickle"] is False


def test_a_scaler_stays_as_the_program_made_it(tried: Try) -> None:
    scaled = """
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for x, y in DataLoader(data(), batch_size=8):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    print("loss", loss.item().hex())
said["scale"] = scaler.get_scale()
"""
    plain, ran = tried(scaled), tried(scaled, "bf16-autocast")
    assert ran.said["scale"] == plain.said["scale"] == 1024.0
    assert ran.losses == pytest.approx(plain.losses, rel=0.05)


def test_bf16_moves_the_losses_a_little(tried: Try) -> None:
    plain, ran = tried(TRAINING).losses, tried(TRAINING, "bf16-autocast").losses
    assert ran != plain
    assert ran == pytest.approx(plain, rel=0.05)


def test_a_bf16_model_stays_as_it_is(tried: Try) -> None:
    ran = tried(
        SEEN + "out = Seen(torch.bfloat16)(x.bfloat16())\nsaid['dtype'] = str(out['logits'].dtype)", "bf16-autocast"
    )
    assert ran.said["dtype"] == "torch.bfloat16"
    assert ran.effects == []


def test_a_step_without_an_optimizer_of_torch_ends_the_look_too(tried: Try) -> None:
    ran = tried(
        SEEN
        + """
plain_call, model = nn.Module.__call__, Seen()
for _ in range(70):
    model(x)
said["looked"], said["dtypes"] = plain_call is not nn.Module.__call__, sorted(set(model.dtypes))
""",
        "bf16-autocast",
    )
    assert ran.said == {"looked": True, "dtypes": ["bfloat16"], "effects": ["bf16-autocast"]}


def test_autocast_is_off_also_where_the_program_wants_it(tried: Try) -> None:
    ran = tried(
        SEEN
        + """
model = Seen()
with torch.autocast("cpu", torch.bfloat16): model(x)
with torch.autocast("cpu", enabled=False): model(x)
with torch.amp.autocast("cpu", dtype=torch.float16, enabled=True): model(x)
@torch.autocast("cpu", torch.bfloat16)
def decorated(): model(x)
decorated()
said["dtypes"] = model.dtypes
""",
        "autocast-off",
    )
    assert ran.said["dtypes"] == ["float32"] * 4
    assert ran.effects == ["autocast-off"]


def test_a_scaler_is_disabled(tried: Try) -> None:
    ran = tried(
        """
class Own(torch.amp.GradScaler):
    pass
scalers = torch.amp.GradScaler("cpu"), Own("cpu"), torch.amp.GradScaler("cpu", enabled=False)
said["enabled"] = [scaler.is_enabled() for scaler in scalers]
""",
        "no-grad-scaler",
    )
    assert ran.said["enabled"] == [False, False, False]
    assert ran.effects == ["no-grad-scaler"]


def test_a_float64_model_becomes_float32_with_its_inputs(tried: Try) -> None:
    ran = tried(
        SEEN
        + """
torch.set_default_dtype(torch.float64)
said["default"] = str(torch.get_default_dtype())
model = Seen(torch.float64)
weight = model.line.weight
optimizer = torch.optim.Adam(model.parameters())
for _ in range(2):
    loss = F.mse_loss(model(x.double())["logits"], torch.zeros(6, 4, dtype=torch.float64))
    loss.backward()
    optimizer.step()
said["same weight"] = weight is model.line.weight and str(weight.dtype)
said["dtypes"] = model.dtypes
torch.set_default_dtype(torch.bfloat16)
said["other default"] = str(torch.get_default_dtype())
""",
        "float32",
    )
    assert ran.said["default"] == "torch.float32"
    assert ran.said["same weight"] == "torch.float32"
    assert ran.said["dtypes"] == ["float32"] * 2
    assert ran.said["other default"] == "torch.bfloat16"
    assert ran.effects == ["float32"]


@pytest.mark.parametrize("precision", ["high", "highest"])
def test_the_programs_own_precision_of_products_stays(tried: Try, precision: str) -> None:
    ran = tried(f"torch.set_float32_matmul_precision('{precision}')", "tf32")
    assert ran.effects == (["tf32"] if precision == "high" else [])


def test_products_in_tf32_are_allowed(tried: Try) -> None:
    ran = tried("said['precision'] = torch.get_float32_matmul_precision()", "tf32")
    assert ran.said == {"precision": "high", "effects": ["tf32"]}
