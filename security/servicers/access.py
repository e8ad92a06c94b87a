"""AccessService."""

from __future__ import annotations

from tiation.security.v1 import access_pb2 as pb
from tiation.security.v1 import access_pb2_grpc

from mesh.call import Context
from mesh.identity import current_caller
from mesh.resource import tenant_of
from security.access import Access, Query, RuleSeen

__all__ = ["AccessServicer"]


class AccessServicer(access_pb2_grpc.AccessServiceServicer):
    """Answers questions about the policy.

    Args:
        access: the core.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def CheckAccess(self, request: pb.CheckAccessRequest, _: Context) -> pb.CheckAccessResponse:
        """One answer."""
        queries = [_query(request.query)]
        allowed, revision = await self._access.check(tenant_of(request.parent), queries, current_caller())
        return pb.CheckAccessResponse(allowed=allowed[0], policy_revision=revision)

    async def BatchCheckAccess(self, request: pb.BatchCheckAccessRequest, _: Context) -> pb.BatchCheckAccessResponse:
        """Several answers."""
        queries = [_query(query) for query in request.queries]
        allowed, revision = await self._access.check(tenant_of(request.parent), queries, current_caller())
        return pb.BatchCheckAccessResponse(allowed=allowed, policy_revision=revision)

    async def TestPermissions(self, request: pb.TestPermissionsRequest, _: Context) -> pb.TestPermissionsResponse:
        """What the caller may do itself."""
        has, revision = await self._access.test(current_caller(), request.resource, request.permissions)
        return pb.TestPermissionsResponse(permissions=has, policy_revision=revision)

    async def ExplainAccess(self, request: pb.ExplainAccessRequest, _: Context) -> pb.ExplainAccessResponse:
        """One answer with its reasons."""
        found = await self._access.explain(tenant_of(request.parent), _query(request.query), current_caller())
        return pb.ExplainAccessResponse(
            allowed=found.allowed,
            reason=found.reason,
            rule=_rule(found.rule) if found.rule is not None else None,
            near_misses=[_rule(rule) for rule in found.near],
            policy_revision=found.revision,
        )


def _query(message: pb.AccessQuery) -> Query:
    return Query(message.principal, message.permission, message.resource)


def _rule(rule: RuleSeen) -> pb.AccessRule:
    return pb.AccessRule(
        binding=rule.binding, role=rule.role, resource=rule.resource, group_path=rule.path, lacks=rule.lacks
    )
