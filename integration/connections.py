"""Connections: what is kept of them, and what makes one valid.

Calls through them are `integration.invoke`; how a system is spoken to is a connector's.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from integration.errors import ConnectorUnknownError
from integration.ports import Connector
from integration.strict import invalid
from mesh.errors import InvalidError
from mesh.resource import tenant_of
from mesh.sandbox import SandboxError, SandboxPool

__all__ = ["Connection", "ConnectionRules", "Operation", "Retry"]

DEFAULT_TIMEOUT_S = 10.0


class Operation(msgspec.Struct, frozen=True):
    """Something that may be asked of a connection.

    Attributes:
        operation_id: its id within the connection.
        spec: what the connector needs to know.
        effect: `NONE`, `IDEMPOTENT` or `UNSAFE`.
        input: a jq program from what the caller sends to what the connector takes; empty for as it is.
        output: a jq program from what the connector returns to the answer; empty for as it is.
        timeout_s: the longest that one attempt may take.
    """

    operation_id: str
    spec: dict[str, object]
    effect: str = "UNSAFE"
    input: str = ""
    output: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S


class Retry(msgspec.Struct, frozen=True):
    """How calls are tried again."""

    max_attempts: int = 3
    initial_backoff_s: float = 0.1
    max_backoff_s: float = 5.0


class Connection(msgspec.Struct, frozen=True):
    """A system with what it takes to reach it.

    Attributes:
        connector: which connector speaks to it.
        config: the connector's settings.
        sealed: the credentials, encrypted; empty where there are none.
        credential_names: which credentials are set.
        operations: what may be asked.
        retry: how calls are tried again.
    """

    connector: str
    config: dict[str, object]
    sealed: str = ""
    credential_names: tuple[str, ...] = ()
    operations: tuple[Operation, ...] = ()
    retry: Retry = Retry()

    def operation(self, operation_id: str) -> Operation | None:
        """The operation of that id."""
        return next((each for each in self.operations if each.operation_id == operation_id), None)


class ConnectionRules:
    """Checks connections before they are kept.

    Args:
        connectors: by name.
        sandbox: compiles jq programs.
    """

    def __init__(self, connectors: dict[str, Connector], sandbox: SandboxPool) -> None:
        self._connectors = connectors
        self._sandbox = sandbox

    def connector(self, name: str) -> Connector:
        """The connector of that name.

        Raises:
            ConnectorUnknownError: there is none.
        """
        connector = self._connectors.get(name)
        if connector is None:
            known = ", ".join(sorted(self._connectors))
            raise ConnectorUnknownError(f"there is no connector `{name}`; known are {known}", connector=name)
        return connector

    async def check(self, name: str, connection: Connection, credentials: dict[str, str]) -> None:
        """Refuse a connection that cannot work.

        Raises:
            IntegrationError: the connector, its settings or an operation are wrong.
            InvalidError: two operations have one id.
        """
        connector = self.connector(connection.connector)
        connector.check(name, connection.config, credentials)
        specs: dict[str, Mapping[str, object]] = {}
        seen: set[str] = set()
        for at, operation in enumerate(connection.operations):
            field = f"connection.operations[{at}]"
            if operation.operation_id in seen:
                raise InvalidError(f"{field}.operation_id", f"`{operation.operation_id}` is there twice")
            seen.add(operation.operation_id)
            connector.check_operation(operation.spec, field)
            specs[f"{field}.spec"] = operation.spec
            for part, program in (("input", operation.input), ("output", operation.output)):
                await self._compile(program, f"{field}.{part}", owner=tenant_of(name))
        for where, program in connector.programs(connection.config, specs):
            await self._compile(program, where, owner=tenant_of(name))

    async def _compile(self, program: str, field: str, *, owner: str) -> None:
        if not program:
            return
        try:
            await self._sandbox.compile_jq(program, owner=owner)
        except SandboxError as error:
            refused = invalid(field, error.message)
            refused.metadata |= error.metadata
            raise refused from None
