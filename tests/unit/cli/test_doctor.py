"""The doctor on databases, certificates and figures: each thing that is wrong is found, with what to do about it."""

from __future__ import annotations

import asyncio
import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cli.doctor.database import look_at_databases
from cli.doctor.finding import BAD, GOOD, UNSURE, Finding
from cli.doctor.platform import _could_start, _figures
from cli.doctor.state import look_at_home
from cli.gateway.sds import write_front
from cli.home import Home
from cli.schemas import migration_sets
from mesh.config import SERVICES, EngineSettings, Settings, load_settings
from mesh.db import await_database, open_database
from mesh.migrate import migrate
from tests.fakes.redis import redis_server


def settings_for(url: str, **others: object) -> Settings:
    return msgspec.structs.replace(Settings(), database=url, **others)


def by_what(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


@pytest.fixture
def home(tmp_path) -> Home:
    (tmp_path / "home" / "security").mkdir(parents=True)
    return Home(tmp_path / "home")


def made(url: str, *services: str) -> None:
    """Make the tables of services as they do at their start."""
    for service in services:
        await_database(url, lambda _: None, schema=service)
        database = open_database(url, schema=service)
        for _, versions, table in migration_sets(service):
            migrate(database.engine, versions, version_table=table)
        asyncio.run(database.close())


def test_a_database_that_does_not_answer_is_said_without_its_password(home: Home):
    found = by_what(look_at_databases(home, settings_for("postgresql://u:hidden@127.0.0.1:1/x")))
    assert set(found) == {"PostgreSQL"}
    assert found["PostgreSQL"].state == BAD
    assert "x on 127.0.0.1:1 does not answer" in found["PostgreSQL"].detail
    assert "hidden" not in str(found)


def test_a_server_that_works_is_said_with_version_schemas_and_clock(home: Home, postgres):
    url = postgres.make_database("looked_at")
    made(url, "engine", "security")
    with postgres.connect("looked_at") as connection:
        connection.execute("INSERT INTO engine.call_records (record) SELECT 'r' FROM generate_series(1, 3)")
        found = by_what(look_at_databases(home, settings_for(url)))
        assert {finding.state for finding in found.values()} == {GOOD}
        assert set(found) == {"PostgreSQL", "clock", "schemas", "records waiting"}
        assert found["records waiting"].detail == "engine 3"
        connection.execute("UPDATE security.alembic_version SET version_num = 'security_0001'")
        lagging = by_what(look_at_databases(home, settings_for(url)))["schemas"]
        assert (lagging.state, lagging.detail) == (UNSURE, "older than this release's: security/security")
        connection.execute("UPDATE security.alembic_version SET version_num = 'security_0999'")
        newer = by_what(look_at_databases(home, settings_for(url)))["schemas"]
        assert newer.state == BAD
        assert "a newer one made it" in newer.detail


def test_records_that_pile_up_are_to_be_seen_to(home: Home, postgres):
    url = postgres.make_database("looked_at")
    made(url, "engine")
    with postgres.connect("looked_at") as connection:
        connection.execute("INSERT INTO engine.call_records (record) SELECT 'r' FROM generate_series(1, 10001)")
    found = by_what(look_at_databases(home, settings_for(url)))["records waiting"]
    assert (found.state, found.detail) == (UNSURE, "engine 10001")


def test_a_user_who_may_not_make_tables_is_found(home: Home, postgres):
    postgres.make_database("looked_at")
    with postgres.connect("looked_at") as connection:
        connection.execute("DROP ROLE IF EXISTS visitor")
        connection.execute("CREATE ROLE visitor LOGIN PASSWORD 'v'")
    visitor = f"postgresql://visitor:v@127.0.0.1:{postgres.port}/looked_at"
    found = by_what(look_at_databases(home, settings_for(visitor)))["PostgreSQL"]
    assert found.state == BAD
    assert all(service in found.detail for service in SERVICES)
    assert "GRANT CREATE" in found.remedy


def test_clocks_that_are_apart_are_found(home: Home, postgres):
    """The server's clock goes an hour before: a function of that name comes first on the way to the real one."""
    url = postgres.make_database("looked_at")
    with postgres.connect("looked_at") as connection:
        connection.execute(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            "$$SELECT pg_catalog.clock_timestamp() + interval '1 hour'$$"
        )
    ahead = settings_for(f"{url}?options=-csearch_path%3Dpublic,pg_catalog")
    found = by_what(look_at_databases(home, ahead))["clock"]
    assert found.state == UNSURE
    assert "3600." in found.detail or "3599." in found.detail


def test_a_home_on_sqlite_is_asked_for_its_schemas(home: Home):
    (home.path / "engine").mkdir()
    made(f"sqlite:///{home.path}/engine/engine.db", "engine")
    found = by_what(look_at_databases(home, Settings()))
    assert {what: finding.state for what, finding in found.items()} == {"schemas": GOOD, "records waiting": GOOD}


@contextmanager
def figures(text: str) -> Iterator[dict]:
    """Something that shows figures; yields what `gateway.json` would say of it."""

    class Shown(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Shown) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield {"services": {"orchestrator": {"metrics": f"http://127.0.0.1:{server.server_port}/metrics"}}}
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("text", "what", "state", "said"),
    [
        ("tiation_record_failures_total 3.0\n", "records", BAD, "3 calls were refused"),
        ("tiation_record_failures_total 0.0\n", "records", GOOD, ""),
        ('tiation_runs_dead_lettered{agent="a"} 2.0\n', "dead letters", UNSURE, "2 runs were given up, 2 of them of a"),
        ('tiation_runs_dead_lettered{agent="a"} 0.0\n', "dead letters", GOOD, ""),
        ("tiation_policy_unheard_seconds 31.5\n", "policy", BAD, "orchestrator for 32 s"),
        ("tiation_policy_unheard_seconds 29.0\n", "policy", GOOD, ""),
    ],
)
def test_what_the_services_figures_say_is_told(text, what, state, said):
    with figures(text) as gateway:
        found = by_what(_figures(gateway, Settings()))
    assert found[what].state == state
    assert said in found[what].detail
    assert (not found[what].remedy) == (state == GOOD)


