"""What a manifest may say: everything else is refused by the field's name, with the nearest name that exists."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from alembic import command
from alembic.config import Config
from sqlalchemy import inspect

import integration
from integration.errors import IntegrationError, OperationInvalidError, SystemRefusedError
from tests.fakes.web import peer, reply

BASE = {"base_url": "https://shop.example.com"}
GET = {"path": "/a"}
CLIENT = {"client_id": "a", "client_secret": "b"}
EXAMPLE = Path(__file__).parents[3] / "examples" / "connections" / "shop.yaml"


@pytest.mark.parametrize(
    ("config", "field", "words"),
    [
        ({}, "", "missing required field `base_url`"),
        ({"base_url": 7}, ".base_url", "Expected `str`"),
        ({"base_url": "ftp://a"}, ".base_url", "https:// or http://"),
        ({"base_url": "https://u:p@a"}, ".base_url", "user name or password"),
        ({"base_url": "https://a?x=1"}, ".base_url", "query"),
        ({"base_ulr": "https://a"}, ".base_ulr", "did you mean `base_url`?"),
        (BASE | {"auth": {}}, ".auth.kind", "is missing; known are api_key, basic, bearer, none, oauth2"),
        (BASE | {"auth": {"kind": "barer"}}, ".auth.kind", "did you mean `bearer`?"),
        (BASE | {"auth": {"kind": "basic", "user": "x"}}, ".auth.user", "known are kind"),
        (BASE | {"auth": {"kind": "api_key", "name": "X-Key", "in": "body"}}, ".auth.in", "known are header, query"),
        (BASE | {"auth": {"kind": "api_key", "name": "Host"}}, ".auth.name", "belongs to the connection"),
        (BASE | {"auth": {"kind": "oauth2", "token_url": "file:///x"}}, ".auth.token_url", "https:// or http://"),
        (BASE | {"headers": {"Authorization": "x"}}, ".headers", "`auth` sets it"),
        (BASE | {"headers": {"a b": "x"}}, ".headers", "no name of a header"),
        (BASE | {"limits": {"requests_per_second": 0}}, ".limits.requests_per_second", "> 0"),
        (BASE | {"limits": {"concurrency": 1.5}}, ".limits.concurrency", "Expected `int"),
        (BASE | {"limits": {"requests_per_hour": 5}}, ".limits.requests_per_hour", "did you mean"),
        (BASE | {"errors": [{"as": "refused"}]}, ".errors[0]", "every answer would be an error"),
        (BASE | {"errors": [{"as": "retriable", "status": [500]}]}, ".errors[0].as", "did you mean `retryable`?"),
        (BASE | {"errors": [{"as": "refused", "status": [999]}]}, ".errors[0].status[0]", "<= 599"),
        (BASE | {"errors": [{"as": "refused", "when": ".a"}]}, ".errors[0].when", "must be an expression"),
        (BASE | {"errors": [{"as": "refused", "when": "${ .a | }"}]}, ".errors[0].when", "jq program, line 1"),
        (BASE | {"test": {"path": "/{id}"}}, ".test.path", "placeholders"),
    ],
)
async def test_a_wrong_config_names_its_field(bench, config, field, words):
    with pytest.raises(OperationInvalidError) as caught:
        await bench.connect(config, CLIENT if "oauth2" in str(config) else {})
    assert caught.value.violations[0].field == f"connection.config{field}"
    assert words in caught.value.violations[0].description


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({}, "", "missing required field `path`"),
        (GET | {"methd": "GET"}, ".methd", "did you mean `method`?"),
        (GET | {"method": "get"}, ".method", "did you mean `GET`?"),
        ({"path": "a"}, ".path", "must begin with `/`"),
        ({"path": "/a?b=c"}, ".path", "query"),
        ({"path": "/a/../b"}, ".path", "`..`"),
        ({"path": "/{a-b}"}, ".path", "no placeholder"),
        ({"path": "/{a"}, ".path", "belongs to no placeholder"),
        (GET | {"body": 1}, ".body", "GET has no body"),
        (GET | {"method": "POST", "body": 1, "form": {}}, ".form", "beside `body`"),
        (GET | {"headers": {"Cookie": "x"}}, ".headers", "cannot be set"),
        (GET | {"query": {"a": "${ .a | }"}}, ".query.a", "jq program, line 1"),
        (GET | {"query": {"a": "${ env }"}}, ".query.a", "not available"),
        (GET | {"expect": ["ok"]}, ".expect[0]", "Expected `int"),
        (GET | {"paging": {"kind": "pages"}}, ".paging.kind", "did you mean `page`?"),
        (GET | {"paging": {"kind": "offset"}}, ".paging", "missing required field `size`"),
        (GET | {"paging": {"kind": "cursor", "next": ".a"}}, ".paging.next", "must be an expression"),
        (GET | {"paging": {"kind": "link", "max_pages": 10_000}}, ".paging.max_pages", "<= 1000"),
        (GET | {"paging": {"kind": "link"}, "response": "full"}, ".response", "cannot be `full`"),
    ],
)
async def test_a_wrong_operation_names_its_field(bench, spec, field, words):
    with pytest.raises(OperationInvalidError) as caught:
        await bench.connect(BASE, right=GET, wrong=spec)
    assert caught.value.violations[0].field == f"connection.operations[1].spec{field}"
    assert words in caught.value.violations[0].description


async def test_the_example_is_a_manifest(bench):
    document = yaml.safe_load(EXAMPLE.read_text())
    operations = {each["operationId"]: each["spec"] for each in document["operations"]}
    await bench.connect(document["config"], CLIENT, **operations)


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\0b", {"a": 1}, ["a"]])
async def test_a_value_that_would_be_more_than_a_header_is_refused(bench, value):
    async with peer(lambda _: reply()) as shop:
        entry = await bench.connect({"base_url": shop.url}, get={"path": "/a", "headers": {"x-note": "${ .note }"}})
        with pytest.raises(SystemRefusedError, match="header"):
            await bench.invoke(entry, "get", {"note": value})
        assert not shop.asked


async def test_an_expression_with_several_outputs_is_refused_and_one_without_is_null(bench):
    async with peer(lambda asked: reply(asked.json)) as shop:
        entry = await bench.connect(
            {"base_url": shop.url},
            put={"method": "PUT", "path": "/a", "body": {"x": "${ .x[] } ", "y": "${ empty }", "z": "no ${ .x }"}},
        )
        with pytest.raises(IntegrationError, match="several outputs"):
            await bench.invoke(entry, "put", {"x": [1, 2]})
        assert (await bench.invoke(entry, "put", {"x": [1]})).output == {"x": 1, "y": None, "z": "no ${ .x }"}


async def test_the_migration_goes_back_as_it_came(database):
    tables = {"access_tokens", "effects", "rate_limits"}

    def there(connection):
        return tables & set(inspect(connection).get_table_names())

    assert await database.read(there) == tables
    config = Config()
    config.set_main_option("script_location", str(Path(integration.__path__[0]).parent / "mesh" / "migrations"))
    config.set_main_option("version_locations", str(Path(integration.__path__[0]) / "migrations" / "versions"))
    config.set_main_option("path_separator", "os")
    with database.engine.begin() as connection:
        config.attributes |= {"connection": connection, "version_table": "alembic_version"}
        command.downgrade(config, "base")
    assert await database.read(there) == set()
