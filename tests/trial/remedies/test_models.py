"""Remedies of whole models: compiled, other layouts, attention, recomputation, what is frozen."""

from __future__ import annotations

import pytest

from tests.trial.remedies.programs import TRAINING, Try

# Dynamo itself, without the minutes of a compiler: the graphs run as they were written.
EAGER = """
import functools
warnings.simplefilter("ignore")  # Dynamo itself asks a tensor between two compiled parts for its gradient
torch.compile = functools.partial(torch.compile, backend="eager")
"""
COUNTS = """
from torch._dynamo.utils import counters
said["graphs"], said["breaks"] = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
"""


def test_the_model_is_compiled_after_the_first_step(tried: Try) -> None:
    program = EAGER + TRAINING.replace("shuffle=True", "shuffle=True, drop_last=True") + COUNTS
    ran = tried(program + "said['in place'] = type(model) is Model and 'mfu' not in repr(vars(model))", "compile")
    assert ran.said["graphs"] == 1
    assert ran.said["breaks"] == 0
    assert ran.said["in place"] is True
    assert ran.losses == pytest.approx(tried(TRAINING).losses, rel=1e-4)
    assert ran.effects == ["compile"]


def test_it_is_compiled_whole_under_the_other_remedies(tried: Try) -> None:
    """Models inside the outermost one, of its own class too, are traced as without us."""
    program = EAGER + TRAINING.replace("Model()", "nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 4)))")
    ran = tried(program + COUNTS, "compile", "bf16-autocast", "channels-last", "float32")
    assert (ran.said["graphs"], ran.said["breaks"]) == (1, 0)
    assert ran.effects == ["bf16-autocast", "compile"]


def test_what_the_program_compiles_itself_is_left_alone(tried: Try) -> None:
    program = EAGER + TRAINING.replace("Model()", "torch.compile(Model())") + COUNTS
    ran = tried(program, "compile", "bf16-autocast")
    assert ran.effects == ["bf16-autocast"]
    assert (ran.said["graphs"], ran.said["breaks"]) == (1, 0)
    inner = EAGER + TRAINING.replace("Model()", "Model()\nmodel.layers = torch.compile(model.layers)") + COUNTS
    ran = tried(inner, "compile")
    assert ran.effects == []
    assert (ran.said["graphs"], ran.said["breaks"]) == (1, 0)


def test_a_compiled_training_step_sees_nothing_of_us(tried: Try) -> None:
    ran = tried(
        EAGER
        + """
model = Model()
@torch.compile
def forward(x): return model(x)
train(model, DataLoader(data(), batch_size=8), forward=forward)
"""
        + COUNTS,
        "bf16-autocast",
    )
    assert ran.said["breaks"] == 0
    assert ran.effects == []


def test_several_models_are_found_and_losses_are_none(tried: Try) -> None:
    ran = tried(
        EAGER
        + """
maker, judge, loss = Model(), nn.Linear(4, 2), nn.Sequential(nn.Softmax(-1))
with torch.no_grad():
    unused = Model()
    unused(data()[0][0])
optimizer = torch.optim.SGD([*maker.parameters(), *judge.parameters()], lr=0.1)
for x, _ in DataLoader(data(), batch_size=8):
    loss(judge(maker(x))).square().sum().backward()
    optimizer.step()
said["compiled"] = [m._compiled_call_impl is not None for m in (maker, judge, loss, unused)]
""",
        "compile",
    )
    assert ran.said["compiled"] == [True, True, False, False]


def test_a_model_that_cannot_be_compiled_fails_as_its_line_would(tried: Try) -> None:
    ran = tried(
        """
def broken(graph, inputs): raise RuntimeError("no such backend")
import functools
torch.compile = functools.partial(torch.compile, backend=broken)
try:
    train(Model(), DataLoader(data(), batch_size=8))
except Exception as error:
    said["error"] = str(error)
""",
        "compile",
    )
    assert "no such backend" in ran.said["error"]
    assert len(ran.losses) == 1


def test_a_mode_is_handed_on(tried: Try) -> None:
    ran = tried(
        """
def recorded(model, **options):
    said["options"] = options
    return model
torch.compile = recorded
train(Model(), DataLoader(data(), batch_size=24))
""",
        "compile=reduce-overhead",
    )
    assert ran.said["options"] == {"mode": "reduce-overhead"}


def test_what_is_compiled_takes_sizes_that_vary(tried: Try) -> None:
    program = (
        EAGER
        + """
compiled = torch.compile(lambda x: x * x.shape[0])
fixed = torch.compile(lambda x: x + x.shape[0], dynamic=False)
for size in (3, 4, 5):
    compiled(torch.ones(size))
"""
        + COUNTS
    )
    assert tried(program).said["graphs"] == 2
    ran = tried(program, "dynamic-shapes")
    assert ran.said["graphs"] == 1
    assert ran.effects == ["dynamic-shapes"]


IMAGES = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head, self.layouts = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), []
    def forward(self, image, scale=None):
        self.layouts.append(image.is_contiguous(memory_format=torch.channels_last))
        return self.head(self.conv(image).mean((2, 3)))
