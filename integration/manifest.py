"""What a connection of the `http` connector says: where the system is, how to prove who is asking, what may be asked.

The text of the manifest is the connection's `config` and each operation's `spec`; this module knows their form and
refuses what cannot work. How requests are made of it is `integration.adapters.http`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from integration.errors import CredentialUnknownError
from integration.strict import Strict, invalid, read_strictly
from integration.templates import program_in, programs_in

__all__ = [
    "ApiKeyAuth", "Auth", "BasicAuth", "BearerAuth", "CursorPaging", "ErrorRule", "HttpConfig", "HttpSpec",
    "LinkPaging", "NoAuth", "OAuth2Auth", "OffsetPaging", "PagePaging", "Paging", "RateLimits", "check_credentials",
    "placeholders", "programs_of", "read_config", "read_spec",
]  # fmt: skip

MAX_BYTES = 4 * 1024 * 1024
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%{}-]*)*")
_RESERVED = frozenset(
    {"authorization", "cookie", "host", "content-length", "transfer-encoding", "connection", "upgrade"}
)

Status: TypeAlias = Annotated[int, Meta(ge=100, le=599)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
Count: TypeAlias = Annotated[int, Meta(ge=1)]


class NoAuth(Strict, tag="none", tag_field="kind", frozen=True, kw_only=True):
    """Nobody is asked."""


class BasicAuth(Strict, tag="basic", tag_field="kind", frozen=True, kw_only=True):
    """User name and password (RFC 7617); credentials `username`, `password`."""


class BearerAuth(Strict, tag="bearer", tag_field="kind", frozen=True, kw_only=True):
    """A fixed token (RFC 6750); credential `token`."""


class ApiKeyAuth(Strict, tag="api_key", tag_field="kind", frozen=True, kw_only=True):
    """A key in a header or the query; credential `key`."""

    name: Name
    place: Literal["header", "query"] = msgspec.field(name="in", default="header")
    prefix: Annotated[str, Meta(max_length=64)] = ""


class OAuth2Auth(Strict, tag="oauth2", tag_field="kind", frozen=True, kw_only=True):
    """OAuth 2 client credentials (RFC 6749, 4.4); credentials `client_id`, `client_secret`."""

    token_url: str
    client_authentication: Literal["basic", "post"] = "basic"
    scope: Annotated[str, Meta(max_length=2048)] = ""
    audience: Annotated[str, Meta(max_length=2048)] = ""


Auth: TypeAlias = NoAuth | BasicAuth | BearerAuth | ApiKeyAuth | OAuth2Auth
_CREDENTIALS: Mapping[type, tuple[str, ...]] = {
    NoAuth: (),
    BasicAuth: ("username", "password"),
    BearerAuth: ("token",),
    ApiKeyAuth: ("key",),
    OAuth2Auth: ("client_id", "client_secret"),
}


class RateLimits(Strict, frozen=True, kw_only=True):
    """How much the system may be asked."""

    requests_per_second: Annotated[float, Meta(gt=0, le=10_000)] | None = None
    requests_per_minute: Annotated[float, Meta(gt=0, le=600_000)] | None = None
    concurrency: Annotated[int, Meta(ge=1, le=1000)] | None = None
    max_response_bytes: Annotated[int, Meta(ge=1, le=MAX_BYTES)] = 1024 * 1024


class ErrorRule(Strict, frozen=True, kw_only=True):
    """What an answer means: the first rule that fits decides."""

    meaning: Literal["retryable", "refused", "rate_limited"] = msgspec.field(name="as")
    status: tuple[Status, ...] = ()
    when: str = ""
    message: str = ""
    retry_after: str = ""


class _Paging(Strict, frozen=True, kw_only=True):
    """What all ways of paging have."""

    items: str = "${ .body }"
    returns: Literal["all", "page"] = "all"
    cursor: str = "${ .cursor? }"
    max_pages: Annotated[int, Meta(ge=1, le=1000)] = 100
    max_items: Annotated[int, Meta(ge=1, le=100_000)] = 10_000


class PagePaging(_Paging, tag="page", tag_field="kind", frozen=True, kw_only=True):
    """Pages by number."""

    parameter: Name = "page"
    start: Annotated[int, Meta(ge=0)] = 1
    size: Count | None = None
    size_parameter: Name = "per_page"
    more: str = ""


class OffsetPaging(_Paging, tag="offset", tag_field="kind", frozen=True, kw_only=True):
    """Pages by the number of items before them."""

    parameter: Name = "offset"
    size: Count
    size_parameter: Name = "limit"
    more: str = ""


class CursorPaging(_Paging, tag="cursor", tag_field="kind", frozen=True, kw_only=True):
    """Pages by what the page before says."""

    next: str
    parameter: Name = "cursor"


class LinkPaging(_Paging, tag="link", tag_field="kind", frozen=True, kw_only=True):
    """Pages by the `Link` header (RFC 8288), relation `next`."""


Paging: TypeAlias = PagePaging | OffsetPaging | CursorPaging | LinkPaging


class TestRequest(Strict, frozen=True, kw_only=True):
    """What `connections test` asks for."""

    __test__ = False  # no test of ours
    path: str = ""
    expect: tuple[Status, ...] = ()


class HttpConfig(Strict, frozen=True, kw_only=True):
    """A connection's `config`."""

    base_url: str
    auth: Auth = NoAuth()
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    ca: str = ""
    follow_redirects: bool = False
    idempotency_header: Name = "Idempotency-Key"
    limits: RateLimits = RateLimits()
    errors: tuple[ErrorRule, ...] = ()
    test: TestRequest = TestRequest()
    trace: bool = False


