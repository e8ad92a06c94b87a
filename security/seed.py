"""What every platform begins with: two tenants, five roles, and the operator whose key lies in the home."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from uuid import NAMESPACE_URL, uuid4, uuid5

from mesh.db import Transaction
from mesh.entries import Body, Entry
from mesh.entry_store import EntryStore
from mesh.identity import SYSTEM_TENANT
from mesh.policy import PLATFORM
from security.api_keys import OPERATOR_KEY_ID, KeyText, Pepper
from security.changes import REVOCATION, Change
from security.entries import ApiKey, Binding, Principal, Role, Tenant, TokenKeys
from security.ports import PolicyRows

__all__ = ["seed"]

_SYSTEM = f"{PLATFORM}/{SYSTEM_TENANT}"
_OPERATOR = f"{_SYSTEM}/principals/operator"
_PROGRAM = 2
"""Number of `Principal.PROGRAM` in the contract."""

_LOOK = (
    *(
        f"{service}.*.{verb}"
        for service in ("engine", "orchestrator", "integration", "analytics")
        for verb in ("get", "list")
    ),
    "analytics.metrics.query",
    *(f"security.{kind}.{verb}" for kind in ("roles", "tenants") for verb in ("get", "list")),
    "security.access.test",
)
_RUN = (
    "engine.models.infer", "engine.models.load", "engine.decisions.decide", "engine.decisions.test",
    "engine.rankings.rank", "engine.bandits.choose", "engine.bandits.reward", "orchestrator.runs.*",
    "integration.connections.test", "integration.connections.invoke", "integration.fetches.create",
)  # fmt: skip
_ROLES = {
    "admin": Role("Administrator", "Everything in the tenant.", ("*",)),
    "developer": Role(
        "Developer",
        "Builds and runs agents, models, decisions and connections.",
        (*_LOOK, "engine.*.*", "orchestrator.*.*", "integration.*.*", "analytics.*.*"),
    ),
    "operator": Role(
        "Operator", "Runs agents and keeps them running; changes nothing that was built.", (*_LOOK, *_RUN)
    ),
    "auditor": Role(
        "Auditor",
        "Reads everything, the records included, and asks who may do what.",
        ("*.*.get", "*.*.list", "security.access.*", "analytics.metrics.*"),
    ),
    "viewer": Role("Viewer", "Reads agents, runs, models, decisions, connections and figures.", _LOOK),
}


def seed(
    transaction: Transaction, rows: EntryStore, policy: PolicyRows, operator_key: KeyText, pepper: Pepper, jwks: str
) -> None:
    """Add whatever of it is missing; bring roles and keys up to date.

    Other public keys than before make a revision of the policy, or no service would take them.
    """
    wanted: list[tuple[str, Tenant | Principal | ApiKey | Role | Binding | TokenKeys]] = [
        (f"{_SYSTEM}/tokenKeys/current", TokenKeys(sha256(jwks.encode()).hexdigest())),
        (_SYSTEM, Tenant("The platform")),
        (f"{PLATFORM}/default", Tenant("Default")),
        *((f"{_SYSTEM}/roles/{role_id}", role) for role_id, role in _ROLES.items()),
        (_OPERATOR, Principal(_PROGRAM, "The platform's operator")),
        (f"{_SYSTEM}/bindings/operator", Binding(_OPERATOR, f"{_SYSTEM}/roles/admin", PLATFORM)),
        (
            f"{_SYSTEM}/apiKeys/{OPERATOR_KEY_ID}",
            ApiKey(_OPERATOR, pepper.digest(operator_key), "operator.key in the platform's home"),
        ),
    ]
    for name, body in wanted:
        if isinstance(body, ApiKey):
            _put_key(transaction, rows, policy, name, body)
        elif _put(transaction, rows, name, body):
            policy.new_policy_revision(transaction, Change(type(body).__name__, name))


def _put(transaction: Transaction, rows: EntryStore, name: str, body: Body) -> bool:
    """Add an entry, or replace what the platform itself says of it; true if anything changed."""
    current = rows.get(transaction, type(body), name)
    now = datetime.now(UTC)
    if current is None:
        rows.add(transaction, Entry(name, str(uuid5(NAMESPACE_URL, name)), 1, now, now, body))
        return True
    if current.body == body or not isinstance(body, Role | TokenKeys):
        return False
    entry = Entry(name, current.uid, current.revision + 1, current.create_time, now, body, current.labels)
    return rows.replace(transaction, entry, current.revision)


def _put_key(transaction: Transaction, rows: EntryStore, policy: PolicyRows, name: str, body: ApiKey) -> None:
    """Keep the operator's key; where it is another one than before, the old one's tokens are refused from now on."""
    current = rows.get(transaction, ApiKey, name)
    if current is not None and current.body == body:
        return
    now = datetime.now(UTC)
    if current is not None:
        rows.bury(transaction, ApiKey, name, forever=False)
        policy.revoke(transaction, current.uid, now.timestamp())
        policy.new_policy_revision(transaction, Change(REVOCATION, current.uid))
    rows.add(transaction, Entry(name, str(uuid4()), 1, now, now, body))
