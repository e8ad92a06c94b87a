"""The home: its files, who may read them, its databases, its certificates."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cli.backup.contents import COPIES, is_database
from cli.backup.scratch import SCRATCH
from cli.doctor.finding import Finding, bad, good, unsure
from cli.home import Home, HomeInUseError, RestoreUnfinishedError
from mesh.config import SERVICES, Settings, processes_of

__all__ = ["is_whole", "look_at_home"]

_NEEDED = ("operator.key", "security/pepper", "security/token.pem", "security/ca/mesh.pem", "integration/vault.key")
_SOON = timedelta(days=30)
_RENEWED_DAYS = 14
_OLD_LOG_BYTES = 512 * 1024 * 1024


def look_at_home(home: Home, settings: Settings) -> Iterator[Finding]:
    """Everything that can be seen of a home without asking a service."""
    if not is_whole(home):
        yield _half_restored(home)
        return
    if not (home.path / "security").is_dir():
        yield unsure("home", f"{home.path} is empty", "`tiation up` makes a new platform in it")
        return
    yield _rights(home)
    yield _keys(home)
    yield from _databases(home)
    yield _authority(home)
    yield from _certificates(home, settings)
    yield from _own_certificate(home, settings)
    yield _leftovers(home)


def is_whole(home: Home) -> bool:
    """Whether there is more to look at than a restore that has not come to its end."""
    return not home.restoring.exists()


def _half_restored(home: Home) -> Finding:
    try:
        home.check_whole()
    except HomeInUseError as error:
        return unsure("home", error.message, "nothing: nothing starts on it until then")
    except RestoreUnfinishedError as error:
        return bad("home", error.message, "until then nothing starts on it")
    return unsure("home", "a restore has just ended", "run `tiation doctor` again")


def _rights(home: Home) -> Finding:
    """Whether nobody else may read what is secret."""
    open_to_others = [
        path.relative_to(home.path).as_posix() or "."
        for path in (home.path, *_files(home))
        if not path.is_symlink() and path.stat().st_mode & 0o077 and (path == home.path or _is_secret(home, path))
    ]
    if open_to_others:
        listed = ", ".join(open_to_others[:5])
        return bad("who may read", f"others may: {listed}", f"chmod 700 {home.path}; chmod 600 those files")
    return good("who may read", "only the owner")


def _is_secret(home: Home, path: Path) -> bool:
    if path.is_relative_to(home.path / "integration" / "data"):
        return False  # what others keep there is theirs
    return path.is_file() and (path.suffix in (".key", ".pem", ".db") or path.name in ("pepper", "svid.json", "token"))


def _keys(home: Home) -> Finding:
    missing = [name for name in _NEEDED if not (home.path / name).exists()]
    if missing:
        return bad(
            "keys", f"missing: {', '.join(missing)}",
            "bring them back from a backup (`tiation restore`): what they encrypted cannot be read without them",
        )  # fmt: skip
    return good("keys", "all there")


def _databases(home: Home) -> Iterator[Finding]:
    """Whether each database is whole."""
    found = [path for path in _files(home) if is_database(path)]
    damaged = []
    for path in found:
        name = path.relative_to(home.path).as_posix()
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                said = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            said = str(error)
        if said != "ok":
            damaged.append(f"{name}: {said}")
    for name in damaged:
        yield bad("database", name, "stop the platform and bring it back from a backup (`tiation restore`)")
    for service in SERVICES:
        path = home.path / service / f"{service}.db"
        if path.exists() and not is_database(path):
            yield bad("database", f"{service}/{service}.db is no database", "bring it back from a backup")
    if found and not damaged:
        yield good("databases", f"{len(found)} are whole")


def _files(home: Home) -> list[Path]:
    """The files in a home, without what a backup copies just now."""
    folders = [path for path in home.path.iterdir() if not path.name.startswith(SCRATCH)]
    below = [path for folder in folders if folder.is_dir() for path in folder.rglob("*")]
    return sorted(path for path in (*folders, *below) if path.is_file())


def _authority(home: Home) -> Finding:
    from cryptography import x509

    path = home.path / "security" / "ca" / "mesh.pem"
    try:
        data = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(data[data.index(b"-----BEGIN CERTIFICATE") :])
    except (OSError, ValueError) as error:
        return bad("trust domain's CA", f"{path} cannot be read ({error})", "bring it back from a backup")
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    if left < timedelta():
        return bad("trust domain's CA", f"ended {-left.days} days ago", "move security/ca away and start again")
    if certificate.not_valid_before_utc > datetime.now(UTC) + timedelta(minutes=5):
        return bad("clock", "the CA's certificate begins in the future", "set this machine's clock right")
    if left < _SOON:
        return unsure("trust domain's CA", f"ends in {left.days} days", "plan for its renewal")
    return good("trust domain's CA", f"holds for {left.days} days")


def _certificates(home: Home, settings: Settings) -> Iterator[Finding]:
    """While the platform runs, nobody may hold a certificate that ended."""
    if not home.runs():
        return
    for process in processes_of(settings):
        try:
            chain = json.loads((home.path / process / "svid.json").read_text())["certificate_chain"]
            ended = _has_ended(chain.encode())
        except (OSError, ValueError, KeyError):
            yield bad("certificate", f"{process} has none that can be read", "restart: `tiation down`, `tiation up`")
            continue
        if ended:
            yield bad("certificate", f"{process}'s has ended", f"restart; see `tiation logs {process}` for why")
    yield from _front_certificates(home)


def _front_certificates(home: Home) -> Iterator[Finding]:
    """What the front proxy shows to clients and to services."""
    from cli.gateway.sds import SECRETS

    for name, whom in (("front", "clients"), ("svid", "services")):
        try:
            (secret,) = json.loads((home.path / "gateway" / SECRETS[name]).read_text())["resources"]
            ended = _has_ended(base64.b64decode(secret["tls_certificate"]["certificate_chain"]["inline_bytes"]))
        except (OSError, ValueError, KeyError, TypeError):
            yield bad("front certificate", f"none for {whom} can be read", "restart: `tiation down`, `tiation up`")
            continue
        if ended:
            yield bad("front certificate", f"that for {whom} has ended", "see `tiation logs supervisor`; restart")


def _own_certificate(home: Home, settings: Settings) -> Iterator[Finding]:
    """The operator's certificate, which nobody but its maker renews."""
    from cli.gateway.own_certificate import OwnCertificateError, own_certificate

    try:
        found = own_certificate(home.path, settings.gateway)
    except OwnCertificateError as error:
        yield bad("own certificate", error.message, "`tiation up` does not start with it; a running platform keeps on")
        return
    if found is None:
        return
    days = (found.end - datetime.now(UTC)).days
    if days < _RENEWED_DAYS:
        yield unsure("own certificate", f"ends in {days} days", f"renew {settings.gateway.certificate}")
    else:
        yield good("own certificate", f"holds for {days} days, for {', '.join(found.names)}")


def _has_ended(chain: bytes) -> bool:
    from cryptography import x509

    return x509.load_pem_x509_certificate(chain).not_valid_after_utc < datetime.now(UTC)


def _leftovers(home: Home) -> Finding:
    """What takes room for nothing."""
    logs = sum(path.stat().st_size for path in (home.path / "logs").glob("*")) if (home.path / "logs").is_dir() else 0
    if logs > _OLD_LOG_BYTES:
        return unsure("logs", f"take {logs / 1e6:.0f} MB", f"remove what is old in {home.path / 'logs'}")
    if copies := sorted(path.name for path in home.path.glob(f"{COPIES}*")):
        return unsure(
            "leftovers", f"copies from before an upgrade: {', '.join(copies)}", "remove them when all is well"
        )
    return good("logs", f"take {logs / 1e6:.1f} MB")
