"""What the reference says about a method: how it is reached, who may call it, how it is recorded, how long it may take.

Its messages are shown by `types.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from tiation.mesh.v1 import options_pb2

from mesh.foreign import FOREIGN, ForeignMethod
from tools.contracts import Contracts
from tools.reference.types import Types

__all__ = ["Methods"]

_INTERNAL = 2  # tiation.mesh.v1.Access.Visibility


class Methods:
    """Writes methods, out of their options."""

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = contracts

    def any_public(self, service: ServiceDescriptor) -> bool:
        """Whether something of the service can be called from outside."""
        return not all(self._internal(method) for method in service.methods)

    def table(self, service: ServiceDescriptor) -> Iterator[str]:
        """An overview of the service's methods."""
        yield "| RPC | REST | permission |\n|---|---|---|"
        for method in service.methods:
            paths = "<br>".join(f"`{verb} {path}`" for verb, path, _ in self._bindings(method))
            where = "internal" if self._internal(method) else paths
            access = self._access(method)
            needed = _foreign(method).permission if access is None else access.permission
            permission = f"`{needed}`" if needed else ""
            yield f"| [{method.name}](#{method.name.lower()}) | {where} | {permission} |"
        yield ""

    def section(self, method: MethodDescriptor, types: Types, page: str) -> str:
        """Everything about one method, with the fields of its request."""
        lines = [f"## {method.name}\n", f"{self._contracts.comment(method)}\n"]
        if bindings := [] if self._internal(method) else list(self._bindings(method)):
            shown = (f"{verb} {path}" + (f"    body: {body}" if body else "") for verb, path, body in bindings)
            lines.append("```\n" + "\n".join(shown) + "\n```\n")
        lines += [f"- {fact}" for fact in self._facts(method)]
        takes = ("a stream of " if method.client_streaming else "") + types.link(method.input_type, page)
        gives = ("a stream of " if method.server_streaming else "") + types.link(method.output_type, page)
        lines.append(f"- Takes {takes}, answers {gives}\n")
        return "\n".join(lines)

    def _facts(self, method: MethodDescriptor) -> Iterator[str]:
        access = self._access(method)
        yield _whose(_foreign(method)) if access is None else _who(access)
        record = self._contracts.option(method, "tiation.mesh.v1.record")
        if record is not None:
            name = record.DESCRIPTOR.fields_by_name["category"].enum_type.values_by_number[record.category].name
            yield _recorded(name)
        else:
            yield _recorded(options_pb2.Record.Category.Name(_foreign(method).category))
        limit = self._contracts.option(method, "tiation.mesh.v1.timeout")
        streams = method.client_streaming or method.server_streaming
        if limit is not None:
            yield f"At most {limit.ToJsonString()}"
        else:
            yield "No limit of time" if streams else "At most 60s"

    def _bindings(self, method: MethodDescriptor) -> Iterator[tuple[str, str, str]]:
        http = self._contracts.option(method, "google.api.http")
        for rule in [] if http is None else [http, *http.additional_bindings]:
            verb = rule.WhichOneof("pattern")
            yield verb.upper(), getattr(rule, verb), rule.body

    def _internal(self, method: MethodDescriptor) -> bool:
        access = self._access(method)
        return access is not None and access.visibility == _INTERNAL

    def _access(self, method: MethodDescriptor) -> Any | None:  # noqa: ANN401 - a message of a pool of its own
        return self._contracts.option(method, "tiation.mesh.v1.access")


def _who(access: Any) -> str:  # noqa: ANN401
    """Who may call, in a line."""
    callers = " or ".join(f"`{name}`" for name in access.callers)
    if access.visibility == _INTERNAL and not access.permission:
        return f"Internal: called by {callers}" if callers else "Internal"
    if access.anyone:
        return "Needs no token"
    named = access.resource or access.template
    where = "the platform" if access.platform else f"`{named}`" if named else "the caller's tenant"
    line = f"Permission `{access.permission}` on {where}" if access.permission else "Any valid token"
    return f"Internal: called by {callers}. {line}" if access.visibility == _INTERNAL else line


def _foreign(method: MethodDescriptor) -> ForeignMethod:
    """What holds for a method that cannot say it itself."""
    return FOREIGN.get(method.containing_service.full_name, {}).get(method.name, ForeignMethod())


def _whose(foreign: ForeignMethod) -> str:
    if not foreign.permission:
        return "Any valid token"
    where = f"`{foreign.template}`" if foreign.template else "the caller's tenant"
    return f"Permission `{foreign.permission}` on {where}" + (", or on all of the tenant" if foreign.whole else "")


def _recorded(category: str) -> str:
    return "Not recorded" if category == "NONE" else f"Recorded as {category}"
