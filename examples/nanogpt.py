"""A small character-level GPT, in the spirit of nanoGPT, that trains on any machine in about twenty seconds.

It knows nothing of mfu-doctor:

    mfu-doctor run examples/nanogpt.py
    mfu-doctor run examples/nanogpt.py --fault slow-loader

Each --fault plants one thing that a report should find.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

FAULTS = ("none", "slow-loader", "sync", "tiny-batch", "python")


class Characters(Dataset):
    """Every window of `block` characters of a text, and the same window one character later."""

    def __init__(self, text: str, block: int, delay_s: float) -> None:
        alphabet = sorted(set(text))
        index = {character: i for i, character in enumerate(alphabet)}
        self.codes = torch.tensor([index[character] for character in text])
        self.vocabulary = len(alphabet)
        self.block = block
        self.delay_s = delay_s

    def __len__(self) -> int:
        return len(self.codes) - self.block

    def __getitem__(self, start: int) -> tuple[Tensor, Tensor]:
        time.sleep(self.delay_s)  # a slow disk, or a transform in Python
        window = self.codes[start : start + self.block + 1]
        return window[:-1], window[1:]


class Block(nn.Module):
    """Attention and a feed-forward network, each with a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Predicts the next character."""

    def __init__(self, vocabulary: int, block: int, width: int, layers: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(block, width)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        hidden = self.token(x) + self.position.weight[: x.shape[1]]
        logits = self.head(self.norm(self.blocks(hidden)))
        return functional.cross_entropy(logits.flatten(0, 1), target.flatten())


def count_sequences(batch: Tensor) -> Counter[tuple[int, ...]]:
    """How often each short sequence of characters occurs: the kind of bookkeeping that grows in a training loop."""
    counts: Counter[tuple[int, ...]] = Counter()
    for row in batch.tolist():
        for length in range(1, 65):
            counts.update(tuple(row[start : start + length]) for start in range(len(row) - length))
    return counts


def nanogpt_estimate(model: GPT, samples: int, seconds: float) -> float:
    """MFU as nanoGPT estimates it: (6N + 12LHQT) FLOP per token, over the 312 TFLOP/s of an A100 in bf16.

    A count of the operators, over the peak of the device at hand, differs from it for two reasons. N has what multiplies nothing
    (tables that are looked up, biases, norms), and little else in a model as small as this; and the run is on an A100 in bf16, or
    the number is not about its device. `mfu-doctor run --live 10` prints the counted one every ten steps.
    """
    block, first = model.position.num_embeddings, model.blocks[0]
    n = sum(p.numel() for p in model.parameters()) - model.position.weight.numel()
    per_head = model.position.embedding_dim // first.heads
    per_token = 6 * n + 12 * len(model.blocks) * first.heads * per_head * block
    return per_token * samples * block / seconds / 312e12


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", choices=FAULTS, default="none", help="what to plant")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--block", type=int, default=128, help="characters in a sample")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16 where autocast does")
    parser.add_argument("--text", type=Path, default=Path(__file__).with_name("lighthouse.txt"))
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = 1 if options.fault == "tiny-batch" else options.batch
    delay_s = 0.02 if options.fault == "slow-loader" else 0.0
    data = Characters(options.text.read_text(encoding="utf-8"), options.block, delay_s)
    model = GPT(data.vocabulary, options.block, options.width, options.layers).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters on {device}, {batch} x {options.block} characters"
    )

    start = time.perf_counter()
    for step, (x, target) in enumerate(DataLoader(data, batch, shuffle=True)):
        if step == options.steps:
            break
        with torch.autocast(device, torch.bfloat16, enabled=options.bf16):
            loss = model(x.to(device), target.to(device))
        optimizer.zero_grad()
        loss.backward()
        if options.fault == "python":
            count_sequences(x)
        if options.fault == "sync":  # numbers nobody needs at every step, each waiting for the device
            for parameter in model.parameters():
                for row in parameter.grad.flatten()[:64]:
                    row.item()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.4f}, {time.perf_counter() - start:.2f} s")
    print(f"loss {loss.item():.6f}")
    estimate = nanogpt_estimate(model, batch, (time.perf_counter() - start) / options.steps)
    print(f"nanoGPT would log mfu {estimate:.4%}: 6N + 12LHQT over 312 TFLOP/s, whatever it runs on")


if __name__ == "__main__":
    main()