class HttpSpec(Strict, frozen=True, kw_only=True):
    """An operation's `spec`."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    path: str
    query: dict[str, Any] = msgspec.field(default_factory=dict)
    headers: dict[str, Any] = msgspec.field(default_factory=dict)
    body: Any = msgspec.UNSET
    form: Any = msgspec.UNSET
    expect: tuple[Status, ...] = ()
    errors: tuple[ErrorRule, ...] = ()
    response: Literal["body", "full"] = "body"
    paging: Paging | None = None


def read_config(values: Mapping[str, object]) -> HttpConfig:
    """A connection's `config`.

    Raises:
        OperationInvalidError: naming the field.
    """
    field = "connection.config"
    config = read_strictly(HttpConfig, values, field)
    if "?" in config.base_url or "#" in config.base_url:
        raise invalid(f"{field}.base_url", "must end with the path; put the query into the operations")
    _check_header_names(config.headers, f"{field}.headers")
    if isinstance(config.auth, ApiKeyAuth) and config.auth.place == "header":
        _check_header_names({config.auth.name: ""}, f"{field}.auth.name", taken=_RESERVED - {"authorization", "cookie"})
    _check_rules(config.errors, f"{field}.errors")
    if config.test.path:
        _check_path(config.test.path, f"{field}.test.path", placeholders_too=False)
    return config


def read_spec(values: Mapping[str, object], field: str) -> HttpSpec:
    """An operation's `spec`.

    Raises:
        OperationInvalidError: naming the field.
    """
    spec = read_strictly(HttpSpec, values, field)
    _check_path(spec.path, f"{field}.path", placeholders_too=True)
    _check_header_names(spec.headers, f"{field}.headers")
    if spec.body is not msgspec.UNSET and spec.form is not msgspec.UNSET:
        raise invalid(f"{field}.form", "cannot be there beside `body`; leave one of them out")
    if spec.method in ("GET", "HEAD") and (spec.body is not msgspec.UNSET or spec.form is not msgspec.UNSET):
        raise invalid(f"{field}.body", f"{spec.method} has no body; use `query`, or another method")
    _check_rules(spec.errors, f"{field}.errors")
    for name in ("items", "next", "more", "cursor"):
        _check_expression(getattr(spec.paging, name, ""), f"{field}.paging.{name}")
    if spec.paging is not None and spec.response == "full":
        raise invalid(f"{field}.response", "cannot be `full` where there are pages; their items are the answer")
    return spec


def check_credentials(auth: Auth, credentials: Mapping[str, str]) -> None:
    """Refuse credentials that are missing, or that nobody needs.

    Raises:
        CredentialUnknownError: naming it.
    """
    needed = _CREDENTIALS[type(auth)]
    for name in credentials:
        if name not in needed:
            kind = type(auth).__struct_config__.tag
            raise CredentialUnknownError(
                f"auth of the kind `{kind}` has no use for a credential `{name}`; "
                f"it knows {', '.join(needed) or 'none'}", name=name,
            )  # fmt: skip
    for name in needed:
        if not credentials.get(name):
            raise CredentialUnknownError(f"credentials.{name} is missing; auth needs {' and '.join(needed)}", name=name)


def placeholders(path: str) -> list[str]:
    """The names in `{…}` of a path."""
    return _PLACEHOLDER.findall(path)


def programs_of(config: Mapping[str, object], specs: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, str]]:
    """Every jq program of a manifest, with the field that holds it.

    Args:
        config: the connection's.
        specs: the operations', by the field in which each stands.
    """
    yield from programs_in(config.get("errors", ()), "connection.config.errors")
    for field, spec in specs.items():
        for part in ("query", "headers", "body", "form", "errors", "paging"):
            yield from programs_in(spec.get(part), f"{field}.{part}")


def _check_path(path: str, field: str, *, placeholders_too: bool) -> None:
    if not path.startswith("/") or not _PATH.fullmatch(path):
        raise invalid(field, "must begin with `/` and hold no query; put that into `query`")
    names = placeholders(path)
    if names and not placeholders_too:
        raise invalid(field, "must not hold placeholders; there is no input")
    for name in names:
        if not _NAME.fullmatch(name):
            raise invalid(field, f"`{{{name}}}` is no placeholder; write the name of a field of the input")
    if set(_PLACEHOLDER.sub("", path)) & set("{}"):
        raise invalid(field, "holds a brace that belongs to no placeholder")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise invalid(field, "must not hold `.` or `..` as a part")


def _check_rules(rules: tuple[ErrorRule, ...], field: str) -> None:
    for at, rule in enumerate(rules):
        if not rule.status and not rule.when:
            raise invalid(f"{field}[{at}]", "needs `status`, `when` or both; as it is, every answer would be an error")
        _check_expression(rule.when, f"{field}[{at}].when")
        _check_expression(rule.retry_after, f"{field}[{at}].retry_after")


def _check_expression(text: str, field: str) -> None:
    if text and program_in(text) is None:
        raise invalid(field, "must be an expression, `${ … }` around a jq program")


def _check_header_names(headers: Mapping[str, object], field: str, taken: frozenset[str] = _RESERVED) -> None:
    for name in headers:
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", name):
            raise invalid(field, f"`{name[:100]}` is no name of a header")
        if name.lower() in taken:
            what = "`auth` sets it" if name.lower() in ("authorization", "cookie") else "it belongs to the connection"
            raise invalid(field, f"`{name}` cannot be set: {what}")
