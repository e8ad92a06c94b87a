"""Where PostgreSQL is: the setting's URL, checked, and shown without its password. Opening it lives elsewhere."""

from __future__ import annotations

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from mesh.errors import Code, TiationError

__all__ = ["DatabaseUrlError", "address_of", "postgres_url"]

_FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
_DRIVERS = {"postgresql", "postgresql+asyncpg", "postgresql+psycopg"}
_SSL_MODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}


class DatabaseUrlError(TiationError):
    """The setting `database` is no URL that can be used; the message never quotes it, a password may be in it."""

    code = Code.INVALID_ARGUMENT
    reason = "SETTING_INVALID"


def postgres_url(text: str) -> URL:
    """The URL that a setting means, for the driver that we use, whichever it names.

    Raises:
        DatabaseUrlError: it is none of PostgreSQL's.
    """
    if text.split("://", 1)[0] not in _DRIVERS:
        raise DatabaseUrlError(
            f"`database` must be like {_FORM}, where postgresql may be followed by +asyncpg or +psycopg; "
            "leave it empty for SQLite",
            setting="database",
        )
    authority = text.split("://", 1)[1].split("?", 1)[0]
    if authority.count("@") > 1:
        raise DatabaseUrlError(
            "`database` has more than one @; write one that belongs to the user name or password as %40",
            setting="database",
        )
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # their text quotes parts of the URL
        raise DatabaseUrlError(
            f"`database` cannot be read; it must be like {_FORM}, with : / ? # @ in a password written as %3A %2F %3F "
            "%23 %40",
            setting="database",
        ) from None
    if not url.database:
        raise DatabaseUrlError(f"`database` names no database; it must be like {_FORM}", setting="database")
    return _for_psycopg(url)


def address_of(url: URL) -> str:
    """The server and database as people read them, without user and password."""
    hosts = url.query.get("host") or url.host or "the local socket"
    host = hosts if isinstance(hosts, str) else ",".join(hosts)
    return f"{url.database} on {host}{f':{url.port}' if url.port else ''}"


def _for_psycopg(url: URL) -> URL:
    """The same place for psycopg: asyncpg says `ssl` where libpq says `sslmode`."""
    query = dict(url.query)
    mode = query.pop("ssl", None)
    if isinstance(mode, str) and "sslmode" not in query:
        query["sslmode"] = mode if mode in _SSL_MODES else "require"
    return url.set(drivername="postgresql+psycopg", query=query)