net = Net()
weight = net.conv.weight
optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
for _ in range(4):
    loss = F.cross_entropy(net(torch.randn(4, 3, 8, 8), scale=torch.ones(2)), torch.arange(4))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print("loss", loss.item().hex())
said["layouts"] = net.layouts
said["weight"] = weight is net.conv.weight and weight.is_contiguous(memory_format=torch.channels_last)
"""


def test_a_model_with_convolutions_and_its_images_have_the_channels_last(tried: Try) -> None:
    plain, ran = tried(IMAGES), tried(IMAGES, "channels-last")
    assert plain.said["layouts"] == [False] * 4
    assert ran.said["layouts"] == [True] * 4
    assert ran.said["weight"] is True
    assert ran.losses == pytest.approx(plain.losses, rel=1e-4)
    assert ran.effects == ["channels-last"]


def test_a_model_without_convolutions_keeps_its_layout(tried: Try) -> None:
    assert tried(TRAINING, "channels-last").effects == []
    assert tried(TRAINING, "channels-last").losses == tried(TRAINING).losses


def test_the_libraries_for_convolutions_are_switched_on(tried: Try) -> None:
    ran = tried(
        f"torch.backends.mkldnn.enabled = False\n{IMAGES}\nsaid['on'] = torch.backends.mkldnn.enabled",
        "convolution-libraries",
    )
    assert ran.said["on"] is True
    assert ran.effects == ["convolution-libraries"]
    assert tried(IMAGES, "convolution-libraries").effects == []


def test_fused_attention_is_allowed_again(tried: Try) -> None:
    ran = tried(
        """
from torch.nn.attention import SDPBackend, sdpa_kernel
torch.backends.cuda.enable_flash_sdp(False)
torch.backends.cuda.enable_mem_efficient_sdp(enabled=False)
def flash(): return torch.backends.cuda.flash_sdp_enabled()
said["switched"] = [flash(), torch.backends.cuda.mem_efficient_sdp_enabled()]
with sdpa_kernel(SDPBackend.MATH):
    said["inside"] = flash()
said["after"] = flash()
""",
        "fused-attention",
    )
    assert ran.said == {"switched": [True, True], "inside": True, "after": True, "effects": ["fused-attention"]}
    assert tried(TRAINING, "fused-attention").effects == []


CHECKPOINTED = """
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
class Deep(Model):
    calls = 0
    def forward(self, x):
        return checkpoint(self.block, x, use_reentrant=False, preserve_rng_state=True, scale=1.0)
    def block(self, x, scale):
        Deep.calls += 1
        return checkpoint_sequential(self.layers, 2, x, use_reentrant=False) * scale
train(Deep(), DataLoader(data(), batch_size=8))
said["calls"] = Deep.calls
"""


def test_activations_are_kept_and_nothing_else_changes(tried: Try) -> None:
    plain, ran = tried(CHECKPOINTED), tried(CHECKPOINTED, "no-checkpointing")
    assert (plain.said["calls"], ran.said["calls"]) == (12, 6)
    assert ran.losses == plain.losses
    assert ran.effects == ["no-checkpointing"]


UNUSED = """
class Half(Model):
    def __init__(self):
        super().__init__(dropout=0.0)
        self.base = nn.Linear(8, 8)
    def forward(self, x):
        return self.layers(self.base(x))
model = Half()
optimizer = torch.optim.AdamW(model.layers.parameters(), lr=0.01)
train(model, DataLoader(data(), batch_size=8), optimizer)
said["frozen"] = [name for name, p in model.named_parameters() if not p.requires_grad]
said["gradients"] = [name for name, p in model.named_parameters() if p.grad is not None]
optimizer.add_param_group({"params": [model.base.weight]})
said["later"] = [name for name, p in model.named_parameters() if not p.requires_grad]
"""


def test_parameters_of_no_optimizer_get_no_gradient(tried: Try) -> None:
    plain, ran = tried(UNUSED), tried(UNUSED, "frozen-parameters")
    assert ran.said["frozen"] == ["base.weight", "base.bias"]
    assert "base.weight" in plain.said["gradients"]
    assert "base.weight" not in ran.said["gradients"]
    assert ran.said["later"] == ["base.bias"]
    assert ran.losses == plain.losses
    assert ran.effects == ["frozen-parameters"]


def test_nothing_is_frozen_where_optimizers_have_everything(tried: Try) -> None:
    assert tried(TRAINING, "frozen-parameters").effects == []


def test_the_gradient_of_an_embedding_is_sparse(tried: Try) -> None:
    words = """
class Own(nn.Embedding):
    pass
table, own, given = nn.Embedding(20, 4), Own(20, 4), nn.EmbeddingBag(20, 4, sparse=True)
said["sparse"] = [m.sparse for m in (table, own, given)]
optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
for i in range(3):
    loss = table(torch.tensor([i, i, 5])).square().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print("loss", loss.item().hex())
said["gradient"] = table.weight.grad.is_sparse
"""
    plain, ran = tried(words), tried(words, "sparse-embedding")
    assert ran.said["sparse"] == [True, True, True]
    assert ran.said["gradient"] is True
    assert ran.losses == pytest.approx(plain.losses, rel=1e-5)
    assert ran.effects == ["sparse-embedding"]
