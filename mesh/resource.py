"""Resource names: the patterns that the contracts declare, and how a name is taken apart.

Which resource a request names is read from the request's descriptor in `mesh.methods`, not here.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mesh.errors import InvalidError

__all__ = ["SEGMENT", "fits", "join", "parent_of", "parse_name", "tenant_of"]

SEGMENT = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
"""One id in a name: lower-case letters, digits and hyphens, at most 63 (AIP-122)."""


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = [f"(?P<{part[1:-1]}>{SEGMENT})" if part.startswith("{") else re.escape(part) for part in pattern.split("/")]
    return re.compile("/".join(parts))


def fits(pattern: str, name: str) -> bool:
    """Whether `name` has the form of `pattern`, for example `tenants/{tenant}/agents/{agent}`."""
    return _compiled(pattern).fullmatch(name) is not None


def parse_name(pattern: str, name: str) -> dict[str, str]:
    """The ids in a name, by the pattern's placeholders.

    Raises:
        InvalidError: the name does not have the pattern's form.
    """
    match = _compiled(pattern).fullmatch(name)
    if match is None:
        raise InvalidError("name", f"must look like `{pattern}` with ids of lower-case letters, digits and hyphens")
    return match.groupdict()


def join(*parts: str) -> str:
    """A name from its parts: `join("tenants/default", "agents", "triage")`."""
    return "/".join(parts)


def parent_of(name: str) -> str:
    """The name two parts shorter: the agent of a run, the tenant of an agent; empty above a tenant."""
    return "/".join(name.split("/")[:-2])


def tenant_of(name: str) -> str:
    """The tenant's id in a name; empty when the name is not below a tenant."""
    parts = name.split("/", 2)
    return parts[1] if len(parts) > 1 and parts[0] == "tenants" else ""
