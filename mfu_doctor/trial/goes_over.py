"""What the loops of a program go over, by its syntax tree: a name is followed to what is assigned to it or passed for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import TypeAlias

_NUMBERS = ("range", "trange", "count")
_PASSING_ON = ("enumerate", "iter", "tqdm", "track", "islice", "cycle")  # they hand out what their first argument does

_FIT = "fit"  # of a trainer
_OWN = ("self", "cls")  # a call of a method does not give it

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def covers(node: ast.stmt | ast.expr, line: int) -> bool:
    """Whether it stands at this line, among others."""
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def iterables_at(tree: ast.Module, line: int, *, around: bool) -> list[ast.expr]:
    """What loops, `next()` and the `fit()` of a trainer at this line take batches from.

    With `around`, also the loops that the line is inside of. A loop over numbers takes no batches: what counts of it is the
    `next()` inside, where there is no other loop.
    """
    loops = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.For | ast.While) and (covers(node, line) if around else _begins_at(node, line))
    ]
    found = [loop.iter for loop in loops if isinstance(loop, ast.For) and not _counts(loop.iter)]
    innermost = list(ast.walk(loops[-1])) if loops and not found else []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    taking = [call for call in calls if covers(call, line) or (call in innermost and _is_next(call))]
    return found + [taken for call in taking if (taken := _taken_by(call)) is not None]


def lines_of_training(tree: ast.Module) -> list[int]:
    """Where the program trains: in a loop of its own, or in that of a trainer."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [call.lineno for call in calls if last_name(call.func) in ("backward", _FIT)]


def _begins_at(loop: ast.For | ast.While, line: int) -> bool:
    return loop.lineno <= line < max(loop.body[0].lineno, loop.lineno + 1)


def _counts(iterable: ast.expr) -> bool:
    return isinstance(iterable, ast.Call) and last_name(iterable.func) in _NUMBERS


def _is_next(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "next"


def _taken_by(call: ast.Call) -> ast.expr | None:
    """What `next(it)` and `trainer.fit(model, loader)` take batches from."""
    if _is_next(call):
        return call.args[0] if call.args else None
    if last_name(call.func) != _FIT:
        return None
    named = (keyword.value for keyword in call.keywords if keyword.arg == "train_dataloaders")
    return next(named, call.args[1] if len(call.args) > 1 else None)


def is_made_by(tree: ast.Module, expression: ast.expr, call: ast.Call) -> bool:
    """Whether this call makes the value of the expression, and nothing else in the file does."""
    return _makers(tree, expression) == {call}


def _makers(tree: ast.Module, expression: ast.expr) -> set[ast.expr]:
    """What the value is made by, as far as this file tells; an expression that cannot be followed stands for itself."""
    makers, seen, left = set[ast.expr](), {expression}, [expression]
    while left:
        values = list(_values(tree, present := left.pop()))
        if not values:
            makers.add(present)
        left += [value for value in values if value not in seen]
        seen.update(values)
    return makers


def _values(tree: ast.Module, expression: ast.expr) -> Iterator[ast.expr]:
    """Expressions whose values this one may have."""
    match expression:
        case ast.NamedExpr(value=value):
            yield value
        case ast.Call(args=[first, *_]) if last_name(expression.func) in _PASSING_ON:
            yield first
        case ast.Call():
            yield from _returned(tree, last_name(expression.func))
        case ast.Name(id=name) if taking := [each for each in _around(tree, expression) if name in _parameters(each)]:
            yield from _passed(tree, taking[-1], name)
        case ast.Name() | ast.Attribute():
            yield from _assigned(tree, ast.unparse(expression))


def last_name(called: ast.expr) -> str:
    """Of what is called: "DataLoader" of `data.DataLoader`."""
    return str(getattr(called, "attr", getattr(called, "id", "")))


def _functions(tree: ast.Module) -> Iterator[_Function]:
    return (node for node in ast.walk(tree) if isinstance(node, _Function))


def _around(tree: ast.Module, expression: ast.expr) -> list[_Function]:
    """The functions that it stands in, the innermost one last."""
    return [function for function in _functions(tree) if covers(function, expression.lineno)]


def _parameters(function: _Function) -> list[str]:
    return [argument.arg for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]


def _passed(tree: ast.Module, function: _Function, name: str) -> Iterator[ast.expr]:
    """What calls of this function give for a parameter."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or last_name(node.func) != function.name:
            continue
        names: Sequence[str] = _parameters(function)
        names = names[1:] if isinstance(node.func, ast.Attribute) and names[0] in _OWN else names
        yield from (value for parameter, value in zip(names, node.args, strict=False) if parameter == name)
        yield from (keyword.value for keyword in node.keywords if keyword.arg == name)


def _returned(tree: ast.Module, name: str) -> Iterator[ast.expr]:
    """What functions of this name return."""
    for function in _functions(tree):
        returns = (node for node in ast.walk(function) if isinstance(node, ast.Return) and function.name == name)
        yield from (node.value for node in returns if node.value is not None)


def _assigned(tree: ast.Module, name: str) -> Iterator[ast.expr]:
    """What is assigned to a name anywhere; not what is made of itself: `loader = prepare(loader)` passes it on."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets, value=value):
                pairs = [pair for target in targets for pair in _pairs(target, value)]
            case (
                ast.AnnAssign(target=target, value=ast.expr() as value)
                | ast.NamedExpr(target=target, value=value)
                | ast.withitem(optional_vars=ast.expr() as target, context_expr=value)
            ):
                pairs = [(target, value)]
            case _:
                continue
        yield from (value for target, value in pairs if ast.unparse(target) == name and not _mentions(value, name))


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Each target with its value; of several targets for one value, each with the whole."""
    if not isinstance(target, ast.Tuple):
        yield target, value
        return
    is_each = isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts)
    values = value.elts if is_each and isinstance(value, ast.Tuple) else [value] * len(target.elts)
    yield from zip(target.elts, values, strict=True)


def _mentions(value: ast.expr, name: str) -> bool:
    nodes = (node for node in ast.walk(value) if isinstance(node, ast.Name | ast.Attribute))
    return any(ast.unparse(node) == name for node in nodes)
