"""`backup` and `restore`: a whole home in one encrypted file, and back."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.client import FileError
from cli.holding import UP
from cli.home import Home, HomeInUseError, NotRunningError
from cli.options import home_option, output_option
from cli.secret_file import new_secret_file

if TYPE_CHECKING:
    from cli.backup.archive import Summary

__all__ = ["backup", "restore"]


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option(
    "--recipient", "-r", multiple=True, metavar="AGE1…", help="Who may open it, an age public key; repeatable."
)
@click.option(
    "--new-key", type=click.Path(dir_okay=False, path_type=Path), help="Make a key for opening backups in this file."
)
@home_option
@output_option
def backup(file: Path | None, recipient: tuple[str, ...], new_key: Path | None, home: Home, output: str) -> None:
    """Write everything in the home, and its PostgreSQL database, to FILE, encrypted; the platform may be running.

    Keep the key away from the home: a backup that only the lost disk could open is none.

    \b
    Example:
      tiation backup --new-key backup.key
      tiation backup nightly.age -r age1…
    """  # noqa: D301 -- \b is click's
    if new_key is not None:
        public = _make_key(new_key)
        click.echo(json.dumps({"recipient": public}) if output == "json" else f"{new_key} opens what is for {public}")
        recipient = (*recipient, public)
        if file is None:
            return
    if file is None:
        raise click.UsageError("say where the backup goes: tiation backup FILE -r AGE1…")
    if not recipient:
        raise click.UsageError("say who may open it with -r; `tiation backup --new-key backup.key` makes a key")
    recipients = _recipients(recipient)
    _refuse_half_done(home)
    if not (home.path / "security").is_dir():
        raise NotRunningError(f"{home.path} is no home of a platform; give one with --home")
    from cli.backup.archive import write_archive
    from cli.backup.elsewhere import elsewhere
    from mesh.config import load_settings

    settings = load_settings(home.path)
    folders = elsewhere(home.path, settings)
    for folder in (home.path, *folders.values()):
        if file.resolve().is_relative_to(folder.resolve()):
            raise click.UsageError(f"the backup would lie in {folder}, which it is to save; choose a place elsewhere")
    say = click.echo if output == "table" else lambda _: None
    release = version("tiation")
    with _ended_in_order():
        summary = write_archive(
            home.path, file, recipients, release, say, database=settings.database, elsewhere=folders
        )
    _tell(summary, file, output, "written")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--identity", "-i", multiple=True, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with an age key that may open it; repeatable.",
)  # fmt: skip
@click.option("--check", "check_only", is_flag=True, help="Only check that it could be restored.")
@home_option
@output_option
def restore(file: Path, identity: tuple[Path, ...], home: Home, *, check_only: bool, output: str) -> None:
    """Bring a backup back into an empty home; `tiation up` then goes on where it was taken.

    What was in PostgreSQL goes into the empty database that `database` names: in TIATION_DATABASE, in a tiation.yaml
    that is in the home already, or else in the backup's own.

    \b
    Example:
      tiation restore nightly.age -i backup.key --home /var/lib/tiation
    """  # noqa: D301 -- \b is click's
    if not check_only:
        _refuse_held(home)
    from cli.backup.restore import restore_archive

    say = click.echo if output == "table" else lambda _: None
    with _ended_in_order():
        summary = restore_archive(file, home.path, _identities(identity), say, check_only=check_only)
    _tell(summary, file, output, "could be restored" if check_only else f"restored to {home.path}")


def _recipients(texts: tuple[str, ...]) -> list[Any]:
    """The age public keys of those who may open it."""
    import pyrage

    try:
        return [pyrage.x25519.Recipient.from_str(text) for text in texts]
    except pyrage.RecipientError:
        raise click.UsageError("-r takes age public keys, which begin with age1") from None


def _refuse_half_done(home: Home) -> None:
    """Refuse to save a home that some other command is changing, or has left half done."""
    holder = home.holder()
    if holder is not None and holder.purpose not in ("", UP):
        raise home.in_use(holder)
    home.check_whole()


def _refuse_held(home: Home) -> None:
    """Refuse before anything is read; the restore takes the home itself later."""
    holder = home.holder()
    if holder is None:
        return
    if holder.purpose == UP:
        raise HomeInUseError(f"a platform runs on {home.path}; `tiation down` stops it, `--home` names another home")
    raise home.in_use(holder)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Have SIGTERM and a closed terminal end the command as Ctrl-C does: what is half done is removed."""

    def end(number: int, _: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    heeded = (signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.getsignal(each) for each in heeded if signal.getsignal(each) is signal.SIG_DFL}
    for each in before:
        signal.signal(each, end)
    try:
        yield
    except SystemExit:
        click.echo("Interrupted", err=True)
        raise
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _identities(files: tuple[Path, ...]) -> list[Any]:
    """The age keys in files; lines that begin with # are comments.

    Raises:
        FileError: a file holds none.
    """
    import pyrage

    found = []
    for path in files:
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
        keys = [line for line in lines if line.startswith("AGE-SECRET-KEY-")]
        try:
            found += [pyrage.x25519.Identity.from_str(key) for key in keys]
        except pyrage.IdentityError:
            keys = []
        if not keys:
            raise FileError(f"{path}: holds no age key; `tiation backup --new-key FILE` makes one", file=path)
    return found


def _make_key(path: Path) -> str:
    """Write a new age key to a file of its own; returns the public part."""
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    with new_secret_file(path) as write:
        write(f"# opens backups for {public}\n{identity}\n")
    return public


def _tell(summary: Summary, file: Path, output: str, what: str) -> None:
    size = sum(member.size_bytes for member in summary.members)
    if output == "json":
        found = {
            "file": str(file),
            "release": summary.release,
            "files": len(summary.members),
            "size_bytes": size,
            "elsewhere": summary.elsewhere,
            "left_out": [{"path": path, "reason": reason} for path, reason in summary.left_out.items()],
            "told": summary.told,
        }
        click.echo(json.dumps(found))
        return
    for setting, place in summary.elsewhere.items():
        click.echo(f"  with {place}, which {setting} names")
    click.echo(f"{file} {what}: {len(summary.members)} files, {size / 1e6:.1f} MB")
    for path, reason in summary.left_out.items():
        click.echo(f"left out: {path} {reason}", err=True)
    for text in summary.told:
        click.echo(f"see to it: {text}")
