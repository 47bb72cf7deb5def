"""Calls of models that train: a module that no other module calls, with parameters that take a gradient, while gradients are on.

Until the first optimizer step all calls of modules are looked at. From then on only the classes of the models found are changed:
modules inside them cost nothing, and nothing stands in a model that a checkpoint, a copy or `torch.save` would take along.
Evaluation without gradients, losses without parameters and frozen models are no such calls. Inside a compiled function nothing is
done.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from mfu_doctor.trial.remedies.first_step import after_first_step

Call = Callable[..., Any]
Around = Callable[..., Any]  # (module, call, *args, **kwargs); it calls call(*args, **kwargs)
Use = Callable[[list[Any]], None]

# Of models, without any step of an optimizer of torch: then the program updates its weights by hand, and the look must end too.
_LONGEST_LOOK = 64


class _Look:
    """What is known of the models; `inside` is one for all threads: those of DataParallel run inside a call of the main one."""

    def __init__(self) -> None:
        self.around: list[Around] = []
        self.uses: list[Use] = []
        self.inside = False
        self._models: weakref.WeakSet[Any] = weakref.WeakSet()
        self._kinds: dict[type, None] = {}
        self._calls = 0
        self._removals: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Look at all calls of modules, once."""
        from torch.nn import Module

        if self._removals:
            return
        original, looking = Module.__call__, self._watched(Module.__call__, self._note)

        def restore() -> None:
            if Module.__call__ is looking:
                setattr(Module, "__call__", original)  # noqa: B010 - a method cannot be assigned in the eyes of mypy

        setattr(Module, "__call__", looking)  # noqa: B010
        self._removals = [restore]
        after_first_step(self._end)

    def _end(self) -> None:
        """Change the classes of the models found, and hand the models to those who wait for them; the second time do nothing."""
        if not self._removals:
            return
        while self._removals:
            self._removals.pop()()
        if self.around:
            for kind in self._kinds:
                setattr(kind, "__call__", self._watched(kind.__call__, _nothing))  # noqa: B010
        models, self._kinds = list(self._models), {}
        for use in self.uses:
            use(models)

    def _note(self, module: Any) -> None:
        self._models.add(module)
        self._kinds[type(module)] = None
        self._calls += 1
        if self._calls > _LONGEST_LOOK or is_compiled(module):
            self._end()

    def _watched(self, original: Call, note: Callable[[Any], None]) -> Call:
        import torch

        @functools.wraps(original)
        def __call__(module: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it stands in for one
            if torch.compiler.is_compiling():
                return original(module, *args, **kwargs)
            if self._removals and is_compiled(module):
                self._kinds[type(module)] = None
                self._end()  # Dynamo must not see the look
            if self.inside or not _trains(module):
                return original(module, *args, **kwargs)
            note(module)
            call: Call = functools.partial(original, module)
            for around in self.around:
                call = functools.partial(around, module, call)
            self.inside = True
            try:
                return call(*args, **kwargs)
            finally:
                self.inside = False

        return __call__


_look = _Look()


def around_training_calls(around: Around) -> None:
    """Have each call of a model that trains go through this function, from the first one on."""
    _look.around.append(around)
    _look.begin()


def before_first_call(prepare: Callable[[Any], None]) -> None:
    """Hand over each model that trains before its first call."""
    seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def around(module: Any, call: Call, *args: Any, **kwargs: Any) -> Any:
        if module not in seen:
            seen.add(module)
            prepare(module)
        return call(*args, **kwargs)

    around_training_calls(around)


def when_models_are_known(use: Use) -> None:
    """Hand over the models that train, once: after the first optimizer step, when no call of another module is looked at."""
    _look.uses.append(use)
    _look.begin()


def is_compiled(module: Any) -> bool:
    """Whether the program compiles this module itself."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def each_tensor(of: Any, change: Callable[[Any], Any]) -> Any:
    """The same structure of containers with every tensor in it changed."""
    import torch
    from torch.utils import _pytree

    return _pytree.tree_map_only(torch.Tensor, change, of)


def _nothing(_: Any) -> None:
    return None


def _trains(module: Any) -> bool:
    import torch

    return torch.is_grad_enabled() and any(parameter.requires_grad for parameter in module.parameters())
