"""Fixes are broken to fit a screen and stay what they were: pasted, they do the same."""

from __future__ import annotations

import ast

import pytest

from mfu_doctor.render.words.pasteable import NO_ROOM, shown_code, wrap_code

PYTHON = [
    "model = model.to(memory_format=torch.channels_last); x = x.to(memory_format=torch.channels_last)",
    "with torch.cuda.stream(copy_stream): next_batch = batch.to(device, non_blocking=True)",
    "gc.collect(); gc.freeze()  # after building model and data; then gc.collect() every N steps outside the step",
    "loss = torch.stack([F.cross_entropy(head(h), t) for h, t in zip(hidden.chunk(8), target.chunk(8))]).mean()",
    "for p in frozen.parameters(): p.requires_grad_(False); p.grad = None; print('a; b # c', {'k': 1}, sep='')",
    "model.register_comm_hook(None, torch.distributed.algorithms.ddp_comm_hooks.default_hooks.bf16_compress_hook)",
]


@pytest.mark.parametrize("width", [74, 40, 20])
@pytest.mark.parametrize("code", PYTHON)
def test_broken_python_is_the_same_program(code: str, width: int) -> None:
    assert ast.dump(ast.parse("\n".join(wrap_code(code, width)))) == ast.dump(ast.parse(code))


@pytest.mark.parametrize("code", [code for code in PYTHON if not code.startswith("for")])  # one suite stays one line
def test_what_can_be_broken_fits(code: str) -> None:
    longest = max(len(word) for word in code.split()) + 4
    assert max(len(row) for row in wrap_code(code, max(74, longest))) <= max(74, longest)


def test_a_comment_goes_on_as_a_comment() -> None:
    words = (
        "# issue the exchange of the next batch before this batch's backward pass, so that both run at the same time"
    )
    rows = wrap_code(words, 74)
    assert len(rows) == 2
    assert all(row.startswith("# ") for row in rows)
    assert " ".join(row[2:] for row in rows) == words[2:]


def test_shell_commands_are_separated_only_between_commands() -> None:
    assert wrap_code("sudo nvidia-smi -i 0 -rgc; sudo nvidia-smi -i 0 -rac", 40) == [
        "sudo nvidia-smi -i 0 -rgc",
        "sudo nvidia-smi -i 0 -rac",
    ]


def test_what_cannot_be_broken_is_not_cut() -> None:
    assert wrap_code("x" * 100, 74) == ["x" * 100]
    assert shown_code("x" * 100, 74) == [NO_ROOM]
    assert shown_code("a\nb\nc", 74, lines=2) == [NO_ROOM]
    assert shown_code("a\nb", 74, lines=2) == ["a", "b"]
