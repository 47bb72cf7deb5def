"""Functions of the program, as samples of its stacks tell them."""

from __future__ import annotations

from msgspec import Struct


class UserFunction(Struct, frozen=True, array_like=True):
    """A function of the user's own code."""

    name: str  # "Tiles.__getitem__"
    place: str  # "data.py:40": where it begins
    draws: bool = False  # whether it names what draws random numbers
