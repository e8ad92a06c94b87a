"""Names for the shell's completion, asked of the running platform: what does not answer at once completes nothing."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from cli.home import Home

__all__ = ["complete_names"]

_LONGEST_S = 1.5
"""How long a person who presses Tab waits at most."""
_MOST = 200
_EVERY_ROLE = "every role"
"""The tenant's own and the platform's."""
_BY_PARAMETER = {
    "agent": "agents",
    "run": "runs",
    "asking": "runs",
    "decision": "decisions",
    "bandit": "bandits",
    "approval": "approvals",
    "run_or_approval": "approvals",
    "connection": "connections",
    "webhook": "webhooks",
    "model": "models",
    "schedule": "schedules",
    "principal": "principals",
    "group": "groups",
    "role": _EVERY_ROLE,
    "tenant": "tenants",
    "member": "principals",
    "members": "principals",
}
"""What a parameter of this name names, in whichever command."""
_BY_GROUP = {
    "agents": "agents",
    "approvals": "approvals",
    "bandits": "bandits",
    "bindings": "bindings",
    "connections": "connections",
    "decisions": "decisions",
    "groups": "groups",
    "keys": "apiKeys",
    "models": "models",
    "principals": "principals",
    "roles": "roles",
    "schedules": "schedules",
    "tenants": "tenants",
}
"""What a parameter called `name` names, in the commands of a group; not where one is being given."""
_NAMES_ANEW = {"create", "push", "apply"}


class _Name(click.types.StringParamType):
    """A text that completes to the names of a collection."""

    def __init__(self, collection: str) -> None:
        self._collection = collection

    def shell_complete(self, ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that go on from what is there."""
        home, tenant = ctx.params.get("home"), ctx.params.get("tenant") or "default"
        if not isinstance(home, Home):
            return []
        try:
            found = list(_Asked(home, str(tenant)).names(self._collection, incomplete))
        except Exception:  # noqa: BLE001 -- whatever it is, a shell's prompt is no place to say so
            return []
        return [CompletionItem(name) for name in dict.fromkeys(found) if name.startswith(incomplete)][:_MOST]


class _Asked:
    """The platform's REST interface, for a moment.

    Args:
        home: of the platform.
        tenant: whose names they are.
    """

    def __init__(self, home: Home, tenant: str) -> None:
        from cli.client import access_token

        self._home = home
        self._tenant = tenant
        self._url = home.gateway()["url"]
        self._until = time.monotonic() + _LONGEST_S
        self._token = access_token(home, tenant, _LONGEST_S)

    def names(self, collection: str, incomplete: str) -> Iterator[str]:
        """The names as a command takes them."""
        if collection == "tenants":
            yield from self._ids("/v1/tenants", collection)
        elif collection == _EVERY_ROLE:
            for tenant in (self._tenant, "system"):
                yield from self._ids(f"/v1/tenants/{tenant}/roles", "roles")
        elif collection == "runs":
            begun = incomplete.partition("/")[0]
            for agent in self._ids(f"/v1/tenants/{self._tenant}/agents", "agents"):
                if agent.startswith(begun):
                    path = f"/v1/tenants/{self._tenant}/agents/{agent}/runs"
                    yield from (f"{agent}/{run}" for run in self._ids(path, "runs", order_by="create_time desc"))
        else:
            yield from self._ids(f"/v1/tenants/{self._tenant}/{collection}", collection)
            if collection == "models":
                for model in self._ids("/v1/tenants/system/models", collection):
                    yield f"tenants/system/models/{model}"

    def _ids(self, path: str, collection: str, **query: str) -> list[str]:
        import httpx

        left_s = self._until - time.monotonic()
        if left_s <= 0:
            return []
        answer = httpx.get(
            f"{self._url}{path}",
            params={"page_size": str(_MOST), **query},
            headers={"authorization": f"Bearer {self._token}"},
            verify=ssl.create_default_context(cafile=str(self._home.ca)),
            timeout=left_s,
        )
        rows = answer.json().get(collection, []) if answer.status_code == 200 else []
        return [str(row["name"]).rsplit("/", 1)[1] for row in rows]


def complete_names(command: click.Command, group: str = "") -> None:
    """Have every parameter of a command, and of those below it, that names something complete to what there is."""
    if isinstance(command, click.Group):
        below: Mapping[str, Any] = command.commands
        for each in below.values():
            complete_names(each, command.name or "")
        return
    for parameter in command.params:
        collection = _BY_PARAMETER.get(parameter.name or "")
        if parameter.name == "name" and command.name not in _NAMES_ANEW:
            collection = _BY_GROUP.get(group)
        if collection and isinstance(parameter.type, click.types.StringParamType):
            parameter.type = _Name(collection)
