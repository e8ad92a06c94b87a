"""Path templates of google.api.http, taken apart and written as OpenAPI paths.

Methods and bodies are not looked at here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tools.openapi.errors import ContractError

__all__ = ["Parameter", "Path", "parse"]

_VARIABLE = re.compile(r"\{([^{}=]+)(?:=([^{}]+))?\}")
_SEGMENT = re.compile(r"\*\*|\*|[A-Za-z0-9._~-]+")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One `{name}` of an OpenAPI path.

    Attributes:
        name: what stands between the braces, for example `agent`.
        collection: the segment before it, for example `agents`; empty where there is none.
        rest: whether it takes the whole rest of the path (`**`).
    """

    name: str
    collection: str
    rest: bool = False


@dataclass(frozen=True, slots=True)
class Path:
    """One HTTP path.

    Attributes:
        template: as OpenAPI writes it, for example `/v1/tenants/{tenant}/agents/{agent}:undelete`.
        parameters: in the order of the template.
        fields: dotted paths of the request's fields that the path fills, for example `agent.name`.
    """

    template: str
    parameters: tuple[Parameter, ...]
    fields: tuple[str, ...]


def parse(http: str, singulars: Mapping[str, str]) -> Path:
    """Take a template such as `/v1/{name=tenants/*/agents/*}:undelete` apart.

    Args:
        http: the template, by the grammar in google/api/http.proto.
        singulars: what one thing in a collection is called, for example `{"agents": "agent"}`.

    Raises:
        ContractError: not a template, or two parameters of one name.
    """
    fields: list[str] = []
    parameters: list[Parameter] = []

    def replace(match: re.Match[str]) -> str:
        field, pattern = match.group(1), match.group(2) or "*"
        fields.append(field)
        before = http[: match.start()].rstrip("/").rpartition("/")[2]
        parts, found = _expand(pattern, before, field, singulars)
        parameters.extend(found)
        return parts

    template = _VARIABLE.sub(replace, http)
    names = [parameter.name for parameter in parameters]
    if not http.startswith("/") or "*" in template or len(set(names)) != len(names):
        raise ContractError(f"{http!r} cannot be written as an OpenAPI path")
    return Path(template=template, parameters=tuple(parameters), fields=tuple(fields))


def _expand(pattern: str, before: str, field: str, singulars: Mapping[str, str]) -> tuple[str, list[Parameter]]:
    """Give every `*` of one variable's pattern a name: its collection's singular, else the field's own name."""
    segments = pattern.split("/")
    parameters: list[Parameter] = []
    for index, segment in enumerate(segments):
        if not _SEGMENT.fullmatch(segment):
            raise ContractError(f"{pattern!r} is no path pattern: {segment!r} is not a segment")
        if segment not in {"*", "**"}:
            continue
        collection = segments[index - 1] if index else before
        # `{name=tenants/*}` names a resource, `{version}` a plain value: that one keeps the field's name.
        name = field.rpartition(".")[2] if pattern == segment else _singular(collection, singulars)
        parameters.append(Parameter(name, collection, rest=segment == "**"))
        segments[index] = f"{{{name}}}"
    return "/".join(segments), parameters


def _singular(collection: str, singulars: Mapping[str, str]) -> str:
    return singulars.get(collection) or collection.removesuffix("s") or collection
