"""Resource names, page tokens, etags and update masks."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st
from tiation.security.v1.tenant_pb2 import Tenant

from mesh.errors import InvalidError
from mesh.etag import StaleEtagError, check_etag, etag_of
from mesh.masks import masked_fields
from mesh.pagination import Page, Pages
from mesh.resource import fits, parent_of, parse_name, tenant_of

AGENT = "tenants/{tenant}/agents/{agent}"


def test_a_name_is_taken_apart_by_its_pattern():
    assert parse_name(AGENT, "tenants/default/agents/triage") == {"tenant": "default", "agent": "triage"}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "tenants/default/agents/",
        "tenants/Default/agents/a",
        "tenants/a/agents/b/c",
        "tenants/../agents/b",
        "tenants/a/agents/b\n",
        "tenants/a/agents/" + "b" * 64,
        "tenants/a/agents/-b",
        "tenants/a%2fb/agents/c",
    ],
)
def test_a_malformed_name_fits_nothing(name):
    assert not fits(AGENT, name)


def test_parents_and_tenants_of_names():
    assert parent_of("tenants/a/agents/b/runs/c") == "tenants/a/agents/b"
    assert tenant_of("tenants/a/agents/b") == "a"
    assert tenant_of("elsewhere/a") == ""


@given(st.text(min_size=1, max_size=50), st.integers(0, 5000))
def test_a_token_leads_back_to_its_cursor(cursor, size):
    pages = Pages(b"k")
    page = pages.start(["list", "p"], size, pages.token(["list", "p"], cursor))
    assert page.cursor == cursor
    assert 1 <= page.limit <= 1000


@given(st.text(max_size=80))
def test_a_made_up_token_is_refused(token):
    if token:
        with pytest.raises(InvalidError):
            Pages(b"k").start(["list"], 0, token)


def test_a_token_of_another_list_or_another_secret_is_refused():
    token = Pages(b"k").token(["a", "b"], "c")
    for pages, bound in ((Pages(b"k"), ["ab", ""]), (Pages(b"other"), ["a", "b"])):
        with pytest.raises(InvalidError, match="page_token"):
            pages.start(bound, 0, token)


def test_a_page_is_cut_and_the_last_one_has_no_token():
    pages = Pages(b"k")
    kept, token = pages.cut(["l"], Page(2, None), [1, 2, 3], ["1", "2", "3"])
    assert kept == [1, 2]
    assert pages.start(["l"], 2, token).cursor == "2"
    assert pages.cut(["l"], Page(2, None), [1, 2], ["1", "2"]) == ([1, 2], "")


def test_a_negative_page_size_is_refused():
    with pytest.raises(InvalidError, match="page_size"):
        Pages(b"k").start(["l"], -1, "")


def test_a_stale_etag_is_refused_and_an_absent_one_is_not():
    check_etag("", etag_of(1), "x")
    check_etag(etag_of(1), etag_of(1), "x")
    with pytest.raises(StaleEtagError):
        check_etag(etag_of(1), etag_of(2), "x")


def test_masks_name_what_changes():
    tenant = Tenant(name="tenants/a", display_name="A")
    assert masked_fields(tenant, FieldMask(), {"display_name", "labels"}) == {"display_name"}
    assert masked_fields(tenant, FieldMask(paths=["*"]), {"display_name", "labels"}) == {"display_name", "labels"}
    with pytest.raises(InvalidError, match="uid"):
        masked_fields(tenant, FieldMask(paths=["uid"]), {"display_name"})
