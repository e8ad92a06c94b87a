"""Every rule that our contracts are held to. What buf checks is not repeated here."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from tests.contract.rules import access, rest, shapes
from tools.contracts import Contracts

RULES: dict[str, Callable[[Contracts], list[str]]] = {
    name: rule
    for module in (access, rest, shapes)
    for name, rule in vars(module).items()
    if inspect.isfunction(rule) and rule.__module__ == module.__name__
}
