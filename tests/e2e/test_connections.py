"""docs/connections.md, walked with the command: a first connection of each kind, and what a mistake looks like."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

import pytest

from tests.fakes.installed import CLONE, EXAMPLE, Installed, installed
from tests.fakes.shop import Shop
from tests.fakes.web import serving

MANIFEST = (CLONE / "examples" / "connections" / "shop.yaml").read_text()
SECRET = "secret-of-the-shop"


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Installed]:
    home = tmp_path_factory.mktemp("connections") / "home"
    with installed(home, TIATION_INTEGRATION__ALLOWED_HOSTS="localhost, 127.0.0.2") as made:
        yield made


@pytest.fixture
def shop(running, tmp_path):
    """The example's manifest, applied to a shop that is really there."""
    shop = Shop()
    with serving(shop) as web:
        file = tmp_path / "shop.yaml"
        file.write_text(MANIFEST.replace("https://shop.example.com", web.url))
        (tmp_path / "secret.txt").write_text(f"{SECRET}\n")
        credentials = ("--credential", "client_id=client", "--credential", f"client_secret=@{tmp_path}/secret.txt")
        said = running.command("connections", "apply", str(file), *credentials)
        assert said.stdout.startswith("tenants/default/connections/shop ")
        yield shop


def invoke(running, *arguments):
    return json.loads(running.command("connections", "invoke", "shop", *arguments).stdout)


def test_the_example_does_what_it_says(running, shop):
    assert "works: localhost answers 200" in running.command("connections", "test", "shop").stdout
    order = json.dumps({"customer": "c/1", "lines": [{"sku": "a", "count": 2}]})
    made = invoke(running, "createOrder", "--input", order, "--key", "k1")
    assert made == {"order": "order-1", "state": "new"}
    assert invoke(running, "createOrder", "--input", order, "--key", "k1") == made
    again = running.json("connections", "invoke", "shop", "createOrder", "--input", order, "--key", "k1")
    assert again == {"output": made, "replayed": True, "attempts": 0}
    for _ in range(4):
        invoke(running, "createOrder", "--input", order)
    listed = invoke(running, "listOrders", "--input", '{"state": "new"}')
    assert [each["order"] for each in listed] == [f"order-{number}" for number in range(1, 6)]
    assert invoke(running, "getOrder", "--input", '{"order": "order-1"}')["customer"] == "c%2F1"
    assert invoke(running, "getOrder", "--input", '{"order": "none"}') is None
    assert len(shop.tokens) == 1


def test_a_busy_shop_is_waited_for(running, shop):
    shop.busy = 2
    assert invoke(running, "listOrders") == []
    assert shop.busy == 0


def test_what_the_shop_refuses_is_said_in_its_words(running, shop):
    order = json.dumps({"customer": "c", "lines": [], "note": "again"})
    said = running.command("connections", "invoke", "shop", "createOrder", "--input", order, check=False)
    assert (said.returncode, said.stderr) == (1, "tiation: the shop has order order-1 already [SYSTEM_REFUSED]\n")
    said = running.command("connections", "invoke", "shop", "getOrder", check=False)
    assert "the input lacks `order`, which the path needs" in said.stderr


def test_a_mistake_in_a_manifest_is_said_with_its_line(running, tmp_path):
    file = tmp_path / "shop.yaml"
    credentials = ("--credential", "client_id=a", "--credential", "client_secret=b")
    for old, new, words in (
        ("kind: oauth2\n", "kind: oauth\n", "line 8: config.auth.kind: `oauth` is not known; did you mean `oauth2`?"),
        ("      method: POST", "      methd: POST", "spec.methd: there is no such setting; did you mean `method`?"),
        ("lines: ${ .lines }", "lines: ${ .lines | }", "operations[0].spec.body.lines: jq program, line 1"),
        ("https://shop.example.com/api", "ftp://shop.example.com/api", "config.base_url: the address must begin with"),
        ("connector: http", "conector: http", "line 4: there is no `conector` here; did you mean `connector`?"),
    ):
        assert old in MANIFEST
        file.write_text(MANIFEST.replace(old, new))
        said = running.command("connections", "apply", str(file), *credentials, check=False)
        assert said.returncode == 1
        assert words in said.stderr, said.stderr
        assert f"{file}, line " in said.stderr
    file.write_text(MANIFEST.replace("name: shop", "name: another-shop"))
    said = running.command("connections", "apply", str(file), "--credential", "client_id=a", check=False)
    assert "credentials.client_secret is missing" in said.stderr


def test_a_place_that_the_operator_has_not_allowed_is_not_reached(running, tmp_path):
    file = tmp_path / "metadata.yaml"
    manifest = "name: metadata\nconnector: http\nconfig: {base_url: 'http://169.254.169.254/latest'}\n"
    file.write_text(manifest)
    running.command("connections", "apply", str(file))
    said = running.command("connections", "test", "metadata", check=False)
    assert said.returncode == 1
    assert "a metadata address, which the operator has not allowed (integration.allowed_hosts" in said.stdout


def test_the_first_sql_connection_works(running):
    running.crm.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = sqlite3.connect(running.crm)
    database.execute("CREATE TABLE tickets (id, message, intent, score, queue, priority, sla_hours)")
    database.close()
    running.command("connections", "apply", str(EXAMPLE / "crm.yaml"))
    assert "works" in running.command("connections", "test", "crm").stdout
    said = running.command("connections", "invoke", "crm", "listTickets").stdout
    assert json.loads(said) == {"rows": [], "row_count": 0}


def test_no_secret_is_in_any_file_of_the_platform(running, shop):
    invoke(running, "listOrders")
    for path in running.home.rglob("*"):
        if path.is_file():
            kept = path.read_bytes()
            assert SECRET.encode() not in kept, path
            assert b"Bearer token-" not in kept, path