def a_certificate(ends: datetime) -> dict[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "front")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(ends - timedelta(hours=2)).not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "certificate_chain": made.public_bytes(serialization.Encoding.PEM).decode(),
        "private_key": private.decode(),
    }


def about_front(home: Home, settings: Settings) -> list[str]:
    return [finding.detail for finding in look_at_home(home, settings) if finding.what == "front certificate"]


def test_a_front_certificate_that_has_ended_is_found_while_the_platform_runs(home: Home):
    write_front(home.path / "gateway", a_certificate(datetime.now(UTC) - timedelta(minutes=1)))
    assert about_front(home, Settings()) == []
    holding = home.hold()
    try:
        assert about_front(home, Settings()) == ["that for clients has ended", "none for services can be read"]
        write_front(home.path / "gateway", a_certificate(datetime.now(UTC) + timedelta(minutes=1)))
        assert about_front(home, Settings()) == ["none for services can be read"]
    finally:
        os.close(holding)


def test_every_process_is_looked_at_analytics_and_replicas_too(home: Home):
    (home.path / "tiation.yaml").write_text(
        "database: postgresql://u:p@127.0.0.1:1/x\nengine: {replicas: 2}\norchestrator: {replicas: 3}\n"
    )
    holding = home.hold()
    try:
        found = [f.detail for f in look_at_home(home, load_settings(home.path, {})) if f.what == "certificate"]
    finally:
        os.close(holding)
    processes = (*SERVICES, "engine-2", "orchestrator-2", "orchestrator-3")
    assert sorted(found) == sorted(f"{name} has none that can be read" for name in processes)


def test_copies_from_before_an_upgrade_are_shown(home: Home):
    (home.path / "before-upgrade-x").mkdir()
    found = by_what(look_at_home(home, Settings()))["leftovers"]
    assert (found.state, Path(found.detail).name) == (UNSURE, "copies from before an upgrade: before-upgrade-x")


def test_what_a_backup_copies_just_now_is_not_looked_at(home: Home):
    (home.path / ".scratch-x").mkdir()
    (home.path / ".scratch-x" / "copy.db").write_bytes(b"SQLite format 3\x00" + b"half")
    (home.path / ".scratch-x" / "copy.db").chmod(0o644)
    found = by_what(look_at_home(home, Settings()))
    assert "database" not in found
    assert ".scratch-x" not in found["who may read"].detail


def test_a_platform_that_was_ended_from_outside_is_wrong_and_one_that_was_stopped_is_not(home: Home):
    assert "platform" not in by_what(_could_start(home, Settings()))
    home.gateway_file.write_text("{}")  # what an orderly stop removes
    found = by_what(_could_start(home, Settings()))["platform"]
    assert (found.state, "tiation up" in found.remedy) == (BAD, True)


def test_a_redis_that_is_away_is_seen_to_and_its_password_is_not_shown(home: Home):
    def found(url: str) -> Finding:
        settings = msgspec.structs.replace(Settings(), engine=EngineSettings(cache_redis=url))
        return by_what(look_at_databases(home, settings))["Redis"]

    with redis_server() as server:
        assert (found(server.url).state, found(server.url).detail) == (GOOD, f"127.0.0.1:{server.port} answers")
        wrong = found(f"redis://:hidden@127.0.0.1:{server.port}/0")
        assert (wrong.state, "does not take the password" in wrong.detail) == (UNSURE, True)
        url = server.url
    away = found(url)
    assert (away.state, away.detail) == (UNSURE, f"127.0.0.1:{server.port} does not answer (ConnectionError)")
    assert "requests are answered" in away.remedy
    nonsense = found("http://:hidden@x")
    assert nonsense.state == BAD
    assert "hidden" not in f"{wrong}{away}{nonsense}"
