"""What the contracts say to the front proxy: which services exist, what is public, what needs no token.

Turning it into configuration is `cli.gateway.render`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pool
from tiation.mesh.v1 import options_pb2

from mesh.contracts import proto_services
from mesh.methods import Method, methods_of

__all__ = ["REFLECTED_BY", "Backend", "paths_by_verbs", "services"]

REFLECTED_BY = "security"
"""The service that answers reflection and health for the whole platform."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One proto service behind the front proxy.

    Attributes:
        name: its full name.
        cluster: the service of ours that serves it.
        methods: its methods.
        open_paths: regular expressions of the REST paths that need no token.
        has_rest: whether any method has a REST path.
        limited_paths: regular expressions of the REST paths whose bodies have a limit of their own, with that limit.
        sparse_paths: regular expressions of the REST paths whose answers name only the fields that are set.
        dialect: whose words its REST side speaks, in lower case; empty for our own.
        entries: what its REST paths begin with, where they are not below `/v1/tenants`.
    """

    name: str
    cluster: str
    methods: tuple[Method, ...]
    open_paths: tuple[str, ...]
    has_rest: bool
    limited_paths: tuple[tuple[str, int], ...] = ()
    sparse_paths: tuple[str, ...] = ()
    dialect: str = ""
    entries: tuple[str, ...] = ()

    @property
    def is_public(self) -> bool:
        """Whether anything of it is for users."""
        return any(not method.internal for method in self.methods)


@cache
def services() -> tuple[Backend, ...]:
    """Every proto service, those for internal use included."""
    return tuple(_backend(name, cluster) for name, cluster in proto_services().items())


def paths_by_verbs() -> dict[tuple[str, ...], list[str]]:
    """The public REST paths as regular expressions, by the verbs that they take, in the order of the alphabet."""
    verbs: dict[str, set[str]] = {}
    for backend in services():
        internal = {method.name for method in backend.methods if method.internal}
        for method in descriptor_pool.Default().FindServiceByName(backend.name).methods:
            if f"{backend.name}/{method.name}" not in internal:
                rule = method.GetOptions().Extensions[annotations_pb2.http]
                for each in (rule, *rule.additional_bindings):
                    verb = (each.WhichOneof("pattern") or "get").upper()
                    for path in _paths(each, part="[^/]+" if backend.dialect else "[^/:]+"):
                        verbs.setdefault(path, set()).add(verb)
    found: dict[tuple[str, ...], list[str]] = {}
    for path, taken in verbs.items():
        found.setdefault(tuple(sorted(taken)), []).append(path)
    return found


def _backend(name: str, cluster: str) -> Backend:
    methods = tuple(methods_of([name]).values())
    described = descriptor_pool.Default().FindServiceByName(name)
    dialect: Any = described.GetOptions().Extensions[options_pb2.dialect]  # type: ignore[index]
    rules = {
        f"{name}/{method.name}": method.GetOptions().Extensions[annotations_pb2.http] for method in described.methods
    }
    open_paths = [path for method in methods if method.anyone for path in _paths(rules[method.name])]
    limited = [(method, path) for method in methods if method.max_body_bytes for path in _paths(rules[method.name])]
    return Backend(
        name,
        cluster,
        methods,
        tuple(open_paths),
        any(True for rule in rules.values() for _ in _paths(rule)),
        tuple((path, method.max_body_bytes) for method, path in limited),
        tuple(path for method in methods if method.sparse for path in _paths(rules[method.name], part="[^/:]+")),
        options_pb2.Dialect.Name(dialect).lower() if dialect else "",
        _entries(rules.values()) if dialect else (),
    )


def _entries(rules: Iterable[http_pb2.HttpRule]) -> tuple[str, ...]:
    """The first two parts of the paths, or the first alone where a path has no more: what covers all of them."""
    begun = {"/".join(path.split("/")[:3]) for rule in rules for path in _templates(rule)}
    return tuple(sorted(each for each in begun if not any(each.startswith(f"{other}/") for other in begun)))


def _paths(rule: http_pb2.HttpRule, part: str = "[^/]+") -> Iterable[str]:
    """The paths of a method's REST rule as regular expressions, `part` for each name in them."""
    for path in _templates(rule):
        template = re.sub(r"\{[^=}]+=([^}]+)\}", r"\1", re.sub(r"\{[^=}]+\}", "*", path))
        yield ".+".join(part.join(map(re.escape, each.split("*"))) for each in template.split("**"))


def _templates(rule: http_pb2.HttpRule) -> Iterable[str]:
    """The paths of a method's REST rule as they are written."""
    path = getattr(rule, rule.WhichOneof("pattern") or "get", "")
    if path:
        yield path
    for further in rule.additional_bindings:
        yield from _templates(further)
