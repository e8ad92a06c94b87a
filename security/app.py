"""Security's composition root."""

from __future__ import annotations

from tiation.security.v1 import (
    access_pb2_grpc,
    api_key_pb2_grpc,
    binding_pb2_grpc,
    group_pb2_grpc,
    policy_pb2_grpc,
    principal_pb2_grpc,
    record_pb2_grpc,
    role_pb2_grpc,
    tenant_pb2_grpc,
    token_pb2_grpc,
    workload_pb2_grpc,
)

from mesh.contracts import permissions, public_services
from mesh.entry_store import EntryStore
from mesh.service import Mesh, Service
from security.access import Access
from security.api_keys import Pepper, parse_key
from security.bootstrap import (
    OPERATOR_KEY,
    bootstrap,
    issue_front_certificate,
    issue_svid,
    mesh_authority,
    signing_key,
)
from security.directory import Directory, Feed
from security.exchange import ApiKeyExchange
from security.feed import PolicyFeed
from security.permissions import PermissionBook
from security.records import RecordNews
from security.seed import seed
from security.servicers.access import AccessServicer
from security.servicers.api_keys import ApiKeyServicer
from security.servicers.bindings import BindingServicer
from security.servicers.groups import GroupServicer
from security.servicers.policy import PolicyServicer
from security.servicers.principals import PrincipalServicer
from security.servicers.records import RecordServicer
from security.servicers.roles import RoleServicer
from security.servicers.tenants import TenantServicer
from security.servicers.tokens import TokenServicer
from security.servicers.workload import WorkloadServicer
from security.store import PolicyStore, RecordStore

__all__ = ["bootstrap", "build", "issue_front_certificate", "issue_svid"]


async def build(mesh: Mesh) -> Service:
    """Wire the service."""
    home, settings = mesh.state.parent, mesh.settings
    bootstrap(home, settings)
    signing = signing_key(home, settings)
    pepper = Pepper.open(mesh.state / "pepper")
    operator_key = parse_key((home / OPERATOR_KEY).read_text().strip())
    if operator_key is None:
        raise ValueError(f"{home / OPERATOR_KEY} holds no API key; remove it to get a new one")
    rows, policy = EntryStore(), PolicyStore()
    await mesh.database.write(lambda transaction: seed(transaction, rows, policy, operator_key, pepper, signing.jwks))
    feed = PolicyFeed(mesh.database, rows, policy, lambda: signing.jwks)
    book = PermissionBook(permissions())
    directory = Directory(mesh.database, rows, policy, Feed(feed.changed, feed.policy), book)
    exchange = ApiKeyExchange(directory, signing, pepper)
    authority = mesh_authority(home, settings)
    security = settings.security

    news = RecordNews()

    async def drain() -> None:
        feed.close()
        news.close()

    return Service(
        servicers=(
            (tenant_pb2_grpc.add_TenantServiceServicer_to_server, TenantServicer(directory, mesh.pages)),
            (principal_pb2_grpc.add_PrincipalServiceServicer_to_server, PrincipalServicer(directory, mesh.pages)),
            (group_pb2_grpc.add_GroupServiceServicer_to_server, GroupServicer(directory, mesh.pages)),
            (access_pb2_grpc.add_AccessServiceServicer_to_server, AccessServicer(Access(feed.policy, book))),
            (api_key_pb2_grpc.add_ApiKeyServiceServicer_to_server, ApiKeyServicer(directory, mesh.pages, pepper)),
            (role_pb2_grpc.add_RoleServiceServicer_to_server, RoleServicer(directory, mesh.pages)),
            (binding_pb2_grpc.add_BindingServiceServicer_to_server, BindingServicer(directory, mesh.pages)),
            (token_pb2_grpc.add_TokenServiceServicer_to_server, TokenServicer(exchange, security.token_ttl_s)),
            (policy_pb2_grpc.add_PolicyServiceServicer_to_server, PolicyServicer(feed, security.policy_heartbeat_s)),
            (
                workload_pb2_grpc.add_WorkloadServiceServicer_to_server,
                WorkloadServicer(authority, settings.trust_domain, security.svid_ttl_s),
            ),
            (
                record_pb2_grpc.add_RecordServiceServicer_to_server,
                RecordServicer(mesh.database, RecordStore(), mesh.pages, settings.trust_domain, news),
            ),
        ),
        drain=drain,
        reflected=public_services(),
    )
