"""WorkloadService."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tiation.security.v1 import workload_pb2 as pb
from tiation.security.v1 import workload_pb2_grpc

from mesh.call import Context
from mesh.identity import current_caller, workload_of
from mesh.shelf import timestamp
from security.authority import Authority, public_key_of

__all__ = ["WorkloadServicer"]


class WorkloadServicer(workload_pb2_grpc.WorkloadServiceServicer):
    """Renews certificates.

    Args:
        authority: the mesh's authority.
        trust_domain: its SPIFFE trust domain.
        ttl_s: how long a certificate lives.
    """

    def __init__(self, authority: Authority, trust_domain: str, ttl_s: float) -> None:
        self._authority = authority
        self._trust_domain = trust_domain
        self._ttl_s = ttl_s

    async def RenewSvid(self, request: pb.RenewSvidRequest, _: Context) -> pb.RenewSvidResponse:
        """A new certificate for the one who shows a valid one."""
        service = workload_of(current_caller().peer, self._trust_domain)
        end = datetime.now(UTC) + timedelta(seconds=self._ttl_s)
        chain = self._authority.issue_svid(
            public_key_of(request.csr), trust_domain=self._trust_domain, service=service, ttl_s=self._ttl_s
        )
        return pb.RenewSvidResponse(
            certificate_chain=chain, trust_bundle=self._authority.bundle, expire_time=timestamp(end)
        )
