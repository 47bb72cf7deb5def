"""diagonal-factorization: linear algebra on what was made of a vector goes; a kernel with noise on its diagonal is left alone."""

from __future__ import annotations

import pytest

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.kernels.diagonal_factorization import diagonal_factorization
from tests.rules.drawing import steps
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

N = 32
MATRIX = [128, N, N]


def loop(*calls: tuple[str, list[int], int], backward: bool = False) -> Run:
    """Operators by name, size of their first tensor and length in us, then 3,000 us of other work; nodes if wanted."""

    def body(drawn: Timeline) -> None:
        for at, (name, dims, us) in enumerate(calls):
            drawn.op(name, host=us, dims=[dims, dims], types=["float", "float"], sequence=at)
        drawn.op("aten::gelu", host=3000, dims=[[128, 64]], types=["float"], sequence=len(calls))
        for at, (name, _, us) in reversed(list(enumerate(calls))) if backward else ():
            node = f"{name.removeprefix('aten::')}Backward0"
            call = drawn.span(f"autograd::engine::evaluate_function: {node}", "cpu_op", sequence=at)
            with call, drawn.span(node, "cpu_op", sequence=at):
                drawn.op("aten::bmm", host=2 * us)

    return run_of(steps(body))


MADE = ("aten::diag_embed", [128, N], 100)
CHECKED = ("aten::isclose", MATRIX, 200)
FACTOR = ("aten::linalg_cholesky", MATRIX, 1000)
SAMPLE = ("aten::matmul", MATRIX, 300)
SOLVE = ("aten::linalg_solve_triangular", MATRIX, 700)
ADD = ("aten::add", MATRIX, 50)


def test_factorization_solve_and_check_go() -> None:
    run = loop(MADE, CHECKED, FACTOR, SAMPLE, SOLVE)
    assert "2 linear-algebra calls" in found(diagonal_factorization, run).summary
    price = price_us(diagonal_factorization, run)
    assert price.low_ns == close(0.9 * 1700)
    assert price.high_ns == close(1700 + 300)


def test_their_backward_goes_too() -> None:
    price = price_us(diagonal_factorization, loop(MADE, FACTOR, SOLVE, backward=True))
    assert price.high_ns == close(3 * (100 + 1000 + 700))


def test_a_solve_alone_is_one() -> None:
    """MultivariateNormal(scale_tril=torch.diag_embed(std)): the difference from the mean is taken in between."""
    run = loop(MADE, ("aten::sub", [128, N], 20), SOLVE)
    assert price_us(diagonal_factorization, run).high_ns == close(700 + 100)


def test_a_solve_with_another_matrix_of_this_size_is_left_alone() -> None:
    other = ("aten::linalg_solve_triangular", [N, N], 500)
    assert price_us(diagonal_factorization, loop(MADE, FACTOR, SAMPLE, other)).high_ns == close(1000 + 100)


@pytest.mark.parametrize(
    "calls",
    [
        (MADE, ADD, FACTOR, SOLVE),  # a kernel with noise on its diagonal
        (MADE, FACTOR, ADD, FACTOR, SOLVE),  # both, of one size: which solve is whose is not known
        (("aten::diag_embed", [128, 16], 100), FACTOR),
        (("aten::diag_embed", [N], 10), ("aten::cov", [N, 512], 50), ("aten::linalg_cholesky", [N, N], 1000)),
        (("aten::eye", [], 10), ("aten::matmul", [N, 512], 50), ("aten::linalg_inv", [N, N], 1000)),
        (("aten::diag", MATRIX[1:], 10), FACTOR),  # reads a diagonal
        (FACTOR, SOLVE),
        (MADE, SAMPLE),
    ],
)
def test_other_matrices_are_left_alone(calls: tuple[tuple[str, list[int], int], ...]) -> None:
    silent(diagonal_factorization, loop(*calls))
